//! What a request for a CA certificate may ask for. No role of Vault's limits the endpoint that makes them, and it takes
//! extensions as they stand in the CSR: the limits here are the only ones. And what a CA request meets at its own path is no
//! news about the path that signs leaves.

use super::signer::{Fault, Mistrust, Obstacle, Outage, SignError};
use super::usages::{Usage, names};
use super::words::Words;
use crate::api::config::AllowCa;
use crate::x509::{CERT_SIGN, Csr, Usages};

/// What a CA's key may be asked to do, as bits of keyUsage: digitalSignature, keyEncipherment (cert-manager asks for it where a
/// Certificate names no usages), keyCertSign and cRLSign.
const PERMITTED_BITS: u16 = 1 | 1 << 2 | CERT_SIGN | 1 << 6;
/// The same in cert-manager's words.
const PERMITTED: [&str; 5] = ["cert sign", "crl sign", "digital signature", "signing", "key encipherment"];
/// keyUsage, subjectAltName and basicConstraints; extendedKeyUsage is refused in words of its own.
const KNOWN_EXTENSIONS: [&str; 4] = ["2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.37"];

/// Why a CA certificate cannot be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// More CAs below it than the issuer permits.
    #[error(
        "spec.request asks for a path length of {asked}, and this issuer permits {most} \
         (spec.certificates.allowCA.maxPathLength). Ask for a shorter one, or for none"
    )]
    PathLength {
        /// What the CSR's basicConstraints ask for.
        asked: u32,
        /// The issuer's limit.
        most: u8,
    },
    /// Usages that are no CA's.
    #[error(
        "{field} asks for the usages {names}, and CA certificates get cert sign, crl sign, digital signature and key encipherment \
         only. Leave the others out of the Certificate's usages: no mesh needs them in its CA"
    )]
    Usages {
        /// Where they stand.
        field: &'static str,
        /// In cert-manager's words.
        names: String,
    },
    /// A key usage that makes the CA useless.
    #[error(
        "spec.request has a keyUsage without keyCertSign, and such a CA could sign nothing. Add cert sign to the usages"
    )]
    CannotSign,
    /// Extensions that would come out as they stand.
    #[error(
        "spec.request asks for the extensions {0}, and CA certificates get no others than names (2.5.29.17), key usage (2.5.29.15) \
         and basic constraints (2.5.29.19)"
    )]
    Extensions(String),
    /// Our token may not use the path.
    #[error(
        "Vault answered 403 at {path}: {words}. Requests with isCA are signed there, so the policy of the issuer's login needs \
         `update` on it too"
    )]
    Forbidden {
        /// The API path that was called.
        path: String,
        /// Vault's own words.
        words: Words,
    },
    /// The path does not serve anybody.
    #[error("Vault cannot sign CA certificates at {path}: {words}. {obstacle}")]
    Path {
        /// The API path that was called.
        path: String,
        /// Vault's own words.
        words: Words,
        /// What is missing, and what to change.
        obstacle: Obstacle,
    },
    /// An answer that may not be published.
    #[error("no CA certificate: {0}")]
    Untrusted(String),
}

/// The path length to ask for, if this CSR may become a CA at all.
///
/// # Errors
/// The first thing that goes beyond the limits.
pub fn path_length(csr: &Csr, asked: &[&'static Usage], limits: AllowCa) -> Result<u8, Unfit> {
    let most = limits.max_path_length;
    let length = match csr.path_length().map(|length| (length, u8::try_from(length))) {
        None => most,
        Some((_, Ok(length))) if length <= most => length,
        Some((asked, _)) => return Err(Unfit::PathLength { asked, most }),
    };
    let beyond: Vec<&str> = asked.iter().map(|usage| usage.name).filter(|name| !PERMITTED.contains(name)).collect();
    if !beyond.is_empty() {
        return Err(Unfit::Usages { field: "spec.usages", names: beyond.join(", ") });
    }
    let Usages { key, extended } = csr.usages().clone();
    let beyond = names(&Usages { key: key.map(|bits| bits & !PERMITTED_BITS), extended });
    if !beyond.is_empty() {
        return Err(Unfit::Usages { field: "spec.request", names: beyond.join(", ") });
    }
    if key.is_some_and(|bits| bits & CERT_SIGN == 0) {
        return Err(Unfit::CannotSign);
    }
    let unknown = |oid: &&String| !KNOWN_EXTENSIONS.contains(&oid.as_str());
    let beyond: Vec<&str> = csr.extensions().iter().filter(unknown).map(String::as_str).collect();
    if beyond.is_empty() { Ok(length) } else { Err(Unfit::Extensions(beyond.join(", "))) }
}

/// What a failed CA request means where leaves are signed at another path: the path's faults are that request's own.
pub fn aside(error: SignError) -> SignError {
    match error {
        SignError::Issuer(Fault::SignForbidden { path, words }) => refused(Unfit::Forbidden { path, words }),
        SignError::Issuer(Fault::Mount { path, words, obstacle }) => refused(Unfit::Path { path, words, obstacle }),
        // No certificate was seen: perhaps somebody else answered, and the next answer is Vault's.
        SignError::Untrusted(Mistrust::Unreadable { path, problem }) => {
            Outage::NotVault { server: path, status: 200, hint: problem }.into()
        }
        // Another try would sign another CA.
        SignError::Untrusted(
            mistrust @ (Mistrust::ForeignKey { .. } | Mistrust::NoPath { .. } | Mistrust::Untimely { .. }),
        ) => refused(Unfit::Untrusted(mistrust.to_string())),
        other @ (SignError::Issuer(_) | SignError::Request(_) | SignError::Transient(_)) => other,
    }
}

fn refused(unfit: Unfit) -> SignError {
    SignError::Request(unfit.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_ca_request_meets_elsewhere_is_its_own_unless_it_is_the_login() {
        let (path, words) = ("pki/root/sign-intermediate".to_owned(), Words::new("no", &[]));
        let its_own = [
            Fault::SignForbidden { path: path.clone(), words: words.clone() }.into(),
            Fault::Mount { path: path.clone(), words: words.clone(), obstacle: Obstacle::NoMount }.into(),
            Mistrust::ForeignKey { path }.into(),
        ];
        for error in its_own {
            let refused = aside(error);
            assert!(matches!(refused, SignError::Request(_)), "{refused:?}");
            assert!(refused.to_string().contains("pki/root/sign-intermediate"), "{refused}");
        }
        let shared: [SignError; 2] = [
            Fault::TokenDead { words, hint: String::new() }.into(),
            Outage::Sealed { server: "vault".to_owned() }.into(),
        ];
        for error in shared {
            assert_eq!(aside(error.clone()), error);
        }
    }
}
