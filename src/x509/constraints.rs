//! Name constraints (RFC 5280 §4.2.1.10): for which names a CA may speak. Vault writes them (`permitted_dns_domains` and its
//! kin), and every verifier of a mesh holds a chain to them.

use std::net::IpAddr;

use x509_parser::extensions::{GeneralName, GeneralSubtree};

use super::names::SubjectAltNames;

/// The names below which a CA must stay, and those that it must leave alone.
#[derive(Debug)]
pub(super) struct NameConstraints {
    permitted: Vec<Subtree>,
    excluded: Vec<Subtree>,
}

#[derive(Debug)]
enum Subtree {
    Dns(String),
    Uri(String),
    Email(String),
    Ip(Vec<u8>),
    /// Directory names and rarer kinds.
    Other,
}

/// One name that a certificate speaks for.
#[derive(Clone, Copy)]
enum Name<'a> {
    Dns(&'a str),
    Uri(&'a str),
    Email(&'a str),
    Ip(IpAddr),
}

impl NameConstraints {
    pub(super) fn new(read: &x509_parser::extensions::NameConstraints<'_>) -> Self {
        let subtrees = |list: &Option<Vec<GeneralSubtree<'_>>>| list.iter().flatten().map(Subtree::new).collect();
        Self { permitted: subtrees(&read.permitted_subtrees), excluded: subtrees(&read.excluded_subtrees) }
    }

    /// Whether a certificate below may speak for all of `sans`. Constraints of a kind that Go and rustls do not follow (directory
    /// names) allow nothing, because those two then refuse the whole chain.
    pub(super) fn allow(&self, sans: &SubjectAltNames) -> bool {
        let dns = sans.dns.iter().map(|name| Name::Dns(name));
        let uris = sans.uris.iter().map(|name| Name::Uri(name));
        let emails = sans.emails.iter().map(|name| Name::Email(name));
        let ips = sans.ips.iter().map(|name| Name::Ip(*name));
        let followed = self.permitted.iter().chain(&self.excluded).all(|subtree| !matches!(subtree, Subtree::Other));
        followed && dns.chain(uris).chain(emails).chain(ips).all(|name| self.allows(name))
    }

    fn allows(&self, name: Name<'_>) -> bool {
        let mut permitted = self.permitted.iter().filter_map(|subtree| subtree.holds(name)).peekable();
        let mut excluded = self.excluded.iter().filter_map(|subtree| subtree.holds(name));
        let speaks_of_uris = |list: &[Subtree]| list.iter().any(|subtree| matches!(subtree, Subtree::Uri(_)));
        match name {
            // Nobody can say where a URI without a host belongs.
            Name::Uri(uri) if host(uri).is_none() => {
                !speaks_of_uris(&self.permitted) && !speaks_of_uris(&self.excluded)
            }
            Name::Dns(_) | Name::Uri(_) | Name::Email(_) | Name::Ip(_) => {
                (permitted.peek().is_none() || permitted.any(|holds| holds)) && !excluded.any(|holds| holds)
            }
        }
    }
}

impl Subtree {
    fn new(read: &GeneralSubtree<'_>) -> Self {
        match &read.base {
            GeneralName::DNSName(base) => Self::Dns(base.to_ascii_lowercase()),
            GeneralName::URI(base) => Self::Uri(base.to_ascii_lowercase()),
            GeneralName::RFC822Name(base) => Self::Email((*base).to_owned()),
            GeneralName::IPAddress(base) => Self::Ip(base.to_vec()),
            GeneralName::OtherName(..)
            | GeneralName::X400Address(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EDIPartyName(_)
            | GeneralName::RegisteredID(_)
            | GeneralName::Invalid(..) => Self::Other,
        }
    }

    /// Whether `name` lies in this subtree; none where it is of another kind.
    fn holds(&self, name: Name<'_>) -> Option<bool> {
        match (self, name) {
            (Self::Dns(base), Name::Dns(name)) => Some(base.is_empty() || name == base || is_below(name, base)),
            (Self::Uri(base), Name::Uri(uri)) => Some(host(uri).is_some_and(|host| is_host(&host, base))),
            (Self::Email(base), Name::Email(mailbox)) => Some(match mailbox.rsplit_once('@') {
                Some(_) if base.contains('@') => mailbox == base,
                Some((_, host)) => is_host(&host.to_ascii_lowercase(), &base.to_ascii_lowercase()),
                None => false,
            }),
            (Self::Ip(base), Name::Ip(ip)) => Some(match ip {
                IpAddr::V4(ip) => is_in_network(&ip.octets(), base),
                IpAddr::V6(ip) => is_in_network(&ip.octets(), base),
            }),
            (Self::Dns(_) | Self::Uri(_) | Self::Email(_) | Self::Ip(_) | Self::Other, _) => None,
        }
    }
}

/// Hosts of URIs and mailboxes: `example` is that host alone, `.example` all below it.
fn is_host(host: &str, base: &str) -> bool {
    if base.starts_with('.') { is_below(host, base) } else { host == base }
}

fn is_below(name: &str, base: &str) -> bool {
    let base = base.strip_prefix('.').unwrap_or(base);
    name.strip_suffix(base).is_some_and(|labels| labels.len() > 1 && labels.ends_with('.'))
}

/// The host of a URI in lower case, without user and port.
fn host(uri: &str) -> Option<String> {
    let (_, rest) = uri.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?.split(':').next()?;
    (!host.is_empty()).then(|| host.to_ascii_lowercase())
}

/// `base` is an address and its mask.
fn is_in_network(octets: &[u8], base: &[u8]) -> bool {
    let Some((address, mask)) =
        base.split_at_checked(octets.len()).filter(|(address, mask)| address.len() == mask.len())
    else {
        return false;
    };
    octets.iter().zip(address).zip(mask).all(|((octet, address), mask)| octet & mask == address & mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sans(names: &[&str]) -> SubjectAltNames {
        let mut sans = SubjectAltNames::default();
        for name in names {
            match name {
                uri if uri.contains("://") || uri.starts_with("kuma:") => sans.uris.insert((*uri).to_owned()),
                email if email.contains('@') => sans.emails.insert((*email).to_owned()),
                other => match other.parse() {
                    Ok(ip) => sans.ips.insert(ip),
                    Err(_) => sans.dns.insert((*other).to_owned()),
                },
            };
        }
        sans
    }

    #[track_caller]
    fn check(permitted: &[Subtree], excluded: &[Subtree], allowed: &[&str], refused: &[&str]) {
        let lists = |list: &[Subtree]| {
            list.iter()
                .map(|one| match one {
                    Subtree::Dns(base) => Subtree::Dns(base.clone()),
                    Subtree::Uri(base) => Subtree::Uri(base.clone()),
                    Subtree::Email(base) => Subtree::Email(base.clone()),
                    Subtree::Ip(base) => Subtree::Ip(base.clone()),
                    Subtree::Other => Subtree::Other,
                })
                .collect()
        };
        let constraints = NameConstraints { permitted: lists(permitted), excluded: lists(excluded) };
        assert!(constraints.allow(&sans(allowed)), "{constraints:?} should allow {allowed:?}");
        for name in refused {
            assert!(!constraints.allow(&sans(&[name])), "{constraints:?} should refuse {name}");
        }
    }

    #[test]
    fn each_kind_of_name_has_its_own_rule() {
        let dns = |base: &str| Subtree::Dns(base.to_owned());
        check(&[dns("svc"), dns("local")], &[], &["svc", "a.svc", "b.local", "10.0.0.1"], &["asvc", "a.svc.x", "x"]);
        check(&[dns(".svc")], &[], &["a.svc"], &["svc", "asvc"]);
        check(&[dns("")], &[dns("svc")], &["x", "asvc"], &["svc", "a.svc"]);
        let uri = |base: &str| Subtree::Uri(base.to_owned());
        check(
            &[uri("td")],
            &[],
            &["spiffe://td/a", "spiffe://TD", "https://u@td:1?x", "a.example"],
            &["spiffe://a.td/a"],
        );
        check(
            &[uri(".td")],
            &[],
            &["spiffe://a.td/a"],
            &["spiffe://td/a", "spiffe://tdx/.td", "kuma:td", "spiffe:///td"],
        );
        check(&[], &[uri("td")], &["spiffe://other/a"], &["spiffe://td/a", "kuma:x"]);
        let email = |base: &str| Subtree::Email(base.to_owned());
        check(&[email("a@b"), email("c"), email(".d")], &[], &["a@b", "x@C", "x@y.d"], &["x@b", "x@d", "x@y.c"]);
        let ten = Subtree::Ip(vec![10, 0, 0, 0, 255, 0, 0, 0]);
        check(&[ten], &[], &["10.1.2.3", "a.example"], &["11.0.0.1", "::1"]);
        check(&[], &[Subtree::Ip(vec![0; 32])], &["10.1.2.3"], &["::1"]);
    }

    #[test]
    fn a_kind_that_verifiers_do_not_follow_allows_nothing() {
        let constraints = NameConstraints { permitted: Vec::new(), excluded: vec![Subtree::Other] };
        assert!(!constraints.allow(&sans(&["a"])));
        assert!(!constraints.allow(&sans(&[])));
    }
}
