//! Ways to get a token: AppRole, plain tokens, kubernetes, jwt and client certificates.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Bao;

/// An AppRole that can log in.
#[derive(Clone, Debug)]
pub struct AppRole {
    /// The login mount, `approle` by default.
    pub mount: String,
    /// The role's name.
    pub name: String,
    /// Its role-id.
    pub role_id: String,
    /// A secret-id (a registered secret).
    pub secret_id: String,
}

/// How an AppRole is made. The default is cert-manager's documentation: token_ttl 1h, token_max_ttl 4h.
#[derive(Clone, Debug)]
pub struct AppRoleOptions {
    /// The login mount.
    pub mount: String,
    /// Policies of its tokens.
    pub policies: Vec<String>,
    /// First lease of a token.
    pub token_ttl: String,
    /// Its end in spite of renewal.
    pub token_max_ttl: String,
    /// How often a token can be used, 0 for always.
    pub token_num_uses: u32,
    /// How often a secret-id can be used, 0 for always.
    pub secret_id_num_uses: u32,
    /// Anything else, such as `{"token_type": "batch", "token_no_default_policy": true}`.
    pub more: Value,
}

impl AppRoleOptions {
    /// The usual one, with these policies.
    pub fn new(policies: &[&str]) -> AppRoleOptions {
        AppRoleOptions {
            mount: "approle".into(),
            policies: policies.iter().map(ToString::to_string).collect(),
            token_ttl: "1h".into(),
            token_max_ttl: "4h".into(),
            token_num_uses: 0,
            secret_id_num_uses: 0,
            more: json!({}),
        }
    }
}

impl Bao {
    /// The least privilege that must be enough: `update` on the sign path. Gives the policy's name.
    pub async fn sign_policy(&self, name: &str, sign_path: &str) -> Result<String> {
        self.policy(name, &format!("path \"{sign_path}\" {{ capabilities = [\"update\"] }}")).await?;
        Ok(name.to_owned())
    }

    /// Makes (or changes) an AppRole and a secret-id for it.
    pub async fn app_role(&self, name: &str, options: &AppRoleOptions) -> Result<AppRole> {
        let mount = &options.mount;
        self.mount_login(mount, "approle").await?;
        let mut body = json!({
            "token_policies": options.policies, "token_ttl": options.token_ttl, "token_max_ttl": options.token_max_ttl,
            "token_num_uses": options.token_num_uses, "secret_id_num_uses": options.secret_id_num_uses,
        });
        for (key, value) in options.more.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        self.write(&format!("auth/{mount}/role/{name}"), body).await?;
        let read = self.read(&format!("auth/{mount}/role/{name}/role-id")).await?.context("the role has no role-id")?;
        let role_id = read["data"]["role_id"].as_str().context("the role has no role-id")?.to_owned();
        let mut role = AppRole { mount: mount.clone(), name: name.into(), role_id, secret_id: String::new() };
        role.secret_id = self.secret_id(&role).await?;
        Ok(role)
    }

    /// Another secret-id of a role.
    pub async fn secret_id(&self, role: &AppRole) -> Result<String> {
        let made = self.write(&format!("auth/{}/role/{}/secret-id", role.mount, role.name), json!({})).await?;
        let id = made["data"]["secret_id"].as_str().context("no secret-id in the answer")?;
        Ok(self.run.secrets().add(format!("a secret-id of {}", role.name), id))
    }

    /// Makes a secret-id useless.
    pub async fn destroy_secret_id(&self, role: &AppRole, secret_id: &str) -> Result<()> {
        let path = format!("auth/{}/role/{}/secret-id/destroy", role.mount, role.name);
        self.write(&path, json!({"secret_id": secret_id})).await.map(drop)
    }

    /// Logs in as the role; gives the answer's `auth` block.
    pub async fn log_in(&self, role: &AppRole) -> Result<Value> {
        let body = json!({"role_id": role.role_id, "secret_id": role.secret_id});
        let answer = self.write(&format!("auth/{}/login", role.mount), body).await?;
        let token = answer["auth"]["client_token"].as_str().context("no token in the answer")?;
        self.run.secrets().add(format!("a token of {}", role.name), token);
        Ok(answer["auth"].clone())
    }

    /// An orphan token: `options` as in `auth/token/create-orphan`, for instance
    /// `{"policies": ["p"], "ttl": "1h", "renewable": true, "num_uses": 5, "no_default_policy": true}`.
    pub async fn make_token(&self, options: Value) -> Result<String> {
        let answer = self.write("auth/token/create-orphan", options).await?;
        let token = answer["auth"]["client_token"].as_str().context("no token in the answer")?;
        Ok(self.run.secrets().add("an OpenBao token", token))
    }

    /// The kubernetes login: OpenBao asks the API server with `reviewer_token`
    /// (its ServiceAccount needs `system:auth-delegator`).
    pub async fn kubernetes_login(&self, mount: &str, server: &str, ca_pem: &str, reviewer_token: &str) -> Result<()> {
        self.mount_login(mount, "kubernetes").await?;
        let body =
            json!({"kubernetes_host": server, "kubernetes_ca_cert": ca_pem, "token_reviewer_jwt": reviewer_token});
        self.write(&format!("auth/{mount}/config"), body).await.map(drop)
    }

    /// A role of the kubernetes login.
    pub async fn kubernetes_role(
        &self,
        mount: &str,
        role: &str,
        namespace: &str,
        account: &str,
        more: Value,
    ) -> Result<()> {
        let mut body = json!({
            "bound_service_account_names": [account], "bound_service_account_namespaces": [namespace], "token_ttl": "1h",
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        self.write(&format!("auth/{mount}/role/{role}"), body).await.map(drop)
    }

    /// The jwt login, checking against one public key; `role_options` needs `policies` and what is bound.
    pub async fn jwt_login(&self, mount: &str, public_key_pem: &str, role: &str, role_options: Value) -> Result<()> {
        self.mount_login(mount, "jwt").await?;
        self.write(&format!("auth/{mount}/config"), json!({"jwt_validation_pubkeys": [public_key_pem]})).await?;
        self.write(&format!("auth/{mount}/role/{role}"), role_options).await.map(drop)
    }

    /// The client-certificate login: whoever shows a certificate of this CA gets these policies.
    pub async fn certificate_login(&self, mount: &str, role: &str, ca_pem: &str, policies: &[&str]) -> Result<()> {
        self.mount_login(mount, "cert").await?;
        let body = json!({"certificate": ca_pem, "token_policies": policies, "token_ttl": "1h"});
        self.write(&format!("auth/{mount}/certs/{role}"), body).await.map(drop)
    }
}
