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

/// What the extensions of one certificate or request say.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    pub(super) sans: SubjectAltNames,
    /// basicConstraints CA:TRUE.
    pub(super) ca: bool,
    /// basicConstraints pathLenConstraint.
    pub(super) path_length: Option<u32>,
    /// keyUsage keyCertSign, where there is a keyUsage.
    pub(super) signs_certificates: Option<bool>,
    /// extendedKeyUsage; none where it is absent or allows any.
    pub(super) extended_usages: Option<BTreeSet<String>>,
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

impl Extensions {
    /// Reads them; a repeated or unreadable extension is an error, because two readers could then see two things.
    pub(super) fn read<'a>(extensions: impl Iterator<Item = &'a X509Extension<'a>>) -> Result<Self, String> {
        let mut read = Self::default();
        let mut seen = BTreeSet::new();
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
                ParsedExtension::KeyUsage(usage) => read.signs_certificates = Some(usage.key_cert_sign()),
                ParsedExtension::ExtendedKeyUsage(_) => {
                    let (_, usages) = <Vec<Oid>>::from_der(extension.value)
                        .map_err(|_| format!("its extension {oid} cannot be read"))?;
                    let usages: BTreeSet<_> = usages.iter().map(Oid::to_id_string).collect();
                    read.extended_usages = Some(usages).filter(|usages| !usages.contains(ANY_EXTENDED_USAGE));
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
            if !seen.insert(oid.clone()) {
                return Err(format!("its extension {oid} stands there twice"));
            }
        }
        Ok(read)
    }
}
