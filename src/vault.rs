//! The edge towards HashiCorp Vault and OpenBao. [`signer`] is what the rest of the program sees; it stands on [`session`] (one
//! login for many requests) and [`transport`] (one HTTP client that follows no redirect and reads no ambient `VAULT_*`).
//! What an answer means is decided by [`table`], [`login_hints`], [`answer`], [`envelope`] and [`token`], which are plain functions over data.

pub mod answer;
pub mod endpoints;
pub mod envelope;
pub mod failure;
pub mod login_hints;
pub mod revocation;
pub mod session;
pub mod signer;
pub mod table;
pub mod tls;
pub mod token;
pub mod transport;

#[cfg(test)]
pub(crate) mod fake;

pub use revocation::Revocations;

pub use signer::VaultSigner;
pub use tls::PublicRoots;

use crate::cluster::service_accounts::ServiceAccounts;
use crate::lease::Leadership;

/// What the signers of one process have in common.
#[derive(Clone)]
pub struct Common {
    /// The public roots of the container, loaded once.
    pub roots: PublicRoots,
    /// Tokens of ServiceAccounts, for logins.
    pub accounts: ServiceAccounts,
    /// Nothing leaves for Vault from a replica that does not lead.
    pub leadership: Leadership,
    /// The tokens that nobody needs any more.
    pub revocations: Revocations,
}
