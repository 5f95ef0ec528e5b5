//! `spec.vault.auth`: how a user writes a login. The methods that cert-manager has are its own, field for field; `jwt` and
//! `appRole.roleIdSecretRef` are ours.

#![allow(rustdoc::invalid_html_tags, rustdoc::bare_urls, reason = "`kubectl explain` shows these texts as they stand")]

use kube::KubeSchema;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{SecretKeySelector, rules};

/// Exactly one login method.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.appRole) ? 1 : 0) + (has(self.tokenSecretRef) ? 1 : 0) + (has(self.kubernetes) ? 1 : 0) + (has(self.clientCertificate) ? 1 : 0) + (has(self.jwt) ? 1 : 0) + (has(self.aws) ? 1 : 0) == 1").message("set exactly one login method: appRole, tokenSecretRef, kubernetes, clientCertificate or jwt"),
    validation = Rule::new("!has(self.aws)").message("aws is not supported yet: use kubernetes or jwt with serviceAccountRef, clientCertificate or appRole")
)]
pub struct AuthSpec {
    /// AppRole: a role id and a secret id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_role: Option<AppRoleSpec>,
    /// A key of a Secret that holds a token. It is used as it is. The key defaults to token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<SecretKeySelector>,
    /// A ServiceAccount's token, which Vault has the API server review.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesSpec>,
    /// A client certificate, shown in the TLS handshake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<ClientCertificateSpec>,
    /// A ServiceAccount's token, which Vault verifies by itself with the keys of its issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtSpec>,
    /// Not supported yet, and refused. It is here so that the refusal says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub aws: Option<Map<String, Value>>,
}

/// An object of which nothing is looked at.
fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "nullable": true, "x-kubernetes-preserve-unknown-fields": true})
}

/// A login with AppRole.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.roleId) != has(self.roleIdSecretRef)").message("set exactly one of roleId and roleIdSecretRef"))]
pub struct AppRoleSpec {
    /// Where the method is mounted, without auth/. Defaults to approle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    #[x_kube(validation = rules::no_dot_segments())]
    pub path: Option<String>,
    /// The role id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub role_id: Option<String>,
    /// A key of a Secret that holds the role id. The key defaults to roleId.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_id_secret_ref: Option<SecretKeySelector>,
    /// A key of a Secret that holds the secret id. The key defaults to secretId.
    pub secret_ref: SecretKeySelector,
}

/// A login with Vault's kubernetes method.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::one_token_source())]
pub struct KubernetesSpec {
    /// Where the method is mounted, as a path of Vault's API. Defaults to /v1/auth/kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    #[x_kube(validation = rules::no_dot_segments())]
    pub mount_path: Option<String>,
    /// The method's role, which binds ServiceAccounts to policies.
    #[schemars(length(min = 1, max = 512))]
    pub role: String,
    /// The ServiceAccount whose token is requested when a login needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_ref: Option<ServiceAccountRefSpec>,
    /// A key of a Secret that holds a ServiceAccount's token. The key defaults to token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeySelector>,
}

/// A login with Vault's cert method. It works over https only.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ClientCertificateSpec {
    /// Where the method is mounted, as a path of Vault's API. Defaults to /v1/auth/cert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    #[x_kube(validation = rules::no_dot_segments())]
    pub mount_path: Option<String>,
    /// A Secret of type kubernetes.io/tls, whose tls.crt and tls.key are shown to Vault. Without it those of spec.vault.clientCertSecretRef are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::object_name())]
    pub secret_name: Option<String>,
    /// The method's role. Without it Vault takes whichever the certificate fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub name: Option<String>,
}

/// A login with Vault's jwt method.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::one_token_source())]
pub struct JwtSpec {
    /// Where the method is mounted, without auth/. Defaults to jwt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    #[x_kube(validation = rules::no_dot_segments())]
    pub path: Option<String>,
    /// The method's role.
    #[schemars(length(min = 1, max = 512))]
    pub role: String,
    /// The ServiceAccount whose token is requested when a login needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_ref: Option<ServiceAccountRefSpec>,
    /// A key of a Secret that holds a token. The key defaults to token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeySelector>,
}

/// A ServiceAccount in the issuer's namespace (for VaultMeshClusterIssuer: in the cluster resource namespace) of which the controller may request tokens: the chart's value serviceAccounts lists them. Such a token lives for 10 minutes. Its audiences are vault://<namespace>/<issuer> (for VaultMeshClusterIssuer: vault://<issuer>), spec.vault.server as it is written, and those listed here.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountRefSpec {
    /// The ServiceAccount's name. The controller's own is refused.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::object_name())]
    pub name: String,
    /// Further audiences. Those of the API server itself are refused: whoever receives such a token could act in the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 512)))]
    pub audiences: Option<Vec<String>>,
}
