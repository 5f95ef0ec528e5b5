//! What ends a request: reasons that lie in the request itself, or in what the issuer and its role say about such requests.

use std::time::Duration;

use crate::issuance::authority::Unfit;
use crate::issuance::words::Words;

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
    /// `spec.policy.spiffe` of the issuer does not grant the names to who asks.
    #[error(
        "spec.request asks for {names}, which the issuer's spec.policy.spiffe does not grant to {requester} \
         in namespace {namespace}. {advice}"
    )]
    Names {
        /// The refused names, each with its kind; the first of many.
        names: String,
        /// `spec.username`.
        requester: Words,
        /// The request's namespace.
        namespace: String,
        /// Which rule would have granted them, and the field that sets it.
        advice: String,
    },
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
    /// No CA of that life could give it.
    #[error(
        "the certificate asked for at {path} would last until {wanted}, and even the whole life of the CA there is shorter ({begins} to {ends}). \
         Ask for a shorter duration, or have Vault's role limit it (max_ttl)"
    )]
    BeyondCaLife {
        /// The API path that was called.
        path: String,
        /// When the certificate would end.
        wanted: String,
        /// The beginning of the CA.
        begins: String,
        /// Its end.
        ends: String,
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
    /// What it waited for has lasted longer than a request may wait that nobody owns.
    #[error(
        "not signed within {} s after this controller saw it approved, and a request without an owner waits no longer: {cause}",
        waited.as_secs()
    )]
    OutOfTime {
        /// How long it waited.
        waited: Duration,
        /// What it waited for, with the last trouble met.
        cause: String,
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
