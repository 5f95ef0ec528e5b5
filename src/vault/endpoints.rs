//! The endpoints of Vault's API that vaultrs has no usable type for: what a mount tells about its own certificates to anybody who
//! asks, and about its roles to those who may, what signs, whatever the verb, what logs in, whatever the method, and how a token is
//! renewed and revoked. None of them is ever printed: some hold secrets.

use std::time::Duration;

use rustify_derive::Endpoint;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};
use vaultrs::api::token::requests::LookupTokenSelfRequest;

use crate::api::auth::Login;
use crate::api::vault_path::{SignPath, SignVerb};
use crate::issuance::signer::SigningRequest;
use crate::issuance::usages::{self, Usage};

/// `GET <mount>/issuer/<ref>/json`: one issuer's certificate and its chain; needs no token.
#[derive(Endpoint)]
#[endpoint(path = "{self.mount}/issuer/{self.reference}/json")]
pub struct ReadIssuer {
    /// The PKI mount.
    #[endpoint(skip)]
    pub mount: String,
    /// The issuer's name or id, or `default`.
    #[endpoint(skip)]
    pub reference: String,
}

/// `LIST <mount>/issuers`: the ids of all issuers; needs no token.
#[derive(Endpoint)]
#[endpoint(path = "{self.mount}/issuers", method = "LIST")]
pub struct ListIssuers {
    /// The PKI mount.
    #[endpoint(skip)]
    pub mount: String,
}

/// `GET <mount>/ca_chain`: the default issuer's chain as bare PEM; needs no token.
#[derive(Endpoint)]
#[endpoint(path = "{self.mount}/ca_chain")]
pub struct ReadChain {
    /// The PKI mount.
    #[endpoint(skip)]
    pub mount: String,
}

/// `GET <mount>/roles/<role>`: a role's options; needs `read` on it.
#[derive(Endpoint)]
#[endpoint(path = "{self.mount}/roles/{self.role}")]
pub struct ReadRole {
    /// The PKI mount.
    #[endpoint(skip)]
    pub mount: String,
    /// The role's name.
    #[endpoint(skip)]
    pub role: String,
}

/// `POST auth/token/renew-self`. The path of vaultrs' own type begins with a tab.
#[derive(Endpoint)]
#[endpoint(path = "auth/token/renew-self", method = "POST")]
pub struct RenewSelf {}

/// `POST auth/token/revoke-self`, for which the same is true.
#[derive(Endpoint)]
#[endpoint(path = "auth/token/revoke-self", method = "POST")]
pub struct RevokeSelf {}

/// `POST <sign path>`, for every verb that signs a CSR: vaultrs builds the path of one of them only.
#[derive(Endpoint, Clone)]
#[endpoint(path = "{self.path}", method = "POST")]
pub struct SignCsr {
    /// Mount, issuer, verb and role.
    #[endpoint(skip)]
    pub path: String,
    /// PEM.
    pub csr: String,
    /// The lifetime, for example `3600s`.
    pub ttl: Option<String>,
    /// The CN is left to the CSR (`use_csr_common_name` is a role's default), and is not made a SAN.
    pub exclude_cn_from_sans: bool,
    /// Always `pem`.
    pub format: &'static str,
    /// For a CA certificate: subject and extensions come from the CSR.
    pub use_csr_values: Option<bool>,
    /// For a CA certificate; without it there would be no limit.
    pub max_path_length: Option<u8>,
    /// Where usages are taken as they are asked for; an empty list means none, and no list Vault's own choice.
    pub key_usage: Option<Vec<&'static str>>,
    /// The same.
    pub ext_key_usage: Option<Vec<&'static str>>,
}

/// The call that signs a CSR. What an endpoint does not know it would only warn of, so it is not sent.
pub fn sign(request: &SigningRequest) -> SignCsr {
    let ttl = Some(seconds(request.ttl));
    let plain = SignCsr { csr: request.csr.pem().to_owned(), ttl, ..probe(&request.path) };
    match request.path.verb() {
        SignVerb::Sign(_) | SignVerb::CelSign(_) => plain,
        SignVerb::SignIntermediate => {
            SignCsr { use_csr_values: Some(true), max_path_length: Some(request.ca.unwrap_or(0)), ..plain }
        }
        SignVerb::SignVerbatim(_) => {
            let (extended, key): (Vec<&Usage>, Vec<&Usage>) =
                usages::or_defaults(&request.usages).into_iter().partition(|usage| usage.is_extended());
            let names = |usages: Vec<&Usage>| Some(usages.into_iter().map(|usage| usage.vault).collect());
            SignCsr { key_usage: names(key), ext_key_usage: names(extended), ..plain }
        }
    }
}

/// The call that tells whether the path would serve us, and signs nothing.
pub fn probe(path: &SignPath) -> SignCsr {
    SignCsr {
        path: path.to_string(),
        csr: String::new(),
        ttl: None,
        exclude_cn_from_sans: true,
        format: "pem",
        use_csr_values: None,
        max_path_length: None,
        key_usage: None,
        ext_key_usage: None,
    }
}

/// A lifetime as Vault reads it. It knows whole seconds; what is left over would only be asked for in vain.
fn seconds(ttl: Duration) -> String {
    format!("{}s", ttl.as_secs().max(1))
}

/// `GET auth/token/lookup-self`.
pub fn lookup_self() -> LookupTokenSelfRequest {
    LookupTokenSelfRequest {}
}

/// `POST <login path>`: vaultrs has the types of some methods, with `auth/` fixed in their paths.
#[derive(Endpoint)]
#[endpoint(path = "{self.path}", method = "POST")]
pub struct LogIn {
    /// For example `auth/approle/login`.
    #[endpoint(skip)]
    pub path: String,
    /// JSON.
    #[endpoint(raw)]
    pub body: Vec<u8>,
}

/// The call of a login, with the token that was requested for it.
pub fn log_in(login: &Login, requested: Option<&SecretString>) -> LogIn {
    let open = login.open.iter().map(|(name, value)| (*name, value.as_str()));
    let secret = login.secret.iter().map(|(name, value)| (*name, value.expose_secret()));
    let requested = requested.map(|token| ("jwt", token.expose_secret()));
    let fields = open.chain(secret).chain(requested).map(|(name, value)| (name.to_owned(), Value::from(value)));
    LogIn { path: login.path.clone(), body: Value::Object(fields.collect::<Map<_, _>>()).to_string().into_bytes() }
}

#[cfg(test)]
mod tests {
    use rustify::endpoint::Endpoint as _;

    use super::*;

    #[test]
    fn a_sign_call_goes_to_the_path_as_written() {
        for written in ["istioca/sign/cluster-local", "a/b/issuer/blue/sign/web", "pki/root/sign-intermediate"] {
            let path = SignPath::parse(written).expect("the test's path is one");
            assert_eq!(probe(&path).path(), written);
        }
    }

    #[test]
    fn an_empty_csr_is_sent_as_an_empty_field() {
        let path = SignPath::parse("pki/sign/web").expect("the test's path is one");
        let body = probe(&path).body().expect("the body is JSON").expect("there is a body");
        let body: Value = serde_json::from_slice(&body).expect("the body is JSON");
        assert_eq!(body, serde_json::json!({"csr": "", "exclude_cn_from_sans": true, "format": "pem"}));
    }
}
