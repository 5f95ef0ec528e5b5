//! A parsed certificate (RFC 5280): names, validity, key, and the two questions a path is made of: is it self-signed, and
//! did that other certificate's key sign it?

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use x509_parser::asn1_rs::{Any, BitString, FromDer, Header};
use x509_parser::certificate::X509Certificate;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

use super::blocks::{self, PemError};
use super::extensions::{CERT_SIGN, Extensions, Usages};
use super::names::{self, SubjectAltNames};
use super::signature::{self, Verification};

/// The largest bundle that is read: cert-manager's own limit for one.
const LARGEST_BUNDLE: usize = 330_000;

/// One certificate. Cheap to clone; equal when every byte is.
#[derive(Clone)]
pub struct Certificate(Arc<Content>);

struct Content {
    der: Vec<u8>,
    sha256: String,
    subject: String,
    subject_der: Vec<u8>,
    issuer: String,
    issuer_der: Vec<u8>,
    serial: String,
    not_before: Timestamp,
    not_after: Timestamp,
    public_key: Vec<u8>,
    /// The key as the certificate spells it (RFC 5280 §4.1.2.7).
    public_key_der: Vec<u8>,
    common_name: Option<String>,
    extensions: Extensions,
    /// Who signed it, by SHA-256, once that is known. The CA of a mesh comes with every answer, and is asked about the same root
    /// each time.
    signer: OnceLock<String>,
    /// In PEM, once somebody has asked for it.
    pem: OnceLock<String>,
}

/// Why bytes are no certificate, or a text no bundle of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The text is not PEM.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// A block of the bundle is something else.
    #[error("PEM block {block} is a {label}, and only CERTIFICATE belongs here")]
    Label {
        /// Which block, from 1.
        block: usize,
        /// What it is.
        label: String,
    },
    /// A block of the bundle holds no usable certificate.
    #[error("PEM block {block}: {problem}")]
    Block {
        /// Which block, from 1.
        block: usize,
        /// What is wrong with it.
        problem: Box<CertificateError>,
    },
    /// The bytes are not an X.509 certificate.
    #[error("it is not an X.509 certificate in DER")]
    NotACertificate,
    /// A certificate, and then more.
    #[error("{0} bytes follow the certificate")]
    TrailingBytes(usize),
    /// It contradicts itself or an extension cannot be read.
    #[error("the certificate cannot be used: {0}")]
    Unusable(String),
}

impl Certificate {
    /// Reads one certificate that fills `der` to its end.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn from_der(der: Vec<u8>) -> Result<Self, CertificateError> {
        let (rest, parsed) = X509Certificate::from_der(&der).map_err(|_| CertificateError::NotACertificate)?;
        if !rest.is_empty() {
            return Err(CertificateError::TrailingBytes(rest.len()));
        }
        if parsed.signature_algorithm != parsed.tbs_certificate.signature {
            let problem = "it names two different signature algorithms";
            return Err(CertificateError::Unusable(problem.to_owned()));
        }
        let content = Content {
            sha256: names::hex(ring::digest::digest(&ring::digest::SHA256, &der).as_ref()),
            subject: names::distinguished(parsed.subject()),
            subject_der: parsed.subject().as_raw().to_vec(),
            issuer: names::distinguished(parsed.issuer()),
            issuer_der: parsed.issuer().as_raw().to_vec(),
            serial: names::hex(parsed.raw_serial()),
            not_before: timestamp(parsed.validity().not_before.timestamp()),
            not_after: timestamp(parsed.validity().not_after.timestamp()),
            public_key: signature::identity(parsed.public_key()),
            public_key_der: parsed.public_key().raw.to_vec(),
            common_name: names::common_name(parsed.subject()),
            extensions: Extensions::read(parsed.extensions().iter()).map_err(CertificateError::Unusable)?,
            signer: OnceLock::new(),
            pem: OnceLock::new(),
            der: der.clone(),
        };
        Ok(Self(Arc::new(content)))
    }

    /// Reads a PEM bundle of one or more certificates, in its order. Text around the blocks is explanation.
    ///
    /// # Errors
    /// Which block is wrong, and how.
    pub fn bundle_from_pem(pem: &[u8]) -> Result<Vec<Self>, CertificateError> {
        let numbered = (1..).zip(blocks::read(pem, LARGEST_BUNDLE)?);
        numbered
            .map(|(block, content)| match content.label.as_str() {
                "CERTIFICATE" => Self::from_der(content.der)
                    .map_err(|problem| CertificateError::Block { block, problem: Box::new(problem) }),
                _ => Err(CertificateError::Label { block, label: content.label }),
            })
            .collect()
    }

    /// The certificate as it was given.
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// The certificate in PEM: 64 columns, LF, a final line end.
    pub fn pem(&self) -> &str {
        self.0.pem.get_or_init(|| {
            let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
            pem::encode_config(&pem::Pem::new("CERTIFICATE", self.der()), config)
        })
    }

    /// SHA-256 of the DER, in lower-case hex.
    pub fn sha256(&self) -> &str {
        &self.0.sha256
    }

    /// The subject, for people: `O=Example, CN=Root`, or `(empty)`.
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// The issuer, for people.
    pub fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// The serial number, in lower-case hex.
    pub fn serial(&self) -> &str {
        &self.0.serial
    }

    /// The first second of its life.
    pub fn not_before(&self) -> Timestamp {
        self.0.not_before
    }

    /// The last second of its life.
    pub fn not_after(&self) -> Timestamp {
        self.0.not_after
    }

    /// Algorithm and bits of the key, to be compared with those of other certificates and requests.
    pub fn public_key(&self) -> &[u8] {
        &self.0.public_key
    }

    /// Whom it is about: the subject and its key, both in DER.
    pub(super) fn name_and_key(&self) -> (&[u8], &[u8]) {
        (&self.0.subject_der, &self.0.public_key)
    }

    /// The names it speaks for.
    pub fn sans(&self) -> &SubjectAltNames {
        &self.0.extensions.sans
    }

    /// The common name of the subject.
    pub fn common_name(&self) -> Option<&str> {
        self.0.common_name.as_deref()
    }

    /// Whether basicConstraints say CA:TRUE.
    pub fn is_ca(&self) -> bool {
        self.0.extensions.ca
    }

    /// What speaks against this certificate as the signer of the last one of `below` (the leaf first, then the CAs upwards):
    /// all that verifiers ask of a CA besides its signature and its time. Said as the end of a sentence about it.
    pub fn objection(&self, below: &[&Certificate]) -> Option<String> {
        let extensions = &self.0.extensions;
        if !extensions.ca {
            return Some("it is no CA certificate (CA:TRUE)".to_owned());
        }
        if extensions.usages.key.is_some_and(|bits| bits & CERT_SIGN == 0) {
            return Some("its keyUsage lacks keyCertSign".to_owned());
        }
        if let Some(oid) = &extensions.critical {
            return Some(format!("its extension {oid} is critical, and not every verifier processes that one"));
        }
        let between = below.len().saturating_sub(1);
        if let Some(most) =
            extensions.path_length.filter(|most| usize::try_from(*most).is_ok_and(|most| between > most))
        {
            return Some(format!(
                "its path length allows {most} CAs between it and the leaf, and there would be {between}"
            ));
        }
        below.iter().find_map(|one| self.objection_to(one))
    }

    /// How many further CA certificates basicConstraints let stand below it; none: any number.
    pub fn path_length(&self) -> Option<u32> {
        self.0.extensions.path_length
    }

    /// What its key may be used for.
    pub fn usages(&self) -> &Usages {
        &self.0.extensions.usages
    }

    pub(super) fn objection_to(&self, other: &Certificate) -> Option<String> {
        let (own, others) = (&self.0.extensions, &other.0.extensions);
        if own.name_constraints.as_ref().is_some_and(|constraints| !constraints.allow(&others.sans)) {
            return Some(format!("its name constraints do not allow {}", other.subject()));
        }
        match (own.usages.restricted(), others.usages.restricted()) {
            (Some(own), Some(asked)) if own.is_disjoint(asked) => {
                Some(format!("its extendedKeyUsage has nothing in common with that of {}", other.subject()))
            }
            (Some(_) | None, Some(_) | None) => None,
        }
    }

    /// Whether it names `issuer` as its issuer: by name and, where both say, by key identifier and serial number, because OpenSSL
    /// and BoringSSL follow no link that these contradict. They are not proof: see [`Self::verify_signature_by`].
    pub fn names_as_issuer(&self, issuer: &Certificate) -> bool {
        let (own, others) = (&self.0.extensions, &issuer.0.extensions);
        let agree = |named: &Option<String>, found: Option<&String>| {
            named.as_ref().zip(found).is_none_or(|(named, found)| named == found)
        };
        self.0.issuer_der == issuer.0.subject_der
            && agree(&own.signer_key_identifier, others.key_identifier.as_ref())
            && agree(&own.signer_serial, Some(&issuer.0.serial))
    }

    /// Whether the key of `issuer` signed this certificate.
    pub fn verify_signature_by(&self, issuer: &Certificate) -> Verification {
        if self.0.signer.get().is_some_and(|signer| signer == issuer.sha256()) {
            return Verification::Valid;
        }
        let verification = self.check_signature_by(issuer);
        if verification == Verification::Valid {
            self.0.signer.get_or_init(|| issuer.sha256().to_owned());
        }
        verification
    }

    fn check_signature_by(&self, issuer: &Certificate) -> Verification {
        // Both were parsed when they were made; keeping the parsed form would tie every value to a lifetime.
        let (Some((signed, algorithm, value)), Some(key)) = (self.signature(), issuer.key()) else {
            return Verification::Invalid;
        };
        // A root's signature on itself protects nothing, so an old one may stand there; a link of SHA-1 no verifier follows.
        if self != issuer && signature::is_sha1(&algorithm) {
            return Verification::Unsupported("RSA with SHA-1".to_owned());
        }
        signature::check(&key, &algorithm, &value, signed)
    }

    fn key(&self) -> Option<SubjectPublicKeyInfo<'_>> {
        SubjectPublicKeyInfo::from_der(&self.0.public_key_der).ok().map(|(_, key)| key)
    }

    /// What is signed, how, and the signature: the three fields of a certificate (RFC 5280 §4.1).
    fn signature(&self) -> Option<(&[u8], AlgorithmIdentifier<'_>, BitString<'_>)> {
        let (fields, _) = Header::from_der(self.der()).ok()?;
        let (others, _) = Any::from_der(fields).ok()?;
        let (value, algorithm) = AlgorithmIdentifier::from_der(others).ok()?;
        let (_, value) = BitString::from_der(value).ok()?;
        Some((fields.get(..fields.len() - others.len())?, algorithm, value))
    }

    /// Names what stands in the way of checking the signatures that this certificate's key makes, its own self-signature
    /// among them.
    pub fn uncheckable(&self) -> Option<String> {
        signature::unsupported_key(&self.key()?).or_else(|| match self.verify_signature_by(self) {
            Verification::Unsupported(algorithm) if self.names_as_issuer(self) => Some(algorithm),
            Verification::Unsupported(_) | Verification::Valid | Verification::Invalid => None,
        })
    }

    /// Whether it is a CA that signed itself: the end of a path.
    pub fn is_root(&self) -> bool {
        self.is_ca() && self.is_self_signed()
    }

    /// Whether subject and issuer are one name and its own key signed it.
    pub fn is_self_signed(&self) -> bool {
        self.names_as_issuer(self) && self.verify_signature_by(self) == Verification::Valid
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.der() == other.der()
    }
}

impl Eq for Certificate {}

impl Hash for Certificate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.sha256().hash(state);
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({}, sha256 {})", self.subject(), self.sha256())
    }
}

/// RFC 5280's "no well-defined end" (9999-12-31 23:59:59) lies a day beyond jiff's last timestamp: it is held at the edge.
fn timestamp(seconds: i64) -> Timestamp {
    let edge = if seconds > 0 { Timestamp::MAX } else { Timestamp::MIN };
    Timestamp::from_second(seconds).unwrap_or(edge)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x509::testing::{Authority, P521_LEAF, P521_ROOT, PSS_ROOT, bundle, parse_one};

    #[test]
    fn facts_are_those_openssl_prints() {
        let root = Authority::new("Root");
        let certificate = root.signs(&Authority::new("Intermediate"), 2035);
        let printed = crate::x509::testing::openssl_x509(
            &certificate,
            &["-noout", "-serial", "-fingerprint", "-sha256", "-subject", "-issuer", "-enddate"],
        );
        let fingerprint: Vec<String> = certificate
            .sha256()
            .as_bytes()
            .chunks(2)
            .map(|pair| String::from_utf8_lossy(pair).to_uppercase())
            .collect();
        let serial = certificate.serial().trim_start_matches("00").to_uppercase();
        assert!(printed.contains(&format!("serial={serial}")), "{printed}");
        assert!(printed.contains(&fingerprint.join(":")), "{printed}");
        assert!(
            printed.contains("subject=CN = Intermediate\nissuer=CN = Root\nnotAfter=Jan  1 00:00:00 2035 GMT"),
            "{printed}"
        );
        assert_eq!((certificate.subject(), certificate.issuer()), ("CN=Intermediate", "CN=Root"));
        assert_eq!(certificate.common_name(), Some("Intermediate"));
        assert_eq!(certificate.not_after().to_string(), "2035-01-01T00:00:00Z");
        assert_eq!(certificate.not_before().to_string(), "2020-01-01T00:00:00Z");
        assert!(certificate.is_ca() && !certificate.is_self_signed());
    }

    #[test]
    fn a_bundle_comes_back_as_it_was() {
        let (a, b) = (Authority::new("A").root(2035), Authority::new("B").root(2036));
        let pem = format!("# two roots\n{}between\n{}", a.pem(), b.pem());
        assert_eq!(Certificate::bundle_from_pem(pem.as_bytes()), Ok(vec![a.clone(), b]));
        assert!(a.pem().ends_with("-----END CERTIFICATE-----\n") && !a.pem().contains('\r'));
        assert!(a.pem().lines().all(|line| line.len() <= 64));
    }

    #[track_caller]
    fn refuses(pem: &str, words: &str) {
        let error = Certificate::bundle_from_pem(pem.as_bytes()).expect_err("an error");
        assert_eq!(error.to_string(), words);
    }

    #[test]
    fn a_bundle_with_one_wrong_block_is_refused_whole() {
        let root = Authority::new("A").root(2035);
        let pem = root.pem();
        refuses("", "it holds no PEM block (a line such as -----BEGIN CERTIFICATE-----)");
        refuses(
            &format!("{pem}-----BEGIN PRIVATE KEY-----\nAQI=\n-----END PRIVATE KEY-----\n"),
            "PEM block 2 is a PRIVATE KEY, and only CERTIFICATE belongs here",
        );
        refuses(
            &format!("{pem}-----BEGIN CERTIFICATE-----\nAQI=\n-----END CERTIFICATE-----\n"),
            "PEM block 2: it is not an X.509 certificate in DER",
        );
        let longer = pem::encode(&pem::Pem::new("CERTIFICATE", [root.der(), &[0, 0]].concat()));
        refuses(&longer, "PEM block 1: 2 bytes follow the certificate");
        refuses(&"x".repeat(330_001), "it has 330001 bytes, and at most 330000 are read");
    }

    #[test]
    fn both_places_must_name_the_same_signature_algorithm() {
        let mut der = Authority::new("A").root(2035).der().to_vec();
        let ecdsa_with_sha256 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
        let outer = der.windows(8).rposition(|window| window == ecdsa_with_sha256).expect("the algorithm");
        der[outer + 7] = 3;
        let words = "the certificate cannot be used: it names two different signature algorithms";
        assert_eq!(Certificate::from_der(der).expect_err("an error").to_string(), words);
    }

    #[test]
    fn a_signature_belongs_to_one_key() {
        let (root, other) = (Authority::new("Root"), Authority::new("Root"));
        let child = root.signs(&Authority::new("Child"), 2035);
        // Whoever is asked about first, and however often.
        let (own, stranger) = (root.root(2040), other.root(2040));
        for order in [[&own, &stranger], [&stranger, &own]] {
            let child = Certificate::from_der(child.der().to_vec()).expect("a certificate");
            for issuer in order.into_iter().chain(order) {
                let expected = if issuer == &own { Verification::Valid } else { Verification::Invalid };
                assert_eq!(child.verify_signature_by(issuer), expected);
            }
            assert_eq!(child.0.signer.get().map(String::as_str), Some(own.sha256()), "it would be checked each time");
        }
        assert!(root.root(2040).is_self_signed());
        assert!(!other.signs(&root, 2040).is_self_signed(), "equal names are not a self-signature");
        let mut broken = child.der().to_vec();
        *broken.last_mut().expect("a byte") ^= 1;
        let broken = Certificate::from_der(broken).expect("a certificate");
        assert_eq!(broken.verify_signature_by(&root.root(2040)), Verification::Invalid);
    }

    #[test]
    fn what_cannot_be_checked_is_unsupported_and_not_invalid() {
        let (p521, pss) = (parse_one(P521_ROOT), parse_one(PSS_ROOT));
        let unsupported = |name: &str| Verification::Unsupported(name.to_owned());
        assert_eq!(p521.verify_signature_by(&p521), unsupported("ECDSA with SHA-512 by a P-521 key"));
        assert_eq!(parse_one(P521_LEAF).verify_signature_by(&p521), unsupported("ECDSA with SHA-512 by a P-521 key"));
        assert_eq!(pss.verify_signature_by(&pss), unsupported("RSA-PSS"));
        assert!(!pss.is_self_signed() && !p521.is_self_signed());
        assert_eq!(p521.uncheckable().as_deref(), Some("ECDSA by a P-521 key"));
        assert_eq!(pss.uncheckable().as_deref(), Some("RSA-PSS"));
        assert_eq!(Authority::new("P-256").root(2035).uncheckable(), None);
        assert_eq!(pss.verify_signature_by(&p521), Verification::Invalid, "another kind of key cannot have made it");
    }

    #[test]
    fn a_certificate_without_end_is_held_at_the_edge_of_time() {
        let mut parameters = rcgen::CertificateParams::default();
        parameters.not_after = rcgen::date_time_ymd(9999, 12, 31);
        let key = rcgen::KeyPair::generate().expect("a key");
        let made = parameters.self_signed(&key).expect("a certificate");
        let certificate = Certificate::from_der(made.der().to_vec()).expect("a certificate");
        assert_eq!(certificate.not_after(), Timestamp::MAX);
    }

    #[test]
    fn debug_is_one_short_line() {
        let root = Authority::new("Root").root(2035);
        assert_eq!(format!("{root:?}"), format!("Certificate(CN=Root, sha256 {})", root.sha256()));
        assert_eq!(bundle(&[&root, &root]).matches("BEGIN").count(), 2);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(mut der in proptest::collection::vec(proptest::num::u8::ANY, 0..200), at in 0usize..300, with: u8) {
            let _ = Certificate::from_der(der.clone());
            let _ = Certificate::bundle_from_pem(&der);
            der = parse_one(P521_ROOT).der().to_vec();
            let at = at % der.len();
            der[at] = with;
            let _ = Certificate::from_der(der);
        }
    }
}
