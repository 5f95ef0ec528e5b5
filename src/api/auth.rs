//! How we log in to Vault: which credential a method needs, and which login it makes. Data only; `vault/session.rs` carries it out.
//! A new method is one file under `auth/`, one variant and its arms here.

mod app_role;
pub mod client_certificate;
mod identity_token;
mod jwt;
mod kubernetes;
mod token;

use secrecy::SecretString;

pub use app_role::AppRole;
pub use client_certificate::ClientCertificate;
pub use identity_token::{TokenLogin, TokenRequest};

use super::IssuerKey;
use super::config::{KeyReference, SpecError};
use super::spec::VaultSpec;
use super::vault_path::is_name;

/// A parsed login method and the credential it still needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// `auth.appRole`: a role id and a secret id.
    AppRole(AppRole),
    /// `auth.tokenSecretRef`: a token that somebody else made.
    Token(KeyReference),
    /// `auth.kubernetes`: a ServiceAccount's token, reviewed by the API server.
    Kubernetes(TokenLogin),
    /// `auth.clientCertificate`: the identity of the TLS connection.
    ClientCertificate(ClientCertificate),
    /// `auth.jwt`: a ServiceAccount's token, verified by Vault itself.
    Jwt(TokenLogin),
}

/// A method that logs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `auth.appRole`.
    AppRole,
    /// `auth.kubernetes`.
    Kubernetes,
    /// `auth.clientCertificate`.
    ClientCertificate,
    /// `auth.jwt`.
    Jwt,
}

impl Method {
    /// Its field, from `spec` on.
    pub fn field(self) -> &'static str {
        match self {
            Self::AppRole => "spec.vault.auth.appRole",
            Self::Kubernetes => "spec.vault.auth.kubernetes",
            Self::ClientCertificate => "spec.vault.auth.clientCertificate",
            Self::Jwt => "spec.vault.auth.jwt",
        }
    }
}

/// The credentials of one issuer, read and checked; they cannot be printed.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// A token that is used as it is.
    Token(SecretString),
    /// What gives a token.
    Login(Login),
}

/// A login: a POST that Vault answers with a token.
#[derive(Debug, Clone)]
pub struct Login {
    /// Whose fields a refusal is explained with.
    pub method: Method,
    /// The API path, for example `auth/approle/login`.
    pub path: String,
    /// What is sent and may be shown, by its name in the body.
    pub open: Vec<(&'static str, String)>,
    /// What is sent and must not be shown.
    pub secret: Vec<(&'static str, SecretString)>,
    /// The token that is requested anew for each login, and sent as `jwt`.
    pub requested: Option<TokenRequest>,
}

/// Reads what a reference names, as one line.
pub type SecretOf<'a, E> = dyn Fn(&KeyReference) -> Result<SecretString, E> + 'a;

impl Login {
    fn new(method: Method, path: &str) -> Self {
        Self { method, path: path.to_owned(), open: Vec::new(), secret: Vec::new(), requested: None }
    }
}

impl Credentials {
    /// What must appear in no text.
    pub fn secrets(&self) -> Vec<&SecretString> {
        match self {
            Self::Token(token) => vec![token],
            Self::Login(login) => login.secret.iter().map(|(_, secret)| secret).collect(),
        }
    }
}

impl Auth {
    /// Picks the one method that the spec names.
    pub(super) fn parse(vault: &VaultSpec) -> Result<Self, SpecError> {
        let spec = &vault.auth;
        if spec.aws.is_some() {
            return Err(SpecError::new(
                "spec.vault.auth.aws",
                "is not supported yet: use kubernetes or jwt with serviceAccountRef, clientCertificate or appRole",
            ));
        }
        let methods = [
            spec.app_role.as_ref().map(|it| AppRole::parse(it).map(Self::AppRole)),
            spec.token_secret_ref.as_ref().map(|it| Ok(Self::Token(token::reference(it)))),
            spec.kubernetes.as_ref().map(|it| kubernetes::parse(it, &vault.server).map(Self::Kubernetes)),
            spec.client_certificate.as_ref().map(|it| ClientCertificate::parse(it, vault).map(Self::ClientCertificate)),
            spec.jwt.as_ref().map(|it| jwt::parse(it, &vault.server).map(Self::Jwt)),
        ];
        let wrong = |problem: &str| Err(SpecError::new("spec.vault.auth", problem));
        let mut named = methods.into_iter().flatten();
        match (named.next(), named.next()) {
            (Some(method), None) => method,
            (None, _) => wrong("names no method; set appRole, tokenSecretRef, kubernetes, clientCertificate or jwt"),
            (Some(_), Some(_)) => wrong("names several methods; keep exactly one"),
        }
    }

    /// The keys that hold what it needs, in the order in which faults are reported. A TLS identity is not among them: it belongs
    /// to the connection.
    pub fn references(&self) -> Vec<&KeyReference> {
        match self {
            Self::AppRole(app_role) => app_role.references(),
            Self::Token(reference) => vec![reference],
            Self::Kubernetes(login) | Self::Jwt(login) => login.references(),
            Self::ClientCertificate(_) => Vec::new(),
        }
    }

    /// Completes the method with what `secret` reads for each of its references. What `issuer` names lies in `namespace`.
    ///
    /// # Errors
    /// What `secret` says.
    pub fn credentials<E>(
        &self,
        issuer: &IssuerKey,
        namespace: &str,
        secret: &SecretOf<'_, E>,
    ) -> Result<Credentials, E> {
        Ok(match self {
            Self::AppRole(app_role) => Credentials::Login(app_role.login(secret)?),
            Self::Token(reference) => Credentials::Token(secret(reference)?),
            Self::Kubernetes(login) | Self::Jwt(login) => Credentials::Login(login.login(issuer, namespace, secret)?),
            Self::ClientCertificate(certificate) => Credentials::Login(certificate.login()),
        })
    }
}

/// The API path of a login. A mount is written by its name (`approle`), or as cert-manager's `mountPath` has it: as a path of the
/// API (`/v1/auth/kubernetes`), which may begin with a namespace of Vault's.
fn login_path(field: &str, written: Option<&str>, default: &str) -> Result<String, SpecError> {
    let written = written.filter(|written| !written.is_empty()).unwrap_or(default).trim_matches('/');
    let path = match written.strip_prefix("v1/") {
        Some(path) if path.starts_with("auth/") || path.contains("/auth/") => path.to_owned(),
        Some(path) => format!("auth/{path}"),
        None => format!("auth/{}", written.strip_prefix("auth/").unwrap_or(written)),
    };
    if !path.split('/').all(is_name) {
        return Err(SpecError::new(field, format!("is no path of a login mount; write for example {default}")));
    }
    Ok(format!("{path}/login"))
}

/// One line of printable ASCII, which is what ids and tokens are. White space around it is dropped: files end in a newline, and a
/// newline inside an HTTP header is an error at best.
///
/// # Errors
/// What is wrong with the bytes, never the bytes themselves.
pub(super) fn line(bytes: &[u8]) -> Result<SecretString, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "the value is not text; was it encoded twice?")?.trim();
    if text.is_empty() {
        return Err("the value is empty");
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the value holds white space or characters that no Vault credential has; was it encoded twice?");
    }
    Ok(SecretString::from(text))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;
    use serde_json::{Value, json};

    use super::super::config::IssuerConfig;
    use super::super::{IssuerKey, IssuerKind};
    use super::*;

    /// A spec with this `auth`, and `more` beside it.
    fn config(auth: Value, more: Value) -> Result<IssuerConfig, SpecError> {
        let mut vault = json!({"server": "https://vault.example:8200/", "path": "pki/sign/web", "auth": auth});
        for (name, value) in more.as_object().into_iter().flatten() {
            vault[name] = value.clone();
        }
        let spec = serde_json::from_value(json!({"vault": vault}));
        IssuerConfig::parse(&spec.expect("the test's spec has the wire type's shape"))
    }

    /// The login of the issuer `mesh/vault` whose Secrets hold their own names and keys.
    fn login(auth: Value, more: Value) -> Login {
        let config = config(auth, more).expect("the test's spec is usable");
        login_of(&config.auth, &IssuerKey::new(IssuerKind::Namespaced, "mesh", "vault"))
    }

    fn login_of(auth: &Auth, issuer: &IssuerKey) -> Login {
        let secret = |it: &KeyReference| Ok::<_, ()>(SecretString::from(format!("{}/{}", it.name, it.key)));
        match auth.credentials(issuer, "mesh", &secret) {
            Ok(Credentials::Login(login)) => login,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn sends(login: &Login, path: &str, open: &[(&str, &str)], secret: &[(&str, &str)]) {
        let shown: Vec<_> = login.open.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let hidden: Vec<_> = login.secret.iter().map(|(name, value)| (*name, value.expose_secret())).collect();
        assert_eq!((login.path.as_str(), shown.as_slice(), hidden.as_slice()), (path, open, secret));
    }

    #[test]
    fn each_method_sends_what_vault_expects_with_cert_managers_defaults() {
        let app_role = json!({"appRole": {"roleId": "id", "secretRef": {"name": "s"}}});
        sends(&login(app_role, json!({})), "auth/approle/login", &[("role_id", "id")], &[("secret_id", "s/secretId")]);
        let app_role = json!({"appRole": {"roleIdSecretRef": {"name": "r"}, "secretRef": {"name": "s", "key": "k"}}});
        let secrets = [("role_id", "r/roleId"), ("secret_id", "s/k")];
        sends(&login(app_role, json!({})), "auth/approle/login", &[], &secrets);
        let kubernetes = json!({"kubernetes": {"role": "mesh", "secretRef": {"name": "s"}}});
        let (open, secret) = ([("role", "mesh")], [("jwt", "s/token")]);
        sends(&login(kubernetes, json!({})), "auth/kubernetes/login", &open, &secret);
        let jwt = json!({"jwt": {"path": "clusters/blue", "role": "mesh", "secretRef": {"name": "s", "key": "token"}}});
        sends(&login(jwt, json!({})), "auth/clusters/blue/login", &open, &secret);
        let certificate = json!({"clientCertificate": {"secretName": "s", "name": "mesh"}});
        sends(&login(certificate, json!({})), "auth/cert/login", &[("name", "mesh")], &[]);
        let own = json!({"clientCertSecretRef": {"name": "s"}, "clientKeySecretRef": {"name": "s"}});
        let certificate = json!({"clientCertificate": {"mountPath": "/v1/auth/tls"}});
        sends(&login(certificate, own), "auth/tls/login", &[], &[]);
    }

    #[test]
    fn a_requested_token_has_cert_managers_two_audiences_beside_those_of_the_spec() {
        let account = json!({"name": "login", "audiences": ["vault"]});
        let (server, none) = ("https://vault.example:8200/", json!({}));
        for method in ["kubernetes", "jwt"] {
            let auth = json!({method: {"role": "mesh", "serviceAccountRef": account}});
            let login = login(auth, none.clone());
            sends(&login, &format!("auth/{method}/login"), &[("role", "mesh")], &[]);
            let requested = login.requested.expect("a token is requested");
            assert_eq!((requested.namespace.as_str(), requested.account.as_str()), ("mesh", "login"));
            assert_eq!(requested.audiences, ["vault", server, "vault://mesh/vault"]);
            assert_eq!(requested.field, format!("spec.vault.auth.{method}.serviceAccountRef"));
        }
        let auth = json!({"jwt": {"role": "mesh", "serviceAccountRef": {"name": "login"}}});
        let config = config(auth, none).expect("the test's spec is usable");
        let requested = login_of(&config.auth, &IssuerKey::new(IssuerKind::Cluster, "", "vault")).requested;
        assert_eq!(requested.expect("a token is requested").audiences, [server, "vault://vault"]);
    }

    #[test]
    fn what_a_method_reads_is_named_in_the_order_of_its_faults() {
        let read = |auth| -> Vec<String> {
            let config = config(auth, json!({})).expect("the test's spec is usable");
            config.references().iter().map(|it| format!("{} {}/{}", it.field, it.name, it.key)).collect()
        };
        assert_eq!(
            read(json!({"appRole": {"roleIdSecretRef": {"name": "r"}, "secretRef": {"name": "s"}}})),
            ["spec.vault.auth.appRole.roleIdSecretRef r/roleId", "spec.vault.auth.appRole.secretRef s/secretId"]
        );
        assert_eq!(
            read(json!({"clientCertificate": {"secretName": "c"}})),
            [
                "spec.vault.auth.clientCertificate.secretName c/tls.crt",
                "spec.vault.auth.clientCertificate.secretName c/tls.key"
            ]
        );
        assert_eq!(read(json!({"jwt": {"role": "r", "serviceAccountRef": {"name": "a"}}})), [""; 0]);
    }

    #[test]
    fn what_cannot_log_in_is_refused_with_its_field() {
        let (secret, account) = (json!({"name": "s"}), json!({"name": "a"}));
        let own = json!({"clientCertSecretRef": secret, "clientKeySecretRef": secret});
        let plain = json!({"server": "http://vault.example:8200"});
        for (auth, more, field) in [
            (json!({"aws": {"role": "r"}}), json!({}), "aws"),
            (json!({"tokenSecretRef": secret, "jwt": {"role": "r", "secretRef": secret}}), json!({}), ""),
            (json!({"kubernetes": {"role": "r"}}), json!({}), "kubernetes"),
            (json!({"kubernetes": {"role": " ", "secretRef": secret}}), json!({}), "kubernetes.role"),
            (
                json!({"kubernetes": {"role": "r", "secretRef": secret, "serviceAccountRef": account}}),
                json!({}),
                "kubernetes",
            ),
            (
                json!({"kubernetes": {"role": "r", "secretRef": secret, "mountPath": "/v1/auth/../sys"}}),
                json!({}),
                "kubernetes.mountPath",
            ),
            (json!({"jwt": {"role": "r"}}), json!({}), "jwt"),
            (json!({"jwt": {"role": "r", "secretRef": secret, "path": "a b"}}), json!({}), "jwt.path"),
            (
                json!({"jwt": {"role": "r", "serviceAccountRef": {"name": "../../x"}}}),
                json!({}),
                "jwt.serviceAccountRef.name",
            ),
            (
                json!({"jwt": {"role": "r", "serviceAccountRef": {"name": "a", "audiences": [""]}}}),
                json!({}),
                "jwt.serviceAccountRef.audiences",
            ),
            (json!({"clientCertificate": {}}), json!({}), "clientCertificate"),
            (json!({"clientCertificate": {"secretName": "s"}}), own, "clientCertificate"),
            (json!({"clientCertificate": {"secretName": "s"}}), plain, "clientCertificate"),
        ] {
            let shown = auth.to_string();
            let error = config(auth, more).expect_err(&shown);
            assert_eq!(error.field, format!("spec.vault.auth.{field}").trim_end_matches('.'), "{shown}: {error}");
        }
    }

    #[test]
    fn white_space_around_a_credential_is_dropped() {
        assert_eq!(line(b" abc-123\r\n").map(|secret| secret.expose_secret().to_owned()), Ok("abc-123".to_owned()));
    }

    #[test]
    fn rubbish_is_refused_without_being_shown() {
        for bytes in [&b""[..], b" \n", b"\xff\xfe\x00", b"a\nb", b"a b", b"a\x00b"] {
            assert!(line(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn credentials_cannot_be_printed() {
        let mut login = Login::new(Method::Jwt, "auth/jwt/login");
        login.secret.push(("jwt", SecretString::from("hvs.secret")));
        for credentials in [Credentials::Token(SecretString::from("hvs.secret")), Credentials::Login(login)] {
            let printed = format!("{credentials:?}");
            assert!(!printed.contains("hvs.secret"), "{printed}");
        }
    }

    #[test]
    fn a_mount_is_written_by_its_name_or_as_a_path_of_the_api() {
        for (written, default, path) in [
            (None, "approle", "auth/approle/login"),
            (Some(""), "jwt", "auth/jwt/login"),
            (Some("team/approle"), "approle", "auth/team/approle/login"),
            (Some("/auth/approle/"), "approle", "auth/approle/login"),
            (None, "/v1/auth/kubernetes", "auth/kubernetes/login"),
            (Some("/v1/auth/clusters/blue"), "/v1/auth/kubernetes", "auth/clusters/blue/login"),
            (Some("/v1/team-a/auth/blue"), "/v1/auth/kubernetes", "team-a/auth/blue/login"),
            (Some("blue"), "/v1/auth/kubernetes", "auth/blue/login"),
            (Some("v1/blue"), "/v1/auth/cert", "auth/blue/login"),
        ] {
            assert_eq!(login_path("f", written, default), Ok(path.to_owned()), "{written:?}");
        }
        for written in ["..", "a/../b", "/", "a//b", "a?b", "a%2fb", "/v1/auth/a b"] {
            assert!(login_path("f", Some(written), "approle").is_err(), "{written}");
        }
    }
}
