//! The few extensions that decide something here, read alike from certificates and from requests.

use std::collections::BTreeSet;

use x509_parser::asn1_rs::{FromDer, Oid};
use x509_parser::extensions::{ParsedExtension, X509Extension};

use super::constraints::NameConstraints;
use super::names::{self, SubjectAltNames};

const ANY_EXTENDED_USAGE: &str = "2.5.29.37.0";
/// What a CA's certificate may mark critical: these are processed by every verifier of a mesh, and rustls refuses any other.
const UNDERSTOOD: [&str; 5] = [
    "2.5.29.15", // keyUsage
    "2.5.29.17", // subjectAltName
    "2.5.29.19", // basicConstraints
    "2.5.29.30", // nameConstraints
    "2.5.29.37", // extendedKeyUsage
];

/// keyUsage keyCertSign, as a bit of [`Usages::key`].
pub const CERT_SIGN: u16 = 1 << 5;

/// What the extensions of one certificate or request say.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    pub(super) sans: SubjectAltNames,
    /// basicConstraints CA:TRUE.
    pub(super) ca: bool,
    /// basicConstraints pathLenConstraint.
    pub(super) path_length: Option<u32>,
    /// keyUsage and extendedKeyUsage.
    pub(super) usages: Usages,
    /// The OID of every extension.
    pub(super) oids: BTreeSet<String>,
    pub(super) name_constraints: Option<NameConstraints>,
    /// subjectKeyIdentifier, in hex.
    pub(super) key_identifier: Option<String>,
    /// authorityKeyIdentifier: which key signed, in hex.
    pub(super) signer_key_identifier: Option<String>,
    /// authorityKeyIdentifier: the serial number of the certificate of that key, in hex.
    pub(super) signer_serial: Option<String>,
    /// A critical extension that not every verifier processes.
    pub(super) critical: Option<String>,
}

/// What a key may be used for (RFC 5280 §4.2.1.3 and §4.2.1.12).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usages {
    /// The bits of keyUsage, digitalSignature the lowest; none without the extension.
    pub key: Option<u16>,
    /// The OIDs of extendedKeyUsage.
    pub extended: BTreeSet<String>,
}

impl Usages {
    /// The extended usages that it is restricted to; none where it is restricted to none.
    pub(super) fn restricted(&self) -> Option<&BTreeSet<String>> {
        Some(&self.extended).filter(|usages| !usages.is_empty() && !usages.contains(ANY_EXTENDED_USAGE))
    }
}

impl Extensions {
    /// Reads them; a repeated or unreadable extension is an error, because two readers could then see two things.
    pub(super) fn read<'a>(extensions: impl Iterator<Item = &'a X509Extension<'a>>) -> Result<Self, String> {
        let mut read = Self::default();
        for extension in extensions {
            let oid = names::dotted(&extension.oid);
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(_) => {
                    read.sans = SubjectAltNames::from_der(extension.value)
                        .ok_or_else(|| "its subject alternative names cannot be read".to_owned())?;
                }
                ParsedExtension::BasicConstraints(basic) => {
                    read.ca = basic.ca;
                    read.path_length = basic.path_len_constraint;
                }
                ParsedExtension::KeyUsage(usage) => read.usages.key = Some(usage.flags),
                ParsedExtension::ExtendedKeyUsage(_) => {
                    let (_, usages) = <Vec<Oid>>::from_der(extension.value)
                        .map_err(|_| format!("its extension {oid} cannot be read"))?;
                    read.usages.extended = usages.iter().map(names::dotted).collect();
                }
                ParsedExtension::NameConstraints(constraints) => {
                    read.name_constraints = Some(NameConstraints::new(constraints));
                }
                ParsedExtension::SubjectKeyIdentifier(identifier) => {
                    read.key_identifier = Some(names::hex(identifier.0));
                }
                ParsedExtension::AuthorityKeyIdentifier(authority) => {
                    read.signer_key_identifier = authority.key_identifier.as_ref().map(|one| names::hex(one.0));
                    read.signer_serial = authority.authority_cert_serial.map(names::hex);
                }
                ParsedExtension::ParseError { .. } => return Err(format!("its extension {oid} cannot be read")),
                // Everything else decides nothing here; the list of the library grows with its releases.
                _ => {}
            }
            if extension.critical && !UNDERSTOOD.contains(&oid.as_str()) {
                read.critical = Some(oid.clone());
            }
            if !read.oids.insert(oid.clone()) {
                return Err(format!("its extension {oid} stands there twice"));
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyUsagePurpose};

    use super::*;
    use crate::x509::testing::{Authority, csr_with, openssl_x509};
    use crate::x509::{Certificate, Csr};

    fn all(parameters: &mut CertificateParams) {
        use KeyUsagePurpose as Key;
        parameters.key_usages = vec![Key::DigitalSignature, Key::KeyEncipherment, Key::KeyCertSign, Key::DecipherOnly];
        let extended =
            [ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::Other(vec![1, 3, 6, 1, 5, 5, 7, 3, 7])];
        parameters.extended_key_usages = extended.into();
    }

    #[test]
    fn usages_are_those_openssl_prints() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let leaf: Certificate = Authority::new("CA").leaf_with(&key, &["a"], all);
        let printed = openssl_x509(&leaf, &["-noout", "-ext", "keyUsage,extendedKeyUsage"]);
        assert!(printed.contains("Digital Signature, Key Encipherment, Certificate Sign, Decipher Only"), "{printed}");
        assert!(printed.contains("TLS Web Client Authentication, IPSec User"), "{printed}");
        let extended = ["1.3.6.1.5.5.7.3.2".to_owned(), "1.3.6.1.5.5.7.3.7".to_owned()].into();
        let expected = Usages { key: Some(1 | 1 << 2 | CERT_SIGN | 1 << 8), extended };
        assert_eq!(leaf.usages(), &expected);
        let csr = Csr::from_pem(&csr_with(&["a"], all)).expect("a request");
        assert_eq!(csr.usages(), &expected);
        assert_eq!(
            csr.extensions().iter().map(String::as_str).collect::<Vec<_>>(),
            ["2.5.29.15", "2.5.29.17", "2.5.29.37"]
        );
    }
}
