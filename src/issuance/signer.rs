//! The contract of any certificate authority we sign with: what it is asked, what it answers, and the ways in which it may not.
//! Everything here is data; `vault/signer.rs` is the one implementation that talks to a server.

mod mistrust;
mod obstacle;
mod outage;
mod refusal;

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;

use super::role::RoleOptions;
use super::usages::Usage;
use super::words::Words;
use crate::api::ACCEPT_ANCHORS;
use crate::api::config::{self, SpecError};
use crate::api::material::{MaterialError, Place};
use crate::api::status::CertificateStatus;
use crate::api::vault_path::SignPath;
use crate::x509::{Certificate, Csr};

pub use mistrust::Mistrust;
pub use obstacle::Obstacle;
pub use outage::{Beyond, Outage};
pub use refusal::Refusal;

/// A certificate authority, seen by the rest of the program.
pub trait Signer: Send + Sync {
    /// Looks whether this authority would sign, without making it sign anything.
    fn check(&self, probe: Probe) -> impl Future<Output = Observation> + Send;
    /// Has one request signed. Asked once per call: whoever calls decides about another try.
    fn sign(&self, request: &SigningRequest) -> impl Future<Output = Result<Answer, SignError>> + Send;
    /// How long until a check would keep alive what ends otherwise; none: nothing has to be kept.
    fn check_due(&self) -> Option<Duration>;
}

/// What an authority is asked to sign: made by [`super::policy::plan`] and by nobody else.
#[derive(Debug, Clone)]
pub struct SigningRequest {
    /// The signature-checked request, passed on unchanged.
    pub csr: Csr,
    /// The lifetime to ask for; never below one second, because Vault then takes its role's default.
    pub ttl: Duration,
    /// Where to ask: the issuer's path, or the one that makes its CA certificates.
    pub path: SignPath,
    /// For a CA certificate: the path length to ask for.
    pub ca: Option<u8>,
    /// What `spec.usages` asks for.
    pub usages: Vec<&'static Usage>,
    /// What to do about usages that do not come out.
    pub on_missing: config::Usages,
}

/// What an authority returned: parsed, and not yet believed.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The certificate that was made.
    pub leaf: Certificate,
    /// Every other certificate of the answer (`ca_chain`, `issuing_ca`), in no order that may be relied on.
    pub others: Vec<Certificate>,
    /// Vault's `warnings`.
    pub warnings: Vec<Words>,
    /// Joins our log line with Vault's audit log.
    pub request_id: String,
}

impl Answer {
    /// With certificates that were seen elsewhere, in case a link is missing from the answer itself.
    #[must_use]
    pub fn beside(mut self, certificates: Vec<Certificate>) -> Self {
        self.others.extend(certificates);
        self
    }
}

/// Whether a check may cost the token a use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Ask the signing endpoint with an empty CSR.
    Ask,
    /// Recent signs have shown what the probe would show.
    Skip,
}

/// One fact about an authority: a thing that was seen to be so, seen to be wrong, or could not be seen.
#[derive(Debug, Clone)]
pub enum Fact<T> {
    /// Seen, and right.
    Yes(T),
    /// Seen, and wrong.
    No(SignError),
    /// Not asked, or not answered in a way that tells.
    Unknown,
}

/// What one check saw.
#[derive(Debug, Clone)]
pub struct Observation {
    /// Do our credentials give a token?
    pub login: Fact<()>,
    /// Would the signing endpoint serve us?
    pub signing: Fact<()>,
    /// What does the signing mount show of itself?
    pub mount: Fact<Shown>,
    /// When do our credentials end, where only a person can replace them? None: they do not, or that is not known.
    pub ends: Option<Timestamp>,
    /// What does the role permit, where our login may look at it?
    pub role: Fact<RoleOptions>,
}

/// The certificates that a mount shows to anybody who asks.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// The issuing one first: that of the issuer in the path, or of the mount's default. Its chain follows, then what the
    /// mount's other issuers show.
    pub certificates: Vec<Certificate>,
    /// The path names its issuer. Otherwise a role may have another one than the mount's default, which is not shown to us.
    pub named: bool,
    /// Every issuer of the mount was listed: what is not among them is gone.
    pub complete: bool,
}

/// Why nothing was signed, by whom it concerns.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// This request and no other: it ends `Failed`.
    #[error(transparent)]
    Request(#[from] Refusal),
    /// The issuer's configuration: it is not Ready until a person acts, and its requests wait.
    #[error(transparent)]
    Issuer(#[from] Fault),
    /// A trouble that passes: the request waits and is tried again.
    #[error(transparent)]
    Transient(#[from] Outage),
    /// An answer that must not reach a mesh: nothing is written and the issuer is not Ready.
    #[error(transparent)]
    Untrusted(#[from] Mistrust),
}

impl SignError {
    /// For how long nobody is to call, where that is all that is wrong: zero if it was not said for how long.
    pub fn throttle(&self) -> Option<Duration> {
        match self {
            Self::Transient(Outage::Throttled { retry_after, .. }) => Some(retry_after.unwrap_or_default()),
            Self::Request(_) | Self::Issuer(_) | Self::Transient(_) | Self::Untrusted(_) => None,
        }
    }
}

/// Why an issuer cannot sign until a person changes something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A field of the issuer's own spec.
    #[error("{field}: {problem}")]
    Spec {
        /// The field, from `spec` on.
        field: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// An object that the spec names is missing, closed to us, or holds what cannot be used.
    #[error("{field} names {object}: {problem}")]
    Material {
        /// The field, from `spec` on.
        field: String,
        /// Kind, namespace, name and key.
        object: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// `spec.vault.server` is not among the servers that this controller may call.
    #[error(
        "spec.vault.server: {server} is not among the servers this controller may call (--allowed-servers); ask whoever runs it"
    )]
    ServerNotAllowed {
        /// Host and port.
        server: String,
    },
    /// Vault refused our credentials.
    #[error("Vault refused the login at {path} ({status}: {words}). {hint}")]
    LoginRefused {
        /// The API path of the login.
        path: String,
        /// HTTP status.
        status: u16,
        /// Vault's own words.
        words: Words,
        /// Which fields could be wrong.
        hint: String,
    },
    /// A token straight from a login, or a static one, is not accepted.
    #[error("Vault does not accept the token ({words}). {hint}")]
    TokenDead {
        /// Vault's own words.
        words: Words,
        /// What to do.
        hint: String,
    },
    /// The token is good, and may not use the signing path.
    #[error(
        "Vault answered 403 at {path}: {words}. One of three: the policy of this login has no `update` on this path, \
         or the mount in spec.vault.path is misspelt, or the role in it is"
    )]
    SignForbidden {
        /// The API path of the sign call.
        path: String,
        /// Vault's own words.
        words: Words,
    },
    /// The mount, the role, the issuer or the namespace in the path does not exist, or the mount cannot sign.
    #[error("Vault serves nobody at {path}: {words}. {obstacle}")]
    Mount {
        /// The API path that was called, or the mount.
        path: String,
        /// Vault's own words, or what was found.
        words: Words,
        /// What is missing, and what to change.
        obstacle: Obstacle,
    },
    /// The time of the CA is over, or that of the root above it.
    #[error(
        "the CA of {mount} is past its end, so nothing is signed: {ca}. Renew it in the mount, and let the mount's default (or \
         <ref> in spec.vault.path) be the new one; if the role signs with another CA, name that in spec.vault.path \
         (issuer/<ref>/sign/<role>)"
    )]
    CaExpired {
        /// The mount.
        mount: String,
        /// The CA, or the root.
        ca: String,
    },
    /// No source tells the mesh's root.
    #[error(
        "no root is known: {mount} returns no self-signed certificate and spec.trust.anchors is absent. \
         Put the root certificate that your mesh trusts into spec.trust.anchors, or import it into the mount (set-signed with a bundle)"
    )]
    NoAnchor {
        /// The mount that was asked.
        mount: String,
    },
    /// The mount shows another root than the one that this issuer has handed out so far.
    #[error(
        "the root changed: {mount} now leads to {root}, while this issuer has handed out {recorded} (SHA-256), so nothing is \
         signed. Put the root that your mesh is to trust into spec.trust.anchors, or accept the new one: annotate this issuer \
         with {ACCEPT_ANCHORS}={}; if the mount has been put back, with {ACCEPT_ANCHORS}={recorded}{remark}", root.sha256
    )]
    AnchorsChanged {
        /// The mount that was asked.
        mount: String,
        /// The recorded fingerprints.
        recorded: String,
        /// Where it leads now.
        root: Box<CertificateStatus>,
        /// Why the annotation that is there does not accept it; empty, or a sentence with a blank before it.
        remark: String,
    },
    /// The mount would not show its certificates and nothing else tells the root.
    #[error(
        "no root is known: {mount}/ca_chain could not be read and spec.trust.anchors is absent. \
         Put the root certificate that your mesh trusts into spec.trust.anchors"
    )]
    MountClosed {
        /// The mount that was asked.
        mount: String,
    },
}

impl From<SpecError> for Fault {
    fn from(SpecError { field, problem }: SpecError) -> Self {
        Self::Spec { field, problem }
    }
}

impl Fault {
    /// What is wrong with a part of the material, said with the place it comes from.
    pub fn of_material(place: &Place, problem: impl Into<String>) -> Self {
        let (field, problem) = (place.field.clone(), problem.into());
        match &place.object {
            Some(object) => Self::Material { field, object: object.clone(), problem },
            None => Self::Spec { field, problem },
        }
    }
}

impl From<MaterialError> for Fault {
    fn from(MaterialError { place, problem }: MaterialError) -> Self {
        Self::of_material(&place, problem)
    }
}
