//! What a check saw, and what it means: is something wrong, which anchors are in force, whose key signs.

use jiff::Timestamp;

use super::signer::{Fact, Fault, Observation, SignError};
use super::trust::Anchors;
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
