//! Which issuer: kind, namespace and name, as an `issuerRef` names it.

use std::fmt;

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
