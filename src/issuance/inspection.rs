//! Is what the authority returned what was asked for? Asked of every answer before a byte of it is published, in the order in
//! which a wrong answer would hurt: key, CA flag, names, usages, lifetime, path. Never compared are the subject (roles set O, OU
//! and C), the criticality of names, and how far notBefore lies back.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::policy::shown;
use super::signer::{Answer, Mistrust, Refusal, SignError, SigningRequest};
use super::trust::{Anchors, Origin};
use super::usages::Usage;
use super::words::Words;
use crate::api::config::Usages as OnMissing;
use crate::api::vault_path::SignVerb;
use crate::x509::path::{self, PathError};
use crate::x509::{CERT_SIGN, Certificate, CertificationPath, SubjectAltNames};

/// How far a certificate may lie in the past: Vault's own allowance for clocks that differ (`not_before_duration`). A
/// certificate of one second arrives with 4 to 996 ms left.
const CLOCK_ALLOWANCE: SignedDuration = SignedDuration::from_secs(30);
/// The most names that are listed in a message.
const MOST_LISTED: usize = 10;

/// Shorter lifetimes than this may be shortened without a word: nobody renews them at two thirds.
const WORTH_TELLING: Duration = Duration::from_secs(300);

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
    /// What is not as it was asked for, and does no harm by itself.
    pub concerns: Vec<Concern>,
}

/// What is told about a certificate that is handed out all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Concern {
    /// Usages that were asked for did not come out.
    #[error("Vault signed at {path} without the usages {missing}. {hint}")]
    UsagesMissing {
        /// The API path that was called.
        path: String,
        /// In cert-manager's words.
        missing: String,
        /// Which option decides.
        hint: &'static str,
    },
    /// Less than a third of the lifetime that was asked for.
    #[error(
        "{asked} were asked for at {path} and {given} given: the max_ttl of the role or of the mount, or the end of the CA itself, \
         cuts lifetimes. Raise it, or ask for less; what lives shorter than expected is renewed all the time"
    )]
    LifetimeShortened {
        /// The API path that was called.
        path: String,
        /// As a user writes it.
        asked: String,
        /// The same.
        given: String,
    },
    /// Vault's own `warnings`.
    #[error("Vault signed at {path} with a warning: {words}")]
    Warned {
        /// The API path that was called.
        path: String,
        /// Vault's own words.
        words: Words,
    },
}

impl Concern {
    /// The reason of its event.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::UsagesMissing { .. } => "UsagesMissing",
            Self::LifetimeShortened { .. } => "LifetimeShortened",
            Self::Warned { .. } => "VaultWarning",
        }
    }
}

/// Compares the answer with the request, and builds the path to an anchor.
///
/// # Errors
/// The first check that the answer does not pass.
pub fn inspect(
    answer: &Answer,
    request: &SigningRequest,
    anchors: &Anchors,
    now: Timestamp,
) -> Result<Issued, SignError> {
    let (leaf, path) = (&answer.leaf, request.path.to_string());
    if leaf.public_key() != request.csr.public_key() {
        return Err(Mistrust::ForeignKey { path }.into());
    }
    compare_authority(&path, leaf, request.ca)?;
    compare_names(&path, leaf.sans(), request.csr.sans())?;
    let mut concerns = Vec::new();
    concerns.extend(compare_usages(&path, leaf, request)?);
    check_lifetime(&path, answer, now)?;
    concerns.extend(shortened(&path, leaf, request.ttl));
    concerns.extend(warned(&path, &answer.warnings));
    let certification_path = find_path(&path, answer, anchors, now)?;
    if request.ca.is_some() {
        check_may_be_used(&path, &certification_path)?;
    }
    Ok(Issued {
        chain_pem: certification_path.chain_pem(),
        ca_pem: anchors.bundle_pem(),
        path: certification_path,
        request_id: answer.request_id.clone(),
        concerns,
    })
}

/// Whether it is a CA exactly if one was asked for, with no more CAs below it.
fn compare_authority(path: &str, leaf: &Certificate, ca: Option<u8>) -> Result<(), Refusal> {
    let refuse = |difference: String, hint: &str| Err(not_as_asked(path, difference, hint.to_owned()));
    match (leaf.is_ca(), ca) {
        (false, None) => Ok(()),
        (true, None) => refuse(
            "it is a CA certificate, and an end-entity certificate was asked for".to_owned(),
            "Does spec.vault.path name the sign endpoint of a role?",
        ),
        (false, Some(_)) => refuse(
            "it is an end-entity certificate, and a CA certificate was asked for".to_owned(),
            "Does something in front of Vault rewrite paths?",
        ),
        (true, Some(asked)) => match leaf.path_length() {
            _ if leaf.usages().key.is_some_and(|bits| bits & CERT_SIGN == 0) => {
                refuse("its keyUsage lacks keyCertSign".to_owned(), "Ask for cert sign in the usages")
            }
            Some(given) if given <= u32::from(asked) => Ok(()),
            given => {
                let given = given.map_or_else(|| "none".to_owned(), |given| given.to_string());
                refuse(
                    format!("a path length of at most {asked} was asked for, and its own is {given}"),
                    "max_path_length is always sent; does a policy or a proxy take it out?",
                )
            }
        },
    }
}

/// Whether the leaf has the names that were asked for, no less and no more.
fn compare_names(path: &str, given: &SubjectAltNames, asked: &SubjectAltNames) -> Result<(), Refusal> {
    let (missing, added) = (asked.missing_from(given), given.missing_from(asked));
    let difference = match (missing.is_empty(), added.is_empty()) {
        (true, true) => return Ok(()),
        (false, true) => format!("missing are {}", listed(&missing)),
        (true, false) => format!("not asked for were {}", listed(&added)),
        (false, false) => format!("missing are {}; not asked for were {}", listed(&missing), listed(&added)),
    };
    let hint = if missing.is_empty() { hint_added() } else { hint_missing(asked, given) };
    Err(not_as_asked(path, difference, hint))
}

/// Whether the usages that were asked for came out. Others may have: the role's own are no fault.
fn compare_usages(path: &str, leaf: &Certificate, request: &SigningRequest) -> Result<Option<Concern>, Refusal> {
    let missing: Vec<&'static Usage> =
        request.usages.iter().copied().filter(|usage| !usage.is_granted_by(leaf.usages())).collect();
    if missing.is_empty() {
        return Ok(None);
    }
    let hint = match request.path.verb() {
        SignVerb::Sign(_) => {
            "This endpoint takes no usages from a request: the role's key_usage and ext_key_usage decide (DigitalSignature and \
             ServerAuth, not KeyUsageDigitalSignature, which Vault ignores); sign-verbatim takes them as they are asked for"
        }
        SignVerb::SignVerbatim(_) => {
            "They were asked for in the call. The CSR's own keyUsage and extendedKeyUsage win where it has them: make them equal"
        }
        SignVerb::SignIntermediate => {
            "The CSR's own keyUsage decides here; without one a CA gets cert sign and crl sign"
        }
        SignVerb::CelSign(_) => "The CEL program of the role decides",
    };
    let missing = missing.iter().map(|usage| usage.name).collect::<Vec<_>>().join(", ");
    match request.on_missing {
        OnMissing::Warn => Ok(Some(Concern::UsagesMissing { path: path.to_owned(), missing, hint })),
        OnMissing::Enforce => {
            let difference = format!("missing are the usages {missing} (spec.certificates.usages is Enforce)");
            Err(not_as_asked(path, difference, hint.to_owned()))
        }
    }
}

fn not_as_asked(path: &str, difference: String, hint: String) -> Refusal {
    Refusal::NotAsAsked { path: path.to_owned(), difference, hint }
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

fn check_lifetime(path: &str, answer: &Answer, now: Timestamp) -> Result<(), Mistrust> {
    let leaf = &answer.leaf;
    let problem = if is_over(leaf, now) {
        let ended_too = |other: &&Certificate| leaf.names_as_issuer(other) && is_over(other, now);
        match answer.others.iter().find(ended_too) {
            Some(ca) => format!(
                "the certificate ended at {}, as its CA {} did. Renew that CA; an issuer of the mount with \
                 leaf_not_after_behavior=truncate goes on signing after its own end",
                leaf.not_after(),
                ca.subject()
            ),
            None => format!(
                "the certificate ended at {} and here it is {now}. Compare the clocks of Vault and of this controller, and look \
                 when the CA itself ends",
                leaf.not_after()
            ),
        }
    } else if leaf.not_before().duration_since(now) > CLOCK_ALLOWANCE {
        format!(
            "the certificate begins at {} and here it is {now}. Compare the clocks of Vault and of this controller",
            leaf.not_before()
        )
    } else {
        return Ok(());
    };
    Err(Mistrust::Untimely { path: path.to_owned(), problem })
}

/// Whether so little of the lifetime was given that renewals come at another pace than anybody expects.
fn shortened(path: &str, leaf: &Certificate, asked: Duration) -> Option<Concern> {
    let given = leaf.not_after().duration_since(leaf.not_before()).unsigned_abs();
    if asked < WORTH_TELLING || given.saturating_mul(3) >= asked {
        return None;
    }
    Some(Concern::LifetimeShortened { path: path.to_owned(), asked: shown(asked), given: shown(given) })
}

/// What Vault warns of, but for what is no news to anybody.
fn warned(path: &str, warnings: &[Words]) -> Option<Concern> {
    let harmless = |words: &&Words| !HARMLESS.iter().any(|beginning| words.as_str().starts_with(beginning));
    let telling: Vec<&str> = warnings.iter().filter(harmless).map(Words::as_str).collect();
    let words = Words::new(&telling.join("; "), &[]);
    (!telling.is_empty()).then(|| Concern::Warned { path: path.to_owned(), words })
}

/// How warnings begin that every answer of their kind carries.
const HARMLESS: [&str; 3] = [
    // A path length of zero is what we ask for.
    "Max path length of the signed certificate is zero",
    // The mount has no URLs of CRLs and OCSP, which meshes do not use; it is said with every CA certificate.
    "This mount hasn't configured any authority information access (AIA) fields",
    // CA:FALSE in the CSR of a leaf; CA:TRUE never gets this far.
    "specified CSR contained a Basic Constraints extension that was ignored during issuance",
];

fn is_over(certificate: &Certificate, now: Timestamp) -> bool {
    now.duration_since(certificate.not_after()) > CLOCK_ALLOWANCE
}

/// The path to an anchor in force, over CAs whose time is now.
fn find_path(path: &str, answer: &Answer, anchors: &Anchors, now: Timestamp) -> Result<CertificationPath, SignError> {
    let alive =
        |list: &[Certificate]| list.iter().filter(|one| untimely(one, now).is_none()).cloned().collect::<Vec<_>>();
    path::build(&answer.leaf, &alive(&answer.others), &alive(anchors.certificates())).map_err(|error| {
        if let PathError::MayNotSign { of_leaf: true, .. } = &error {
            let hint = "The CA is restricted to other names or usages: ask for those, or narrow the role".to_owned();
            return not_as_asked(path, error.to_string(), hint).into();
        }
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
        Mistrust::NoPath { path: path.to_owned(), problem, root }.into()
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
    let roots: Vec<_> = answer.others.iter().filter(|one| one.is_root()).cloned().collect();
    path::build(&answer.leaf, &answer.others, &roots).ok().map(|path| path.anchor)
}

/// Whether those above a new CA let it sign anything: a CA whose leaves nobody accepts is found out too late.
fn check_may_be_used(path: &str, found: &CertificationPath) -> Result<(), Refusal> {
    let short = (1..).zip(found.issuers()).find_map(|(below, issuer): (u32, _)| {
        let most = issuer.path_length().filter(|most| below > *most)?;
        Some((issuer, most))
    });
    let Some((short, length)) = short else { return Ok(()) };
    let difference = format!(
        "{} above it permits {length} CAs below itself, so nothing the new one signs is valid",
        short.subject()
    );
    Err(not_as_asked(
        path,
        difference,
        "Sign with a CA higher up, or renew that one with a larger max_path_length".to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};

    use super::*;
    use crate::api::material::{Found, Place};
    use crate::api::vault_path::SignPath;
    use crate::x509::Csr;
    use crate::x509::testing::{self, Authority, csr_pem, judge, now};

    const PATH: &str = "pki/sign/mesh";
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

        fn request(&self, asked: &[&str]) -> SigningRequest {
            SigningRequest {
                csr: Csr::from_pem(csr_pem(&self.key, None, asked).as_bytes()).expect("a request"),
                ttl: Duration::from_secs(3_600),
                path: SignPath::parse(PATH).expect("a path"),
                ca: None,
                usages: Vec::new(),
                on_missing: OnMissing::Warn,
            }
        }

        fn inspect(&self, answer: &Answer, asked: &[&str], now: Timestamp) -> Result<Issued, SignError> {
            self.inspect_for(answer, &self.request(asked), now)
        }

        fn inspect_for(&self, answer: &Answer, request: &SigningRequest, now: Timestamp) -> Result<Issued, SignError> {
            let pem = answer.others.first().unwrap_or(&answer.leaf).pem().as_bytes().to_vec();
            let place = Place { field: "spec.trust.anchors[0].pem".to_owned(), object: None };
            let anchors = Anchors::configured(&[Found { place, value: pem }], testing::now()).expect("anchors");
            inspect(answer, request, &anchors, now)
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
        assert_eq!(issued.chain_pem, format!("{}{}", answer.leaf.pem(), answer.others[1].pem()));
        assert_eq!(issued.ca_pem, answer.others[0].pem());
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
            "Vault's answer at pki/sign/mesh cannot be used: the certificate ended at 2031-01-01T00:00:00Z and here it is \
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
        let tomorrow = |parameters: &mut CertificateParams| parameters.not_before = rcgen::date_time_ymd(2032, 1, 1);
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

    fn usages(names: &[&str]) -> Vec<&'static Usage> {
        names.iter().map(|name| Usage::from_name(name).expect("cert-manager's word")).collect()
    }

    #[test]
    fn usages_that_do_not_come_out_are_told_or_refused() {
        let scene = Scene::new();
        let leaf = |change: fn(&mut CertificateParams)| scene.answer(scene.ca.leaf_with(&scene.key, &["a"], change));
        let bare = leaf(|_| ());
        let full = leaf(|leaf| {
            leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyAgreement];
            leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        });
        let asked =
            |names: &[&str], on_missing| SigningRequest { usages: usages(names), on_missing, ..scene.request(&["a"]) };
        let concerns = |answer: &Answer, names: &[&str]| {
            scene.inspect_for(answer, &asked(names, OnMissing::Warn), now()).expect("a certificate").concerns
        };
        assert_eq!(concerns(&bare, &[]), []);
        assert_eq!(concerns(&full, &["signing", "server auth"]), []);
        let [told] = &concerns(&bare, &["digital signature", "server auth"])[..] else { panic!("one concern") };
        assert_eq!(told.reason(), "UsagesMissing");
        let words = "without the usages digital signature, server auth. This endpoint takes no usages from a request: the role's";
        assert!(told.to_string().contains(words), "{told}");

        let enforced = scene.inspect_for(&full, &asked(&["server auth", "client auth"], OnMissing::Enforce), now());
        let words = enforced.expect_err("a refusal").to_string();
        assert!(words.contains("missing are the usages client auth (spec.certificates.usages is Enforce)"), "{words}");
        assert!(scene.inspect_for(&full, &asked(&["server auth"], OnMissing::Enforce), now()).is_ok());
    }

    #[test]
    fn a_ca_comes_out_as_one_with_the_length_that_was_asked_for() {
        let scene = Scene::new();
        let asked = SigningRequest { ca: Some(1), ..scene.request(&[]) };
        let subject = Authority::with_key("New", KeyPair::from_pem(&scene.key.serialize_pem()).expect("a key"));
        let ca = |constraints| scene.answer(scene.ca.signs_with(&subject, 2031, |ca| ca.is_ca = IsCa::Ca(constraints)));
        for length in [0, 1] {
            let issued = scene.inspect_for(&ca(BasicConstraints::Constrained(length)), &asked, now()).expect("a CA");
            let below = subject.leaf("web.example", 2031);
            judge(&format!("{}{}", below.pem(), issued.chain_pem), &issued.ca_pem);
        }
        let refused = |answer: &Answer, words: &str| {
            let error = scene.inspect_for(answer, &asked, now()).expect_err("a refusal");
            assert!(matches!(error, SignError::Request(_)) && error.to_string().contains(words), "{error}");
        };
        refused(&ca(BasicConstraints::Constrained(2)), "a path length of at most 1 was asked for, and its own is 2");
        refused(&ca(BasicConstraints::Unconstrained), "at most 1 was asked for, and its own is none");
        refused(&scene.answer(scene.ca.leaf_for(&scene.key, &[], 2031)), "it is an end-entity certificate");
        let mute = scene.ca.signs_with(&subject, 2031, |ca| ca.key_usages = vec![KeyUsagePurpose::CrlSign]);
        refused(&scene.answer(mute), "its keyUsage lacks keyCertSign");
    }

    #[test]
    fn a_ca_whose_leaves_nobody_would_accept_is_refused() {
        let scene = Scene::new();
        let asked = SigningRequest { ca: Some(0), ..scene.request(&[]) };
        let subject = Authority::with_key("New", KeyPair::from_pem(&scene.key.serialize_pem()).expect("a key"));
        let ca = scene.ca.signs_with(&subject, 2031, |ca| ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
        let short = scene.root.signs_with(&scene.ca, 2035, |ca| ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
        let answer = Answer { others: vec![scene.root.root(2040), short], ..scene.answer(ca) };
        let error = scene.inspect_for(&answer, &asked, now()).expect_err("a refusal").to_string();
        assert!(error.contains("CN=CA above it permits 0 CAs below itself"), "{error}");
    }

    #[test]
    fn a_lifetime_cut_below_a_third_is_told() {
        let scene = Scene::new();
        let answer = scene.answer(scene.ca.leaf_for(&scene.key, &["a"], 2031));
        let years = |years: u64| Duration::from_secs(years * 365 * 86_400);
        let given = |ttl| {
            let request = SigningRequest { ttl, ..scene.request(&["a"]) };
            scene.inspect_for(&answer, &request, now()).expect("a certificate").concerns
        };
        assert_eq!(given(years(32)), [], "eleven years are a third");
        let [Concern::LifetimeShortened { asked, given, .. }] = &given(years(34))[..] else { panic!("one concern") };
        assert_eq!((asked.as_str(), given.as_str()), ("297840h", "96432h"));
        let short = scene.ca.leaf_with(&scene.key, &["a"], |leaf| {
            leaf.not_before = rcgen::date_time_ymd(2030, 6, 1);
            leaf.not_after = leaf.not_before + Duration::from_secs(60);
        });
        let request = |ttl| SigningRequest { ttl: Duration::from_secs(ttl), ..scene.request(&["a"]) };
        let concerns =
            |ttl| scene.inspect_for(&scene.answer(short.clone()), &request(ttl), now()).expect("one").concerns;
        assert_eq!(concerns(299), [], "who asks for less than five minutes renews all the time");
        assert_eq!(concerns(300).len(), 1);
    }

    #[test]
    fn vaults_warnings_are_told_but_for_what_is_always_said() {
        let scene = Scene::new();
        let told = |warnings: &[&str]| {
            let warnings = warnings.iter().map(|warning| Words::new(warning, &[])).collect();
            let answer = Answer { warnings, ..scene.answer(scene.ca.leaf_for(&scene.key, &["a"], 2031)) };
            let issued = scene.inspect(&answer, &["a"], now()).expect("a certificate");
            issued.concerns.iter().map(Concern::to_string).collect::<Vec<_>>()
        };
        let harmless = [
            "Max path length of the signed certificate is zero. This certificate cannot be used to issue intermediate CA certificates.",
            "This mount hasn't configured any authority information access (AIA) fields; this may make it harder",
            "specified CSR contained a Basic Constraints extension that was ignored during issuance",
        ];
        assert_eq!(told(&harmless), [""; 0]);
        assert_eq!(
            told(&[harmless[0], "TTL \"2h\" is longer", "b"]),
            ["Vault signed at pki/sign/mesh with a warning: TTL \"2h\" is longer; b"]
        );
    }

    #[test]
    fn a_bag_of_strangers_is_no_path() {
        let scene = Scene::new();
        let mut answer = scene.answer(scene.ca.leaf_for(&scene.key, &["a"], 2031));
        let root = answer.others.remove(0);
        let mut strangers: Vec<_> = (0..201).map(|_| scene.ca.leaf_for(&scene.key, &[], 2031)).collect();
        strangers.insert(0, root);
        answer.others = strangers;
        let error = scene.inspect(&answer, &["a"], now()).expect_err("mistrust").to_string();
        assert!(error.contains("different certificates are more than the 200"), "{error}");
    }

    #[test]
    fn a_certificate_that_begins_later_waits_for_a_clock() {
        let scene = Scene::new();
        let answer = scene.answer(scene.ca.leaf_for(&scene.key, &["a"], 2031));
        let before = |seconds| answer.leaf.not_before() - SignedDuration::from_secs(seconds);
        let early = |seconds| match scene.inspect(&answer, &["a"], before(seconds)) {
            Err(SignError::Untrusted(Mistrust::Untimely { problem, .. })) => problem,
            other => other.map_or_else(|error| error.to_string(), |_| "issued".to_owned()),
        };
        assert_eq!(early(30), "issued");
        assert_eq!(
            early(31),
            "the certificate begins at 2020-01-01T00:00:00Z and here it is 2019-12-31T23:59:29Z. Compare the clocks of Vault and \
             of this controller"
        );
    }

    #[test]
    fn names_that_the_ca_may_not_sign_for_are_the_requests_own_fault() {
        let scene = Scene::new();
        let mut answer = scene.answer(scene.ca.leaf_for(&scene.key, &["bank.example"], 2031));
        let only_services = |ca: &mut CertificateParams| {
            let permitted_subtrees = vec![rcgen::GeneralSubtree::DnsName("svc".to_owned())];
            ca.name_constraints = Some(rcgen::NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
        };
        answer.others = vec![scene.root.root(2040), scene.root.signs_with(&scene.ca, 2035, only_services)];
        let error = scene.inspect(&answer, &["bank.example"], now()).expect_err("a refusal");
        let words = error.to_string();
        assert!(matches!(error, SignError::Request(_)), "{words}");
        assert!(words.contains("its name constraints do not allow") && words.contains("narrow the role"), "{words}");
    }

    #[test]
    fn a_ca_that_signs_after_its_own_end_is_named() {
        let scene = Scene::new();
        let mut answer = scene.answer(scene.ca.leaf_for(&scene.key, &["a"], 2030));
        answer.others = vec![scene.root.root(2040), scene.root.signs(&scene.ca, 2030)];
        let error = scene.inspect(&answer, &["a"], now()).expect_err("mistrust").to_string();
        assert!(error.contains("ended at 2030-01-01T00:00:00Z, as its CA CN=CA did. Renew that CA"), "{error}");
    }
}
