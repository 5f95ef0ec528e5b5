//! Our issuers as a user writes them: AppRole, OpenBao's TLS CA, and whatever a
//! test changes.

use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::bao::{Bao, Recipe};
use crate::kube::{Kube, condition};
use crate::requests::IssuerRef;

const GROUP: &str = "/apis/vaultmesh.io/v1alpha1";

/// An issuer in the making.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// Where it and its Secret lie; for the cluster kind the cluster resource namespace.
    namespace: String,
    cluster: bool,
    secret: Option<(String, String)>,
    object: Value,
}

/// An issuer that exists.
#[derive(Clone)]
pub struct Issuing {
    /// Its path at the API server.
    pub path: String,
    /// How a request names it.
    pub issuer_ref: IssuerRef,
    kube: Kube,
}

impl Issuer {
    /// A VaultMeshIssuer that signs at the recipe's path with its AppRole, whose
    /// secret-id goes to the Secret `<name>-approle`, key `secretId`.
    pub fn app_role(namespace: &str, name: &str, bao: &Bao, recipe: &Recipe) -> Issuer {
        let (role, secret) = (&recipe.app_role, format!("{name}-approle"));
        let login = json!({
            "path": role.mount, "roleId": role.role_id, "secretRef": {"name": secret, "key": "secretId"},
        });
        let auth = json!({"appRole": login});
        let mut issuer = Issuer::with_auth(namespace, name, bao, &recipe.sign_path, auth);
        issuer.secret = Some((secret, role.secret_id.clone()));
        issuer
    }

    /// A VaultMeshIssuer with any `auth` block; the Secret it names is the caller's.
    pub fn with_auth(namespace: &str, name: &str, bao: &Bao, sign_path: &str, auth: Value) -> Issuer {
        let mut vault = json!({"server": bao.address(), "path": sign_path, "auth": auth});
        if bao.address().starts_with("https:") {
            vault["caBundle"] = STANDARD.encode(bao.ca_pem()).into();
        }
        let object = json!({
            "apiVersion": "vaultmesh.io/v1alpha1",
            "kind": "VaultMeshIssuer",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"vault": vault},
        });
        Issuer { namespace: namespace.into(), cluster: false, secret: None, object }
    }

    /// A VaultMeshClusterIssuer instead; the namespace is then where its Secret lies.
    pub fn cluster(mut self) -> Issuer {
        self.cluster = true;
        self.object["kind"] = "VaultMeshClusterIssuer".into();
        self.object["metadata"] = json!({"name": self.object["metadata"]["name"]});
        self
    }

    /// `spec.trust.anchors` with this PEM.
    pub fn anchors(self, pem: &str) -> Issuer {
        self.set("trust", json!({"anchors": [{"pem": pem}]}))
    }

    /// Sets a field below `spec`, making the objects above it: `("certificates/maxDuration", …)`. `Null` removes it.
    pub fn set(mut self, path: &str, value: Value) -> Issuer {
        let mut parts: Vec<&str> = path.split('/').collect();
        let last = parts.pop().unwrap_or_default();
        let parent = parts.iter().fold(&mut self.object["spec"], |object, part| &mut object[*part]);
        if value.is_null() {
            if let Some(object) = parent.as_object_mut() {
                object.remove(last);
            }
        } else {
            parent[last] = value;
        }
        self
    }

    /// The object.
    pub fn object(&self) -> &Value {
        &self.object
    }

    /// Creates its Secret and the issuer, or replaces both.
    pub async fn create(self, kube: &Kube) -> Result<Issuing> {
        let kind = self.object["kind"].as_str().unwrap_or_default();
        let name = self.object["metadata"]["name"].as_str().context("an issuer without a name")?;
        let path = match self.cluster {
            true => format!("{GROUP}/vaultmeshclusterissuers/{name}"),
            false => format!("{GROUP}/namespaces/{}/vaultmeshissuers/{name}", self.namespace),
        };
        if let Some((secret, value)) = &self.secret {
            kube.secret(&self.namespace, secret, &[("secretId", value)]).await?;
        }
        kube.apply_object(&path, "testenv", &self.object).await?;
        Ok(Issuing { issuer_ref: IssuerRef::new(kind, name), path, kube: kube.clone() })
    }
}

impl Issuing {
    /// The object as it is now.
    pub async fn get(&self) -> Result<Value> {
        self.kube.get(&self.path).await
    }

    /// Waits for Ready=True; gives the object.
    pub async fn ready(&self, within: Duration) -> Result<Value> {
        self.kube.wait_condition(&self.path, "Ready", "True", within).await
    }

    /// Waits for Ready=False; gives the condition.
    pub async fn not_ready(&self, within: Duration) -> Result<Value> {
        let object = self.kube.wait_condition(&self.path, "Ready", "False", within).await?;
        condition(&object, "Ready").cloned().context("the condition has gone")
    }

    /// Waits for Ready with this reason; gives the condition.
    pub async fn reason(&self, reason: &str, within: Duration) -> Result<Value> {
        let done = |object: &Value| condition(object, "Ready").is_some_and(|ready| ready["reason"] == reason);
        let object = self.kube.wait(&self.path, within, done).await;
        let object = object.with_context(|| format!("waiting for reason {reason}"))?;
        condition(&object, "Ready").cloned().context("the condition has gone")
    }

    /// A JSON merge patch of the object, such as `{"spec": {"vault": {"path": "pki/sign/other"}}}`.
    pub async fn patch(&self, change: &Value) -> Result<Value> {
        self.kube.patch(&self.path, change).await
    }

    /// Deletes it.
    pub async fn delete(&self) -> Result<()> {
        self.kube.delete(&self.path).await
    }
}
