//! What a check saw, and what it means: is something wrong, which anchors are in force, whose key signs.

use jiff::Timestamp;

use super::signer::{Fact, Fault, Observation, SignError};
use super::trust::Anchors;
use super::words::Words;
use crate::x509::Certificate;

/// The meaning of one check.
#[derive(Debug, Clone)]
pub struct Diagnosis {
    /// The first thing that keeps this issuer from signing.
    pub trouble: Option<SignError>,
    /// The anchors in force, where they are known.
    pub anchors: Option<Anchors>,
    /// The CA that signs, where the mount shows it.
    pub signing: Option<Certificate>,
}

/// What is known about anchors before Vault is asked.
#[derive(Debug, Clone, Copy)]
pub struct Trust<'a> {
    /// `trust.anchors`, parsed; it decides where it is there.
    pub configured: Option<&'a Anchors>,
    /// The fingerprints that the issuer's status records.
    pub recorded: &'a [String],
}

/// Reads an observation in the order in which a person would mend things: login, path, roots.
pub fn diagnose(observation: &Observation, trust: Trust<'_>, mount: &str, now: Timestamp) -> Diagnosis {
    let shown = match &observation.mount {
        Fact::Yes(certificates) => certificates.as_slice(),
        Fact::No(_) | Fact::Unknown => &[],
    };
    let anchors = anchors(shown, &observation.mount, trust, mount, now);
    let wrong = [&observation.login, &observation.signing].into_iter().find_map(|fact| match fact {
        Fact::No(error) => Some(error.clone()),
        Fact::Yes(()) | Fact::Unknown => None,
    });
    let (anchors, unrooted) = match anchors {
        Ok(anchors) => (Some(anchors), None),
        Err(error) => (None, Some(error)),
    };
    Diagnosis { trouble: wrong.or(unrooted), anchors, signing: shown.first().cloned() }
}

/// The anchors in force: the configured ones, else what the mount shows.
fn anchors(
    shown: &[Certificate],
    mount_fact: &Fact<Vec<Certificate>>,
    trust: Trust<'_>,
    mount: &str,
    now: Timestamp,
) -> Result<Anchors, SignError> {
    if let Some(configured) = trust.configured {
        return Ok(configured.clone());
    }
    match mount_fact {
        Fact::Yes(_) => {}
        Fact::No(error) => return Err(error.clone()),
        Fact::Unknown => return Err(Fault::MountClosed { mount: mount.to_owned() }.into()),
    }
    if let Some(fault) = shown.first().and_then(|issuing| unsupported(issuing, mount)) {
        return Err(fault.into());
    }
    let discovered = Anchors::discovered(mount, shown, now)?;
    // A root that changes by itself splits a mesh: those who still hold the old one refuse the new certificates.
    let found = |recorded: &String| discovered.certificates().iter().any(|anchor| anchor.sha256() == recorded);
    if trust.recorded.is_empty() || trust.recorded.iter().any(found) {
        return Ok(discovered);
    }
    let now_shown: Vec<_> = discovered.certificates().iter().map(Certificate::sha256).collect();
    Err(Fault::AnchorsChanged {
        mount: mount.to_owned(),
        recorded: trust.recorded.join(", "),
        shown: now_shown.join(", "),
    }
    .into())
}

/// A CA of which no certificate could ever be published: said before the first request meets it. Not asked where anchors are
/// configured, because there the role may sign with another issuer than the one that the mount shows.
fn unsupported(issuing: &Certificate, mount: &str) -> Option<Fault> {
    let algorithm = issuing.unsupported_key()?;
    let problem = format!("{} signs with {algorithm}, which this controller cannot check", issuing.subject());
    let hint = "Give this mount an issuer with a key of RSA (2048 to 8192 bits, PKCS#1 v1.5), ECDSA P-256 or P-384, or Ed25519";
    Some(Fault::Mount { path: mount.to_owned(), words: Words::new(&problem, &[]), hint: hint.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x509::testing::{P521_ROOT, PSS_ROOT, now, parse_one};

    #[track_caller]
    fn refuses(shown: Certificate, words: &str) {
        let observation = Observation { login: Fact::Yes(()), signing: Fact::Yes(()), mount: Fact::Yes(vec![shown]) };
        let diagnosis = diagnose(&observation, Trust { configured: None, recorded: &[] }, "pki", now());
        assert_eq!(diagnosis.trouble.map(|trouble| trouble.to_string()).as_deref(), Some(words));
    }

    #[test]
    fn a_ca_whose_signatures_cannot_be_checked_is_refused_before_it_signs() {
        refuses(
            parse_one(P521_ROOT),
            "Vault cannot sign at pki: CN=P-521 Root signs with ECDSA by a P-521 key, which this controller cannot check. Give \
             this mount an issuer with a key of RSA (2048 to 8192 bits, PKCS#1 v1.5), ECDSA P-256 or P-384, or Ed25519",
        );
        refuses(
            parse_one(PSS_ROOT),
            "Vault cannot sign at pki: CN=PSS Root is signed with RSA-PSS, which this controller cannot check. Renew or replace \
             the CA of this mount, or name in spec.trust.anchors the root that your mesh trusts",
        );
    }
}
