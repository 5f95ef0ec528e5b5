//! The few extensions that decide something here, read alike from certificates and from requests.

use std::collections::BTreeSet;

use x509_parser::asn1_rs::Oid;
use x509_parser::extensions::{ExtendedKeyUsage, ParsedExtension, X509Extension};

use super::names::SubjectAltNames;

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
}

/// What a key may be used for (RFC 5280 §4.2.1.3 and §4.2.1.12).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usages {
    /// The bits of keyUsage, digitalSignature the lowest; none without the extension.
    pub key: Option<u16>,
    /// The OIDs of extendedKeyUsage.
    pub extended: BTreeSet<String>,
}

impl Extensions {
    /// Reads them; a repeated or unreadable extension is an error, because two readers could then see two things.
    pub(super) fn read<'a>(extensions: impl Iterator<Item = &'a X509Extension<'a>>) -> Result<Self, String> {
        let mut read = Self::default();
        for extension in extensions {
            let oid = extension.oid.to_id_string();
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
                ParsedExtension::ExtendedKeyUsage(usages) => read.usages.extended = oids(usages),
                ParsedExtension::ParseError { .. } => return Err(format!("its extension {oid} cannot be read")),
                // Everything else decides nothing here; the list of the library grows with its releases.
                _ => {}
            }
            if !read.oids.insert(oid.clone()) {
                return Err(format!("its extension {oid} stands there twice"));
            }
        }
        Ok(read)
    }
}

/// The library has taken the best known usages out of their list.
fn oids(usages: &ExtendedKeyUsage<'_>) -> BTreeSet<String> {
    let known = [
        (usages.any, "2.5.29.37.0"),
        (usages.server_auth, "1.3.6.1.5.5.7.3.1"),
        (usages.client_auth, "1.3.6.1.5.5.7.3.2"),
        (usages.code_signing, "1.3.6.1.5.5.7.3.3"),
        (usages.email_protection, "1.3.6.1.5.5.7.3.4"),
        (usages.time_stamping, "1.3.6.1.5.5.7.3.8"),
        (usages.ocsp_signing, "1.3.6.1.5.5.7.3.9"),
    ];
    let known = known.into_iter().filter(|(held, _)| *held).map(|(_, oid)| oid.to_owned());
    known.chain(usages.other.iter().map(Oid::to_id_string)).collect()
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
