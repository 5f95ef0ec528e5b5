//! What a user writes. `spec.vault` is cert-manager's own block, field for field; what is ours stands beside it.
//! Every doc comment here is shown by `kubectl explain`; every rule here answers at admission, in words.

#![allow(rustdoc::invalid_html_tags, rustdoc::bare_urls, reason = "`kubectl explain` shows these texts as they stand")]

use kube::{CustomResource, KubeSchema, Resource};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::key::IssuerKind;
use super::status::IssuerStatus;

mod auth;
mod rules;

pub use auth::{AppRoleSpec, AuthSpec, ClientCertificateSpec, JwtSpec, KubernetesSpec, ServiceAccountRefSpec};

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
    validation = Rule::new("!has(self.spec.policy) || !has(self.spec.policy.namespaceSelector)").message("spec.policy.namespaceSelector is for VaultMeshClusterIssuer: a VaultMeshIssuer serves its own namespace only"),
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
    /// What certificates may be asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<CertificatesSpec>,
    /// Who may use this issuer, and for which names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicySpec>,
}

/// A Vault or OpenBao server, how to reach it, how to log in, and which path signs.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.caBundle) ? 1 : 0) + (has(self.caBundleSecretRef) ? 1 : 0) + (has(self.caBundleConfigMapRef) ? 1 : 0) <= 1").message("set at most one of caBundle, caBundleSecretRef and caBundleConfigMapRef"),
    validation = Rule::new("has(self.clientCertSecretRef) == has(self.clientKeySecretRef)").message("clientCertSecretRef and clientKeySecretRef belong together; set both or none"),
    validation = Rule::new("!has(self.auth.clientCertificate) || self.server.startsWith('https://')").message("auth.clientCertificate works over https only: server must begin with https://"),
    validation = Rule::new("!has(self.auth.clientCertificate) || has(self.auth.clientCertificate.secretName) != has(self.clientCertSecretRef)").message("auth.clientCertificate needs exactly one certificate: name it in its secretName, or in clientCertSecretRef and clientKeySecretRef")
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
    /// The API path that signs: <mount>/sign/<role>, or <mount>/issuer/<ref>/sign/<role>. With <mount>/sign-verbatim[/<role>] the request's usages and subject come out as they are asked for. <mount>/root/sign-intermediate and <mount>/issuer/<ref>/sign-intermediate serve requests with isCA only. <mount>/cel/sign/<role> is OpenBao's.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(
        validation = rules::no_dot_segments(),
        validation = Rule::new("!self.matches('^(/?v1/|/)?(sign(-verbatim)?/[^/]+|sign-verbatim|root/sign-intermediate)$')").message("names no mount; write <mount>/sign/<role>"),
        validation = Rule::new("!self.matches('(^|/)issue/[^/]+$')").message("ends in issue/<role>, which makes Vault create a key of its own; write sign/<role>"),
        validation = Rule::new("self.matches('(^|/)issue/[^/]+$') || self.matches('^(/?v1/|/)?([A-Za-z0-9_.~@:+=-]+/)+(sign/[A-Za-z0-9_.~@:+=-]+|sign-verbatim(/[A-Za-z0-9_.~@:+=-]+)?|root/sign-intermediate|issuer/[A-Za-z0-9_.~@:+=-]+/sign-intermediate)$')").message("must be <mount>/sign/<role> or <mount>/issuer/<ref>/sign/<role>, or end in one of the verbs sign-verbatim, root/sign-intermediate, issuer/<ref>/sign-intermediate and cel/sign/<role>")
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

/// One key of a Secret or ConfigMap in the issuer's namespace (for VaultMeshClusterIssuer: in the cluster resource namespace).
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeySelector {
    /// The object's name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::object_name())]
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
#[x_kube(validation = Rule::new("has(self.anchors) || has(self.publish)").message("set anchors, publish or both"))]
pub struct TrustSpec {
    /// Where the mesh's root certificates lie: PEM bundles of self-signed roots, not of intermediates. They become `status.ca` of every request, and a certificate that does not lead to one of them is not handed out. Without this the root is taken from the mount, and stays in force when the mount shows another one: nothing is signed then until it is named here or accepted with the annotation vaultmesh.io/accept-anchors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8))]
    pub anchors: Option<Vec<AnchorSourceSpec>>,
    /// Where to write the trust anchors in force, for a mesh that reads them from a ConfigMap or Secret. It lies in the issuer's namespace (for VaultMeshClusterIssuer: in the cluster resource namespace); trust-manager copies it elsewhere. Only this one key is written, it stays when the issuer goes, and it is never emptied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<PublishSpec>,
}

/// The object that the trust anchors are written to.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.configMap) != has(self.secret)").message("set exactly one of configMap and secret"))]
pub struct PublishSpec {
    /// A key of a ConfigMap. The key defaults to ca.crt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<SecretKeySelector>,
    /// A key of a Secret. The key defaults to ca.crt. The chart lets the controller write Secrets only when told to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretKeySelector>,
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

/// What certificates may be asked for.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.defaultDuration) || !has(self.maxDuration) || duration(self.defaultDuration) <= duration(self.maxDuration)").message("defaultDuration must not be longer than maxDuration"))]
pub struct CertificatesSpec {
    /// The lifetime of a certificate whose request names none, for example 24h. Defaults to 2160h, as cert-manager's does, or to maxDuration where that is shorter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = rules::duration())]
    pub default_duration: Option<String>,
    /// The longest lifetime that a request may ask for; a longer one fails. Without it Vault's role decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = rules::duration())]
    pub max_duration: Option<String>,
    /// What to do about a certificate that lacks key usages or extended key usages that its request asks for: Warn (an event and a log line) or Enforce (the request fails). With a path of sign/<role> the role's key_usage and ext_key_usage decide about them, with sign-verbatim the request does. Defaults to Warn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self in ['Warn', 'Enforce']").message("must be Warn or Enforce"))]
    pub usages: Option<String>,
    /// Lets requests with isCA be signed, through <mount>/root/sign-intermediate or <mount>/issuer/<ref>/sign-intermediate of the mount in spec.vault.path; the login's policy needs update on that path too. Without it they fail, unless spec.vault.path itself ends in sign-intermediate: then they are signed with the defaults of the fields below. No role of Vault's limits this path: the limits here are the only ones. A CA certificate gets no extended key usages, no key usages but cert sign, crl sign, digital signature and key encipherment, and no extensions of its request but names; a request that asks for more fails.
    #[serde(default, rename = "allowCA", skip_serializing_if = "Option::is_none")]
    pub allow_ca: Option<AllowCaSpec>,
}

/// Which CA certificates may be asked for.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct AllowCaSpec {
    /// The path length that is written into the CA certificates: how many further CAs may stand below each. A request that asks for a shorter one gets that, and one that asks for a longer one fails. Defaults to 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9))]
    pub max_path_length: Option<u8>,
    /// The longest lifetime of a CA certificate; a longer one fails. Defaults to certificates.maxDuration; without either only the mount's own maximum bounds it, so set one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = rules::duration())]
    pub max_duration: Option<String>,
}

/// Who may use an issuer, and for which names.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct PolicySpec {
    /// The namespaces whose requests are served; absent and {} mean all. A request from elsewhere stays Pending. For VaultMeshClusterIssuer only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelectorSpec>,
    /// Compares the names that a request asks for with who asks. Absent: only Vault's role decides about names. It is sound only where cert-manager's webhook runs: without it a client may write any requester into its request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spiffe: Option<SpiffePolicySpec>,
}

/// Rules about names. A name of the shape spiffe://<trust domain>/ns/<namespace>/sa/<service account> or <service>.<namespace>.svc (with or without a cluster domain) is granted if one of the rules that are set grants it; otherwise the request fails before Vault is asked. A common name that could be taken for a host, a URI or an address is compared too. The trust domain is left to Vault's role.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.requester) && self.requester) || (has(self.requestNamespace) && self.requestNamespace) || (has(self.brokers) && self.brokers.size() > 0)").message("set at least one of requester, requestNamespace and brokers: without a rule nothing could be granted"))]
pub struct SpiffePolicySpec {
    /// Grants the names of the ServiceAccount that made the request: its own namespace and its own service account; service names of its namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester: Option<bool>,
    /// Grants the names of the request's own namespace, whoever made the request. Certificates need it: their requests are made by cert-manager's ServiceAccount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_namespace: Option<bool>,
    /// ServiceAccounts that may ask for the names of every workload and service, as istio-csr does after it has checked who asks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub brokers: Option<Vec<ServiceAccountSpec>>,
    /// What to do about names of another shape, such as SPIRE's and Kong Mesh's URIs, other DNS names (wildcards and the names of Pods among them), IP and e-mail addresses, and about CA certificates, which can sign any name: Refuse or Allow, which leaves them to Vault's role. Brokers are bound by it too. Defaults to Refuse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self in ['Refuse', 'Allow']").message("must be Refuse or Allow"))]
    pub other_names: Option<String>,
}

/// A ServiceAccount.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountSpec {
    /// Its namespace.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
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
