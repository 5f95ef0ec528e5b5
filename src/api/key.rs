//! Which issuer: kind, namespace and name, as an `issuerRef` names it; and which of the objects that an issuer names.

use std::fmt;

use super::config::ReferencedKind;

/// The two kinds of issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IssuerKind {
    /// `VaultMeshIssuer`, which serves its own namespace.
    Namespaced,
    /// `VaultMeshClusterIssuer`, which serves every namespace or those it selects.
    Cluster,
}

impl IssuerKind {
    /// The kind as `issuerRef.kind` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Namespaced => "VaultMeshIssuer",
            Self::Cluster => "VaultMeshClusterIssuer",
        }
    }

    /// The kind that `issuerRef.kind` names.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Namespaced, Self::Cluster].into_iter().find(|kind| kind.name() == name)
    }

    /// The resource as RBAC and signer names have it.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Namespaced => "vaultmeshissuers",
            Self::Cluster => "vaultmeshclusterissuers",
        }
    }
}

/// One issuer by name. Two issuers that bear the same name one after the other have the same key and different UIDs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IssuerKey {
    /// Namespaced or cluster.
    pub kind: IssuerKind,
    /// None for the cluster kind.
    pub namespace: Option<String>,
    /// `metadata.name`.
    pub name: String,
}

impl IssuerKey {
    /// The issuer that a request in `namespace` means by `kind` and `name`.
    pub fn new(kind: IssuerKind, namespace: &str, name: &str) -> Self {
        let namespace = match kind {
            IssuerKind::Namespaced => Some(namespace.to_owned()),
            IssuerKind::Cluster => None,
        };
        Self { kind, namespace, name: name.to_owned() }
    }

    /// The signer name that cert-manager's approval is asked for.
    pub fn signer_name(&self) -> String {
        let resource = format!("{}.{}", self.kind.plural(), super::GROUP);
        match &self.namespace {
            Some(namespace) => format!("{resource}/{namespace}.{}", self.name),
            None => format!("{resource}/{}", self.name),
        }
    }
}

impl fmt::Display for IssuerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind.name(), self.name),
            None => write!(f, "{} {}", self.kind.name(), self.name),
        }
    }
}

/// A Secret or ConfigMap by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Secret or ConfigMap.
    pub kind: ReferencedKind,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl ObjectKey {
    /// Whether an object can have this name.
    pub fn has_valid_name(&self) -> bool {
        is_object_name(&self.name)
    }
}

/// RFC 1123, as the API server demands of Secrets, ConfigMaps and ServiceAccounts. Any other name could mean another object as part
/// of a URL.
pub fn is_object_name(name: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let label = |label: &str| {
        label.bytes().all(|byte| alphanumeric(byte) || byte == b'-')
            && label.bytes().next().is_some_and(alphanumeric)
            && label.bytes().last().is_some_and(alphanumeric)
    };
    name.len() <= 253 && name.split('.').all(label)
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.name(), self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> ObjectKey {
        ObjectKey { kind: ReferencedKind::ConfigMap, namespace: "mesh".to_owned(), name: name.to_owned() }
    }

    #[test]
    fn only_what_may_be_an_objects_name_reaches_a_url() {
        for good in ["a", "vault-ca", "a.b-c.d", "0", &"x".repeat(253)] {
            assert!(named(good).has_valid_name(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "../../other/secrets/x",
            "a/b",
            "a%2fb",
            "a?b",
            "A",
            "a_b",
            "-a",
            "a-",
            "a..b",
            &"x".repeat(254),
        ] {
            assert!(!named(bad).has_valid_name(), "{bad}");
        }
    }
}
