//! Which roots of a mount are in force where nobody configured any: those on record. A root that changes by itself splits a
//! mesh, because whoever still holds the old one refuses the new certificates; so following the mount takes a person's word.

use jiff::Timestamp;

use super::signer::{Fault, Obstacle, Shown};
use super::trust::Anchors;
use super::words::Words;
use crate::api::status::{CertificateStatus, IssuerStatus};
use crate::x509::Certificate;
use crate::x509::path::{self, PathError};

/// The most fingerprints of an annotation that are read.
const MOST_ACCEPTED: usize = 16;

/// What has been handed out, and what a person has said about it. It outlives the process in the issuer's status.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// The fingerprints of the anchors that were in force last.
    pub anchors: Vec<String>,
    /// No certificate has been issued under them: the first answer may correct them.
    pub provisional: bool,
    /// The root at which an answer ended that is not in force.
    pub elsewhere: Option<CertificateStatus>,
    /// The fingerprint of the CA that signed last.
    pub signing: Option<String>,
    /// The fingerprints that the issuer's annotation accepts.
    pub accepted: Vec<String>,
}

impl Record {
    /// Reads what an issuer's status and its annotation say. A spec that was edited since is a new word about where to sign:
    /// whether its answers end elsewhere too is to be seen.
    pub fn of(status: Option<&IssuerStatus>, generation: Option<i64>, annotation: Option<&str>) -> Self {
        let accepted = accepted(annotation);
        let Some(status) = status else { return Self { accepted, ..Self::default() } };
        let edited = status.conditions.iter().any(|condition| condition.observed_generation != generation);
        Self {
            anchors: status.trust_anchors.iter().flatten().map(|anchor| anchor.sha256.clone()).collect(),
            provisional: status.trust_anchors_provisional == Some(true),
            elsewhere: status.refused_root.clone().filter(|_| !edited),
            signing: status.signing_certificate.as_ref().map(|certificate| certificate.sha256.clone()),
            accepted,
        }
    }

    /// Hears what the annotation says now. Who names what was handed out all along has put the mount back.
    pub fn accept(&mut self, accepted: Vec<String>) {
        if self.anchors.iter().all(|anchor| accepted.contains(anchor)) {
            self.elsewhere = None;
        }
        self.accepted = accepted;
    }

    /// Puts on record which anchors are in force.
    pub fn settle(&mut self, anchors: &Anchors) {
        self.provisional = (self.provisional || self.anchors.is_empty()) && self.elsewhere.is_none();
        self.elsewhere = None;
        self.anchors = anchors.fingerprints().map(str::to_owned).collect();
    }
}

/// The fingerprints in an annotation, however they were copied: in capitals, with colons, with spaces.
pub fn accepted(annotation: Option<&str>) -> Vec<String> {
    let plain = |written: &str| -> String {
        let characters = written.chars().filter(|character| *character != ':' && !character.is_whitespace());
        characters.flat_map(char::to_lowercase).take(100).collect()
    };
    let written = annotation.unwrap_or_default().split(',').map(plain).filter(|written| !written.is_empty());
    let mut accepted: Vec<_> = written.take(MOST_ACCEPTED).collect();
    accepted.sort();
    accepted.dedup();
    accepted
}

/// The anchors in force: those on record, as long as the mount shows them and the answers end there. `known` are those that
/// were in force before this look at the mount.
///
/// # Errors
/// No root is known, or another one than what is on record.
pub fn in_force(
    shown: &Shown,
    known: Option<&Anchors>,
    record: &Record,
    mount: &str,
    now: Timestamp,
) -> Result<Anchors, Fault> {
    let roots = roots(shown, known, now);
    let pick = |wanted: &[String]| -> Option<Anchors> {
        let picked: Vec<_> = roots.iter().filter(|root| wanted.iter().any(|it| it == root.sha256())).cloned().collect();
        Anchors::discovered(picked).filter(|anchors| anchors.certificates().len() == wanted.len())
    };
    // One that is past its end need not be shown any more: those that live decide.
    let is_over = |it: &String| shown.certificates.iter().any(|one| one.sha256() == it && one.not_after() < now);
    let living: Vec<_> = record.anchors.iter().filter(|it| !is_over(it)).cloned().collect();
    let recorded = pick(&living);
    let elsewhere = if shown.named {
        match recorded.as_ref().is_some_and(|anchors| leads(shown, anchors)) {
            true => None,
            false => Some((&end(mount, shown, now)?).into()),
        }
    } else {
        let stands = |root: &CertificateStatus| !shown.complete || roots.iter().any(|it| it.sha256() == root.sha256);
        record.elsewhere.clone().filter(stands)
    };
    let root: CertificateStatus = match (recorded, elsewhere) {
        (Some(anchors), None) => return Ok(anchors),
        (Some(_) | None, Some(elsewhere)) => elsewhere,
        (None, None) => (&end(mount, shown, now)?).into(),
    };
    let nothing_issued = record.anchors.is_empty() || record.provisional;
    let followed = pick(&record.accepted).filter(|anchors| anchors.fingerprints().any(|it| it == root.sha256));
    let followed = followed.or_else(|| nothing_issued.then(|| pick(std::slice::from_ref(&root.sha256))).flatten());
    followed.ok_or_else(|| Fault::AnchorsChanged {
        mount: mount.to_owned(),
        recorded: record.anchors.join(", "),
        remark: remark(record, &roots),
        root: Box::new(root),
    })
}

/// Why a CA is refused before it signs anything: its time is over, or its signatures cannot be checked.
///
/// # Errors
/// The end or the algorithm is named.
pub fn usable(
    mount: &str,
    signing: &Certificate,
    shown: &Shown,
    configured: Option<&Anchors>,
    now: Timestamp,
) -> Result<(), Fault> {
    if signing.not_after() < now {
        return Err(expired(mount, signing));
    }
    checkable(mount, signing, shown, configured)
}

fn expired(mount: &str, ca: &Certificate) -> Fault {
    Fault::CaExpired { mount: mount.to_owned(), ca: CertificateStatus::from(ca).to_string() }
}

fn checkable(mount: &str, signing: &Certificate, shown: &Shown, configured: Option<&Anchors>) -> Result<(), Fault> {
    let refuse = |subject: &str, algorithm: &str| {
        let problem = format!("{subject} signs with {algorithm}, which this controller cannot check");
        Err(Fault::Mount { path: mount.to_owned(), words: Words::new(&problem, &[]), obstacle: Obstacle::Algorithm })
    };
    if let Some(algorithm) = signing.uncheckable() {
        return refuse(signing.subject(), &algorithm);
    }
    // Without configured ones the search for the mount's own root meets the same.
    let Some(anchors) = configured.map(Anchors::certificates) else { return Ok(()) };
    match path::build(signing, &shown.certificates, anchors) {
        Err(PathError::Unsupported { algorithm, .. }) => refuse(signing.issuer(), &algorithm),
        // Whether it leads to an anchor is asked of each answer.
        Ok(_)
        | Err(
            PathError::MissingIssuer { .. }
            | PathError::OtherRoot { .. }
            | PathError::MayNotSign { .. }
            | PathError::TooManyCertificates(_)
            | PathError::TooManyChecks,
        ) => Ok(()),
    }
}

/// The roots that may be in force. Where the list of issuers has gaps, what was in force may stand in one of them.
fn roots(shown: &Shown, known: Option<&Anchors>, now: Timestamp) -> Vec<Certificate> {
    let is_root = |one: &&Certificate| one.not_after() >= now && one.is_root();
    let mut roots: Vec<_> = shown.certificates.iter().filter(is_root).cloned().collect();
    if !shown.complete {
        roots.extend(known.map(Anchors::certificates).unwrap_or_default().iter().cloned());
    }
    roots.sort_by(|a, b| a.sha256().cmp(b.sha256()));
    roots.dedup();
    roots
}

/// Whether the issuing key's certificate is one of the anchors or has a path to one. A cross-signed CA has several.
fn leads(shown: &Shown, anchors: &Anchors) -> bool {
    let (certificates, anchors) = (&shown.certificates, anchors.certificates());
    let key = certificates.first().map(Certificate::public_key);
    // A cross-signed CA has a few certificates, and each costs a search.
    let mut issuing = certificates.iter().filter(|one| Some(one.public_key()) == key).take(4);
    issuing.any(|one| anchors.contains(one) || path::build(one, certificates, anchors).is_ok())
}

/// The self-signed CA at the end of the issuing certificate's path.
fn end(mount: &str, shown: &Shown, now: Timestamp) -> Result<Certificate, Fault> {
    let chain = &shown.certificates;
    let unknown = || Fault::NoAnchor { mount: mount.to_owned() };
    let issuing = chain.first().ok_or_else(unknown)?;
    let roots: Vec<Certificate> = chain.iter().filter(|one| one.is_root()).cloned().collect();
    let root = if roots.contains(issuing) {
        issuing.clone()
    } else {
        match path::build(issuing, chain, &roots) {
            Ok(path) => path.anchor,
            Err(PathError::MissingIssuer { .. } | PathError::OtherRoot { .. }) => return Err(unknown()),
            Err(
                error @ (PathError::MayNotSign { .. }
                | PathError::Unsupported { .. }
                | PathError::TooManyCertificates(_)
                | PathError::TooManyChecks),
            ) => {
                let words = Words::new(&error.to_string(), &[]);
                return Err(Fault::Mount { path: mount.to_owned(), words, obstacle: Obstacle::Root });
            }
        }
    };
    if root.not_after() < now {
        return Err(expired(mount, &root));
    }
    Ok(root)
}

/// Why the annotation that is there does not accept what the mount leads to.
fn remark(record: &Record, roots: &[Certificate]) -> String {
    let is_shown = |fingerprint: &&String| roots.iter().any(|root| root.sha256() == **fingerprint);
    let unknown: Vec<_> = record.accepted.iter().filter(|it| !is_shown(it)).map(String::as_str).collect();
    match (record.accepted.is_empty(), unknown.is_empty()) {
        (true, _) => String::new(),
        (false, true) => ". The annotation that is there does not name it".to_owned(),
        (false, false) => {
            let unknown = Words::new(&unknown.join(", "), &[]);
            format!(". The annotation that is there names {unknown}, and the mount shows no such root")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x509::testing::{Authority, P521_LEAF, P521_ROOT, PSS_ROOT, now, parse_one};

    /// A mount with two roots, each with a CA below it.
    struct Scene {
        one: Certificate,
        two: Certificate,
        below_one: Certificate,
        below_two: Certificate,
    }

    impl Scene {
        fn new() -> Self {
            let [one, two, ca, other] = ["One", "Two", "CA", "Other CA"].map(Authority::new);
            let (below_one, below_two) = (one.signs(&ca, 2035), two.signs(&other, 2035));
            Self { one: one.root(2040), two: two.root(2041), below_one, below_two }
        }

        /// The mount lists both issuers, and its default leads to the first root.
        fn shown(&self) -> Shown {
            let certificates = [&self.below_one, &self.one, &self.below_two, &self.two].map(Clone::clone).to_vec();
            Shown { certificates, named: false, complete: true }
        }

        /// The same after its default was switched.
        fn switched(&self) -> Shown {
            let certificates = [&self.below_two, &self.two, &self.below_one, &self.one].map(Clone::clone).to_vec();
            Shown { certificates, ..self.shown() }
        }

        /// The same after everything of the first root was removed.
        fn replaced(&self) -> Shown {
            Shown { certificates: vec![self.below_two.clone(), self.two.clone()], ..self.shown() }
        }
    }

    fn record(anchors: &[&Certificate]) -> Record {
        Record { anchors: anchors.iter().map(|root| root.sha256().to_owned()).collect(), ..Record::default() }
    }

    fn elsewhere(record: Record, root: &Certificate) -> Record {
        Record { elsewhere: Some(root.into()), ..record }
    }

    fn accepts(record: Record, roots: &[&Certificate]) -> Record {
        let written: Vec<_> = roots.iter().map(|root| root.sha256()).collect();
        Record { accepted: accepted(Some(&written.join(","))), ..record }
    }

    fn decide(shown: &Shown, record: &Record) -> Result<Anchors, Fault> {
        in_force(shown, None, record, "pki", now())
    }

    #[track_caller]
    fn are_in_force(shown: &Shown, record: &Record, roots: &[&Certificate]) {
        let anchors = decide(shown, record).expect("anchors");
        let expected = Anchors::discovered(roots.iter().map(|root| (*root).clone()).collect()).expect("roots");
        assert_eq!(anchors, expected);
    }

    #[track_caller]
    fn has_changed(shown: &Shown, record: &Record, to: &Certificate) -> String {
        let fault = decide(shown, record).expect_err("a fault");
        assert!(matches!(&fault, Fault::AnchorsChanged { root, .. } if **root == to.into()), "{fault}");
        fault.to_string()
    }

    #[test]
    fn without_a_record_the_default_issuers_root_is_in_force() {
        let scene = Scene::new();
        are_in_force(&scene.shown(), &Record::default(), &[&scene.one]);
        are_in_force(&scene.switched(), &Record::default(), &[&scene.two]);
    }

    #[test]
    fn the_first_answer_may_correct_it_once() {
        let scene = Scene::new();
        let mut record = Record::default();
        record.settle(&decide(&scene.shown(), &record).expect("anchors"));
        assert!(record.provisional && record.anchors == [scene.one.sha256()]);
        let mut record = elsewhere(record, &scene.two);
        are_in_force(&scene.shown(), &record, &[&scene.two]);
        record.settle(&decide(&scene.shown(), &record).expect("anchors"));
        assert!(!record.provisional && record.elsewhere.is_none() && record.anchors == [scene.two.sha256()]);
        are_in_force(&scene.shown(), &record, &[&scene.two]);
        has_changed(&scene.shown(), &elsewhere(record, &scene.one), &scene.one);
    }

    #[test]
    fn what_is_on_record_stays_in_force_while_the_mount_has_it() {
        let scene = Scene::new();
        are_in_force(&scene.switched(), &record(&[&scene.one]), &[&scene.one]);
        are_in_force(&scene.shown(), &record(&[&scene.two, &scene.one]), &[&scene.one, &scene.two]);
        // Accepted is not commanded: nothing has ended at the second one yet.
        are_in_force(&scene.shown(), &accepts(record(&[&scene.one]), &[&scene.two]), &[&scene.one]);
    }

    #[test]
    fn an_answer_that_ends_elsewhere_takes_a_persons_word() {
        let scene = Scene::new();
        let waits = elsewhere(record(&[&scene.one]), &scene.two);
        let words = has_changed(&scene.switched(), &waits, &scene.two);
        let (one, two) = (scene.one.sha256(), scene.two.sha256());
        assert_eq!(
            words,
            format!(
                "the root changed: pki now leads to CN=Two (sha256 {two}, until 2041-01-01T00:00:00Z), while this issuer has \
                 handed out {one} (SHA-256), so nothing is signed. Put the root that your mesh is to trust into \
                 spec.trust.anchors, or accept the new one: annotate this issuer with vaultmesh.io/accept-anchors={two}; if the \
                 mount has been put back, with vaultmesh.io/accept-anchors={one}"
            )
        );
        are_in_force(&scene.switched(), &accepts(waits.clone(), &[&scene.two]), &[&scene.two]);
        are_in_force(&scene.switched(), &accepts(waits.clone(), &[&scene.two, &scene.one]), &[&scene.one, &scene.two]);
        let words = has_changed(&scene.switched(), &accepts(waits.clone(), &[&scene.one]), &scene.two);
        assert!(words.ends_with(". The annotation that is there does not name it"), "{words}");
        let stranger = Authority::new("Stranger").root(2040);
        let words = has_changed(&scene.switched(), &accepts(waits, &[&scene.two, &stranger]), &scene.two);
        let unknown =
            format!(". The annotation that is there names {}, and the mount shows no such root", stranger.sha256());
        assert!(words.ends_with(&unknown), "{words}");
    }

    #[test]
    fn who_accepts_what_was_handed_out_has_put_the_mount_back() {
        let scene = Scene::new();
        let mut waits = elsewhere(record(&[&scene.one]), &scene.two);
        waits.accept(vec![scene.one.sha256().to_owned()]);
        are_in_force(&scene.shown(), &waits, &[&scene.one]);
        let mut waits = elsewhere(record(&[&scene.one]), &scene.two);
        waits.accept(Vec::new());
        has_changed(&scene.shown(), &waits, &scene.two);
    }

    #[test]
    fn a_recorded_root_that_is_gone_is_a_change() {
        let scene = Scene::new();
        has_changed(&scene.replaced(), &record(&[&scene.one]), &scene.two);
        has_changed(&scene.replaced(), &record(&[&scene.one, &scene.two]), &scene.two);
        are_in_force(&scene.replaced(), &accepts(record(&[&scene.one]), &[&scene.two]), &[&scene.two]);
        let nothing_issued = Record { provisional: true, ..record(&[&scene.one]) };
        are_in_force(&scene.replaced(), &nothing_issued, &[&scene.two]);
    }

    #[test]
    fn what_an_incomplete_list_lacks_is_not_gone() {
        let scene = Scene::new();
        let partial = Shown { complete: false, ..scene.replaced() };
        let known = Anchors::discovered(vec![scene.one.clone()]);
        let anchors = in_force(&partial, known.as_ref(), &record(&[&scene.one]), "pki", now());
        assert_eq!(anchors.ok(), known);
        assert!(in_force(&scene.replaced(), known.as_ref(), &record(&[&scene.one]), "pki", now()).is_err());
        let nothing = in_force(&Shown::default(), known.as_ref(), &record(&[&scene.one]), "pki", now());
        assert_eq!(nothing.ok(), known);
        let waits = elsewhere(record(&[&scene.one]), &scene.two);
        assert!(in_force(&Shown::default(), known.as_ref(), &waits, "pki", now()).is_err(), "the change stands");
    }

    #[test]
    fn an_issuer_that_the_path_names_tells_without_an_answer_where_it_leads() {
        let scene = Scene::new();
        let named = Shown { named: true, ..scene.switched() };
        has_changed(&named, &record(&[&scene.one]), &scene.two);
        are_in_force(&named, &record(&[&scene.two]), &[&scene.two]);
        are_in_force(&named, &elsewhere(record(&[&scene.two]), &scene.one), &[&scene.two]);
        let root_itself = Shown { certificates: vec![scene.one.clone()], named: true, complete: true };
        are_in_force(&root_itself, &record(&[&scene.one]), &[&scene.one]);
    }

    #[test]
    fn a_cross_signed_ca_stays_under_the_recorded_root() {
        let [one, two, ca] = ["One", "Two", "CA"].map(Authority::new);
        let (old, new) = (one.root(2040), two.root(2045));
        let certificates = vec![two.signs(&ca, 2039), one.signs(&ca, 2035), old.clone(), new];
        let shown = Shown { certificates, named: true, complete: true };
        are_in_force(&shown, &record(&[&old]), &[&old]);
    }

    #[test]
    fn a_root_that_no_issuer_shows_is_not_followed() {
        let scene = Scene::new();
        let stranger = Authority::new("Stranger").root(2040);
        are_in_force(&scene.shown(), &elsewhere(record(&[&scene.one]), &stranger), &[&scene.one]);
        are_in_force(
            &scene.shown(),
            &elsewhere(Record { provisional: true, ..record(&[&scene.one]) }, &stranger),
            &[&scene.one],
        );
    }

    #[test]
    fn a_fingerprint_is_read_however_it_was_copied() {
        let (plain, other) = ("ab".repeat(32), "0f".repeat(32));
        let colons = vec!["AB"; 32].join(":");
        assert_eq!(accepted(Some(&format!(" {colons} ,\n{other},, {plain}"))), [other, plain]);
        assert!(accepted(None).is_empty() && accepted(Some(" , ")).is_empty());
        assert_eq!(accepted(Some(&"x,".repeat(1_000))).len(), 1);
    }

    #[test]
    fn a_record_is_read_from_what_was_written() {
        let scene = Scene::new();
        let status: IssuerStatus = serde_json::from_value(serde_json::json!({
            "conditions": [{"type": "Ready", "status": "False", "reason": "TrustAnchorsChanged", "message": "",
                "observedGeneration": 2, "lastTransitionTime": "2030-01-01T00:00:00Z"}],
            "signingCertificate": CertificateStatus::from(&scene.below_one),
            "trustAnchors": [CertificateStatus::from(&scene.one)],
            "refusedRoot": CertificateStatus::from(&scene.two),
        }))
        .expect("a status");
        let waits = elsewhere(record(&[&scene.one]), &scene.two);
        let waits = Record { signing: Some(scene.below_one.sha256().to_owned()), ..waits };
        assert_eq!(Record::of(Some(&status), Some(2), None), waits);
        assert_eq!(Record::of(Some(&status), Some(3), None), Record { elsewhere: None, ..waits });
        assert_eq!(Record::of(None, Some(1), Some("ab")).accepted, ["ab"]);
    }

    #[test]
    fn a_mount_without_its_root_shows_no_anchor() {
        let scene = Scene::new();
        let only = |certificates: &[&Certificate]| {
            let certificates = certificates.iter().map(|one| (*one).clone()).collect();
            decide(&Shown { certificates, named: false, complete: true }, &Record::default())
        };
        let unknown = Err(Fault::NoAnchor { mount: "pki".to_owned() });
        assert_eq!(only(&[]), unknown);
        assert_eq!(only(&[&scene.below_one]), unknown);
        assert_eq!(only(&[&scene.below_one, &Authority::new("One").root(2040)]), unknown);
        assert_eq!(only(&[&scene.below_one, &scene.two]), unknown);
    }

    #[test]
    fn an_expired_root_is_not_followed_in_silence() {
        let expired = Authority::new("Root").root(2030);
        let shown = Shown { certificates: vec![expired.clone()], named: false, complete: true };
        for record in [Record::default(), record(&[&expired])] {
            let fault = decide(&shown, &record).expect_err("a fault");
            assert_eq!(fault, super::expired("pki", &expired));
            assert!(fault.to_string().contains("until 2030-01-01T00:00:00Z"), "{fault}");
        }
    }

    #[test]
    fn a_ca_whose_signatures_cannot_be_checked_is_refused_by_its_algorithm() {
        let root = Authority::new("Root").root(2040);
        let anchors = Anchors::discovered(vec![root.clone()]);
        for (pem, words) in
            [(P521_ROOT, "CN=P-521 Root signs with ECDSA by a P-521 key"), (PSS_ROOT, "signs with RSA-PSS")]
        {
            for configured in [None, anchors.as_ref()] {
                let fault = checkable("pki", &parse_one(pem), &Shown::default(), configured).expect_err("a fault");
                assert!(fault.to_string().contains(words), "{fault}");
            }
        }
        let below = Shown { certificates: vec![parse_one(P521_LEAF), parse_one(P521_ROOT)], ..Shown::default() };
        let fault = checkable("pki", &parse_one(P521_LEAF), &below, anchors.as_ref()).expect_err("a fault");
        assert!(fault.to_string().contains("CN=P-521 Root signs with ECDSA with SHA-512 by a P-521 key"), "{fault}");
        assert_eq!(checkable("pki", &root, &Shown::default(), None), Ok(()));
        assert_eq!(checkable("pki", &Scene::new().below_one, &Shown::default(), anchors.as_ref()), Ok(()));
    }
}
