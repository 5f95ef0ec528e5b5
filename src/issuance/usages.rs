//! cert-manager's words for what a key may be used for: what each means in a certificate, and what Vault calls it.

use crate::x509::{CERT_SIGN, Usages};

/// One usage that a request can ask for.
#[derive(Debug, PartialEq, Eq)]
pub struct Usage {
    /// In cert-manager's words, as `spec.usages` has it.
    pub name: &'static str,
    /// In Vault's, for `key_usage` or `ext_key_usage`.
    pub vault: &'static str,
    meaning: Meaning,
}

/// What a usage is in a certificate.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    /// A bit of keyUsage.
    Key(u16),
    /// An OID of extendedKeyUsage.
    Extended(&'static str),
}

const fn key(name: &'static str, vault: &'static str, bit: u16) -> Usage {
    Usage { name, vault, meaning: Meaning::Key(bit) }
}

const fn extended(name: &'static str, vault: &'static str, oid: &'static str) -> Usage {
    Usage { name, vault, meaning: Meaning::Extended(oid) }
}

/// extendedKeyUsage that stands for all others.
const ANY: &str = "2.5.29.37.0";

/// Every word that cert-manager knows; two have a synonym.
static ALL: [Usage; 23] = [
    key("digital signature", "DigitalSignature", 1),
    key("signing", "DigitalSignature", 1),
    key("content commitment", "ContentCommitment", 1 << 1),
    key("key encipherment", "KeyEncipherment", 1 << 2),
    key("data encipherment", "DataEncipherment", 1 << 3),
    key("key agreement", "KeyAgreement", 1 << 4),
    key("cert sign", "CertSign", CERT_SIGN),
    key("crl sign", "CRLSign", 1 << 6),
    key("encipher only", "EncipherOnly", 1 << 7),
    key("decipher only", "DecipherOnly", 1 << 8),
    extended("any", "Any", ANY),
    extended("server auth", "ServerAuth", "1.3.6.1.5.5.7.3.1"),
    extended("client auth", "ClientAuth", "1.3.6.1.5.5.7.3.2"),
    extended("code signing", "CodeSigning", "1.3.6.1.5.5.7.3.3"),
    extended("email protection", "EmailProtection", "1.3.6.1.5.5.7.3.4"),
    extended("s/mime", "EmailProtection", "1.3.6.1.5.5.7.3.4"),
    extended("ipsec end system", "IpsecEndSystem", "1.3.6.1.5.5.7.3.5"),
    extended("ipsec tunnel", "IpsecTunnel", "1.3.6.1.5.5.7.3.6"),
    extended("ipsec user", "IpsecUser", "1.3.6.1.5.5.7.3.7"),
    extended("timestamping", "TimeStamping", "1.3.6.1.5.5.7.3.8"),
    extended("ocsp signing", "OcspSigning", "1.3.6.1.5.5.7.3.9"),
    extended("microsoft sgc", "MicrosoftServerGatedCrypto", "1.3.6.1.4.1.311.10.3.3"),
    extended("netscape sgc", "NetscapeServerGatedCrypto", "2.16.840.1.113730.4.1"),
];

/// What cert-manager's API means by a request that names none.
const DEFAULTS: [&str; 2] = ["digital signature", "key encipherment"];

/// Whether Vault knows a key usage by this name, as it reads a role's `key_usage`: without regard to capitals and blanks.
pub fn is_vaults_name(name: &str) -> bool {
    ALL.iter().any(|usage| !usage.is_extended() && usage.vault.eq_ignore_ascii_case(name.trim()))
}

impl Usage {
    /// The usage that cert-manager calls by this name.
    pub fn from_name(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|usage| usage.name == name)
    }

    /// Whether it belongs to extendedKeyUsage, and not to keyUsage.
    pub fn is_extended(&self) -> bool {
        matches!(self.meaning, Meaning::Extended(_))
    }

    /// Whether a certificate with these usages may be used so.
    pub fn is_granted_by(&self, usages: &Usages) -> bool {
        self.stands_in(usages) || self.is_extended() && usages.extended.contains(ANY)
    }

    fn stands_in(&self, usages: &Usages) -> bool {
        match self.meaning {
            Meaning::Key(bit) => usages.key.is_some_and(|bits| bits & bit != 0),
            Meaning::Extended(oid) => usages.extended.contains(oid),
        }
    }
}

/// What is asked for, or what cert-manager means where nothing is.
pub fn or_defaults(asked: &[&'static Usage]) -> Vec<&'static Usage> {
    match asked {
        [] => DEFAULTS.iter().filter_map(|name| Usage::from_name(name)).collect(),
        some => some.to_vec(),
    }
}

/// What stands in a certificate or request, in cert-manager's words; what it has no word for, as its OID.
pub fn names(usages: &Usages) -> Vec<String> {
    let synonyms = ["signing", "s/mime"];
    let known = ALL.iter().filter(|usage| !synonyms.contains(&usage.name) && usage.stands_in(usages));
    let unknown =
        |oid: &&String| !ALL.iter().any(|usage| matches!(usage.meaning, Meaning::Extended(known) if known == *oid));
    known.map(|usage| usage.name.to_owned()).chain(usages.extended.iter().filter(unknown).cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_extended_usage_grants_every_extended_one_and_no_other() {
        let usages = Usages { key: Some(1), extended: [ANY.to_owned()].into() };
        let granted = |name: &str| Usage::from_name(name).expect("cert-manager has this word").is_granted_by(&usages);
        assert!(granted("server auth") && granted("any") && granted("signing"));
        assert!(!granted("key encipherment") && !granted("cert sign"));
        assert_eq!(names(&usages), ["digital signature", "any"]);
    }

    #[test]
    fn what_has_no_word_is_named_by_its_oid() {
        let usages = Usages { key: None, extended: ["1.2.3".to_owned(), "1.3.6.1.5.5.7.3.2".to_owned()].into() };
        assert_eq!(names(&usages), ["client auth", "1.2.3"]);
    }

    #[test]
    fn nothing_asked_is_what_cert_manager_means_by_it() {
        let names = |asked: &[&'static Usage]| or_defaults(asked).iter().map(|usage| usage.name).collect::<Vec<_>>();
        assert_eq!(names(&[]), ["digital signature", "key encipherment"]);
        assert_eq!(names(&[Usage::from_name("client auth").expect("a word")]), ["client auth"]);
    }
}
