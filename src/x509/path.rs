//! An unordered bag of certificates becomes one certification path and its trust anchor (RFC 5280 §6.1, RFC 4158).
//!
//! Vault's `ca_chain` is a graph, not a chain: cross-signs, reissued CAs and strangers are legal in it. A link is a signature;
//! names only say which signatures are worth checking. The search goes up one signature at a time and keeps, for every
//! certificate reached by that many steps, only the best way to it. That is why it is not the depth-first search one would
//! write first: a dozen CAs that all cross-sign each other have millions of paths, and this looks at no more than
//! certificates × certificates × depth of them. Going round a loop never makes a path better, so loops end by themselves.
//!
//! What verifiers ask of a CA besides its signature (RFC 5280 §6.1.4) is asked here too, and where they differ, what the
//! strictest of them asks: a path that Envoy, Go or rustls refuses is no use to a mesh. Only the hour is left to the caller.

#![expect(clippy::indexing_slicing, reason = "a place is an index into the pool, and only the pool gives places out")]

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;

use super::certificate::Certificate;
use super::signature::Verification;

/// The most different certificates among which a path is sought.
pub const MOST_CERTIFICATES: usize = 200;
/// The most signatures that are checked. An honest bag needs one for each certificate; the slowest kind, P-384, takes 1 to 2 ms,
/// so that the worst bag holds everything else up for half a second: one thread does the work.
const MOST_CHECKS: usize = 300;
/// The most intermediates of a path: as many as rustls follows. Vault's own chains have one or two.
const MOST_INTERMEDIATES: usize = 6;

/// A leaf, the CAs between, and the anchor it leads to; each was signed by the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificationPath {
    /// The certificate that the path is for.
    pub leaf: Certificate,
    /// From the one that signed the leaf upwards; empty where the anchor itself signed it.
    pub intermediates: Vec<Certificate>,
    /// The anchor.
    pub anchor: Certificate,
}

impl CertificationPath {
    /// What a server presents: the leaf, then each certificate that signed the one before, without the anchor.
    pub fn chain_pem(&self) -> String {
        std::iter::once(&self.leaf).chain(&self.intermediates).map(Certificate::pem).collect()
    }

    /// The certificates that vouch for the leaf, the anchor last.
    pub fn issuers(&self) -> impl Iterator<Item = &Certificate> {
        self.intermediates.iter().chain(std::iter::once(&self.anchor))
    }
}

/// Why no path was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The certificate that signed the last one is not there.
    #[error(
        "the chain ends at {subject}, and the certificate that signed it, {issuer}, is neither in the answer nor an anchor"
    )]
    MissingIssuer {
        /// The last certificate reached.
        subject: String,
        /// The issuer it names.
        issuer: String,
    },
    /// The chain is whole, and ends at a root that is not ours.
    #[error("the chain ends at the self-signed {subject} (sha256 {sha256}), which is not an anchor in force")]
    OtherRoot {
        /// The root.
        subject: String,
        /// Its fingerprint.
        sha256: String,
    },
    /// The only certificate that signed the last one must not sign.
    #[error("{subject} was signed by {issuer}, which may not sign it: {problem}")]
    MayNotSign {
        /// The last certificate reached.
        subject: String,
        /// The certificate that signed it.
        issuer: String,
        /// What every verifier would object to.
        problem: String,
        /// Whether that lies in the leaf's own names or usages, so that another leaf could be signed.
        of_leaf: bool,
    },
    /// There may be a path, and it cannot be checked.
    #[error("{subject} is signed with {algorithm}, which this controller cannot check")]
    Unsupported {
        /// The certificate whose signature it is.
        subject: String,
        /// The algorithm.
        algorithm: String,
    },
    /// More certificates than are looked at.
    #[error("{0} different certificates are more than the {MOST_CERTIFICATES} among which a path is sought")]
    TooManyCertificates(usize),
    /// More possible links than are checked.
    #[error("more than {MOST_CHECKS} signatures would have to be checked: too many keys share one name")]
    TooManyChecks,
}

/// The best path from `leaf` over CAs of `bag` to one of `anchors`: the one that lives longest, then the shortest, then the
/// one whose issuers live longest, then the first by SHA-256. The order of `bag` and `anchors` means nothing.
///
/// # Errors
/// Where the best way ended and what is missing there, or that the bag asks for too much work.
pub fn build(leaf: &Certificate, bag: &[Certificate], anchors: &[Certificate]) -> Result<CertificationPath, PathError> {
    Search::new(leaf, bag, anchors)?.best()
}

/// A way up from the leaf: places in the pool, and the end of the first issuer to end.
#[derive(Clone)]
struct Trail {
    steps: Vec<usize>,
    life: Timestamp,
}

impl Trail {
    fn followed_by(&self, place: usize, certificate: &Certificate) -> Self {
        let steps = self.steps.iter().copied().chain([place]).collect();
        Self { steps, life: self.life.min(certificate.not_after()) }
    }
}

struct Candidate {
    certificate: Certificate,
    is_anchor: bool,
    /// The first place with the same name and key. A signature is checked once for all certificates of a cross-signed CA, and
    /// no path needs two of them.
    holder: usize,
}

/// The certificates by SHA-256, so that a place in the pool orders paths too, and what has been learned about them.
struct Search<'a> {
    leaf: &'a Certificate,
    pool: Vec<Candidate>,
    /// (signed, holder of the key) → was it? The leaf has no place in the pool: `None`.
    signed: HashMap<(Option<usize>, usize), bool>,
    unsupported: Option<PathError>,
    may_not_sign: Option<PathError>,
}

impl<'a> Search<'a> {
    fn new(leaf: &'a Certificate, bag: &[Certificate], anchors: &[Certificate]) -> Result<Self, PathError> {
        let trusted: HashSet<&Certificate> = anchors.iter().collect();
        let different: BTreeMap<&str, &Certificate> =
            bag.iter().chain(anchors).filter(|one| *one != leaf).map(|one| (one.sha256(), one)).collect();
        if different.len() > MOST_CERTIFICATES {
            return Err(PathError::TooManyCertificates(different.len()));
        }
        let mut holders = HashMap::new();
        let pool = (0..)
            .zip(different.into_values())
            .map(|(place, one)| Candidate {
                certificate: one.clone(),
                is_anchor: trusted.contains(one),
                holder: *holders.entry(one.name_and_key()).or_insert(place),
            })
            .collect();
        Ok(Self { leaf, pool, signed: HashMap::new(), unsupported: None, may_not_sign: None })
    }

    /// The best of all paths. A round makes every trail longer by one certificate, and their length is limited.
    fn best(&mut self) -> Result<CertificationPath, PathError> {
        let mut reached = vec![Trail { steps: Vec::new(), life: Timestamp::MAX }];
        let mut found: Option<Trail> = None;
        loop {
            let mut further: BTreeMap<usize, Trail> = BTreeMap::new();
            for trail in &reached {
                for issuer in self.issuers(trail)? {
                    let longer = trail.followed_by(issuer, &self.pool[issuer].certificate);
                    if self.pool[issuer].is_anchor {
                        found = Some(self.better(found, longer));
                    } else {
                        let best = self.better(further.remove(&issuer), longer);
                        further.insert(issuer, best);
                    }
                }
            }
            if further.is_empty() {
                break;
            }
            reached = further.into_values().collect();
        }
        match found {
            Some(trail) => self.path(&trail),
            None => Err(self.dead_end(&reached)),
        }
    }

    /// The certificates that signed the last one of `trail` and may have.
    fn issuers(&mut self, trail: &Trail) -> Result<Vec<usize>, PathError> {
        let mut issuers = Vec::new();
        for place in 0..self.pool.len() {
            let holder = self.pool[place].holder;
            let goes_round = trail.steps.iter().any(|step| self.pool[*step].holder == holder);
            if goes_round || !self.has_signed(trail.steps.last().copied(), place)? {
                continue;
            }
            match self.objection(trail, place) {
                None => issuers.push(place),
                Some(problem) => {
                    let subject = self.last(trail).subject().to_owned();
                    let issuer = self.pool[place].certificate.subject().to_owned();
                    let of_leaf = self.pool[place].certificate.objection_to(self.leaf).as_ref() == Some(&problem);
                    self.may_not_sign = Some(PathError::MayNotSign { subject, issuer, problem, of_leaf });
                }
            }
        }
        Ok(issuers)
    }

    fn objection(&self, trail: &Trail, place: usize) -> Option<String> {
        let candidate = &self.pool[place];
        if !candidate.is_anchor && trail.steps.len() == MOST_INTERMEDIATES {
            return Some(format!("more than {MOST_INTERMEDIATES} CAs would stand between the leaf and an anchor"));
        }
        let below: Vec<_> =
            std::iter::once(self.leaf).chain(trail.steps.iter().map(|step| &self.pool[*step].certificate)).collect();
        candidate.certificate.objection(&below)
    }

    fn has_signed(&mut self, child: Option<usize>, place: usize) -> Result<bool, PathError> {
        let certificate = child.map_or(self.leaf, |child| &self.pool[child].certificate);
        let issuer = &self.pool[place].certificate;
        if !certificate.names_as_issuer(issuer) {
            return Ok(false);
        }
        let link = (child, self.pool[place].holder);
        if let Some(known) = self.signed.get(&link) {
            return Ok(*known);
        }
        if self.signed.len() == MOST_CHECKS {
            return Err(PathError::TooManyChecks);
        }
        let verification = certificate.verify_signature_by(issuer);
        if let Verification::Unsupported(algorithm) = &verification {
            let (subject, algorithm) = (certificate.subject().to_owned(), algorithm.clone());
            self.unsupported = Some(PathError::Unsupported { subject, algorithm });
        }
        let signed = verification == Verification::Valid;
        self.signed.insert(link, signed);
        Ok(signed)
    }

    fn better(&self, known: Option<Trail>, other: Trail) -> Trail {
        // The leaf counts for the path's life: no longer chain is presented only to outlive what it is presented for.
        let order = |trail: &Trail| {
            let life = trail.life.min(self.leaf.not_after());
            (Reverse(life), trail.steps.len(), Reverse(trail.life), trail.steps.clone())
        };
        match known {
            Some(known) if order(&known) <= order(&other) => known,
            Some(_) | None => other,
        }
    }

    fn path(&self, trail: &Trail) -> Result<CertificationPath, PathError> {
        let mut issuers: Vec<Certificate> =
            trail.steps.iter().map(|place| self.pool[*place].certificate.clone()).collect();
        let anchor = issuers.pop().ok_or_else(|| self.dead_end(&[]))?;
        Ok(CertificationPath { leaf: self.leaf.clone(), intermediates: issuers, anchor })
    }

    fn last(&self, trail: &Trail) -> &Certificate {
        trail.steps.last().map_or(self.leaf, |place| &self.pool[*place].certificate)
    }

    /// What to tell when nothing was found: what could be mended comes before what is merely absent.
    fn dead_end(&self, reached: &[Trail]) -> PathError {
        if let Some(known) = self.unsupported.as_ref().or(self.may_not_sign.as_ref()) {
            return known.clone();
        }
        let last = reached.first().map_or(self.leaf, |trail| self.last(trail));
        let subject = last.subject().to_owned();
        match last.verify_signature_by(last) {
            Verification::Valid if last.names_as_issuer(last) => {
                PathError::OtherRoot { subject, sha256: last.sha256().to_owned() }
            }
            Verification::Unsupported(algorithm) if last.names_as_issuer(last) => {
                PathError::Unsupported { subject, algorithm }
            }
            Verification::Valid | Verification::Invalid | Verification::Unsupported(_) => {
                PathError::MissingIssuer { subject, issuer: last.issuer().to_owned() }
            }
        }
    }
}

#[cfg(test)]
mod tests;
