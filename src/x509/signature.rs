//! Did this key make that signature? With three answers, because the library knows only some algorithms, and "unknown" must
//! never be reported as "forged".

use x509_parser::asn1_rs::BitString;
use x509_parser::error::X509Error;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

/// What is known of a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verification {
    /// The key made it.
    Valid,
    /// The key did not make it.
    Invalid,
    /// Nobody here can tell; the algorithm is named for the person who must choose another.
    Unsupported(String),
}

const RSA_PSS: &str = "1.2.840.113549.1.1.10";
const RSA_WITH_SHA1: [&str; 2] = ["1.2.840.113549.1.1.5", "1.3.14.3.2.29"];

/// Whether signatures of this algorithm can be forged with money.
pub(super) fn is_sha1(algorithm: &AlgorithmIdentifier<'_>) -> bool {
    RSA_WITH_SHA1.contains(&algorithm.algorithm.to_id_string().as_str())
}

/// Checks one signature over `signed`.
pub(super) fn check(
    key: &SubjectPublicKeyInfo<'_>,
    algorithm: &AlgorithmIdentifier<'_>,
    signature: &BitString<'_>,
    signed: &[u8],
) -> Verification {
    let (signs, holds) = (algorithm.algorithm.to_id_string(), key.algorithm.algorithm.to_id_string());
    if family(&signs) != family(&holds) {
        return Verification::Invalid;
    }
    // The library ignores the salt length in the parameters, so its "no" to RSA-PSS would mean nothing.
    if signs == RSA_PSS {
        return Verification::Unsupported("RSA-PSS".to_owned());
    }
    if let Some(size) = unsupported_size(key) {
        return Verification::Unsupported(size);
    }
    match x509_parser::verify::verify_signature(key, algorithm, signature, signed) {
        Ok(()) => Verification::Valid,
        Err(X509Error::SignatureUnsupportedAlgorithm) => Verification::Unsupported(describe(&signs, key)),
        Err(_) => Verification::Invalid,
    }
}

/// Why no signature of this key can be checked here; none where it can.
pub(super) fn unsupported_key(key: &SubjectPublicKeyInfo<'_>) -> Option<String> {
    let algorithm = key.algorithm.algorithm.to_id_string();
    match algorithm.as_str() {
        RSA_PSS => Some("RSA-PSS".to_owned()),
        "1.2.840.113549.1.1.1" => unsupported_size(key),
        "1.2.840.10045.2.1" => match curve(key).as_deref() {
            Some(P256 | P384) => None,
            Some(_) | None => Some(on_curve("ECDSA", key)),
        },
        "1.3.101.112" => None,
        other => Some(describe(other, key)),
    }
}

/// The kind of key that an algorithm belongs to: a signature of one kind is never made by a key of another.
fn family(oid: &str) -> &str {
    match oid {
        rsa if rsa.starts_with("1.2.840.113549.1.1.") || rsa == "1.3.14.3.2.29" => "RSA",
        ec if ec.starts_with("1.2.840.10045.") => "EC",
        other => other,
    }
}

fn unsupported_size(key: &SubjectPublicKeyInfo<'_>) -> Option<String> {
    let Ok(PublicKey::RSA(rsa)) = key.parsed() else { return None };
    let bits = rsa.modulus.iter().skip_while(|byte| **byte == 0).count() * 8;
    (!(2_048..=8_192).contains(&bits)).then(|| format!("RSA with a key of {bits} bits"))
}

/// Names an algorithm that cannot be checked, in the words of whoever chose it.
fn describe(signs: &str, key: &SubjectPublicKeyInfo<'_>) -> String {
    let name = match signs {
        "1.2.840.10045.4.1" => "ECDSA with SHA-1",
        "1.2.840.10045.4.3.1" => "ECDSA with SHA-224",
        "1.2.840.10045.4.3.2" => "ECDSA with SHA-256",
        "1.2.840.10045.4.3.3" => "ECDSA with SHA-384",
        "1.2.840.10045.4.3.4" => "ECDSA with SHA-512",
        "1.2.840.113549.1.1.4" => "RSA with MD5",
        "1.3.101.113" => "Ed448",
        other => return format!("the algorithm {other}"),
    };
    on_curve(name, key)
}

const P256: &str = "1.2.840.10045.3.1.7";
const P384: &str = "1.3.132.0.34";

/// A key whatever the spelling of its wrapper: CAs write that anew, and readers skip what stands behind its two fields.
pub(super) fn identity(key: &SubjectPublicKeyInfo<'_>) -> Vec<u8> {
    let (algorithm, curve) = (key.algorithm.algorithm.to_id_string(), curve(key).unwrap_or_default());
    [algorithm.as_bytes(), b"|", curve.as_bytes(), b"|", key.subject_public_key.data.as_ref()].concat()
}

fn curve(key: &SubjectPublicKeyInfo<'_>) -> Option<String> {
    key.algorithm.parameters.as_ref()?.as_oid().ok().map(|oid| oid.to_id_string())
}

fn on_curve(name: &str, key: &SubjectPublicKeyInfo<'_>) -> String {
    match curve(key).as_deref() {
        Some(P256) => format!("{name} by a P-256 key"),
        Some(P384) => format!("{name} by a P-384 key"),
        Some("1.3.132.0.35") => format!("{name} by a P-521 key"),
        Some(other) => format!("{name} by a key on the curve {other}"),
        None => name.to_owned(),
    }
}
