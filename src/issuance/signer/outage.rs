//! Troubles that pass: between us and Vault, or a CA that ends before what is asked of it.

use std::time::Duration;

use jiff::Timestamp;

use super::super::words::Words;

/// A trouble between us and Vault that passes without anybody editing the issuer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Outage {
    /// No TCP connection.
    #[error(
        "cannot connect to {server} ({class}). Check spec.vault.server and the network between this controller and Vault"
    )]
    Unreachable {
        /// Host and port.
        server: String,
        /// `refused`, `timeout`, `name not found`, `reset`.
        class: &'static str,
    },
    /// The TLS handshake failed.
    #[error("no TLS with {server}: {words}. {hint}")]
    Tls {
        /// Host and port.
        server: String,
        /// The TLS library's words.
        words: Words,
        /// Which field decides.
        hint: String,
    },
    /// Connected, then cut or silent.
    #[error("{server} did not answer ({class})")]
    Interrupted {
        /// Host and port.
        server: String,
        /// `timeout`, `connection cut`.
        class: &'static str,
    },
    /// Vault is sealed.
    #[error("Vault at {server} is sealed")]
    Sealed {
        /// Host and port.
        server: String,
    },
    /// The node that answered does not serve, and knows none that does.
    #[error(
        "{server} is a standby that knows no active node ({words}). Vault goes on once it has a leader; if it stays so, see \
         whether a majority of its nodes is up, unsealed, and able to reach each other's cluster addresses"
    )]
    Standby {
        /// Host and port.
        server: String,
        /// Vault's own words.
        words: Words,
    },
    /// The certificate would outlive the CA. It concerns this request only: a shorter-lived one may be signed.
    #[error("{path} would have to sign beyond the end of its CA: {words}. Renew the CA, or ask for a shorter duration")]
    BeyondCa {
        /// The API path that was called.
        path: String,
        /// Vault's own words.
        words: Words,
        /// The dates in them, where there are any.
        dates: Option<Beyond>,
    },
    /// Fewer calls are asked for, or some patience: 429, and 503 with a Retry-After.
    #[error("{server} answered {status} and asks us to come again later. {}", throttle_hint(*status))]
    Throttled {
        /// Host and port.
        server: String,
        /// HTTP status.
        status: u16,
        /// For how long it asks nobody to call, where it says so.
        retry_after: Option<Duration>,
    },
    /// Another answer that passes: 412, 5xx.
    #[error("Vault at {server} answered {status}: {words}")]
    Status {
        /// Host and port.
        server: String,
        /// HTTP status.
        status: u16,
        /// Vault's own words.
        words: Words,
    },
    /// The API server gave no answer, or an odd one, when a login needed a token of a ServiceAccount.
    #[error("no token of {account} could be requested for the login at Vault: {words}")]
    NoAccountToken {
        /// Kind, namespace and name.
        account: String,
        /// What is known of it.
        words: Words,
    },
    /// Whoever answered is not Vault; its words are not shown.
    #[error("{server} answered {status}, and not as Vault does. {hint}")]
    NotVault {
        /// Host and port.
        server: String,
        /// HTTP status.
        status: u16,
        /// What it could be.
        hint: String,
    },
}

fn throttle_hint(status: u16) -> &'static str {
    match status {
        429 => {
            "A rate limit of Vault (sys/quotas/rate-limit), or of a proxy before it, is lower than what is asked: raise it"
        }
        _ => "Vault, or a proxy before it, is not able to serve for now",
    }
}

/// A certificate that would outlive its CA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beyond {
    /// When the certificate would end, as Vault would have made it: a role may have cut what was asked for.
    pub wanted: Timestamp,
    /// When the CA ends.
    pub ends: Timestamp,
}

impl Beyond {
    /// The certificate's life if it were made at `now`.
    pub fn life(self, now: Timestamp) -> Duration {
        self.wanted.duration_since(now).try_into().unwrap_or_default()
    }
}
