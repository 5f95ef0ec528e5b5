//! May this issuer sign this request, and with which parameters? Checked before Vault is asked.

use std::time::Duration;

use super::authority;
use super::signer::{Refusal, SigningRequest};
use super::spiffe;
use super::usages::Usage;
use crate::api::config::{AllowCa, GoDuration, IssuerConfig, go_duration};
use crate::api::vault_path::SignVerb;
use crate::x509::{CERT_SIGN, Csr};

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
pub fn plan(details: &CertificateDetails, config: &IssuerConfig) -> Result<SigningRequest, Refusal> {
    let bytes = details.csr.as_deref().ok_or_else(|| Refusal::Csr("is not base64".to_owned()))?;
    let limits = if details.is_ca { Some(limits(config).ok_or(Refusal::CertificateAuthority)?) } else { None };
    let csr = Csr::from_pem(bytes).map_err(|error| Refusal::Csr(error.to_string()))?;
    let usages = details.usages.iter().map(|name| Usage::from_name(name).ok_or_else(|| Refusal::Usage(name.clone())));
    let usages = usages.collect::<Result<Vec<_>, _>>()?;
    let (path, ca) = match limits {
        Some(limits) => (config.vault.path.for_ca(), Some(authority::path_length(&csr, &usages, limits)?)),
        None => {
            check_leaf(&csr, &usages, config)?;
            (config.vault.path.clone(), None)
        }
    };
    config.spiffe.as_ref().map_or(Ok(()), |policy| spiffe::check(policy, details, &csr))?;
    let durations = config.certificates.durations;
    let max = match limits {
        Some(limits) => Longest {
            field: "spec.certificates.allowCA.maxDuration (maxDuration where that is absent)",
            limit: limits.max_duration,
        },
        None => Longest { field: "spec.certificates.maxDuration", limit: durations.max },
    };
    let ttl = lifetime(details.duration.as_deref(), durations.default, &max)?;
    Ok(SigningRequest { csr, ttl, path, ca, usages, on_missing: config.certificates.usages })
}

/// Which CA certificates this issuer gives. A path that makes nothing else says by itself that it does.
fn limits(config: &IssuerConfig) -> Option<AllowCa> {
    let unstated = AllowCa { max_path_length: 0, max_duration: config.certificates.durations.max };
    let only_authorities = *config.vault.path.verb() == SignVerb::SignIntermediate;
    config.certificates.allow_ca.or_else(|| only_authorities.then_some(unstated))
}

/// What would not come out as an end-entity certificate.
fn check_leaf(csr: &Csr, usages: &[&'static Usage], config: &IssuerConfig) -> Result<(), Refusal> {
    if csr.asks_ca() {
        return Err(Refusal::CertificateAuthorityInCsr);
    }
    match config.vault.path.verb() {
        // Here the role decides, whatever the CSR says.
        SignVerb::Sign(_) | SignVerb::CelSign(_) => Ok(()),
        SignVerb::SignIntermediate => Err(Refusal::AuthoritiesOnly { path: config.vault.path.to_string() }),
        SignVerb::SignVerbatim(_) if csr.usages().key.is_some_and(|bits| bits & CERT_SIGN != 0) => {
            Err(Refusal::CertSign { field: "spec.request" })
        }
        SignVerb::SignVerbatim(_) if usages.iter().any(|usage| usage.name == "cert sign") => {
            Err(Refusal::CertSign { field: "spec.usages" })
        }
        // It would come out as asked for, and then name a CA that did not sign.
        SignVerb::SignVerbatim(_) if csr.extensions().contains(AUTHORITY_KEY_IDENTIFIER) => {
            Err(Refusal::Csr("asks for an authorityKeyIdentifier, which only the CA that signs can know".to_owned()))
        }
        SignVerb::SignVerbatim(_) => Ok(()),
    }
}

const AUTHORITY_KEY_IDENTIFIER: &str = "2.5.29.35";

/// The longest lifetime that is passed on, and the field that says so.
struct Longest {
    field: &'static str,
    limit: Option<Duration>,
}

/// The lifetime to ask for. Nothing and `0s` mean the issuer's default (istio-csr sends `0s`).
fn lifetime(asked: Option<&str>, default: Duration, max: &Longest) -> Result<Duration, Refusal> {
    let default = max.limit.map_or(default, |limit| default.min(limit));
    let Some(asked) = asked else {
        return Ok(default);
    };
    let wrong = |problem: String| Err(Refusal::Duration(problem));
    let duration = match go_duration(asked) {
        None => return wrong(format!("{asked:?} is no duration; write for example 24h")),
        Some(GoDuration::Negative) => return wrong(format!("{asked} is negative")),
        Some(GoDuration::Zero) => return Ok(default),
        Some(GoDuration::Positive(duration)) => duration,
    };
    // Vault counts in seconds, and takes its role's default (up to 30 days) for anything below one.
    if duration < Duration::from_secs(1) {
        return wrong(format!("{asked} is below one second, the shortest that Vault can give"));
    }
    match max.limit {
        Some(limit) if duration > limit => {
            wrong(format!("{asked} is longer than the issuer's {} of {}", max.field, shown(limit)))
        }
        _ => Ok(duration),
    }
}

/// As a user writes it, for example `24h` or `1h30m`.
pub(super) fn shown(duration: Duration) -> String {
    jiff::SignedDuration::try_from(duration)
        .map_or_else(|_| format!("{duration:?}"), |duration| format!("{duration:#}").replace(' ', ""))
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};
    use serde_json::{Value, json};

    use super::*;
    use crate::x509::testing::csr_with;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn config(path: &str, certificates: &Value) -> IssuerConfig {
        let auth = json!({"tokenSecretRef": {"name": "t"}});
        let vault = json!({"server": "https://vault", "path": path, "auth": auth});
        let spec = serde_json::from_value(json!({"vault": vault, "certificates": certificates}));
        IssuerConfig::parse(&spec.expect("the test's spec has the wire type's shape")).expect("the spec is usable")
    }

    #[track_caller]
    fn check(asked: Option<&str>, expected: Result<Duration, &str>) {
        let max = Longest { field: "spec.certificates.maxDuration", limit: Some(HOUR * 24) };
        match (lifetime(asked, HOUR * 2, &max), expected) {
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
        check(Some("24h0m1s"), Err("spec.certificates.maxDuration of 24h"));
    }

    #[test]
    fn a_csr_that_does_not_parse_is_refused() {
        let config = config("pki/sign/web", &json!({}));
        for csr in [None, Some(b"rubbish".to_vec())] {
            let details = CertificateDetails { csr, ..Default::default() };
            assert!(matches!(plan(&details, &config), Err(Refusal::Csr(_))), "{details:?}");
        }
    }

    /// What becomes of a request at an issuer.
    fn planned(
        (path, certificates): (&str, Value),
        is_ca: bool,
        usages: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Result<SigningRequest, Refusal> {
        let usages = usages.iter().map(ToString::to_string).collect();
        let csr = Some(csr_with(&["spiffe://example.org"], change));
        plan(&CertificateDetails { csr, is_ca, usages, ..Default::default() }, &config(path, &certificates))
    }

    #[track_caller]
    fn refused(planned: Result<SigningRequest, Refusal>, words: &str) {
        let refusal = planned.expect_err("a refusal").to_string();
        assert!(refusal.contains(words), "{refusal}\nexpected: {words}");
    }

    fn authority(length: Option<u8>) -> impl FnOnce(&mut CertificateParams) {
        let constraints = length.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained);
        move |csr| csr.is_ca = IsCa::Ca(constraints)
    }

    const LEAVES: &str = "pki/sign/web";

    fn allowing(most: u8) -> (&'static str, Value) {
        (LEAVES, json!({"allowCA": {"maxPathLength": most, "maxDuration": "48h"}}))
    }

    #[test]
    fn a_ca_request_is_refused_where_it_is_not_allowed() {
        let details = CertificateDetails { csr: Some(b"rubbish".to_vec()), is_ca: true, ..Default::default() };
        for path in [LEAVES, "pki/sign-verbatim", "pki/cel/sign/web"] {
            assert_eq!(plan(&details, &config(path, &json!({}))).err(), Some(Refusal::CertificateAuthority));
        }
    }

    #[test]
    fn a_ca_request_goes_to_the_path_that_makes_them_with_a_path_length() {
        let made = |issuer, change: Box<dyn FnOnce(&mut CertificateParams)>| {
            let request = planned(issuer, true, &["cert sign", "crl sign"], change).expect("a plan");
            (request.path.to_string(), request.ca, request.ttl)
        };
        let path = || "pki/root/sign-intermediate".to_owned();
        assert_eq!(made(allowing(0), Box::new(|_| ())), (path(), Some(0), HOUR * 48));
        assert_eq!(made(allowing(3), Box::new(|_| ())), (path(), Some(3), HOUR * 48));
        assert_eq!(made(allowing(3), Box::new(authority(None))), (path(), Some(3), HOUR * 48));
        assert_eq!(made(allowing(3), Box::new(authority(Some(1)))), (path(), Some(1), HOUR * 48));
        let unlimited = || ("pki/issuer/blue/sign-verbatim/web", json!({"allowCA": {}}));
        let path = || "pki/issuer/blue/sign-intermediate".to_owned();
        assert_eq!(made(unlimited(), Box::new(|_| ())), (path(), Some(0), HOUR * 2_160));
        let by_path = ("pki/issuer/blue/sign-intermediate", json!({"maxDuration": "24h"}));
        assert_eq!(made(by_path, Box::new(|_| ())), (path(), Some(0), HOUR * 24));
    }

    #[test]
    fn a_ca_request_that_asks_for_more_is_refused_in_words() {
        let ask = |usages: &[&str], change: fn(&mut CertificateParams)| planned(allowing(0), true, usages, change);
        refused(
            planned(allowing(0), true, &[], authority(Some(1))),
            "a path length of 1, and this issuer permits 0 (spec.certificates.allowCA.maxPathLength)",
        );
        refused(ask(&["cert sign", "server auth"], |_| ()), "spec.usages asks for the usages server auth, and CA");
        refused(ask(&["data encipherment"], |_| ()), "spec.usages asks for the usages data encipherment, and CA");
        refused(ask(&["sing"], |_| ()), "spec.usages: \"sing\" is no usage that cert-manager knows");
        refused(
            ask(&[], |csr| csr.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
            "spec.request asks for the usages client auth, and CA",
        );
        refused(
            ask(&[], |csr| csr.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::KeyAgreement]),
            "spec.request asks for the usages key agreement, and CA",
        );
        refused(
            ask(&[], |csr| csr.key_usages = vec![KeyUsagePurpose::CrlSign]),
            "a keyUsage without keyCertSign, and such a CA could sign nothing",
        );
        refused(
            ask(&[], |csr| csr.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0])]),
            "spec.request asks for the extensions 1.2.3, and CA certificates get no others",
        );
        let long = CertificateDetails {
            csr: Some(csr_with(&[], |_| ())),
            is_ca: true,
            duration: Some("49h".to_owned()),
            ..Default::default()
        };
        let (path, certificates) = allowing(0);
        refused(plan(&long, &config(path, &certificates)), "spec.certificates.allowCA.maxDuration");
    }

    #[test]
    fn what_cert_manager_asks_for_without_usages_is_a_ca() {
        let cert_managers_own = |csr: &mut CertificateParams| {
            let (sign, both) = (KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature);
            csr.key_usages = vec![sign, both, KeyUsagePurpose::KeyEncipherment];
        };
        assert_eq!(planned(allowing(0), true, &[], cert_managers_own).expect("a plan").ca, Some(0));
    }

    #[test]
    fn a_leaf_stays_a_leaf() {
        let by_path = |path| (path, json!({"allowCA": {}}));
        for path in [LEAVES, "pki/sign-verbatim/web", "pki/cel/sign/web"] {
            let leaf = planned(by_path(path), false, &["server auth"], |_| ()).expect("a plan");
            assert_eq!((leaf.path.to_string().as_str(), leaf.ca), (path, None));
            refused(planned(by_path(path), false, &[], authority(None)), "CA:TRUE");
        }
        for path in ["pki/root/sign-intermediate", "pki/issuer/blue/sign-intermediate"] {
            refused(planned(by_path(path), false, &[], |_| ()), &format!("{path} makes CA certificates only"));
        }
        let may_sign = |csr: &mut CertificateParams| csr.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let verbatim = "pki/sign-verbatim";
        refused(planned(by_path(verbatim), false, &[], may_sign), "spec.request asks for the usage cert sign");
        refused(planned(by_path(verbatim), false, &["cert sign"], |_| ()), "spec.usages asks for the usage cert sign");
        assert!(planned(by_path(LEAVES), false, &["cert sign"], may_sign).is_ok(), "the role decides");
        let names_a_signer = |csr: &mut CertificateParams| {
            let invented = CustomExtension::from_oid_content(&[2, 5, 29, 35], vec![0x30, 3, 0x80, 1, 7]);
            csr.custom_extensions = vec![invented];
        };
        refused(planned(by_path(verbatim), false, &[], names_a_signer), "asks for an authorityKeyIdentifier");
        assert!(planned(by_path(LEAVES), false, &[], names_a_signer).is_ok(), "the role decides");
    }
}
