//! From a failed call to the words a person can act on: which class of trouble, and which field of the spec decides about it. Of
//! what the other side sent, only the TLS library's own description is shown.

use std::error::Error;
use std::io;
use std::time::Duration;

use http::HeaderMap;
use http::header::RETRY_AFTER;
use jiff::Timestamp;
use rustls::{AlertDescription, CertificateError, InvalidMessage};

use crate::issuance::signer::Outage;
use crate::issuance::words::Words;

/// Whom we call, as far as messages need it.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Host and port.
    pub authority: String,
    /// Whether we speak TLS to it.
    pub https: bool,
    /// The field that gave the CA bundle; none: the public roots.
    pub ca_field: Option<String>,
    /// The field that gave our own certificate.
    pub own_field: Option<String>,
}

impl Peer {
    /// What a failed call says about the way to Vault.
    pub fn outage(&self, error: &reqwest::Error) -> Outage {
        let server = self.authority.clone();
        if let Some(tls) = find::<rustls::Error>(error) {
            return Outage::Tls { server, words: Words::new(&tls.to_string(), &[]), hint: self.tls_hint(tls) };
        }
        let kind = find::<io::Error>(error).map(io::Error::kind);
        if !error.is_connect() {
            let class = if error.is_timeout() { "timeout" } else { "connection cut" };
            return Outage::Interrupted { server, class };
        }
        if error.is_timeout() {
            return Outage::Unreachable { server, class: "timeout" };
        }
        if says(error, "dns error") {
            return Outage::Unreachable { server, class: "name not found" };
        }
        if says(error, "tunnel") || says(error, "proxy") {
            return Outage::Unreachable { server, class: "the proxy of HTTPS_PROXY refused" };
        }
        match kind {
            Some(io::ErrorKind::ConnectionRefused) => Outage::Unreachable { server, class: "refused" },
            Some(io::ErrorKind::TimedOut) => Outage::Unreachable { server, class: "timeout" },
            Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => {
                Outage::Unreachable { server, class: "no route" }
            }
            Some(io::ErrorKind::UnexpectedEof) if self.https => Outage::Tls {
                server,
                words: Words::new("the connection was closed during the handshake", &[]),
                hint: NO_TLS_HINT.to_owned(),
            },
            _ => Outage::Unreachable { server, class: "reset" },
        }
    }

    /// Whether an answer says nothing but to come again later: 429 in any form (Vault's, a proxy's), and 503 with a time to wait.
    pub fn throttled(&self, status: u16, headers: &HeaderMap, now: Timestamp) -> Option<Outage> {
        let asked = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = asked.and_then(|value| retry_after(value, now)).map(|asked| asked.min(LONGEST_ASKED));
        let throttles = status == 429 || status == 503 && retry_after.is_some();
        throttles.then(|| Outage::Throttled { server: self.authority.clone(), status, retry_after })
    }

    /// What an answer that is not Vault's form could come from. Its text is looked at, never shown.
    pub fn not_vault(&self, status: u16, body: &[u8]) -> Outage {
        let text = String::from_utf8_lossy(body.get(..4_096).unwrap_or(body)).to_ascii_lowercase();
        let hint = if !self.https && status == 400 && text.contains("https") {
            "It expects TLS: spec.vault.server must begin with https://"
        } else if (300..400).contains(&status) {
            "It redirects, as a standby that does not forward does, and redirects are not followed: name the final server, or Vault's \
             active node, in spec.vault.server"
        } else if status == 404 {
            "Is spec.vault.server a Vault, and is its base path right?"
        } else {
            "Is spec.vault.server a Vault, or does a proxy or load balancer in front of it answer?"
        };
        Outage::NotVault { server: self.authority.clone(), status, hint: hint.to_owned() }
    }

    fn tls_hint(&self, error: &rustls::Error) -> String {
        use rustls::Error as E;
        match error {
            E::InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }) => {
                "Set spec.vault.serverName to a name in Vault's certificate, or correct the host in spec.vault.server".to_owned()
            }
            E::InvalidCertificate(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
            ) => "Renew Vault's own certificate; or one of the two clocks is wrong".to_owned(),
            E::InvalidCertificate(_) => match &self.ca_field {
                Some(field) => format!("{field} must hold the CA that signed Vault's certificate; only that bundle is trusted"),
                None => "The spec names no CA bundle, so only this container's public roots are trusted: put the CA of Vault's \
                         certificate into spec.vault.caBundle, caBundleSecretRef or caBundleConfigMapRef"
                    .to_owned(),
            },
            E::InvalidMessage(InvalidMessage::InvalidContentType) => NO_TLS_HINT.to_owned(),
            E::AlertReceived(
                AlertDescription::CertificateRequired
                | AlertDescription::BadCertificate
                | AlertDescription::UnknownCA
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateExpired
                | AlertDescription::AccessDenied,
            ) => match &self.own_field {
                Some(field) => format!("Vault refuses our client certificate: see {field}"),
                None => "Vault demands a client certificate: set spec.vault.clientCertSecretRef and clientKeySecretRef".to_owned(),
            },
            E::AlertReceived(AlertDescription::UnrecognisedName) => {
                "The server does not know this name: see spec.vault.serverName".to_owned()
            }
            _ => "Does spec.vault.server name Vault's TLS port?".to_owned(),
        }
    }
}

/// `Retry-After` as RFC 9110 §10.2.3 has it: seconds or a date.
fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

/// Nobody keeps us away for longer: as often a sick issuer is looked at.
const LONGEST_ASKED: Duration = Duration::from_secs(300);

const NO_TLS_HINT: &str =
    "Does the server speak plain http at this port? Then spec.vault.server must begin with http://";

/// The first error of type `T` in the chain. An `io::Error` shows what it wraps by another way than its source.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = wrapped.and_then(|wrapped| find::<T>(wrapped)) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// Whether an error of the chain says so: the HTTP library's own connect errors have no public type.
fn says(error: &(dyn Error + 'static), words: &str) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        // The outermost error names the URL, and a host may be called anything.
        if !error.is::<reqwest::Error>() && error.to_string().contains(words) {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[track_caller]
    fn asks(status: u16, value: Option<&'static str>, expected: Option<Option<u64>>) {
        let peer = Peer { authority: "vault:8200".to_owned(), https: true, ca_field: None, own_field: None };
        let header = value.map(|value| (RETRY_AFTER, HeaderValue::from_static(value)));
        let now = "2026-11-21T08:00:00Z".parse().expect("a time");
        let outage = peer.throttled(status, &header.into_iter().collect(), now);
        let expected = expected.map(|seconds| Outage::Throttled {
            server: "vault:8200".to_owned(),
            status,
            retry_after: seconds.map(Duration::from_secs),
        });
        assert_eq!(outage, expected, "{status} {value:?}");
    }

    #[test]
    fn how_long_we_are_asked_to_stay_away() {
        asks(429, None, Some(None));
        asks(429, Some("0"), Some(Some(0)));
        asks(429, Some(" 7 "), Some(Some(7)));
        asks(429, Some("Sat, 21 Nov 2026 08:00:42 GMT"), Some(Some(42)));
        asks(429, Some("Sat, 21 Nov 2026 07:00:00 GMT"), Some(Some(0)));
        asks(429, Some("99999"), Some(Some(300)));
        for odd in ["", "-1", "soon", "1.5", "99999999999999999999999"] {
            asks(429, Some(odd), Some(None));
            asks(503, Some(odd), None);
        }
        asks(503, None, None);
        asks(503, Some("30"), Some(Some(30)));
        asks(500, Some("30"), None);
        asks(200, Some("30"), None);
    }

    #[test]
    fn a_refused_handshake_names_the_field_that_gave_our_certificate() {
        let hint = |own_field: Option<&str>| {
            let authority = "vault:8200".to_owned();
            let peer = Peer { authority, https: true, ca_field: None, own_field: own_field.map(str::to_owned) };
            peer.tls_hint(&rustls::Error::AlertReceived(AlertDescription::CertificateRequired))
        };
        assert!(hint(None).contains("set spec.vault.clientCertSecretRef"), "{}", hint(None));
        let own = "spec.vault.auth.clientCertificate.secretName";
        assert!(hint(Some(own)).ends_with(own), "{}", hint(Some(own)));
    }
}
