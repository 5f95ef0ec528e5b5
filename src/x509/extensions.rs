//! The few extensions that decide something here, read alike from certificates and from requests.

use std::collections::BTreeSet;

use x509_parser::extensions::{ParsedExtension, X509Extension};

use super::names::SubjectAltNames;

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
                ParsedExtension::ParseError { .. } => return Err(format!("its extension {oid} cannot be read")),
                // Everything else decides nothing here; the list of the library grows with its releases.
                _ => {}
            }
            if !seen.insert(oid.clone()) {
                return Err(format!("its extension {oid} stands there twice"));
            }
        }
        Ok(read)
    }
}
