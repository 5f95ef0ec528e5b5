//! Tokens of ServiceAccounts, for logins at Vault: each is requested when a login needs it, and serves that one login.
//!
//! Whoever receives a token can use it wherever its audiences are known, and who may write an issuer chooses both the audiences and
//! the server. So a token that the API server itself would accept never leaves this process: before the first one of an issuer is
//! handed out, the API server is asked who its bearer is, with nothing but that token. It answers 401 to a token that is not meant
//! for it, before it looks at what was asked. And the controller's own ServiceAccount, which may read Secrets, is nobody's login.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::header::{AUTHORIZATION, HeaderValue};
use kube::config::AuthInfo;
use kube::core::Request;
use kube::{Client, Config};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::status::{WriteError, call};
use crate::api::auth::TokenRequest;
use crate::issuance::signer::{Fault, Outage, SignError};
use crate::issuance::words::Words;

/// The shortest life that the API server gives a token.
const LIFE_SECONDS: u32 = 600;
/// Where the API server tells the bearer of a request who that is.
const REVIEWS: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

/// The way to the tokens of all ServiceAccounts; clones share it.
#[derive(Clone)]
pub struct ServiceAccounts {
    client: Client,
    /// To the same API server, and without credentials of its own.
    nobody: Client,
    /// Who we are to the API server, once it has said so.
    own: Arc<OnceCell<String>>,
}

impl ServiceAccounts {
    /// Asks nobody yet. `config` is that of `client`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// No client can be made of the configuration.
    pub fn new(client: Client, mut config: Config) -> Result<Self, kube::Error> {
        config.auth_info = AuthInfo::default();
        Ok(Self { client, nobody: Client::try_from(config)?, own: Arc::default() })
    }

    /// The tokens of one ServiceAccount, as one issuer wants them.
    pub fn account(&self, wanted: TokenRequest) -> Account {
        Account { accounts: self.clone(), wanted, is_foreign: AtomicBool::new(false) }
    }

    async fn own(&self) -> Result<&str, WriteError> {
        let own = self.own.get_or_try_init(async || review(&self.client, None).await).await;
        own.map(String::as_str)
    }
}

/// The tokens of one ServiceAccount for one issuer.
pub struct Account {
    accounts: ServiceAccounts,
    wanted: TokenRequest,
    /// The API server has refused a token with these audiences. Whether it does depends on nothing else about a token that it has
    /// just made.
    is_foreign: AtomicBool,
}

impl Account {
    /// A new token.
    ///
    /// # Errors
    /// It may not be had, or not be shown to anybody else than the API server; or the API server does not answer.
    pub async fn token(&self) -> Result<SecretString, SignError> {
        let TokenRequest { field, namespace, account, .. } = &self.wanted;
        let own = self.accounts.own().await.map_err(|error| self.unanswered(&error))?;
        if own == format!("system:serviceaccount:{namespace}:{account}") {
            let problem =
                "is this controller's own ServiceAccount, which may read Secrets; name another one that may do nothing";
            return Err(spec(format!("{field}.name"), problem).into());
        }
        let token = self.request().await?;
        if !self.is_foreign.load(Ordering::Relaxed) {
            self.check(&token).await?;
            self.is_foreign.store(true, Ordering::Relaxed);
        }
        Ok(token)
    }

    async fn request(&self) -> Result<SecretString, SignError> {
        let TokenRequest { namespace, account, audiences, .. } = &self.wanted;
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": { "audiences": audiences, "expirationSeconds": LIFE_SECONDS },
        });
        // As text: kube logs an answer that it cannot parse itself, and this one holds the token.
        let answer = match post(&self.accounts.client, &path, &body, None).await {
            Ok(answer) => answer,
            Err(WriteError::Refused { code: 403, words }) => {
                let mend = "this controller may not request its tokens; list it in the chart's value serviceAccounts";
                return Err(self.unusable(format!("{mend} (the API server's words: {words})")).into());
            }
            Err(WriteError::Refused { code: 404, .. }) => {
                return Err(self.unusable("it does not exist; create it, and signing goes on by itself").into());
            }
            Err(error) => return Err(self.unanswered(&error)),
        };
        let made: Value = serde_json::from_str(&answer).unwrap_or_default();
        let token = made.pointer("/status/token").and_then(Value::as_str).filter(|token| !token.is_empty());
        token.map(SecretString::from).ok_or_else(|| self.unanswered(&WriteError::Unreadable))
    }

    /// Whether a token may be shown to somebody else than the API server.
    async fn check(&self, token: &SecretString) -> Result<(), SignError> {
        match review(&self.accounts.nobody, Some(token)).await {
            Err(WriteError::Refused { code: 401, .. }) => Ok(()),
            // 403 and 404 are answers to a bearer who is known.
            Ok(_) | Err(WriteError::Refused { code: 403 | 404, .. }) => {
                let problem = format!(
                    "the API server itself accepts a token for {}, so whoever runs Vault could act in this cluster with it, and it is \
                     not sent; leave out the audience that is the API server's own",
                    self.wanted.audiences.join(", ")
                );
                Err(spec(format!("{}.audiences", self.wanted.field), problem).into())
            }
            Err(error) => Err(self.unanswered(&error)),
        }
    }

    fn unusable(&self, problem: impl Into<String>) -> Fault {
        Fault::Material { field: self.wanted.field.clone(), object: self.name(), problem: problem.into() }
    }

    fn unanswered(&self, error: &WriteError) -> SignError {
        Outage::NoAccountToken { account: self.name(), words: Words::new(&error.to_string(), &[]) }.into()
    }

    fn name(&self) -> String {
        format!("ServiceAccount {}/{}", self.wanted.namespace, self.wanted.account)
    }
}

fn spec(field: String, problem: impl Into<String>) -> Fault {
    Fault::Spec { field, problem: problem.into() }
}

/// The user name that the API server gives the bearer of `token`, or else this client.
async fn review(client: &Client, token: Option<&SecretString>) -> Result<String, WriteError> {
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let answer = post(client, REVIEWS, &body, token).await?;
    let review: Value = serde_json::from_str(&answer).map_err(|_| WriteError::Unreadable)?;
    let name = review.pointer("/status/userInfo/username").and_then(Value::as_str);
    name.map(str::to_owned).ok_or(WriteError::Unreadable)
}

async fn post(client: &Client, path: &str, body: &Value, bearer: Option<&SecretString>) -> Result<String, WriteError> {
    let mut request = Request::new(path)
        .create(&Default::default(), body.to_string().into_bytes())
        .map_err(|_| WriteError::Unreadable)?;
    if let Some(token) = bearer {
        let value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()));
        let mut value = value.map_err(|_| WriteError::Unreadable)?;
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    call(client.request_text(request)).await
}

#[cfg(test)]
mod tests;
