//! What a check saw, and what it means: is something wrong, which anchors are in force, whose key signs.

use jiff::Timestamp;

use super::discovery::{self, Record};
use super::signer::{Fact, Fault, Observation, Shown, SignError};
use super::trust::Anchors;
use crate::x509::Certificate;

/// The meaning of one check.
#[derive(Debug, Clone)]
pub struct Diagnosis {
    /// The first thing that keeps this issuer from signing.
    pub trouble: Option<SignError>,
    /// The anchors in force, where they are known.
    pub anchors: Option<Anchors>,
    /// The CA that signs, where it is known.
    pub signing: Option<Certificate>,
    /// The trouble is about roots or algorithms, which no request that is let through could put right.
    pub hopeless: bool,
}

/// What is known before Vault is asked.
#[derive(Debug, Clone, Copy)]
pub struct Trust<'a> {
    /// `trust.anchors`, parsed; they decide where they are there.
    pub configured: Option<&'a Anchors>,
    /// The anchors in force so far.
    pub known: Option<&'a Anchors>,
    /// The CA that signed last, as this process saw it.
    pub signing: Option<&'a Certificate>,
    /// What has been handed out, and what a person has said about it.
    pub record: &'a Record,
}

/// Reads an observation in the order in which a person would mend things: login, path, algorithms, roots.
pub fn diagnose(observation: &Observation, trust: Trust<'_>, mount: &str, now: Timestamp) -> Diagnosis {
    let wrong = [&observation.login, &observation.signing].into_iter().find_map(|fact| match fact {
        Fact::No(error) => Some(error.clone()),
        Fact::Yes(()) | Fact::Unknown => None,
    });
    let (signing, unchecked) = match &observation.mount {
        Fact::Yes(shown) => {
            let signing = signing(shown, trust);
            let checked = signing.map(|signing| discovery::checkable(mount, signing, shown, trust.configured));
            (signing.cloned(), checked.and_then(Result::err))
        }
        Fact::No(_) | Fact::Unknown => (None, None),
    };
    let (anchors, unrooted) = match anchors(&observation.mount, trust, mount, now) {
        Ok(anchors) => (Some(anchors), None),
        Err(error) => (None, Some(error)),
    };
    let of_trust = unchecked.map(SignError::from).or(unrooted);
    Diagnosis { hopeless: of_trust.is_some(), trouble: wrong.or(of_trust), anchors, signing }
}

/// The anchors in force: the configured ones, else those of the mount.
fn anchors(mount_fact: &Fact<Shown>, trust: Trust<'_>, mount: &str, now: Timestamp) -> Result<Anchors, SignError> {
    if let Some(configured) = trust.configured {
        return Ok(configured.clone());
    }
    let unseen = Shown::default();
    let shown = match (mount_fact, trust.known) {
        (Fact::Yes(shown), _) => shown,
        (Fact::No(error), _) => return Err(error.clone()),
        // What cannot be seen is not gone.
        (Fact::Unknown, Some(_)) => &unseen,
        (Fact::Unknown, None) => return Err(Fault::MountClosed { mount: mount.to_owned() }.into()),
    };
    Ok(discovery::in_force(shown, trust.known, trust.record, mount, now)?)
}

/// The CA that signs: the one that the path names; else the one that signed last, as long as the mount has it; else the
/// mount's default.
fn signing<'a>(shown: &'a Shown, trust: Trust<'a>) -> Option<&'a Certificate> {
    let first = shown.certificates.first();
    if shown.named {
        return first;
    }
    let is_last = |one: &&Certificate| trust.record.signing.as_deref() == Some(one.sha256());
    let last = shown.certificates.iter().find(is_last);
    last.or_else(|| trust.signing.filter(|_| !shown.complete)).or(first)
}
