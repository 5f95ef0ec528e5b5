//! `--allowed-servers`: which Vault servers this controller may call. Whoever may create an issuer makes the controller call a
//! URL, so whoever runs the controller may narrow it to a list; it is asked before any Secret is read.

use std::str::FromStr;

/// Host patterns; without any, every server is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AllowedServers(Vec<Pattern>);

/// One pattern: which hosts, and on which port if it names one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    host: HostPattern,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum HostPattern {
    /// `vault.example.com`: this host.
    Exactly(String),
    /// `*.example.com`: every host below, however deep, and not `example.com` itself. Kept with its leading dot.
    Below(String),
}

/// A pattern that means no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no host pattern; write host, host:port or *.example.com, separated by commas")]
pub struct PatternError(String);

impl AllowedServers {
    /// May a URL with this authority (`host` or `host:port`) be called? A pattern with a port allows only URLs that write
    /// the same port; one without allows every port.
    pub fn permits(&self, authority: &str) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let Some((host, port)) = split(authority) else {
            return false;
        };
        self.0.iter().any(|pattern| pattern.port.is_none_or(|only| port == Some(only)) && pattern.host.matches(&host))
    }
}

impl FromStr for AllowedServers {
    type Err = PatternError;

    /// Reads patterns separated by commas; nothing between two commas is passed over.
    fn from_str(list: &str) -> Result<Self, PatternError> {
        list.split(',')
            .map(str::trim)
            .filter(|pattern| !pattern.is_empty())
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let wrong = || PatternError(text.to_owned());
        let (below, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (host, port) = split(rest).ok_or_else(wrong)?;
        if host.contains(['*', '/', '@', '?', '#']) || host.contains(char::is_whitespace) {
            return Err(wrong());
        }
        Ok(Self { host: if below { HostPattern::Below(format!(".{host}")) } else { HostPattern::Exactly(host) }, port })
    }
}

impl HostPattern {
    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exactly(only) => host == only,
            Self::Below(domain) => host.len() > domain.len() && host.ends_with(domain.as_str()),
        }
    }
}

/// Host in lower case without the root's dot, and the port if one is written. None where this is no authority, or one with
/// a user in it: `good.example@evil.example` must not pass for its first half.
fn split(authority: &str) -> Option<(String, Option<u16>)> {
    if authority.contains('@') {
        return None;
    }
    let (host, port) = match authority.rsplit_once(':') {
        // An IPv6 address ends in its bracket; a colon before that belongs to the address.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let port = match port {
        None | Some("") => None,
        Some(digits) => Some(digits.parse().ok()?),
    };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    (!host.is_empty() && (bracketed || !host.contains(':'))).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(patterns: &str, authority: &str, permitted: bool) {
        let allowed: AllowedServers = patterns.parse().expect("patterns");
        assert_eq!(allowed.permits(authority), permitted, "{patterns:?} and {authority:?}");
    }

    #[test]
    fn without_patterns_every_server_is_allowed() {
        check("", "anything.example:8200", true);
        check(" , ", "10.0.0.1", true);
    }

    #[test]
    fn a_host_is_allowed_on_every_port_unless_the_pattern_names_one() {
        check("vault.example", "vault.example", true);
        check("vault.example", "vault.example:8200", true);
        check("vault.example:8200", "vault.example:8200", true);
        check("vault.example:8200", "vault.example:8201", false);
        check("vault.example:8200", "vault.example", false);
        check("other.example, vault.example", "vault.example:1", true);
        check("[fd00::1]:8200", "[FD00::1]:8200", true);
        check("[fd00::1]", "[fd00::2]:8200", false);
    }

    #[test]
    fn names_are_compared_without_case_and_without_the_roots_dot() {
        check("Vault.Example", "vAULT.eXAMPLE.:8200", true);
        check("vault.example.", "vault.example", true);
    }

    #[test]
    fn a_star_means_every_host_below_and_not_the_domain_itself() {
        check("*.example.com", "vault.example.com:8200", true);
        check("*.example.com", "a.b.example.com", true);
        check("*.example.com:8200", "a.example.com:443", false);
        check("*.example.com", "example.com", false);
        check("*.example.com", "badexample.com", false);
        check("*.example.com", ".example.com", false);
        check("*.example.com", "vault.example.com.evil.example", false);
    }

    #[test]
    fn a_user_in_the_authority_is_never_taken_for_the_host() {
        check("vault.example", "vault.example@evil.example", false);
        check("evil.example", "vault.example@evil.example", false);
        check("vault.example", "vault.example:x@evil.example", false);
    }

    #[test]
    fn what_is_no_pattern_is_refused_in_words() {
        for wrong in ["https://vault.example", "*", "a*b", "v@x", "host:port", "host:99999", "a b", "::1", "*."] {
            let error = wrong.parse::<AllowedServers>().expect_err(wrong).to_string();
            assert!(error.starts_with(&format!("`{wrong}` is no host pattern")), "{error}");
        }
    }
}
