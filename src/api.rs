//! The CRDs: what a user writes ([`spec`]), what we write back ([`status`]), and the parsed form the program works with
//! ([`config`], [`auth`], [`material`]). Wire types accept whatever the schema accepts; domain types are parsed from them per
//! object, so that one odd object never stops a watch. The doc comments of the wire types are the users' manual (`kubectl explain`).

pub mod auth;
pub mod built_in;
pub mod config;
pub mod key;
pub mod manifest;
pub mod material;
pub mod spec;
pub mod status;
#[cfg(test)]
pub(crate) mod testing;
pub mod vault_path;

pub use config::IssuerConfig;
pub use key::{IssuerKey, IssuerKind, ObjectKey};
pub use manifest::Manifest;
pub use material::Material;
pub use spec::{IssuerResource, VaultMeshClusterIssuer, VaultMeshIssuer};

/// The API group of both kinds.
pub const GROUP: &str = "vaultmesh.io";
/// Who we are in `metadata.managedFields` and in events.
pub const FIELD_MANAGER: &str = "vault-mesh-issuer";
/// The annotation of an issuer that accepts other trust anchors than those handed out so far: SHA-256 fingerprints.
pub const ACCEPT_ANCHORS: &str = "vaultmesh.io/accept-anchors";
