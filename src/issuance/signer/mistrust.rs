//! What must not reach a mesh although Vault answered 200.

use crate::x509::Certificate;

/// Why an answer of Vault may not be published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mistrust {
    /// Status 200 without a usable certificate in it.
    #[error("Vault's answer at {path} cannot be used: {problem}")]
    Unreadable {
        /// The API path that was called.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Its time is over, or has not come.
    #[error("Vault's answer at {path} cannot be used: {problem}")]
    Untimely {
        /// The API path that was called.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The certificate holds somebody else's key.
    #[error("the certificate returned at {path} holds another key than the request. Does spec.vault.path name `sign`?")]
    ForeignKey {
        /// The API path that was called.
        path: String,
    },
    /// No chain of valid signatures leads to an anchor in force.
    #[error("the certificate returned at {path} does not lead to an anchor in force: {problem}")]
    NoPath {
        /// The API path that was called.
        path: String,
        /// Where it ends.
        problem: String,
        /// The self-signed CA at which it ends, where the answer holds one.
        root: Option<Certificate>,
    },
}
