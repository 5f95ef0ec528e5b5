//! May this issuer sign this request, and with which parameters? Checked before Vault is asked.

use std::time::Duration;

use super::signer::{Refusal, SigningRequest};
use super::spiffe;
use crate::api::config::{Durations, GoDuration, SpiffePolicy, go_duration};
use crate::x509::Csr;

/// What a request asks for, as it stands on the wire: nothing here has been checked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CertificateDetails {
    /// `spec.request`, out of its base64; none if it is no base64.
    pub csr: Option<Vec<u8>>,
    /// `spec.duration`.
    pub duration: Option<String>,
    /// `spec.isCA`.
    pub is_ca: bool,
    /// `spec.usages`, in cert-manager's words.
    pub usages: Vec<String>,
    /// `spec.username`: who made the request, as cert-manager's webhook recorded it.
    pub requester: String,
    /// The request's namespace.
    pub namespace: String,
}

/// Turns what is asked into what Vault will be asked.
///
/// # Errors
/// Why this request can never be signed by this issuer.
pub fn plan(
    details: &CertificateDetails,
    durations: &Durations,
    names: Option<&SpiffePolicy>,
) -> Result<SigningRequest, Refusal> {
    let bytes = details.csr.as_deref().ok_or_else(|| Refusal::Csr("is not base64".to_owned()))?;
    if details.is_ca {
        return Err(Refusal::CertificateAuthority);
    }
    let csr = Csr::from_pem(bytes).map_err(|error| Refusal::Csr(error.to_string()))?;
    if csr.asks_ca() {
        return Err(Refusal::CertificateAuthorityInCsr);
    }
    names.map_or(Ok(()), |policy| spiffe::check(policy, details, &csr))?;
    Ok(SigningRequest { csr, ttl: lifetime(details.duration.as_deref(), durations)? })
}

/// The lifetime to ask for. Nothing and `0s` mean the issuer's default (istio-csr sends `0s`).
fn lifetime(asked: Option<&str>, durations: &Durations) -> Result<Duration, Refusal> {
    let Some(asked) = asked else {
        return Ok(durations.default);
    };
    let wrong = |problem: String| Err(Refusal::Duration(problem));
    let duration = match go_duration(asked) {
        None => return wrong(format!("{asked:?} is no duration; write for example 24h")),
        Some(GoDuration::Negative) => return wrong(format!("{asked} is negative")),
        Some(GoDuration::Zero) => return Ok(durations.default),
        Some(GoDuration::Positive(duration)) => duration,
    };
    // Vault counts in seconds, and takes its role's default (up to 30 days) for anything below one.
    if duration < Duration::from_secs(1) {
        return wrong(format!("{asked} is below one second, the shortest that Vault can give"));
    }
    match durations.max {
        Some(max) if duration > max => {
            wrong(format!("{asked} is longer than the issuer's spec.certificates.maxDuration of {}", shown(max)))
        }
        _ => Ok(duration),
    }
}

/// As a user writes it, for example `24h`.
fn shown(duration: Duration) -> String {
    jiff::SignedDuration::try_from(duration)
        .map_or_else(|_| format!("{duration:?}"), |duration| format!("{duration:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[track_caller]
    fn check(asked: Option<&str>, expected: Result<Duration, &str>) {
        let durations = Durations { default: HOUR * 2, max: Some(HOUR * 24) };
        match (lifetime(asked, &durations), expected) {
            (Ok(lifetime), Ok(expected)) => assert_eq!(lifetime, expected, "{asked:?}"),
            (Err(refusal), Err(part)) => assert!(refusal.to_string().contains(part), "{asked:?}: {refusal}"),
            (found, expected) => panic!("{asked:?}: found {found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn nothing_and_zero_mean_the_issuers_default() {
        check(None, Ok(HOUR * 2));
        check(Some("0s"), Ok(HOUR * 2));
    }

    #[test]
    fn a_duration_is_passed_on_to_the_second() {
        check(Some("1s"), Ok(Duration::from_secs(1)));
        check(Some("24h"), Ok(HOUR * 24));
    }

    #[test]
    fn a_duration_that_cannot_be_given_is_refused_in_words() {
        check(Some("-1h"), Err("negative"));
        check(Some("1 day"), Err("no duration"));
        check(Some("10ms"), Err("below one second"));
        check(Some("24h0m1s"), Err("maxDuration of 24h"));
    }

    #[test]
    fn a_ca_request_is_refused_before_its_csr_is_read() {
        let details = CertificateDetails { csr: Some(b"rubbish".to_vec()), is_ca: true, ..Default::default() };
        let durations = Durations { default: HOUR, max: None };
        assert_eq!(plan(&details, &durations, None).err(), Some(Refusal::CertificateAuthority));
    }

    #[test]
    fn a_csr_that_does_not_parse_is_refused() {
        let durations = Durations { default: HOUR, max: None };
        for csr in [None, Some(b"rubbish".to_vec())] {
            let details = CertificateDetails { csr, ..Default::default() };
            assert!(matches!(plan(&details, &durations, None), Err(Refusal::Csr(_))), "{details:?}");
        }
    }
}
