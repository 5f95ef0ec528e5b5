//! The parsed form of a spec: what the rest of the program works with. Parsing is pure and says which field is wrong; a spec
//! that the API server admitted may still fail here (an object from before a rule, a server without our CRD's rules).

mod certificates;
mod policy;

use base64::Engine as _;
use kube::core::Selector;

use super::auth::{Auth, client_certificate};
use super::spec::{AnchorSourceSpec, IssuerSpec, SecretKeySelector};
use super::vault_path::SignPath;

pub use certificates::{AllowCa, Certificates, Durations, GoDuration, Usages, go_duration};
pub use policy::{OtherNames, ServiceAccount, SpiffePolicy};

/// One issuer's configuration, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerConfig {
    /// Which server, which path.
    pub vault: VaultTarget,
    /// How to log in.
    pub auth: Auth,
    /// Whom to trust when connecting.
    pub server_ca: ServerCa,
    /// Our own certificate towards Vault: certificate, key.
    pub client_tls: Option<(KeyReference, KeyReference)>,
    /// `trust.anchors`, in the order written; empty means they are discovered.
    pub anchors: Vec<AnchorSource>,
    /// `trust.publish`: where the anchors in force are written.
    pub publish: Option<KeyReference>,
    /// What certificates may be asked for.
    pub certificates: Certificates,
    /// Which namespaces may use a cluster issuer; the empty selector means all.
    pub namespaces: Selector,
    /// `policy.spiffe`: which names who may ask for; none: only Vault's role decides.
    pub spiffe: Option<SpiffePolicy>,
}

/// A server and the path of its API that signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultTarget {
    /// `scheme://host[:port][/base]`, without a slash at the end.
    pub server: String,
    /// Host and port for messages and for `--allowed-servers`.
    pub authority: String,
    /// The host name to verify in the server's certificate, where it differs from the URL's.
    pub server_name: Option<String>,
    /// `X-Vault-Namespace`.
    pub namespace: Option<String>,
    /// Where to sign.
    pub path: SignPath,
}

/// Whom to trust when connecting to Vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerCa {
    /// The roots of the machine or container we run on.
    PublicRoots,
    /// A bundle in the spec.
    Inline(Vec<u8>),
    /// A bundle in a Secret or ConfigMap.
    Reference(KeyReference),
}

/// Where one anchor bundle comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnchorSource {
    /// PEM in the spec; with the field's path.
    Pem(String, String),
    /// A key of a Secret or ConfigMap.
    Reference(KeyReference),
}

/// A kind of object that a spec may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReferencedKind {
    /// A core/v1 Secret.
    Secret,
    /// A core/v1 ConfigMap.
    ConfigMap,
}

impl ReferencedKind {
    /// The kind's name in Kubernetes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
        }
    }
}

/// One key of a Secret or ConfigMap, and the field that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyReference {
    /// The naming field, from `spec` on, for messages.
    pub field: String,
    /// Secret or ConfigMap.
    pub kind: ReferencedKind,
    /// The object's name.
    pub name: String,
    /// The key in its data.
    pub key: String,
}

impl KeyReference {
    pub(super) fn secret(field: &str, selector: &SecretKeySelector, default_key: &str) -> Self {
        Self::new(field, ReferencedKind::Secret, selector, default_key)
    }

    fn new(field: &str, kind: ReferencedKind, selector: &SecretKeySelector, default_key: &str) -> Self {
        let key = selector.key.clone().filter(|key| !key.is_empty()).unwrap_or_else(|| default_key.to_owned());
        Self { field: field.to_owned(), kind, name: selector.name.clone(), key }
    }

    fn is_same_key(&self, other: &Self) -> bool {
        (self.kind, &self.name, &self.key) == (other.kind, &other.name, &other.key)
    }
}

/// A field that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct SpecError {
    /// The field, from `spec` on.
    pub field: String,
    /// What is wrong and what to do.
    pub problem: String,
}

impl SpecError {
    pub(super) fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

impl IssuerConfig {
    /// Parses a spec.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn parse(spec: &IssuerSpec) -> Result<Self, SpecError> {
        let vault = &spec.vault;
        let config = Self {
            vault: VaultTarget {
                authority: authority(&vault.server)?,
                server: vault.server.trim_end_matches('/').to_owned(),
                server_name: vault.server_name.clone().filter(|name| !name.is_empty()),
                namespace: vault_namespace(vault.namespace.as_deref())?,
                path: SignPath::parse(&vault.path)
                    .map_err(|error| SpecError::new("spec.vault.path", error.to_string()))?,
            },
            auth: Auth::parse(vault)?,
            server_ca: server_ca(spec)?,
            client_tls: client_tls(spec)?,
            anchors: anchors(spec)?,
            publish: publish(spec)?,
            certificates: certificates::parse(spec)?,
            namespaces: policy::namespaces(spec)?,
            spiffe: policy::spiffe(spec)?,
        };
        let read = config.references();
        match config.publish.as_ref().and_then(|target| read.into_iter().find(|read| read.is_same_key(target))) {
            Some(read) => Err(SpecError::new(
                "spec.trust.publish",
                format!(
                    "names the same key as {}, which is read and must not be overwritten; name another",
                    read.field
                ),
            )),
            None => Ok(config),
        }
    }

    /// Every object key that the spec names, in the order in which faults are reported.
    pub fn references(&self) -> Vec<&KeyReference> {
        let mut references = Vec::new();
        if let ServerCa::Reference(reference) = &self.server_ca {
            references.push(reference);
        }
        references.extend(self.client_tls.iter().flat_map(|(certificate, key)| [certificate, key]));
        references.extend(self.auth.references());
        references.extend(self.anchors.iter().filter_map(|source| match source {
            AnchorSource::Reference(reference) => Some(reference),
            AnchorSource::Pem(..) => None,
        }));
        references
    }
}

/// Checks `spec.vault.server` and returns its host and port.
fn authority(server: &str) -> Result<String, SpecError> {
    let wrong = |problem: &str| SpecError::new("spec.vault.server", problem);
    let uri: http::Uri = server
        .parse()
        .map_err(|_| wrong("is no URL; write http(s)://host:port, for example https://vault.example:8200"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(wrong("is no http or https URL; write https://host:port"));
    }
    let authority =
        uri.authority().filter(|authority| !authority.host().is_empty()).ok_or_else(|| wrong("names no host"))?;
    if authority.as_str().contains('@') {
        return Err(wrong("holds a user or password; credentials belong into spec.vault.auth"));
    }
    if uri.query().is_some() || server.contains('#') {
        return Err(wrong("holds a query or fragment; write scheme, host and port only"));
    }
    if is_link_local(authority.host()) {
        return Err(wrong("names a link-local address, which is never called"));
    }
    Ok(authority.as_str().to_owned())
}

/// 169.254/16 and fe80::/10, where clouds keep their metadata services.
fn is_link_local(host: &str) -> bool {
    match host.trim_matches(['[', ']']).parse() {
        Ok(std::net::IpAddr::V4(address)) => address.is_link_local(),
        Ok(std::net::IpAddr::V6(address)) => {
            address.is_unicast_link_local() || address.to_ipv4_mapped().is_some_and(|mapped| mapped.is_link_local())
        }
        Err(_) => false,
    }
}

fn vault_namespace(namespace: Option<&str>) -> Result<Option<String>, SpecError> {
    let Some(namespace) =
        namespace.map(|namespace| namespace.trim_matches('/')).filter(|namespace| !namespace.is_empty())
    else {
        return Ok(None);
    };
    if !namespace.split('/').all(super::vault_path::is_name) {
        return Err(SpecError::new("spec.vault.namespace", "is no namespace path, for example team-a/mesh"));
    }
    Ok(Some(namespace.to_owned()))
}

fn server_ca(spec: &IssuerSpec) -> Result<ServerCa, SpecError> {
    let vault = &spec.vault;
    match (&vault.ca_bundle, &vault.ca_bundle_secret_ref, &vault.ca_bundle_config_map_ref) {
        (None, None, None) => Ok(ServerCa::PublicRoots),
        (Some(encoded), None, None) => {
            let compact: String = encoded.chars().filter(|character| !character.is_whitespace()).collect();
            base64::engine::general_purpose::STANDARD.decode(compact).map(ServerCa::Inline).map_err(|_| {
                SpecError::new("spec.vault.caBundle", "is not base64; encode the PEM file, or use caBundleSecretRef")
            })
        }
        (None, Some(selector), None) => {
            Ok(ServerCa::Reference(KeyReference::secret("spec.vault.caBundleSecretRef", selector, "ca.crt")))
        }
        (None, None, Some(selector)) => Ok(ServerCa::Reference(KeyReference::new(
            "spec.vault.caBundleConfigMapRef",
            ReferencedKind::ConfigMap,
            selector,
            "ca.crt",
        ))),
        _ => {
            Err(SpecError::new("spec.vault", "set at most one of caBundle, caBundleSecretRef and caBundleConfigMapRef"))
        }
    }
}

fn client_tls(spec: &IssuerSpec) -> Result<Option<(KeyReference, KeyReference)>, SpecError> {
    match (&spec.vault.client_cert_secret_ref, &spec.vault.client_key_secret_ref) {
        (None, None) => Ok(spec.vault.auth.client_certificate.as_ref().and_then(client_certificate::identity)),
        (Some(certificate), Some(key)) => Ok(Some((
            KeyReference::secret("spec.vault.clientCertSecretRef", certificate, "tls.crt"),
            KeyReference::secret("spec.vault.clientKeySecretRef", key, "tls.key"),
        ))),
        _ => Err(SpecError::new(
            "spec.vault",
            "clientCertSecretRef and clientKeySecretRef belong together; set both or none",
        )),
    }
}

fn anchors(spec: &IssuerSpec) -> Result<Vec<AnchorSource>, SpecError> {
    let sources = spec.trust.iter().flat_map(|trust| trust.anchors.iter().flatten());
    sources.enumerate().map(|(index, source)| anchor(&format!("spec.trust.anchors[{index}]"), source)).collect()
}

fn anchor(field: &str, source: &AnchorSourceSpec) -> Result<AnchorSource, SpecError> {
    let reference = |name: &str, kind, selector| {
        Ok(AnchorSource::Reference(KeyReference::new(&format!("{field}.{name}"), kind, selector, "ca.crt")))
    };
    match (&source.config_map, &source.secret, &source.pem) {
        (Some(selector), None, None) => reference("configMap", ReferencedKind::ConfigMap, selector),
        (None, Some(selector), None) => reference("secret", ReferencedKind::Secret, selector),
        (None, None, Some(pem)) => Ok(AnchorSource::Pem(format!("{field}.pem"), pem.clone())),
        _ => Err(SpecError::new(field, "set exactly one of configMap, secret and pem")),
    }
}

/// The object key that `spec.trust.publish` names.
///
/// # Errors
/// It names none or two.
pub fn publish(spec: &IssuerSpec) -> Result<Option<KeyReference>, SpecError> {
    let Some(target) = spec.trust.as_ref().and_then(|trust| trust.publish.as_ref()) else {
        return Ok(None);
    };
    let reference = |name: &str, kind, selector| {
        Ok(Some(KeyReference::new(&format!("spec.trust.publish.{name}"), kind, selector, "ca.crt")))
    };
    match (&target.config_map, &target.secret) {
        (Some(selector), None) => reference("configMap", ReferencedKind::ConfigMap, selector),
        (None, Some(selector)) => reference("secret", ReferencedKind::Secret, selector),
        _ => Err(SpecError::new("spec.trust.publish", "set exactly one of configMap and secret")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn spec(edit: impl FnOnce(&mut serde_json::Value)) -> IssuerSpec {
        let mut spec = serde_json::json!({"vault": {
            "server": "https://vault.example:8200/", "path": "istioca/sign/cluster-local",
            "auth": {"appRole": {"path": "approle", "roleId": "id", "secretRef": {"name": "s", "key": "k"}}}
        }});
        edit(&mut spec);
        serde_json::from_value(spec).expect("the test's spec has the wire type's shape")
    }

    #[track_caller]
    fn refused(field: &str, edit: impl FnOnce(&mut serde_json::Value)) {
        let error = IssuerConfig::parse(&spec(edit)).expect_err("the spec should be refused");
        assert_eq!(error.field, field, "{error}");
    }

    #[test]
    fn a_plain_spec_is_parsed_with_cert_managers_defaults() {
        let config = IssuerConfig::parse(&spec(|_| ())).expect("the plain spec is fine");
        assert_eq!(config.vault.server, "https://vault.example:8200");
        assert_eq!(config.vault.authority, "vault.example:8200");
        assert_eq!(config.server_ca, ServerCa::PublicRoots);
        let durations = Durations { default: Duration::from_secs(2_160 * 3_600), max: None };
        let certificates = Certificates { durations, usages: Usages::Warn, allow_ca: None };
        assert_eq!((config.certificates, config.spiffe, config.publish), (certificates, None, None));
    }

    #[test]
    fn each_unusable_field_is_named() {
        for server in [
            "ftp://v",
            "vault:8200",
            "https://",
            "https://u:p@v:8200",
            "https://v?x=1",
            "https://v/#a",
            "http://169.254.169.254",
            "http://[fe80::1]:8200",
            "http://[::ffff:169.254.169.254]",
            "",
        ] {
            refused("spec.vault.server", |spec| spec["vault"]["server"] = server.into());
        }
        refused("spec.vault.path", |spec| spec["vault"]["path"] = "pki/issue/web".into());
        refused("spec.vault.namespace", |spec| spec["vault"]["namespace"] = "a/../b".into());
        refused("spec.vault.auth", |spec| spec["vault"]["auth"] = serde_json::json!({}));
        refused("spec.vault.auth", |spec| spec["vault"]["auth"]["tokenSecretRef"] = serde_json::json!({"name": "t"}));
        refused("spec.vault.auth.appRole.path", |spec| spec["vault"]["auth"]["appRole"]["path"] = "a/../../sys".into());
        refused("spec.vault.auth.appRole.roleId", |spec| spec["vault"]["auth"]["appRole"]["roleId"] = " ".into());
        refused("spec.vault.auth.appRole", |spec| spec["vault"]["auth"]["appRole"]["roleId"] = serde_json::Value::Null);
        refused("spec.vault.auth.appRole", |spec| {
            spec["vault"]["auth"]["appRole"]["roleIdSecretRef"] = serde_json::json!({"name": "s"});
        });
        refused("spec.vault.caBundle", |spec| spec["vault"]["caBundle"] = "-----BEGIN".into());
        refused("spec.vault", |spec| spec["vault"]["clientCertSecretRef"] = serde_json::json!({"name": "t"}));
        refused("spec.trust.anchors[0]", |spec| spec["trust"] = serde_json::json!({"anchors": [{}]}));
        refused("spec.certificates.maxDuration", |spec| {
            spec["certificates"] = serde_json::json!({"maxDuration": "1 day"});
        });
        refused("spec.certificates.usages", |spec| spec["certificates"] = serde_json::json!({"usages": "enforce"}));
        refused("spec.certificates.allowCA.maxDuration", |spec| {
            spec["certificates"] = serde_json::json!({"allowCA": {"maxDuration": "0s"}});
        });
        refused("spec.trust.publish", |spec| spec["trust"] = serde_json::json!({"publish": {}}));
        refused("spec.trust.publish", |spec| {
            let root = serde_json::json!({"configMap": {"name": "root"}});
            spec["trust"] = serde_json::json!({"anchors": [root], "publish": root});
        });
        refused("spec.policy.spiffe", |spec| spec["policy"] = serde_json::json!({"spiffe": {"requester": false}}));
        refused("spec.policy.spiffe.otherNames", |spec| {
            spec["policy"] = serde_json::json!({"spiffe": {"requester": true, "otherNames": "Warn"}});
        });
        refused("spec.certificates.defaultDuration", |spec| {
            spec["certificates"] = serde_json::json!({"maxDuration": "1h", "defaultDuration": "2h"});
        });
    }
}
