//! Did this key make that signature? With three answers, because the library knows only some algorithms, and "unknown" must
//! never be reported as "forged".

use x509_parser::asn1_rs::{BitString, Oid, oid};
use x509_parser::error::X509Error;
use x509_parser::oid_registry::{
    OID_EC_P256 as P256, OID_KEY_TYPE_EC_PUBLIC_KEY as EC_KEY, OID_NIST_EC_P384 as P384,
    OID_PKCS1_RSAENCRYPTION as RSA_KEY, OID_PKCS1_RSASSAPSS as RSA_PSS, OID_PKCS1_SHA1WITHRSA, OID_SHA1_WITH_RSA,
    OID_SIG_ED25519 as ED25519,
};
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

const RSA: Oid<'static> = oid!(1.2.840.113549.1.1);
const EC: Oid<'static> = oid!(1.2.840.10045);

/// Whether signatures of this algorithm can be forged with money.
pub(super) fn is_sha1(algorithm: &AlgorithmIdentifier<'_>) -> bool {
    [OID_PKCS1_SHA1WITHRSA, OID_SHA1_WITH_RSA].contains(&algorithm.algorithm)
}

/// Checks one signature over `signed`.
pub(super) fn check(
    key: &SubjectPublicKeyInfo<'_>,
    algorithm: &AlgorithmIdentifier<'_>,
    signature: &BitString<'_>,
    signed: &[u8],
) -> Verification {
    let (signs, holds) = (&algorithm.algorithm, &key.algorithm.algorithm);
    if family(signs) != family(holds) {
        return Verification::Invalid;
    }
    // The library ignores the salt length in the parameters, so its "no" to RSA-PSS would mean nothing.
    if *signs == RSA_PSS {
        return Verification::Unsupported("RSA-PSS".to_owned());
    }
    if let Some(size) = unsupported_size(key) {
        return Verification::Unsupported(size);
    }
    match x509_parser::verify::verify_signature(key, algorithm, signature, signed) {
        Ok(()) => Verification::Valid,
        Err(X509Error::SignatureUnsupportedAlgorithm) => Verification::Unsupported(describe(signs, key)),
        Err(_) => Verification::Invalid,
    }
}

/// Why no signature of this key can be checked here; none where it can.
pub(super) fn unsupported_key(key: &SubjectPublicKeyInfo<'_>) -> Option<String> {
    match &key.algorithm.algorithm {
        pss if *pss == RSA_PSS => Some("RSA-PSS".to_owned()),
        rsa if *rsa == RSA_KEY => unsupported_size(key),
        ec if *ec == EC_KEY => match curve(key) {
            Some(curve) if curve == P256 || curve == P384 => None,
            Some(_) | None => Some(on_curve("ECDSA", key)),
        },
        ed25519 if *ed25519 == ED25519 => None,
        other => Some(describe(other, key)),
    }
}

/// The kind of key that an algorithm belongs to: a signature of one kind is never made by a key of another.
#[derive(PartialEq)]
enum Family<'a> {
    Rsa,
    Ec,
    Other(&'a Oid<'a>),
}

fn family<'a>(algorithm: &'a Oid<'a>) -> Family<'a> {
    match algorithm {
        rsa if rsa.starts_with(&RSA) || *rsa == OID_SHA1_WITH_RSA => Family::Rsa,
        ec if ec.starts_with(&EC) => Family::Ec,
        other => Family::Other(other),
    }
}

fn unsupported_size(key: &SubjectPublicKeyInfo<'_>) -> Option<String> {
    let Ok(PublicKey::RSA(rsa)) = key.parsed() else { return None };
    let bits = rsa.modulus.iter().skip_while(|byte| **byte == 0).count() * 8;
    (!(2_048..=8_192).contains(&bits)).then(|| format!("RSA with a key of {bits} bits"))
}

/// Names an algorithm that cannot be checked, in the words of whoever chose it.
fn describe(signs: &Oid<'_>, key: &SubjectPublicKeyInfo<'_>) -> String {
    let name = match signs.to_id_string().as_str() {
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

/// A key whatever the spelling of its wrapper: CAs write that anew, and readers skip what stands behind its two fields.
pub(super) fn identity(key: &SubjectPublicKeyInfo<'_>) -> Vec<u8> {
    let curve = curve(key);
    let (algorithm, curve) = (key.algorithm.algorithm.as_bytes(), curve.as_ref().map_or(&[][..], Oid::as_bytes));
    // With their lengths, so that no two keys look alike where one field ends and the next begins.
    let lengths = [algorithm.len().to_be_bytes(), curve.len().to_be_bytes()];
    [lengths.as_flattened(), algorithm, curve, key.subject_public_key.data.as_ref()].concat()
}

fn curve<'a>(key: &'a SubjectPublicKeyInfo<'_>) -> Option<Oid<'a>> {
    key.algorithm.parameters.as_ref()?.as_oid().ok()
}

fn on_curve(name: &str, key: &SubjectPublicKeyInfo<'_>) -> String {
    match curve(key) {
        Some(curve) if curve == P256 => format!("{name} by a P-256 key"),
        Some(curve) if curve == P384 => format!("{name} by a P-384 key"),
        Some(curve) if curve == oid!(1.3.132.0.35) => format!("{name} by a P-521 key"),
        Some(other) => format!("{name} by a key on the curve {other}"),
        None => name.to_owned(),
    }
}
