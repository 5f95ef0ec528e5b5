//! The edge towards HashiCorp Vault and OpenBao. [`signer`] is what the rest of the program sees; it stands on [`session`] (one
//! login for many requests) and [`transport`] (one HTTP client that follows no redirect and reads no ambient `VAULT_*`).
//! What an answer means is decided by [`table`], [`answer`], [`envelope`] and [`token`], which are plain functions over data.

pub mod answer;
pub mod endpoints;
pub mod envelope;
pub mod failure;
pub mod session;
pub mod signer;
pub mod table;
pub mod tls;
pub mod token;
pub mod transport;

#[cfg(test)]
pub(crate) mod fake;

pub use signer::VaultSigner;
pub use tls::PublicRoots;
