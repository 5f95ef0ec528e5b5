//! Is what the authority returned what was asked for? Asked of every answer before a byte of it is published, in the order in
//! which a wrong answer would hurt: key, CA flag, names, lifetime, path.

use jiff::{SignedDuration, Timestamp};

use super::signer::{Answer, Mistrust, Refusal, SignError, SigningRequest};
use super::trust::{Anchors, Origin};
use crate::x509::path;
use crate::x509::{Certificate, CertificationPath, Csr, SubjectAltNames};

/// How far a certificate may lie in the past: Vault's own allowance for clocks that differ (`not_before_duration`). A
/// certificate of one second arrives with 4 to 996 ms left.
const CLOCK_ALLOWANCE: SignedDuration = SignedDuration::from_secs(30);
/// The most names that are listed in a message.
const MOST_LISTED: usize = 10;

/// A certificate that may be published, and what is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// From the leaf to an anchor in force.
    pub path: CertificationPath,
    /// `status.certificate`.
    pub chain_pem: String,
    /// `status.ca`.
    pub ca_pem: String,
    /// Joins our log line with Vault's audit log.
    pub request_id: String,
}

/// Compares the answer that came from `path` with the request, and builds the path to an anchor.
///
/// # Errors
/// The first check that the answer does not pass.
pub fn inspect(
    path: &str,
    answer: &Answer,
    request: &SigningRequest,
    anchors: &Anchors,
    now: Timestamp,
) -> Result<Issued, SignError> {
    let leaf = &answer.leaf;
    if leaf.public_key() != request.csr.public_key() {
        return Err(Mistrust::ForeignKey { path: path.to_owned() }.into());
    }
    compare(path, leaf, &request.csr)?;
    check_lifetime(path, leaf, now)?;
    let certification_path = find_path(path, answer, anchors, now)?;
    Ok(Issued {
        chain_pem: certification_path.chain_pem(),
        ca_pem: anchors.bundle_pem(),
        path: certification_path,
        request_id: answer.request_id.clone(),
    })
}

/// Whether the leaf says what was asked for, no less and no more.
fn compare(path: &str, leaf: &Certificate, csr: &Csr) -> Result<(), Refusal> {
    let refuse = |difference: String, hint: String| Refusal::NotAsAsked { path: path.to_owned(), difference, hint };
    if leaf.is_ca() {
        let hint = "Does spec.vault.path name the sign endpoint of a role?".to_owned();
        return Err(refuse("it is a CA certificate, and an end-entity certificate was asked for".to_owned(), hint));
    }
    let (asked, given) = (csr.sans(), leaf.sans());
    let (missing, added) = (asked.missing_from(given), given.missing_from(asked));
    let difference = match (missing.is_empty(), added.is_empty()) {
        (true, true) => return Ok(()),
        (false, true) => format!("missing are {}", listed(&missing)),
        (true, false) => format!("not asked for were {}", listed(&added)),
        (false, false) => format!("missing are {}; not asked for were {}", listed(&missing), listed(&added)),
    };
    let hint = if missing.is_empty() { hint_added() } else { hint_missing(asked, given) };
    Err(refuse(difference, hint))
}

fn listed(names: &[String]) -> String {
    let shown = names.iter().take(MOST_LISTED).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST_LISTED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Which options of the role let names through, for the kinds that are missing.
fn hint_missing(asked: &SubjectAltNames, given: &SubjectAltNames) -> String {
    let kinds = [
        (!asked.uris.is_subset(&given.uris), "allowed_uri_sans"),
        (!asked.dns.is_subset(&given.dns), "allowed_domains"),
        (!asked.ips.is_subset(&given.ips), "allow_ip_sans"),
        (!asked.emails.is_subset(&given.emails), "allowed_domains for e-mail addresses"),
        (!asked.others.is_subset(&given.others), "allowed_other_sans"),
    ];
    let options: Vec<_> = kinds.iter().filter(|(differs, _)| *differs).map(|(_, option)| *option).collect();
    format!("Set use_csr_sans=true on the role, and let it allow these names ({})", options.join(", "))
}

fn hint_added() -> String {
    "Names are taken from the request alone with use_csr_sans=true on the role; exclude_cn_from_sans is always sent. \
     Does a policy, a plugin or a proxy add names?"
        .to_owned()
}

fn check_lifetime(path: &str, leaf: &Certificate, now: Timestamp) -> Result<(), Mistrust> {
    if !is_over(leaf, now) {
        return Ok(());
    }
    let problem = format!(
        "the certificate ended at {} and here it is {now}. Compare the clocks of Vault and of this controller, and look \
         when the CA itself ends",
        leaf.not_after()
    );
    Err(Mistrust::Unreadable { path: path.to_owned(), problem })
}

fn is_over(certificate: &Certificate, now: Timestamp) -> bool {
    now.duration_since(certificate.not_after()) > CLOCK_ALLOWANCE
}

/// The path to an anchor in force, over CAs whose time is now.
fn find_path(path: &str, answer: &Answer, anchors: &Anchors, now: Timestamp) -> Result<CertificationPath, Mistrust> {
    let alive =
        |list: &[Certificate]| list.iter().filter(|one| untimely(one, now).is_none()).cloned().collect::<Vec<_>>();
    path::build(&answer.leaf, &alive(&answer.others), &alive(anchors.certificates())).map_err(|error| {
        // A path that is there at another time says more than the link that is missing now.
        let other_time = path::build(&answer.leaf, &answer.others, anchors.certificates()).ok();
        let untimely = other_time.and_then(|found| found.issuers().find_map(|issuer| untimely(issuer, now)));
        let (problem, root) = match (untimely, anchors.origin()) {
            (Some(problem), _) => (problem, None),
            (None, Origin::Configured) => {
                (format!("{error}. spec.trust.anchors names the roots that it must lead to"), None)
            }
            (None, Origin::Discovered) => (error.to_string(), end(answer)),
        };
        Mistrust::NoPath { path: path.to_owned(), problem, root }
    })
}

/// What is wrong with the time of a CA.
fn untimely(certificate: &Certificate, now: Timestamp) -> Option<String> {
    let subject = certificate.subject();
    if is_over(certificate, now) {
        return Some(format!("{subject} on its way expired on {}", certificate.not_after()));
    }
    let begins = certificate.not_before();
    (begins.duration_since(now) > CLOCK_ALLOWANCE).then(|| format!("{subject} on its way is not valid before {begins}"))
}

/// The self-signed CA of the answer at which its path ends.
fn end(answer: &Answer) -> Option<Certificate> {
    let roots: Vec<_> = answer.others.iter().filter(|one| one.is_ca() && one.is_self_signed()).cloned().collect();
    path::build(&answer.leaf, &answer.others, &roots).ok().map(|path| path.anchor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::material::{Found, Place};
    use crate::x509::testing::{self, Authority, csr_pem, judge, now};
    use rcgen::KeyPair;
    use std::time::Duration;

    const PATH: &str = "v1/pki/sign/mesh";
    const SPIFFE: &str = "spiffe://cluster.local/ns/a/sa/b";

    struct Scene {
        root: Authority,
        ca: Authority,
        key: KeyPair,
    }

    impl Scene {
        fn new() -> Self {
            Self { root: Authority::new("Root"), ca: Authority::new("CA"), key: KeyPair::generate().expect("a key") }
        }

        fn answer(&self, leaf: Certificate) -> Answer {
            let others = vec![self.root.root(2040), self.root.signs(&self.ca, 2035)];
            Answer { leaf, others, warnings: Vec::new(), request_id: "id".to_owned() }
        }

        fn inspect(&self, answer: &Answer, asked: &[&str], now: Timestamp) -> Result<Issued, SignError> {
            let csr = Csr::from_pem(csr_pem(&self.key, None, asked).as_bytes()).expect("a request");
            let request = SigningRequest { csr, ttl: Duration::from_secs(3_600) };
            let pem = answer.others.first().unwrap_or(&answer.leaf).to_pem().into_bytes();
            let place = Place { field: "spec.trust.anchors[0].pem".to_owned(), object: None };
            let anchors = Anchors::configured(&[Found { place, value: pem }], testing::now()).expect("anchors");
            inspect(PATH, answer, &request, &anchors, now)
        }

        #[track_caller]
        fn refuses_names(&self, asked: &[&str], given: &[&str], difference: &str, hint: &str) {
            let answer = self.answer(self.ca.leaf_for(&self.key, given, 2031));
            let expected =
                Refusal::NotAsAsked { path: PATH.to_owned(), difference: difference.to_owned(), hint: hint.to_owned() };
            assert_eq!(self.inspect(&answer, asked, now()).expect_err("a refusal"), SignError::Request(expected));
        }
    }

    #[test]
    fn what_was_asked_for_is_published() {
        let scene = Scene::new();
        let names = [SPIFFE, "kuma://tag/x", "a.example", "10.0.0.1", "a@b.example"];
        let answer = scene.answer(scene.ca.leaf_for(&scene.key, &names, 2031));
        let issued = scene.inspect(&answer, &names, now()).expect("a certificate");
        assert_eq!(issued.chain_pem, format!("{}{}", answer.leaf.to_pem(), answer.others[1].to_pem()));
        assert_eq!(issued.ca_pem, answer.others[0].to_pem());
        assert_eq!(issued.request_id, "id");
        judge(&issued.chain_pem, &issued.ca_pem);
    }

    #[test]
    fn a_foreign_key_comes_before_everything_else() {
        let scene = Scene::new();
        let answer = scene.answer(scene.ca.leaf("other", 2021));
        let foreign = Mistrust::ForeignKey { path: PATH.to_owned() };
        assert_eq!(scene.inspect(&answer, &[SPIFFE], now()), Err(SignError::Untrusted(foreign)));
    }

    #[test]
    fn names_are_compared_both_ways() {
        let scene = Scene::new();
        let set =
            |options: &str| format!("Set use_csr_sans=true on the role, and let it allow these names ({options})");
        scene.refuses_names(&[SPIFFE], &[], &format!("missing are URI:{SPIFFE}"), &set("allowed_uri_sans"));
        scene.refuses_names(
            &["a", "10.0.0.1", "a@b"],
            &["a"],
            "missing are IP:10.0.0.1, email:a@b",
            &set("allow_ip_sans, allowed_domains for e-mail addresses"),
        );
        scene.refuses_names(
            &[SPIFFE],
            &[SPIFFE, "b", "10.0.0.1"],
            "not asked for were DNS:b, IP:10.0.0.1",
            &hint_added(),
        );
        scene.refuses_names(&["a"], &["b"], "missing are DNS:a; not asked for were DNS:b", &set("allowed_domains"));
        scene.refuses_names(
            &[SPIFFE],
            &["spiffe://cluster.local/ns/a/sa/B"],
            &format!("missing are URI:{SPIFFE}; not asked for were URI:spiffe://cluster.local/ns/a/sa/B"),
            &set("allowed_uri_sans"),
        );
    }

    #[test]
    fn many_missing_names_are_counted() {
        let names: Vec<String> = (0..12).map(|index| format!("n{index:02}")).collect();
        assert_eq!(listed(&names), "n00, n01, n02, n03, n04, n05, n06, n07, n08, n09 and 2 more");
        assert_eq!(listed(&names[..10]).matches(',').count(), 9);
    }

    #[test]
    fn a_ca_is_not_published_as_a_leaf() {
        let scene = Scene::new();
        let subject = Authority::with_key("CA 2", KeyPair::from_pem(&scene.key.serialize_pem()).expect("a key"));
        let error = scene.inspect(&scene.answer(scene.ca.signs(&subject, 2031)), &[], now()).expect_err("a refusal");
        assert!(
            matches!(&error, SignError::Request(Refusal::NotAsAsked { difference, .. })
                if difference == "it is a CA certificate, and an end-entity certificate was asked for"),
            "{error}"
        );
    }

    #[test]
    fn a_certificate_may_be_over_for_thirty_seconds() {
        let scene = Scene::new();
        let answer = scene.answer(scene.ca.leaf_for(&scene.key, &["a"], 2031));
        let after = |seconds| answer.leaf.not_after() + SignedDuration::from_secs(seconds);
        assert!(scene.inspect(&answer, &["a"], after(30)).is_ok());
        let error = scene.inspect(&answer, &["a"], after(31)).expect_err("mistrust");
        assert_eq!(
            error.to_string(),
            "Vault's answer at v1/pki/sign/mesh cannot be used: the certificate ended at 2031-01-01T00:00:00Z and here it is \
             2031-01-01T00:00:31Z. Compare the clocks of Vault and of this controller, and look when the CA itself ends"
        );
    }

    #[test]
    fn a_path_must_end_at_an_anchor_and_be_alive() {
        let scene = Scene::new();
        let mut answer = scene.answer(scene.ca.leaf_for(&scene.key, &["a"], 2031));
        answer.others.truncate(1);
        let no_path = |problem: &str| {
            let path = PATH.to_owned();
            Err(SignError::Untrusted(Mistrust::NoPath { path, problem: problem.to_owned(), root: None }))
        };
        assert_eq!(
            scene.inspect(&answer, &["a"], now()),
            no_path(
                "the chain ends at (empty), and the certificate that signed it, CN=CA, is neither in the answer nor an \
                 anchor. spec.trust.anchors names the roots that it must lead to"
            )
        );
        answer.others.push(scene.root.signs(&scene.ca, 2030));
        assert_eq!(scene.inspect(&answer, &["a"], now()), no_path("CN=CA on its way expired on 2030-01-01T00:00:00Z"));
        answer.others.pop();
        let tomorrow =
            |parameters: &mut rcgen::CertificateParams| parameters.not_before = rcgen::date_time_ymd(2032, 1, 1);
        answer.others.push(scene.root.signs_with(&scene.ca, 2040, tomorrow));
        assert_eq!(
            scene.inspect(&answer, &["a"], now()),
            no_path("CN=CA on its way is not valid before 2032-01-01T00:00:00Z")
        );
        // A reissue that is to follow lives longer, and is no use yet.
        answer.others.push(scene.root.signs(&scene.ca, 2035));
        let issued = scene.inspect(&answer, &["a"], now()).expect("a certificate");
        assert_eq!(issued.path.intermediates, answer.others[2..]);
        judge(&issued.chain_pem, &issued.ca_pem);
    }
}
