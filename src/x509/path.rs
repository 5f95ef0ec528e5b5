//! An unordered bag of certificates becomes one certification path and its trust anchor (RFC 5280 §6.1, RFC 4158).
//!
//! Vault's `ca_chain` is a graph, not a chain: cross-signs, reissued CAs and strangers are legal in it. A link is a signature;
//! names only say which signatures are worth checking. The search goes up one signature at a time and keeps, for every
//! certificate reached by that many steps, only the best way to it. That is why it is not the depth-first search one would
//! write first: a dozen CAs that all cross-sign each other have millions of paths, and this looks at no more than
//! certificates × certificates × depth of them. Going round a loop never makes a path better, so loops end by themselves.

#![expect(clippy::indexing_slicing, reason = "a place is an index into the pool, and only the pool gives places out")]

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;

use super::certificate::Certificate;
use super::signature::Verification;

/// The most different certificates that are looked at.
const MOST_CERTIFICATES: usize = 200;
/// The most signatures that are checked: at 0.1 ms each (RSA-4096) a twentieth of a second.
const MOST_CHECKS: usize = 500;
/// The most intermediates of a path; Vault's own chains have one or two.
const MOST_INTERMEDIATES: usize = 10;

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
        std::iter::once(&self.leaf).chain(&self.intermediates).map(Certificate::to_pem).collect()
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
    #[error(
        "{subject} was signed by {issuer}, which may not sign it: it is no CA certificate (CA:TRUE), its keyUsage lacks \
         keyCertSign, or its path length is too short"
    )]
    NotACa {
        /// The last certificate reached.
        subject: String,
        /// The certificate that signed it.
        issuer: String,
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
    #[error("more than {MOST_CHECKS} signatures would have to be checked: too many certificates share one name")]
    TooManyChecks,
}

/// The best path from `leaf` over CAs of `bag` to one of `anchors`: the one that lives longest, then the shortest, then the
/// one whose issuers live longest, then the first by SHA-256. The order of `bag` and `anchors` means nothing.
///
/// # Errors
/// Where the best way ended and what is missing there, or that the bag asks for too much work.
pub fn build(leaf: &Certificate, bag: &[Certificate], anchors: &[Certificate]) -> Result<CertificationPath, PathError> {
    let mut search = Search::new(leaf, bag, anchors)?;
    let mut reached = vec![Trail { steps: Vec::new(), life: Timestamp::MAX }];
    let mut found: Option<Trail> = None;
    for _ in 0..=MOST_INTERMEDIATES {
        let mut further: BTreeMap<usize, Trail> = BTreeMap::new();
        for trail in &reached {
            for issuer in search.issuers(trail)? {
                let longer = trail.followed_by(issuer, &search.pool[issuer].certificate);
                if search.pool[issuer].is_anchor {
                    found = Some(search.better(found, longer));
                } else {
                    let best = search.better(further.remove(&issuer), longer);
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
        Some(trail) => search.path(&trail),
        None => Err(search.dead_end(&reached)),
    }
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
}

/// The certificates by SHA-256, so that a place in the pool orders paths too, and what has been learned about them.
struct Search<'a> {
    leaf: &'a Certificate,
    pool: Vec<Candidate>,
    /// (signed, signer) → was it? The leaf has no place in the pool: `None`.
    signed: HashMap<(Option<usize>, usize), bool>,
    unsupported: Option<PathError>,
    not_a_ca: Option<PathError>,
}

impl<'a> Search<'a> {
    fn new(leaf: &'a Certificate, bag: &[Certificate], anchors: &[Certificate]) -> Result<Self, PathError> {
        let trusted: HashSet<&Certificate> = anchors.iter().collect();
        let different: BTreeMap<&str, &Certificate> =
            bag.iter().chain(anchors).filter(|one| *one != leaf).map(|one| (one.sha256(), one)).collect();
        if different.len() > MOST_CERTIFICATES {
            return Err(PathError::TooManyCertificates(different.len()));
        }
        let pool = different
            .into_values()
            .map(|one| Candidate { certificate: one.clone(), is_anchor: trusted.contains(one) })
            .collect();
        Ok(Self { leaf, pool, signed: HashMap::new(), unsupported: None, not_a_ca: None })
    }

    /// The certificates that signed the last one of `trail` and may have.
    fn issuers(&mut self, trail: &Trail) -> Result<Vec<usize>, PathError> {
        let mut issuers = Vec::new();
        for place in 0..self.pool.len() {
            if trail.steps.contains(&place) || !self.has_signed(trail.steps.last().copied(), place)? {
                continue;
            }
            if self.pool[place].certificate.may_sign(trail.steps.len()) {
                issuers.push(place);
            } else {
                let (subject, issuer) = (self.last(trail).subject(), self.pool[place].certificate.subject());
                self.not_a_ca = Some(PathError::NotACa { subject: subject.to_owned(), issuer: issuer.to_owned() });
            }
        }
        Ok(issuers)
    }

    fn has_signed(&mut self, child: Option<usize>, place: usize) -> Result<bool, PathError> {
        let certificate = child.map_or(self.leaf, |child| &self.pool[child].certificate);
        let issuer = &self.pool[place].certificate;
        if !certificate.names_as_issuer(issuer) {
            return Ok(false);
        }
        if let Some(known) = self.signed.get(&(child, place)) {
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
        self.signed.insert((child, place), signed);
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
        if let Some(known) = self.unsupported.as_ref().or(self.not_a_ca.as_ref()) {
            return known.clone();
        }
        let last = reached.first().map_or(self.leaf, |trail| self.last(trail));
        let subject = last.subject().to_owned();
        if last.is_self_signed() {
            PathError::OtherRoot { subject, sha256: last.sha256().to_owned() }
        } else {
            PathError::MissingIssuer { subject, issuer: last.issuer().to_owned() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x509::testing::{Authority, P521_LEAF, P521_ROOT, bundle, judge, parse_one};
    use proptest::prelude::*;

    /// Asserts that the path is `expected` (issuers upwards, the anchor last) and that others than we accept it.
    #[track_caller]
    fn leads(leaf: &Certificate, bag: &[&Certificate], anchors: &[&Certificate], expected: &[&Certificate]) {
        let path = build(leaf, &owned(bag), &owned(anchors)).expect("a path");
        assert_eq!(path.issuers().collect::<Vec<_>>(), expected);
        judge(&path.chain_pem(), &bundle(anchors));
    }

    #[track_caller]
    fn ends(leaf: &Certificate, bag: &[&Certificate], anchors: &[&Certificate], words: &str) {
        let error = build(leaf, &owned(bag), &owned(anchors)).expect_err("no path");
        assert_eq!(error.to_string(), words);
    }

    fn owned(certificates: &[&Certificate]) -> Vec<Certificate> {
        certificates.iter().map(|one| (*one).clone()).collect()
    }

    /// A root, two levels of CAs and a leaf.
    fn three_levels() -> [Certificate; 4] {
        let [root, upper, lower] = ["Root", "Upper", "Lower"].map(Authority::new);
        [lower.leaf("a.example", 2031), upper.signs(&lower, 2033), root.signs(&upper, 2035), root.root(2040)]
    }

    #[test]
    fn a_mount_that_signs_with_the_root_has_no_intermediates() {
        let root = Authority::new("Root");
        let (leaf, anchor) = (root.leaf("a.example", 2031), root.root(2040));
        leads(&leaf, &[&anchor], &[&anchor], &[&anchor]);
        leads(&leaf, &[], &[&anchor], &[&anchor]);
    }

    #[test]
    fn a_chain_is_followed_to_its_root() {
        let [leaf, lower, upper, root] = three_levels();
        leads(&leaf, &[&lower, &upper], &[&root], &[&lower, &upper, &root]);
        leads(&leaf, &[&root, &upper, &lower, &upper, &leaf, &root], &[&root, &root], &[&lower, &upper, &root]);
    }

    #[test]
    fn strangers_do_not_matter() {
        let [leaf, lower, upper, root] = three_levels();
        let strangers: Vec<_> = (0..100).map(|index| Authority::new(&format!("Stranger {index}")).root(2040)).collect();
        let bag: Vec<_> = strangers.iter().chain([&upper, &lower]).collect();
        leads(&leaf, &bag, &[&root], &[&lower, &upper, &root]);
    }

    #[test]
    fn a_namesake_with_another_key_signed_nothing() {
        let (root, namesake) = (Authority::new("Root"), Authority::new("Root"));
        let (leaf, anchor, other) = (root.leaf("a.example", 2031), root.root(2040), namesake.root(2041));
        leads(&leaf, &[&other], &[&anchor, &other], &[&anchor]);
        let sha256 = anchor.sha256();
        ends(
            &leaf,
            &[&anchor],
            &[&other],
            &format!("the chain ends at the self-signed CN=Root (sha256 {sha256}), which is not an anchor in force"),
        );
    }

    #[test]
    fn a_root_and_its_intermediate_may_share_a_name() {
        let (root, intermediate) = (Authority::new("CA"), Authority::new("CA"));
        let (leaf, middle, anchor) =
            (intermediate.leaf("a.example", 2031), root.signs(&intermediate, 2035), root.root(2040));
        leads(&leaf, &[&anchor, &middle], &[&anchor], &[&middle, &anchor]);
    }

    #[test]
    fn of_a_reissued_ca_the_one_that_lives_longer_is_presented() {
        let (root, ca) = (Authority::new("Root"), Authority::new("CA"));
        let (old, new, anchor) = (root.signs(&ca, 2032), root.signs(&ca, 2035), root.root(2040));
        leads(&ca.leaf("a.example", 2031), &[&old, &new], &[&anchor], &[&new, &anchor]);
        leads(&ca.leaf("a.example", 2034), &[&old, &new], &[&anchor], &[&new, &anchor]);
        let many: Vec<_> = (2032..2040).map(|year| root.signs(&ca, year)).collect();
        leads(&ca.leaf("a.example", 2031), &many.iter().collect::<Vec<_>>(), &[&anchor], &[&many[7], &anchor]);
        let (elder, younger) = (root.root(2036), root.root(2041));
        leads(&ca.leaf("a.example", 2031), &[&elder, &new], &[&younger], &[&new, &younger]);
    }

    #[test]
    fn among_equals_the_first_by_sha256_is_presented() {
        let (root, ca) = (Authority::new("Root"), Authority::new("CA"));
        let equals: Vec<_> = (0..8).map(|_| root.signs(&ca, 2035)).collect();
        let first = equals.iter().min_by_key(|one| one.sha256()).expect("one");
        let anchor = root.root(2040);
        leads(&ca.leaf("a.example", 2031), &equals.iter().collect::<Vec<_>>(), &[&anchor], &[first, &anchor]);
    }

    #[test]
    fn a_cross_signed_ca_leads_to_the_root_in_force() {
        let [old, new, ca] = ["Old Root", "New Root", "CA"].map(Authority::new);
        let leaf = ca.leaf("a.example", 2031);
        let (by_old, by_new) = (old.signs(&ca, 2033), new.signs(&ca, 2033));
        let (old_root, new_root) = (old.root(2034), new.root(2045));
        let (old_by_new, new_by_old) = (new.signs(&old, 2034), old.signs(&new, 2034));
        let bag = [&by_old, &by_new, &old_by_new, &new_by_old, &old_root, &new_root];
        leads(&leaf, &bag, &[&old_root], &[&by_old, &old_root]);
        leads(&leaf, &bag, &[&new_root], &[&by_new, &new_root]);
        leads(&leaf, &[&by_old, &old_by_new, &new_by_old], &[&new_root], &[&by_old, &old_by_new, &new_root]);
        leads(&leaf, &[&by_new, &old_by_new, &new_by_old], &[&old_root], &[&by_new, &new_by_old, &old_root]);
    }

    #[test]
    fn a_longer_path_is_taken_only_to_live_longer() {
        let [old, new, ca] = ["Old Root", "New Root", "CA"].map(Authority::new);
        let (middle, old_by_new) = (old.signs(&ca, 2038), new.signs(&old, 2037));
        let (old_root, new_root) = (old.root(2032), new.root(2045));
        let (bag, anchors) = ([&middle, &old_by_new], [&old_root, &new_root]);
        leads(&ca.leaf("a.example", 2031), &bag, &anchors, &[&middle, &old_root]);
        leads(&ca.leaf("a.example", 2036), &bag, &anchors, &[&middle, &old_by_new, &new_root]);
    }

    #[test]
    fn a_loop_of_cross_signatures_ends() {
        let [a, b, root] = ["A", "B", "Root"].map(Authority::new);
        let leaf = a.leaf("a.example", 2031);
        let (a_by_b, b_by_a, b_by_root, anchor) =
            (b.signs(&a, 2035), a.signs(&b, 2035), root.signs(&b, 2035), root.root(2040));
        leads(&leaf, &[&a_by_b, &b_by_a, &b_by_root], &[&anchor], &[&a_by_b, &b_by_root, &anchor]);
        ends(
            &leaf,
            &[&a_by_b, &b_by_a],
            &[&anchor],
            "the chain ends at CN=B, and the certificate that signed it, CN=A, is neither in the answer nor an anchor",
        );
    }

    /// Every one of `size` authorities signs itself and all the others.
    fn thicket(size: usize) -> (Vec<Authority>, Vec<Certificate>) {
        let authorities: Vec<_> = (0..size).map(|index| Authority::new(&format!("CA {index}"))).collect();
        let bag = authorities.iter().flat_map(|by| authorities.iter().map(|of| by.signs(of, 2035))).collect();
        (authorities, bag)
    }

    #[test]
    fn a_thicket_of_cross_signatures_is_searched_in_bounded_work() {
        let (authorities, bag) = thicket(7);
        let (leaf, root) = (authorities[0].leaf("a.example", 2031), authorities[6].root(2040));
        let path = build(&leaf, &bag, std::slice::from_ref(&root)).expect("a path");
        // The bag holds the certificates by signer: those of CA 6 start at 42.
        assert_eq!(path.issuers().collect::<Vec<_>>(), [&bag[42], &root]);
        let stranger = [Authority::new("Stranger").root(2040)];
        let error = build(&leaf, &bag, &stranger).expect_err("no path");
        assert!(matches!(error, PathError::OtherRoot { .. } | PathError::MissingIssuer { .. }), "{error}");
        let (authorities, bag) = thicket(12);
        assert_eq!(build(&authorities[0].leaf("a.example", 2031), &bag, &stranger), Err(PathError::TooManyChecks));
    }

    #[test]
    fn a_missing_link_is_named() {
        let [leaf, lower, upper, root] = three_levels();
        let missing = |subject: &str, issuer: &str| {
            format!(
                "the chain ends at {subject}, and the certificate that signed it, {issuer}, is neither in the answer nor an anchor"
            )
        };
        ends(&leaf, &[&upper], &[&root], &missing("CN=a.example", "CN=Lower"));
        ends(&leaf, &[&lower], &[&root], &missing("CN=Lower", "CN=Upper"));
        ends(&leaf, &[&lower, &upper], &[&Authority::new("Else").root(2040)], &missing("CN=Upper", "CN=Root"));
        ends(&leaf, &[&lower, &upper], &[], &missing("CN=Upper", "CN=Root"));
    }

    #[test]
    fn only_a_ca_may_sign() {
        let (root, not_a_ca) = (Authority::new("Root"), Authority::new("Server"));
        let (leaf, anchor) = (not_a_ca.leaf("a.example", 2031), root.root(2040));
        let server = root.signs_with(&not_a_ca, 2035, |parameters| parameters.is_ca = rcgen::IsCa::ExplicitNoCa);
        let words = "CN=a.example was signed by CN=Server, which may not sign it: it is no CA certificate (CA:TRUE), its \
                     keyUsage lacks keyCertSign, or its path length is too short";
        ends(&leaf, &[&server], &[&anchor], words);
        let crl_only = root
            .signs_with(&not_a_ca, 2035, |parameters| parameters.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign]);
        ends(&leaf, &[&crl_only], &[&anchor], words);
        let constrained = |most| {
            root.signs_with(&root, 2040, move |parameters| {
                parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(most));
            })
        };
        let (none, one, ca) = (constrained(0), constrained(1), root.signs(&not_a_ca, 2035));
        assert!(build(&leaf, &owned(&[&ca]), &owned(&[&none])).is_err(), "path length 0 allows no CA below");
        leads(&leaf, &[&ca], &[&one], &[&ca, &one]);
    }

    #[test]
    fn what_cannot_be_checked_is_said_to_be_so() {
        let (leaf, root) = (parse_one(P521_LEAF), parse_one(P521_ROOT));
        ends(
            &leaf,
            &[],
            &[&root],
            "CN=leaf is signed with ECDSA with SHA-512 by a P-521 key, which this controller cannot check",
        );
    }

    #[test]
    fn too_many_certificates_are_refused_before_any_work() {
        let authority = Authority::new("Root");
        let bag: Vec<_> = (0..201).map(|index| authority.root(2100 + index)).collect();
        assert_eq!(build(&authority.leaf("a", 2031), &bag, &[]), Err(PathError::TooManyCertificates(201)));
    }

    fn shuffled() -> impl Strategy<Value = Vec<usize>> {
        Just((0..10).collect::<Vec<_>>()).prop_shuffle()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_order_gives_the_same_bytes(order in shuffled()) {
            use std::sync::LazyLock;
            static SHAPE: LazyLock<(Certificate, Vec<Certificate>, Vec<Certificate>)> = LazyLock::new(|| {
                let [old, new, ca, twin] = ["Old Root", "New Root", "CA", "CA"].map(Authority::new);
                let bag = vec![
                    old.signs(&ca, 2033), new.signs(&ca, 2033), new.signs(&ca, 2033), old.signs(&twin, 2033),
                    new.signs(&old, 2034), old.signs(&new, 2034), old.root(2033), new.root(2033), old.root(2045), new.root(2045),
                ];
                let anchors = bag[6..].to_vec();
                (ca.leaf("a.example", 2031), bag, anchors)
            });
            let (leaf, bag, anchors) = &*SHAPE;
            let pick = |from: &[Certificate]| order.iter().filter_map(|index| from.get(*index).cloned()).collect::<Vec<_>>();
            let expected = build(leaf, bag, anchors).expect("a path");
            let path = build(leaf, &pick(bag), &pick(anchors)).expect("a path");
            prop_assert_eq!(path, expected);
        }
    }
}
