//! The names a certificate speaks for (RFC 5280 §4.2.1.6), as sets that can be compared.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use x509_parser::asn1_rs::{Any, FromDer, Oid, Tag};
use x509_parser::extensions::GeneralName;
use x509_parser::x509::X509Name;

/// Subject alternative names by kind. Order and repetition mean nothing and are dropped; DNS names are kept in lower case,
/// because that is how they compare; everything else is kept as written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SubjectAltNames {
    /// DNS names.
    pub dns: BTreeSet<String>,
    /// URIs, SPIFFE IDs among them.
    pub uris: BTreeSet<String>,
    /// E-mail addresses.
    pub emails: BTreeSet<String>,
    /// IP addresses.
    pub ips: BTreeSet<IpAddr>,
    /// Every other kind, and whatever is malformed: the DER of the name in hex, so that it is compared all the same.
    pub others: BTreeSet<String>,
}

impl SubjectAltNames {
    /// Whether there is no name at all.
    pub fn is_empty(&self) -> bool {
        self.rendered().is_empty()
    }

    /// The names of `self` that `other` lacks, each rendered with its kind.
    pub fn missing_from(&self, other: &Self) -> Vec<String> {
        Self {
            dns: &self.dns - &other.dns,
            uris: &self.uris - &other.uris,
            emails: &self.emails - &other.emails,
            ips: &self.ips - &other.ips,
            others: &self.others - &other.others,
        }
        .rendered()
    }

    /// Reads the value of the extension; `None` when it is no sequence of names or when bytes follow it.
    pub(super) fn from_der(value: &[u8]) -> Option<Self> {
        let (after, sequence) = Any::from_der(value).ok()?;
        if !after.is_empty() || sequence.tag() != Tag::Sequence {
            return None;
        }
        let mut names = Self::default();
        let mut rest = sequence.data;
        while !rest.is_empty() {
            let (next, name) = Any::from_der(rest).ok()?;
            names.add(rest.get(..rest.len() - next.len())?, GeneralName::try_from(name).ok()?);
            rest = next;
        }
        Some(names)
    }

    fn add(&mut self, der: &[u8], name: GeneralName<'_>) {
        match name {
            GeneralName::DNSName(dns) => self.dns.insert(dns.to_ascii_lowercase()),
            GeneralName::URI(uri) => self.uris.insert(uri.to_owned()),
            GeneralName::RFC822Name(email) => self.emails.insert(email.to_owned()),
            GeneralName::IPAddress(octets) => match ip(octets) {
                Some(ip) => self.ips.insert(ip),
                None => self.others.insert(hex(der)),
            },
            GeneralName::OtherName(..)
            | GeneralName::X400Address(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EDIPartyName(_)
            | GeneralName::RegisteredID(_)
            | GeneralName::Invalid(..) => self.others.insert(hex(der)),
        };
    }

    fn rendered(&self) -> Vec<String> {
        let uris = self.uris.iter().map(|uri| format!("URI:{}", shown(uri)));
        let dns = self.dns.iter().map(|dns| format!("DNS:{}", shown(dns)));
        let ips = self.ips.iter().map(|ip| format!("IP:{ip}"));
        let emails = self.emails.iter().map(|email| format!("email:{}", shown(email)));
        let others = self.others.iter().map(|other| format!("other:{other}"));
        uris.chain(dns).chain(ips).chain(emails).chain(others).collect()
    }
}

impl fmt::Display for SubjectAltNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rendered().join(", "))
    }
}

fn ip(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
        _ => None,
    }
}

/// The most characters of a name that are shown.
const LONGEST_SHOWN: usize = 256;

/// A name that somebody else chose, fit for a condition or a log line: no control characters, not endless.
fn shown(text: &str) -> String {
    let mut shown = String::new();
    for (index, character) in text.chars().enumerate() {
        if index == LONGEST_SHOWN {
            shown.push('…');
            break;
        }
        if character.is_control() { shown.extend(character.escape_default()) } else { shown.push(character) }
    }
    shown
}

/// A distinguished name for people; an empty one is said to be empty.
pub(super) fn distinguished(name: &X509Name<'_>) -> String {
    if name.iter_rdn().next().is_none() { "(empty)".to_owned() } else { shown(&name.to_string()) }
}

/// The common name: the last one where there are several, as in Go's crypto/x509, which Vault uses; none when it is empty.
pub(super) fn common_name(name: &X509Name<'_>) -> Option<String> {
    let last = name.iter_common_name().last()?.as_str().ok()?;
    (!last.is_empty()).then(|| last.to_owned())
}

/// Every common name, for those who judge names: verifiers differ in which they look at. One that is no text stands as RFC 4514
/// has it, `#` and hex.
pub(super) fn common_names(name: &X509Name<'_>) -> Vec<String> {
    let text = |bytes: &[u8]| format!("#{}", hex(bytes));
    name.iter_common_name().map(|it| it.as_str().map_or_else(|_| text(it.as_slice()), str::to_owned)).collect()
}

/// An object identifier with its dots, as the library writes it. That makes a text of every arc first, which took longer than
/// reading the extension.
pub(super) fn dotted(oid: &Oid<'_>) -> String {
    if oid.iter().is_none() {
        return oid.to_id_string();
    }
    let arcs = || oid.iter().into_iter().flatten().enumerate();
    fmt::from_fn(|f| arcs().try_for_each(|(place, arc)| write!(f, "{}{arc}", if place == 0 { "" } else { "." })))
        .to_string()
}

/// Bytes as lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digits =
        bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]).filter_map(|digit| char::from_digit(digit.into(), 16));
    let mut text = String::with_capacity(2 * bytes.len());
    text.extend(digits);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn der(names: &[(u8, &[u8])]) -> Vec<u8> {
        let length = |bytes: &[u8]| u8::try_from(bytes.len()).expect("the names of a test are short");
        let body: Vec<u8> = names.iter().flat_map(|(tag, value)| [&[*tag, length(value)], *value].concat()).collect();
        [&[0x30, length(&body)], body.as_slice()].concat()
    }

    #[test]
    fn every_kind_of_name_is_kept_apart() {
        let names = SubjectAltNames::from_der(&der(&[
            (0x82, b"A.example"),
            (0x86, b"spiffe://td/A"),
            (0x81, b"a@b"),
            (0x87, &[10, 0, 0, 1]),
            (0x87, &[1, 2, 3]),
            (0x88, &[0x2a, 0x03]),
            (0x82, b"\xff"),
        ]))
        .expect("names");
        assert_eq!(
            names.to_string(),
            "URI:spiffe://td/A, DNS:a.example, IP:10.0.0.1, email:a@b, other:8201ff, other:8703010203, other:88022a03"
        );
    }

    #[test]
    fn what_is_missing_is_named_with_its_kind() {
        let asked =
            SubjectAltNames::from_der(&der(&[(0x86, b"spiffe://td/a"), (0x82, b"a"), (0x82, b"b")])).expect("names");
        let given = SubjectAltNames::from_der(&der(&[(0x82, b"B"), (0x82, b"c")])).expect("names");
        assert_eq!(asked.missing_from(&given), ["URI:spiffe://td/a", "DNS:a"]);
        assert_eq!(given.missing_from(&asked), ["DNS:c"]);
        assert!(asked.missing_from(&asked).is_empty());
        assert!(!asked.is_empty() && SubjectAltNames::default().is_empty());
    }

    #[test]
    fn identifiers_are_written_as_the_library_writes_them() {
        let known = |arcs: &[u64]| Oid::from(arcs).expect("an identifier");
        // The last as the UUIDs below 2.25 are: no 64 bits hold its arc.
        let uuid = Oid::new([&[0x69], [0xff; 9].as_slice(), &[0x7f]].concat().into());
        for oid in [known(&[2, 5, 29, 37, 0]), known(&[1, 3, 6, 1, 4, 1, 99_999, 2]), uuid] {
            assert_eq!(dotted(&oid), oid.to_id_string());
        }
        assert_eq!(dotted(&known(&[2, 5, 29, 37, 0])), "2.5.29.37.0");
        assert_eq!(hex(&[0, 0x0f, 0xa5]), "000fa5");
    }

    #[test]
    fn bytes_after_the_names_are_an_error() {
        let good = der(&[(0x82, b"a")]);
        assert_eq!(SubjectAltNames::from_der(&[good.as_slice(), &[5, 0]].concat()), None);
        assert_eq!(SubjectAltNames::from_der(&good[..4]), None);
        assert_eq!(SubjectAltNames::from_der(&[]), None);
    }

    #[test]
    fn control_characters_in_names_are_not_shown() {
        let names = SubjectAltNames::from_der(&der(&[(0x82, b"a\n\x1b[2J")])).expect("names");
        assert_eq!(names.to_string(), "DNS:a\\n\\u{1b}[2j");
    }
}
