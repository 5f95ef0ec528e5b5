//! A parsed, signature-checked PKCS#10 request (RFC 2986).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use x509_parser::asn1_rs::FromDer;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;

use super::blocks::{self, PemError};
use super::extensions::{Extensions, Usages};
use super::names::{self, SubjectAltNames};
use super::signature::{self, Verification};

/// The largest request that is read: cert-manager's own limit for a leaf, and a request is smaller than its certificate.
const LARGEST: usize = 36_500;

/// A request whose signature was made by the key it holds. Cheap to clone.
#[derive(Clone)]
pub struct Csr(Arc<Content>);

struct Content {
    pem: String,
    public_key: Vec<u8>,
    common_name: Option<String>,
    common_names: Vec<String>,
    extensions: Extensions,
}

/// Why a text is no usable request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// The text is not PEM.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The text around the block is not UTF-8, so it cannot be sent on in JSON.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// The block is something else.
    #[error("it is a {0}, and not a CERTIFICATE REQUEST")]
    Label(String),
    /// More than one block.
    #[error("it holds {0} PEM blocks, and exactly one is signed")]
    Several(usize),
    /// The bytes are not a request.
    #[error("it is not a PKCS#10 certificate request in DER")]
    NotARequest,
    /// A request, and then more.
    #[error("{0} bytes follow the certificate request")]
    TrailingBytes(usize),
    /// It asks for something twice, or an extension cannot be read.
    #[error("the certificate request cannot be used: {0}")]
    Unusable(String),
    /// Somebody else's key signed it, or it was changed afterwards.
    #[error("its signature was not made by the key it holds")]
    Forged,
    /// The signature may be right, and cannot be checked here.
    #[error(
        "it is signed with {0}, which this controller cannot check. \
         Use a key of RSA (2048 to 8192 bits, PKCS#1 v1.5), ECDSA P-256 or P-384, or Ed25519"
    )]
    Unsupported(String),
}

impl Csr {
    /// Reads the one request in `pem` and checks that it was signed by its own key.
    ///
    /// # Errors
    /// What is wrong with the request.
    pub fn from_pem(pem: &[u8]) -> Result<Self, CsrError> {
        let mut blocks = blocks::read(pem, LARGEST)?;
        let count = blocks.len();
        let block = blocks.pop().filter(|_| count == 1).ok_or(CsrError::Several(count))?;
        if !matches!(block.label.as_str(), "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST") {
            return Err(CsrError::Label(block.label));
        }
        let pem = str::from_utf8(pem).map_err(|_| CsrError::NotUtf8)?;
        let (rest, parsed) = X509CertificationRequest::from_der(&block.der).map_err(|_| CsrError::NotARequest)?;
        if !rest.is_empty() {
            return Err(CsrError::TrailingBytes(rest.len()));
        }
        check_signature(&parsed)?;
        let info = &parsed.certification_request_info;
        let content = Content {
            pem: pem.to_owned(),
            public_key: signature::identity(&info.subject_pki),
            common_name: names::common_name(&info.subject),
            common_names: names::common_names(&info.subject),
            extensions: requested(&parsed)?,
        };
        Ok(Self(Arc::new(content)))
    }

    /// The request as it was given.
    pub fn pem(&self) -> &str {
        &self.0.pem
    }

    /// Algorithm and bits of the key, to be compared with those of other certificates and requests.
    pub fn public_key(&self) -> &[u8] {
        &self.0.public_key
    }

    /// The names it asks for.
    pub fn sans(&self) -> &SubjectAltNames {
        &self.0.extensions.sans
    }

    /// The common name it asks for; an empty one is none.
    pub fn common_name(&self) -> Option<&str> {
        self.0.common_name.as_deref()
    }

    /// Every common name of its subject; one that is no text stands as `#` and hex.
    pub fn common_names(&self) -> &[String] {
        &self.0.common_names
    }

    /// Whether it asks for basicConstraints CA:TRUE.
    pub fn asks_ca(&self) -> bool {
        self.0.extensions.ca
    }

    /// The path length that its basicConstraints ask for.
    pub fn path_length(&self) -> Option<u32> {
        self.0.extensions.path_length
    }

    /// The usages that its extensions ask for.
    pub fn usages(&self) -> &Usages {
        &self.0.extensions.usages
    }

    /// The OIDs of all the extensions that it asks for.
    pub fn extensions(&self) -> &BTreeSet<String> {
        &self.0.extensions.oids
    }
}

impl fmt::Debug for Csr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Csr({})", self.sans())
    }
}

fn check_signature(csr: &X509CertificationRequest<'_>) -> Result<(), CsrError> {
    let info = &csr.certification_request_info;
    match signature::check(&info.subject_pki, &csr.signature_algorithm, &csr.signature_value, info.raw) {
        Verification::Valid => Ok(()),
        Verification::Invalid => Err(CsrError::Forged),
        Verification::Unsupported(algorithm) => Err(CsrError::Unsupported(algorithm)),
    }
}

/// The extensions of every extensionRequest together, as Vault reads them: the library's own shortcut stops at the first.
fn requested(csr: &X509CertificationRequest<'_>) -> Result<Extensions, CsrError> {
    let requests =
        csr.certification_request_info.iter_attributes().filter_map(|attribute| match attribute.parsed_attribute() {
            ParsedCriAttribute::ExtensionRequest(request) => Some(&request.extensions),
            ParsedCriAttribute::ChallengePassword(_) | ParsedCriAttribute::UnsupportedAttribute => None,
        });
    Extensions::read(requests.flatten()).map_err(CsrError::Unusable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x509::testing::{self, P521_CSR, PSS_CSR, RSA_SHA512_CSR, csr_pem};

    #[track_caller]
    fn refuses(pem: &[u8], words: &str) {
        assert_eq!(Csr::from_pem(pem).expect_err("an error").to_string(), words);
    }

    #[test]
    fn a_request_of_istio_has_one_uri_and_no_name() {
        let pem = csr_pem(&rcgen::KeyPair::generate().expect("a key"), None, &["spiffe://cluster.local/ns/a/sa/b"]);
        let csr = Csr::from_pem(pem.as_bytes()).expect("a request");
        assert_eq!(csr.pem(), pem);
        assert_eq!(csr.common_name(), None);
        assert_eq!(csr.sans().to_string(), "URI:spiffe://cluster.local/ns/a/sa/b");
        assert!(!csr.asks_ca());
        assert_eq!(format!("{csr:?}"), "Csr(URI:spiffe://cluster.local/ns/a/sa/b)");
    }

    #[test]
    fn a_request_of_open_service_mesh_is_rsa_with_sha_512() {
        let csr = Csr::from_pem(RSA_SHA512_CSR).expect("a request");
        assert_eq!(csr.common_name(), Some("bookbuyer.bookbuyer.cluster.local"));
        assert_eq!(csr.sans().to_string(), "DNS:bookbuyer.bookbuyer.cluster.local");
    }

    #[test]
    fn a_request_for_a_ca_is_seen() {
        let csr = Csr::from_pem(testing::CA_CSR).expect("a request");
        assert!(csr.asks_ca());
    }

    #[test]
    fn an_algorithm_we_cannot_check_is_called_so() {
        let advice = "which this controller cannot check. \
                      Use a key of RSA (2048 to 8192 bits, PKCS#1 v1.5), ECDSA P-256 or P-384, or Ed25519";
        refuses(PSS_CSR, &format!("it is signed with RSA-PSS, {advice}"));
        refuses(P521_CSR, &format!("it is signed with ECDSA with SHA-512 by a P-521 key, {advice}"));
    }

    #[test]
    fn what_is_not_one_whole_request_is_refused() {
        let pem = csr_pem(&rcgen::KeyPair::generate().expect("a key"), Some("a"), &[]);
        let der = pem::parse(&pem).expect("pem").into_contents();
        let encode = |label: &str, der: &[u8]| pem::encode(&pem::Pem::new(label, der)).into_bytes();
        refuses(b"", "it holds no PEM block (a line such as -----BEGIN CERTIFICATE-----)");
        refuses(format!("{pem}{pem}").as_bytes(), "it holds 2 PEM blocks, and exactly one is signed");
        refuses(&encode("CERTIFICATE", &der), "it is a CERTIFICATE, and not a CERTIFICATE REQUEST");
        refuses(&encode("CERTIFICATE REQUEST", b"x"), "it is not a PKCS#10 certificate request in DER");
        refuses(&encode("CERTIFICATE REQUEST", &[&der[..], &[0]].concat()), "1 bytes follow the certificate request");
        refuses(&[b"\xff\n", pem.as_bytes()].concat(), "it is not UTF-8");
        refuses(&[b'x'; 36_501], "it has 36501 bytes, and at most 36500 are read");
        Csr::from_pem(&encode("NEW CERTIFICATE REQUEST", &der)).expect("an old label");
    }

    #[test]
    fn a_changed_request_is_forged() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut der = pem::parse(csr_pem(&key, Some("aaaa"), &[])).expect("pem").into_contents();
        let at = der.windows(4).position(|window| window == b"aaaa").expect("the name");
        der[at] = b'b';
        refuses(
            pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", der)).as_bytes(),
            "its signature was not made by the key it holds",
        );
    }

    #[test]
    fn an_extension_may_not_stand_twice() {
        refuses(
            &testing::csr_with_two_extension_requests(),
            "the certificate request cannot be used: its extension 2.5.29.17 stands there twice",
        );
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(at in 0usize..2_000, with: u8) {
            let mut der = pem::parse(RSA_SHA512_CSR).expect("pem").into_contents();
            let at = at % der.len();
            der[at] = with;
            let _ = Csr::from_pem(pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", der)).as_bytes());
        }
    }
}
