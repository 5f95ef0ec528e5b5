//! OpenBao: one server over TLS (and beside it a plain http listener), and a
//! client of it. Every clone of a [`Bao`] speaks to the same server.

mod login;
mod pki;
mod recipes;
mod server;

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::bao_audit::BaoAudit;
use crate::http::Answer;
use crate::peer::Peer;
use crate::run::Run;

pub use login::{AppRole, AppRoleOptions};
pub use pki::{Chain, Hierarchy, HierarchyOptions};
pub use recipes::Recipe;
pub use server::BaoOptions;

/// A running server and a token for it; [`Bao::start`] hands out the root token.
#[derive(Clone)]
pub struct Bao {
    run: Run,
    peer: Peer,
    address: String,
    plain_address: Option<String>,
    ca_pem: String,
    unseal_key: Option<String>,
    audit: BaoAudit,
    token: Option<String>,
    namespace: Option<String>,
    vault: bool,
    client: reqwest::Client,
}

impl Bao {
    /// `https://127.0.0.1:PORT`; its certificate is also good for `localhost`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `http://127.0.0.1:PORT` of the same server. HashiCorp Vault in dev mode has only this one.
    pub fn plain_address(&self) -> &str {
        self.plain_address.as_deref().unwrap_or(&self.address)
    }

    /// The CA behind its TLS certificate, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Whether it is HashiCorp Vault.
    pub fn is_vault(&self) -> bool {
        self.vault
    }

    /// The process.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Its audit log.
    pub fn audit(&self) -> &BaoAudit {
        &self.audit
    }

    /// The token in use.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// The same server with another token.
    pub fn with_token(&self, token: &str) -> Bao {
        Bao { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The same server in a namespace of its own (`X-Vault-Namespace`).
    pub fn with_namespace(&self, namespace: &str) -> Bao {
        Bao { namespace: Some(namespace.to_owned()), ..self.clone() }
    }

    /// The same server through another URL, such as a proxy's.
    pub fn with_address(&self, address: &str) -> Bao {
        Bao { address: address.to_owned(), ..self.clone() }
    }

    /// Any call; hands back whatever is answered, refusals included. `path` is without `/v1/`.
    pub async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
        let method = reqwest::Method::from_bytes(method.as_bytes()).context("an HTTP method")?;
        let mut request = self
            .client
            .request(method, format!("{}/v1/{path}", self.address))
            .header("X-Vault-Request", "true")
            .timeout(Duration::from_secs(30));
        if let Some(token) = &self.token {
            request = request.header("X-Vault-Token", token);
        }
        if let Some(namespace) = &self.namespace {
            request = request.header("X-Vault-Namespace", namespace);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        Answer::read(request.send().await.with_context(|| format!("asking OpenBao for {path}"))?).await
    }

    /// Reads; `None` when there is nothing.
    pub async fn read(&self, path: &str) -> Result<Option<Value>> {
        let answer = self.call("GET", path, None).await?;
        if answer.status == 404 { Ok(None) } else { answer.ok(&format!("read {path}")).map(Some) }
    }

    /// Writes (POST); gives the whole answer, `Null` where there is none.
    pub async fn write(&self, path: &str, body: Value) -> Result<Value> {
        self.call("POST", path, Some(&body)).await?.ok(&format!("write {path}"))
    }

    /// Deletes.
    pub async fn delete(&self, path: &str) -> Result<()> {
        self.call("DELETE", path, None).await?.ok(&format!("delete {path}")).map(drop)
    }

    /// The keys of a list.
    pub async fn list(&self, path: &str) -> Result<Vec<String>> {
        let answer = self.call("LIST", path, None).await?;
        if answer.status == 404 {
            return Ok(Vec::new());
        }
        let keys = answer.ok(&format!("list {path}"))?["data"]["keys"].take();
        serde_json::from_value(keys).with_context(|| format!("the keys of {path}"))
    }

    /// Mounts a secrets engine; one that is there already is fine.
    pub async fn mount(&self, path: &str, kind: &str) -> Result<()> {
        let config = json!({"type": kind, "config": {"max_lease_ttl": "87600h"}});
        self.enable(&format!("sys/mounts/{path}"), config).await
    }

    /// Enables a login method; one that is there already is fine.
    pub async fn mount_login(&self, path: &str, kind: &str) -> Result<()> {
        self.enable(&format!("sys/auth/{path}"), json!({"type": kind})).await
    }

    async fn enable(&self, path: &str, body: Value) -> Result<()> {
        let answer = self.call("POST", path, Some(&body)).await?;
        if answer.status == 400 && answer.words().contains("already in use") {
            return Ok(());
        }
        answer.ok(&format!("enable {path}")).map(drop)
    }

    /// Writes a policy.
    pub async fn policy(&self, name: &str, hcl: &str) -> Result<()> {
        self.write(&format!("sys/policies/acl/{name}"), json!({"policy": hcl})).await.map(drop)
    }

    /// Limits the requests per second to a path (a mount, or deeper); it answers 429 beyond.
    pub async fn rate_limit(&self, name: &str, path: &str, per_second: f64) -> Result<()> {
        let body = json!({"path": path, "rate": per_second, "interval": "1s"});
        self.write(&format!("sys/quotas/rate-limit/{name}"), body).await.map(drop)
    }

    /// Lifts a limit.
    pub async fn lift_rate_limit(&self, name: &str) -> Result<()> {
        self.delete(&format!("sys/quotas/rate-limit/{name}")).await
    }

    /// Revokes a token.
    pub async fn revoke(&self, token: &str) -> Result<()> {
        self.write("auth/token/revoke", json!({"token": token})).await.map(drop)
    }

    /// Revokes every token that a login mount has given out.
    pub async fn revoke_logins(&self, login_mount: &str) -> Result<()> {
        self.write(&format!("sys/leases/revoke-prefix/auth/{login_mount}/login"), json!({})).await.map(drop)
    }
}
