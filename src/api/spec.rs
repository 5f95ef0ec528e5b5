//! What a user writes. `spec.vault` is cert-manager's own block, field for field; what is ours stands beside it.
//! Every doc comment here is shown by `kubectl explain`; every rule here answers at admission, in words.

#![allow(rustdoc::invalid_html_tags, rustdoc::bare_urls, reason = "`kubectl explain` shows these texts as they stand")]

use kube::{CustomResource, KubeSchema, Resource};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::key::IssuerKind;
use super::status::IssuerStatus;

/// What both kinds have in common, so that one controller serves them.
pub trait IssuerResource: Resource<DynamicType = ()> {
    /// The kind's own name.
    const KIND: IssuerKind;
    /// What the user wrote.
    fn issuer_spec(&self) -> &IssuerSpec;
    /// What we wrote.
    fn issuer_status(&self) -> Option<&IssuerStatus>;
}

/// Signs cert-manager's CertificateRequests of its own namespace with a PKI mount of HashiCorp Vault or OpenBao.
#[derive(CustomResource, JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[kube(
    group = "vaultmesh.io",
    version = "v1alpha1",
    kind = "VaultMeshIssuer",
    plural = "vaultmeshissuers",
    shortname = "vmi",
    category = "cert-manager",
    namespaced,
    status = "IssuerStatus",
    derive = "PartialEq",
    doc = "Signs cert-manager's CertificateRequests of its own namespace with a PKI mount of HashiCorp Vault or OpenBao.",
    validation = Rule::new("!has(self.spec.policy)").message("spec.policy is for VaultMeshClusterIssuer: a VaultMeshIssuer serves its own namespace only"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Status", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#),
    printcolumn(name = "Path", type_ = "string", json_path = ".spec.vault.path", priority = 1),
    printcolumn(name = "Server", type_ = "string", json_path = ".spec.vault.server", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(transparent)]
pub struct VaultMeshIssuerSpec(pub IssuerSpec);

/// Signs cert-manager's CertificateRequests of every namespace, or of those it selects, with a PKI mount of HashiCorp Vault or
/// OpenBao. The objects it names lie in the cluster resource namespace.
#[derive(CustomResource, JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[kube(
    group = "vaultmesh.io",
    version = "v1alpha1",
    kind = "VaultMeshClusterIssuer",
    plural = "vaultmeshclusterissuers",
    shortname = "vmci",
    category = "cert-manager",
    status = "IssuerStatus",
    derive = "PartialEq",
    doc = "Signs cert-manager's CertificateRequests of every namespace, or of those it selects, with a PKI mount of HashiCorp Vault or OpenBao. The objects it names lie in the cluster resource namespace.",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Status", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#),
    printcolumn(name = "Path", type_ = "string", json_path = ".spec.vault.path", priority = 1),
    printcolumn(name = "Server", type_ = "string", json_path = ".spec.vault.server", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(transparent)]
pub struct VaultMeshClusterIssuerSpec(pub IssuerSpec);

impl IssuerResource for VaultMeshIssuer {
    const KIND: IssuerKind = IssuerKind::Namespaced;
    fn issuer_spec(&self) -> &IssuerSpec {
        &self.spec.0
    }
    fn issuer_status(&self) -> Option<&IssuerStatus> {
        self.status.as_ref()
    }
}

impl IssuerResource for VaultMeshClusterIssuer {
    const KIND: IssuerKind = IssuerKind::Cluster;
    fn issuer_spec(&self) -> &IssuerSpec {
        &self.spec.0
    }
    fn issuer_status(&self) -> Option<&IssuerStatus> {
        self.status.as_ref()
    }
}

/// How to sign, and for whom.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct IssuerSpec {
    /// The Vault or OpenBao server: the same fields with the same meaning as `spec.vault` of cert-manager's own Issuer.
    pub vault: VaultSpec,
    /// What the mesh trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<TrustSpec>,
    /// Lifetimes of the certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<CertificatesSpec>,
    /// Who may use this issuer. For VaultMeshClusterIssuer only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicySpec>,
}

/// A Vault or OpenBao server, how to reach it, how to log in, and which path signs.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.caBundle) ? 1 : 0) + (has(self.caBundleSecretRef) ? 1 : 0) + (has(self.caBundleConfigMapRef) ? 1 : 0) <= 1").message("set at most one of caBundle, caBundleSecretRef and caBundleConfigMapRef"),
    validation = Rule::new("has(self.clientCertSecretRef) == has(self.clientKeySecretRef)").message("clientCertSecretRef and clientKeySecretRef belong together; set both or none")
)]
pub struct VaultSpec {
    /// The server's URL, for example https://vault.example:8200.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(
        validation = Rule::new("isURL(self) && url(self).getScheme() in ['http', 'https'] && url(self).getHostname() != ''").message("must be an http or https URL with a host, for example https://vault.example:8200"),
        validation = Rule::new("!self.contains('@') && !self.contains('?') && !self.contains('#')").message("must hold no user, query or fragment; credentials belong into auth")
    )]
    pub server: String,
    /// The host name to verify in the server's certificate, where it differs from the one in `server`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub server_name: Option<String>,
    /// The Vault namespace, for example team-a/mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^/?[A-Za-z0-9_.~@:+=-]+(/[A-Za-z0-9_.~@:+=-]+)*/?$') && !self.matches('(^|/)[.][.]?(/|$)')").message("must be a namespace path, for example team-a/mesh"))]
    pub namespace: Option<String>,
    /// The API path that signs: <mount>/sign/<role>, or <mount>/issuer/<ref>/sign/<role>.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(
        validation = Rule::new("!self.matches('(^|/)[.][.]?(/|$)')").message("must not hold the segments . or .."),
        validation = Rule::new("!self.matches('^/?v1/sign/[^/]+$')").message("names no mount; write <mount>/sign/<role>"),
        validation = Rule::new("!self.matches('(^|/)issue/[^/]+$')").message("ends in issue/<role>, which makes Vault create a key of its own; write sign/<role>"),
        validation = Rule::new("self.matches('(^|/)issue/[^/]+$') || self.matches('^(/?v1/|/)?([A-Za-z0-9_.~@:+=-]+/)+sign/[A-Za-z0-9_.~@:+=-]+$')").message("must be <mount>/sign/<role> or <mount>/issuer/<ref>/sign/<role>")
    )]
    pub path: String,
    /// Certificates to trust when connecting to the server, base64 of a PEM bundle. It says nothing about what the mesh trusts. Without any of caBundle, caBundleSecretRef and caBundleConfigMapRef the container's public roots are used; with one, only that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 440000))]
    pub ca_bundle: Option<String>,
    /// A key of a Secret that holds the bundle of caBundle as PEM. The key defaults to ca.crt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle_secret_ref: Option<SecretKeySelector>,
    /// A key of a ConfigMap that holds the bundle of caBundle as PEM. The key defaults to ca.crt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle_config_map_ref: Option<SecretKeySelector>,
    /// Our own certificate towards a server that demands one (mutual TLS). The key defaults to tls.crt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_cert_secret_ref: Option<SecretKeySelector>,
    /// The private key of clientCertSecretRef's certificate. The key defaults to tls.key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key_secret_ref: Option<SecretKeySelector>,
    /// How to log in.
    pub auth: AuthSpec,
}

/// Exactly one login method.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.appRole) ? 1 : 0) + (has(self.tokenSecretRef) ? 1 : 0) == 1").message("set exactly one login method: appRole or tokenSecretRef"))]
pub struct AuthSpec {
    /// AppRole: a role id and a secret id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_role: Option<AppRoleSpec>,
    /// A key of a Secret that holds a token. It is used as it is. The key defaults to token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<SecretKeySelector>,
}

/// A login with AppRole.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AppRoleSpec {
    /// Where the method is mounted, without auth/. Defaults to approle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    #[x_kube(validation = Rule::new("!self.matches('(^|/)[.][.]?(/|$)')").message("must not hold the segments . or .."))]
    pub path: Option<String>,
    /// The role id.
    #[schemars(length(min = 1, max = 512))]
    pub role_id: String,
    /// A key of a Secret that holds the secret id. The key defaults to secretId.
    pub secret_ref: SecretKeySelector,
}

/// One key of a Secret or ConfigMap in the issuer's namespace (for VaultMeshClusterIssuer: in the cluster resource namespace).
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeySelector {
    /// The object's name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')").message("must be an object's name: lower-case letters, digits, '-' and '.'"))]
    pub name: String,
    /// The key in its data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[-._a-zA-Z0-9]*$')").message("must be a key of a Secret or ConfigMap: letters, digits, '-', '_' and '.'"))]
    pub key: Option<String>,
}

/// What the mesh trusts.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TrustSpec {
    /// Where the mesh's root certificates lie: PEM bundles of self-signed roots, not of intermediates. They become `status.ca` of every request, and a certificate that does not lead to one of them is not handed out. Without this the root is taken from the mount.
    #[schemars(length(min = 1, max = 8))]
    pub anchors: Vec<AnchorSourceSpec>,
}

/// One source of root certificates.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.configMap) ? 1 : 0) + (has(self.secret) ? 1 : 0) + (has(self.pem) ? 1 : 0) == 1").message("set exactly one of configMap, secret and pem"))]
pub struct AnchorSourceSpec {
    /// A key of a ConfigMap. The key defaults to ca.crt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<SecretKeySelector>,
    /// A key of a Secret. The key defaults to ca.crt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretKeySelector>,
    /// The certificates themselves, as PEM text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 330000))]
    pub pem: Option<String>,
}

/// Lifetimes of the certificates.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.defaultDuration) || !has(self.maxDuration) || duration(self.defaultDuration) <= duration(self.maxDuration)").message("defaultDuration must not be longer than maxDuration"))]
pub struct CertificatesSpec {
    /// The lifetime of a certificate whose request names none, for example 24h. Defaults to 2160h, as cert-manager's does, or to maxDuration where that is shorter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]+([.][0-9]+)?(h|m|s|ms))+$') && duration(self) >= duration('1s')").message("must be a duration of at least one second, for example 24h"))]
    pub default_duration: Option<String>,
    /// The longest lifetime that a request may ask for; a longer one fails. Without it Vault's role decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]+([.][0-9]+)?(h|m|s|ms))+$') && duration(self) >= duration('1s')").message("must be a duration of at least one second, for example 24h"))]
    pub max_duration: Option<String>,
}

/// Who may use a cluster issuer.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct PolicySpec {
    /// The namespaces whose requests are served; absent and {} mean all. A request from elsewhere stays Pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelectorSpec>,
}

/// A label selector, as Kubernetes has it everywhere; bounded, because every field of this API is.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelectorSpec {
    /// Labels that must be there with these values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 32))]
    pub match_labels: Option<BTreeMap<String, String>>,
    /// Further conditions, all of which must hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub match_expressions: Option<Vec<LabelExpressionSpec>>,
}

/// One condition on a label.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.operator in ['In', 'NotIn', 'Exists', 'DoesNotExist']").message("operator must be In, NotIn, Exists or DoesNotExist"),
    validation = Rule::new("(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)").message("In and NotIn need values; Exists and DoesNotExist have none")
)]
pub struct LabelExpressionSpec {
    /// The label's key.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// In, NotIn, Exists or DoesNotExist.
    #[schemars(length(max = 16))]
    pub operator: String,
    /// What In and NotIn compare with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    pub values: Option<Vec<String>>,
}
