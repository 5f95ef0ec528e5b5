//! The contract of any certificate authority we sign with: what it is asked, what it answers, and the ways in which it may not.
//! Everything here is data; `vault/signer.rs` is the one implementation that talks to a server.

use std::future::Future;
use std::time::Duration;

use super::authority::Unfit;
use super::usages::Usage;
use super::words::Words;
use crate::api::config::{self, SpecError};
use crate::api::material::{MaterialError, Place};
use crate::api::vault_path::SignPath;
use crate::x509::{Certificate, Csr};

/// A certificate authority, seen by the rest of the program.
pub trait Signer: Send + Sync {
    /// Looks whether this authority would sign, without making it sign anything.
    fn check(&self, probe: Probe) -> impl Future<Output = Observation> + Send;
    /// Has one request signed. Asked once per call: whoever calls decides about another try.
    fn sign(&self, request: &SigningRequest) -> impl Future<Output = Result<Answer, SignError>> + Send;
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
    /// The signing mount's own certificates, the issuing one first.
    pub mount: Fact<Vec<Certificate>>,
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

/// Why one request cannot be served, whoever asks again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `spec.request` is not a PKCS#10 request in PEM, or its own signature does not fit its key.
    #[error("spec.request: {0}. Make a new certificate request")]
    Csr(String),
    /// `spec.duration` cannot be used.
    #[error("spec.duration: {0}")]
    Duration(String),
    /// `spec.usages` holds a word that cert-manager does not have.
    #[error("spec.usages: {0:?} is no usage that cert-manager knows, such as server auth")]
    Usage(String),
    /// The request asks for a CA certificate.
    #[error(
        "spec.isCA is true, and this issuer signs end-entity certificates only. Ask for a certificate without isCA, or have \
         spec.certificates.allowCA set in the issuer"
    )]
    CertificateAuthority,
    /// The CSR itself asks for a CA certificate although `spec.isCA` does not.
    #[error(
        "spec.request asks for CA:TRUE in its basicConstraints, and without spec.isCA this issuer signs end-entity certificates only"
    )]
    CertificateAuthorityInCsr,
    /// The issuer's path makes CA certificates of everything.
    #[error(
        "spec.isCA is not true, and {path} makes CA certificates only. Name an issuer whose spec.vault.path ends in sign/<role>, or \
         ask with isCA"
    )]
    AuthoritiesOnly {
        /// The issuer's path.
        path: String,
    },
    /// A leaf that would come out as one that may sign others.
    #[error(
        "{field} asks for the usage cert sign, which only CA certificates have (RFC 5280 §4.2.1.9). Leave it out, or ask with isCA"
    )]
    CertSign {
        /// Where it stands.
        field: &'static str,
    },
    /// The CA certificate that is asked for cannot be given.
    #[error(transparent)]
    Authority(#[from] Unfit),
    /// Vault's role refuses what is asked.
    #[error("Vault refused to sign at {path}: {words}. {hint}")]
    Role {
        /// The API path that was called.
        path: String,
        /// Vault's own words.
        words: Words,
        /// Which option of the role decides about it.
        hint: String,
    },
    /// The policy lets us call the signing path, yet not with these parameters.
    #[error(
        "Vault answered 403 to this request at {path} although the same token may use the path: {words}. \
         The policy may restrict parameters (allowed_parameters, denied_parameters, required_parameters)"
    )]
    Parameters {
        /// The API path that was called.
        path: String,
        /// Vault's own words.
        words: Words,
    },
    /// The certificate was made, but it is not what was asked for, and asking again would only sign more.
    #[error("Vault signed at {path}, but not what was asked for: {difference}. {hint}")]
    NotAsAsked {
        /// The API path that was called.
        path: String,
        /// What differs.
        difference: String,
        /// Which option of the role decides about it.
        hint: String,
    },
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
    #[error("Vault cannot sign at {path}: {words}. {hint}")]
    Mount {
        /// The API path of the sign call.
        path: String,
        /// Vault's own words.
        words: Words,
        /// What to change.
        hint: String,
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
        "the root changed: {mount} now leads to {shown}, while this issuer has handed out {recorded} (SHA-256). \
         Put the root that your mesh is to trust into spec.trust.anchors"
    )]
    AnchorsChanged {
        /// The mount that was asked.
        mount: String,
        /// The recorded fingerprints.
        recorded: String,
        /// Those that it shows now.
        shown: String,
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
    /// Another answer that passes: 412, 429, 5xx.
    #[error("Vault at {server} answered {status}: {words}")]
    Status {
        /// Host and port.
        server: String,
        /// HTTP status.
        status: u16,
        /// Vault's own words.
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
