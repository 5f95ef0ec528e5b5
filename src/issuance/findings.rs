//! What a check found, as a person reads it: a line for each finding, with what was looked at, how it stands, and what to do.
//! The condition of an issuer says the first trouble only; the command `check` says all of it.

use jiff::Timestamp;
use serde::Serialize;

use super::changes::listed;
use super::diagnosis::{Diagnosis, Finding, Standing, Subject};
use super::discovery::Record;
use super::expiry::token_expiring;
use super::role::{self, Suitability};
use super::signer::{Fault, SignError};
use super::trust::{Anchors, Origin};
use crate::api::auth::Auth;
use crate::api::status::CertificateStatus;
use crate::api::vault_path::SignPath;
use crate::api::{ACCEPT_ANCHORS, IssuerConfig};

/// Said of what could not be looked at for a reason that stands in another line.
const NOT_ASKED: &str = "not looked at, because of what else is wrong";

/// How something stands, in a word that scripts read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// As it should be.
    Right,
    /// Good enough, and there is a better.
    Hint,
    /// The issuer signs, and a mesh meets trouble nevertheless.
    Unsuited,
    /// It keeps the issuer from signing.
    Wrong,
    /// It could not be seen.
    Unknown,
}

impl Grade {
    /// As it is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::Hint => "hint",
            Self::Unsuited => "unsuited",
            Self::Wrong => "wrong",
            Self::Unknown => "unknown",
        }
    }

    /// Whether a person has to act before a mesh can rely on the issuer.
    pub fn is_bad(self) -> bool {
        match self {
            Self::Unsuited | Self::Wrong => true,
            Self::Right | Self::Hint | Self::Unknown => false,
        }
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What was looked at.
    #[serde(rename = "check")]
    pub subject: Subject,
    /// How it stands.
    #[serde(rename = "result")]
    pub grade: Grade,
    /// What was seen, and how it is mended.
    pub message: String,
}

impl Line {
    /// A line.
    pub fn new(subject: Subject, grade: Grade, message: impl Into<String>) -> Self {
        Self { subject, grade, message: message.into() }
    }

    /// The spec and everything that it names can be used.
    pub fn usable() -> Self {
        Self::new(Subject::Spec, Grade::Right, "it can be used, and so can the objects that it names")
    }

    /// The spec, or what it names, cannot be used, so that Vault was not asked.
    pub fn unusable(fault: &Fault) -> Self {
        Self::new(Subject::Spec, Grade::Wrong, fault.to_string())
    }
}

/// Every finding of a diagnosis in words, in the order in which a person would mend things. `ends` is when the login ends that only
/// a person can replace.
pub fn lines(diagnosis: &Diagnosis, config: &IssuerConfig, ends: Option<Timestamp>, now: Timestamp) -> Vec<Line> {
    let (role, others): (Vec<_>, Vec<_>) =
        diagnosis.findings.iter().partition(|finding| finding.subject == Subject::Role);
    let reached = !others
        .iter()
        .any(|it| matches!((it.subject, &it.standing), (Subject::Login | Subject::SigningPath, Standing::Wrong(_))));
    let mut lines: Vec<_> = others.into_iter().map(|finding| line(finding, diagnosis, config, reached)).collect();
    lines.extend(token_expiring(ends, now).map(|words| Line::new(Subject::Login, Grade::Unsuited, words)));
    lines.extend(match reached {
        true => of_role(&role, &diagnosis.findings, &config.vault.path),
        false => {
            let place = role::place(&config.vault.path);
            place.map(|_| Line::new(Subject::Role, Grade::Unknown, NOT_ASKED)).into_iter().collect()
        }
    });
    lines
}

fn line(finding: &Finding, diagnosis: &Diagnosis, config: &IssuerConfig, reached: bool) -> Line {
    let (subject, path) = (finding.subject, &config.vault.path);
    let is_static = matches!(config.auth, Auth::Token(_));
    let (grade, message) = match &finding.standing {
        // A mount that is misspelt, or not asked because Vault is away, shows no root.
        Standing::Wrong(SignError::Issuer(Fault::MountClosed { .. }) | SignError::Transient(_))
            if subject == Subject::Anchors && !reached =>
        {
            (Grade::Unknown, NOT_ASKED.to_owned())
        }
        // A token that somebody else made counts as a login before Vault has seen it.
        Standing::Right if subject == Subject::Login && is_static && diagnosis.is_away() => {
            (Grade::Unknown, NOT_ASKED.to_owned())
        }
        Standing::Right => (Grade::Right, right(subject, diagnosis, path)),
        Standing::Hint(advice) => (Grade::Hint, advice.to_string()),
        Standing::Unsuited(advice) => (Grade::Unsuited, advice.to_string()),
        Standing::Wrong(error) => (Grade::Wrong, error.to_string()),
        Standing::Unknown => (Grade::Unknown, unknown(subject, diagnosis, path, reached)),
    };
    Line { subject, grade, message }
}

fn right(subject: Subject, diagnosis: &Diagnosis, path: &SignPath) -> String {
    match subject {
        Subject::Spec => Line::usable().message,
        Subject::Login => "Vault accepts these credentials".to_owned(),
        Subject::SigningPath => format!("{path} signs for this login"),
        Subject::Ca => diagnosis.signing.as_ref().map(|ca| CertificateStatus::from(ca).to_string()).unwrap_or_default(),
        Subject::Anchors => {
            let from = match diagnosis.anchors.as_ref().map(Anchors::origin) {
                Some(Origin::Configured) => "spec.trust.anchors".to_owned(),
                Some(Origin::Discovered) | None => format!("the mount {}", path.mount()),
            };
            format!("{}, from {from}", listed(&in_force(diagnosis)))
        }
        Subject::Role => role::place(path).map(|place| role::nothing_refused(&place)).unwrap_or_default(),
    }
}

fn unknown(subject: Subject, diagnosis: &Diagnosis, path: &SignPath, reached: bool) -> String {
    let mount = path.mount();
    match subject {
        Subject::SigningPath | Subject::Ca if diagnosis.is_away() => NOT_ASKED.to_owned(),
        Subject::SigningPath if !reached => NOT_ASKED.to_owned(),
        // A token whose uses are counted may have none to spare.
        Subject::SigningPath => {
            "it could not be asked without a request of its own; the first certificate shows it".to_owned()
        }
        Subject::Ca => format!(
            "{mount} shows no certificate to whoever asks without a token: there is no such mount, or a proxy or namespace closes it"
        ),
        Subject::Spec | Subject::Login | Subject::Anchors | Subject::Role => NOT_ASKED.to_owned(),
    }
}

/// The role in one line where nothing in it refuses, and else in one for each option.
fn of_role(findings: &[&Finding], all: &[Finding], path: &SignPath) -> Vec<Line> {
    let Some(Suitability { suits, message }) = Suitability::of(all, path) else { return Vec::new() };
    let place = role::place(path).unwrap_or_default();
    let named = |grade, advice: &dyn std::fmt::Display| Line::new(Subject::Role, grade, format!("{place}: {advice}"));
    let advised = findings.iter().filter_map(|finding| match &finding.standing {
        Standing::Unsuited(advice) => Some(named(Grade::Unsuited, advice)),
        Standing::Hint(advice) => Some(named(Grade::Hint, advice)),
        Standing::Right | Standing::Unknown => None,
        Standing::Wrong(error) => Some(named(Grade::Wrong, error)),
    });
    let first = match suits {
        Some(false) => None,
        Some(true) => Some(Line::new(Subject::Role, Grade::Right, role::nothing_refused(&place))),
        None => Some(Line::new(Subject::Role, Grade::Unknown, message)),
    };
    first.into_iter().chain(advised).collect()
}

/// What this spec would change about the anchors that were handed out until now; none: nothing. Who loses an anchor that lives
/// refuses certificates from one day to the next, unless a person has seen to it.
pub fn announcement(
    recorded: &[CertificateStatus],
    record: &Record,
    diagnosis: &Diagnosis,
    now: Timestamp,
) -> Option<Line> {
    let next = match diagnosis.refused_root() {
        Some(root) => vec![root.clone()],
        None => in_force(diagnosis),
    };
    let has = |list: &[CertificateStatus], one: &CertificateStatus| list.iter().any(|it| it.sha256 == one.sha256);
    let same = next.iter().all(|one| has(recorded, one)) && recorded.iter().all(|one| has(&next, one));
    if recorded.is_empty() || next.is_empty() || same {
        return None;
    }
    // A date that cannot be read is none of ours, and is taken for one that lies ahead.
    let lives = |one: &&CertificateStatus| one.not_after.parse().map_or(true, |end: Timestamp| end >= now);
    let loses = recorded.iter().filter(lives).any(|one| !has(&next, one));
    let accepted = next.iter().all(|one| record.accepted.contains(&one.sha256));
    let (grade, advice) = match (loses, accepted) {
        (false, _) => (Grade::Hint, "None that lives is left out".to_owned()),
        (true, true) => (Grade::Hint, format!("The annotation {ACCEPT_ANCHORS} accepts it")),
        (true, false) => {
            let fingerprints: Vec<_> = next.iter().map(|one| one.sha256.as_str()).collect();
            let advice = format!(
                "Workloads that trust only the former refuse certificates under the latter: let spec.trust.anchors name both until \
                 every workload has both, or say that you mean it with the annotation {ACCEPT_ANCHORS}={}",
                fingerprints.join(",")
            );
            (Grade::Unsuited, advice)
        }
    };
    let message = format!("trust anchors would change: from {} to {}. {advice}", listed(recorded), listed(&next));
    Some(Line::new(Subject::Anchors, grade, message))
}

/// What has been handed out until now could not be read, so that nothing can be said about a change.
pub fn no_record(why: &str) -> Line {
    let message = format!("whether trust anchors would change is not known: {why}");
    Line::new(Subject::Anchors, Grade::Unknown, message)
}

fn in_force(diagnosis: &Diagnosis) -> Vec<CertificateStatus> {
    diagnosis.anchors.iter().flat_map(Anchors::certificates).map(CertificateStatus::from).collect()
}

#[cfg(test)]
mod tests {
    use super::super::role::RoleOptions;
    use super::super::signer::{Fact, Observation, Outage, Shown};
    use super::*;
    use crate::api::material::{Found, Place};
    use crate::api::testing::config;
    use crate::issuance::diagnosis::{Trust, diagnose};
    use crate::x509::Certificate;
    use crate::x509::testing::{Authority, now};

    fn anchors(roots: &[&Certificate]) -> Anchors {
        let place = Place { field: "spec.trust.anchors[0].pem".to_owned(), object: None };
        let value = roots.iter().map(|root| root.pem()).collect::<String>().into_bytes();
        Anchors::configured(&[Found { place, value }], now()).expect("roots")
    }

    /// A mount that shows these certificates, in good order.
    fn well(certificates: &[Certificate]) -> Observation {
        let shown = Shown { certificates: certificates.to_vec(), named: false, complete: true };
        Observation {
            login: Fact::Yes(()),
            signing: Fact::Yes(()),
            mount: Fact::Yes(shown),
            role: Fact::Unknown,
            ends: None,
        }
    }

    fn diagnosed(seen: &Observation, configured: Option<&Anchors>, record: &Record) -> Diagnosis {
        diagnose(seen, Trust { configured, known: None, signing: None, record }, &config(), now())
    }

    /// Check, result and the beginning of each message.
    #[track_caller]
    fn says(diagnosis: &Diagnosis, expected: &[(Subject, Grade, &str)]) {
        let found = lines(diagnosis, &config(), None, now());
        let fits = |(line, it): (&Line, &(Subject, Grade, &str))| {
            (line.subject, line.grade) == (it.0, it.1) && line.message.starts_with(it.2)
        };
        assert!(found.len() == expected.len() && found.iter().zip(expected).all(fits), "{found:#?}");
    }

    use Grade::{Hint, Right, Unknown, Unsuited, Wrong};
    use Subject::{Anchors as Trusted, Ca, Login, Role, SigningPath};

    const CLOSED: &str = "not known: this login may not read pki/roles/web";

    #[test]
    fn what_is_right_is_told_with_its_certificates() {
        let root = Authority::new("Root").root(2040);
        let diagnosis = diagnosed(&well(std::slice::from_ref(&root)), None, &Record::default());
        let shown = CertificateStatus::from(&root).to_string();
        says(
            &diagnosis,
            &[
                (Login, Right, "Vault accepts these credentials"),
                (SigningPath, Right, "pki/sign/web signs for this login"),
                (Ca, Right, &shown),
                (Trusted, Right, &format!("{shown}, from the mount pki")),
                (Role, Unknown, CLOSED),
            ],
        );
    }

    #[test]
    fn what_was_not_looked_at_is_unknown_and_not_wrong() {
        let outage: SignError = Outage::Sealed { server: "vault:8200".to_owned() }.into();
        let away =
            Observation { login: Fact::No(outage.clone()), signing: Fact::Unknown, mount: Fact::Unknown, ..well(&[]) };
        let rest = [SigningPath, Ca, Trusted, Role].map(|it| (it, Unknown, NOT_ASKED));
        let words = "Vault at vault:8200 is sealed";
        says(&diagnosed(&away, None, &Record::default()), &[&[(Login, Wrong, words)][..], &rest].concat());
        // A token that somebody else made needs no login, so the probe meets it, and the mount the same.
        let signing = Fact::No(outage.clone());
        let away = Observation { login: Fact::Yes(()), signing, mount: Fact::No(outage.clone()), ..away };
        let [_, ca, anchors, role] = rest;
        let expected = [(Login, Unknown, NOT_ASKED), (SigningPath, Wrong, words), ca, anchors, role];
        says(&diagnosed(&away, None, &Record::default()), &expected);
    }

    #[test]
    fn each_option_of_a_role_has_a_line_of_its_own() {
        let root = [Authority::new("Root").root(2040)];
        let right = |it| (it, Right, "");
        let four = [Login, SigningPath, Ca, Trusted].map(right);
        let seen = |options| Observation { role: Fact::Yes(options), ..well(&root) };
        let strict = RoleOptions {
            require_cn: Some(true),
            key_type: Some("rsa".to_owned()),
            no_store: Some(false),
            ..RoleOptions::default()
        };
        let advised = [
            (Role, Unsuited, "pki/roles/web: require_cn=true refuses"),
            (Role, Unsuited, "pki/roles/web: key_type=rsa refuses"),
            (Role, Hint, "pki/roles/web: no_store=false"),
        ];
        says(&diagnosed(&seen(strict), None, &Record::default()), &[&four[..], &advised].concat());
        let good = RoleOptions { require_cn: Some(false), no_store: Some(false), ..RoleOptions::default() };
        let advised = [
            (Role, Right, "nothing in pki/roles/web refuses what a mesh asks for"),
            (Role, Hint, "pki/roles/web: no_store=false"),
        ];
        says(&diagnosed(&seen(good), None, &Record::default()), &[&four[..], &advised].concat());
    }

    #[test]
    fn a_ca_below_another_root_than_the_configured_one_is_told_unless_the_role_has_its_own() {
        let [root, other, ca] = ["Root", "Other", "CA"].map(Authority::new);
        let (below, foreign) = (root.signs(&ca, 2035), other.root(2040));
        let rooted =
            diagnosed(&well(std::slice::from_ref(&below)), Some(&anchors(&[&root.root(2040)])), &Record::default());
        let right = [Login, SigningPath, Ca].map(|it| (it, Right, ""));
        let closed = (Role, Unknown, CLOSED);
        says(&rooted, &[&right[..], &[(Trusted, Right, "CN=Root"), closed]].concat());

        let configured = anchors(&[&foreign]);
        let elsewhere = diagnosed(&well(std::slice::from_ref(&below)), Some(&configured), &Record::default());
        let words = (Trusted, Unsuited, "the CA that pki signs with, CN=CA (sha256 ");
        says(&elsewhere, &[&right[..], &[words, closed]].concat());
        let options = RoleOptions { issuer_ref: Some("other".to_owned()), ..RoleOptions::default() };
        let seen = Observation { role: Fact::Yes(options), ..well(&[below]) };
        let own = diagnosed(&seen, Some(&configured), &Record::default());
        assert!(own.findings.iter().all(|finding| finding.standing.unsuited().is_none()), "{own:#?}");
    }

    #[test]
    fn anchors_that_cannot_be_used_leave_the_rest_as_it_is() {
        let mut diagnosis = diagnosed(&well(&[Authority::new("Root").root(2040)]), None, &Record::default());
        diagnosis.refuse_anchors(&Fault::Spec { field: "spec.trust.anchors".to_owned(), problem: "x".to_owned() });
        let right = [Login, SigningPath, Ca].map(|it| (it, Right, ""));
        says(&diagnosis, &[&right[..], &[(Trusted, Wrong, "spec.trust.anchors: x"), (Role, Unknown, CLOSED)]].concat());
        assert!(diagnosis.anchors.is_none());
    }

    /// What is told where `old` were handed out and `new` are configured, with an annotation that accepts these.
    fn told(old: &[&Certificate], new: &[&Certificate], accepted: &[&Certificate]) -> Option<Line> {
        let recorded: Vec<_> = old.iter().map(|one| CertificateStatus::from(*one)).collect();
        let accepted = accepted.iter().map(|one| one.sha256().to_owned()).collect();
        let record = Record { accepted, ..Record::default() };
        let configured = anchors(new);
        let diagnosis = diagnosed(&well(&[new[0].clone()]), Some(&configured), &record);
        announcement(&recorded, &record, &diagnosis, now())
    }

    #[test]
    fn a_change_of_anchors_is_announced_and_counts_where_one_that_lives_is_lost() {
        let [one, two] = ["One", "Two"].map(|name| Authority::new(name).root(2040));
        let old = Authority::new("Old").root(2020);
        let shown = |certificate: &Certificate| CertificateStatus::from(certificate).to_string();
        let changed = told(&[&one], &[&two], &[]).expect("an announcement");
        let words = format!("trust anchors would change: from {} to {}. Workloads", shown(&one), shown(&two));
        assert!(changed.grade == Unsuited && changed.message.starts_with(&words), "{changed:?}");
        assert!(changed.message.ends_with(&format!("vaultmesh.io/accept-anchors={}", two.sha256())), "{changed:?}");
        for (before, after, accepted, ending) in [
            (&[&one][..], &[&one, &two][..], &[][..], "None that lives is left out"),
            (&[&one, &old], &[&one], &[], "None that lives is left out"),
            (&[&one], &[&two], &[&two], "The annotation vaultmesh.io/accept-anchors accepts it"),
        ] {
            let line = told(before, after, accepted).expect("an announcement");
            assert!(line.grade == Hint && line.message.ends_with(ending), "{line:?}");
        }
        assert_eq!(told(&[&one, &two], &[&two, &one], &[]), None, "in whatever order");
        assert_eq!(told(&[], &[&one], &[]), None, "nothing was handed out");
    }

    #[test]
    fn a_root_that_would_be_refused_is_announced_as_well() {
        let [one, two] = ["One", "Two"].map(|name| Authority::new(name).root(2040));
        let record = Record { anchors: vec![one.sha256().to_owned()], ..Record::default() };
        let diagnosis = diagnosed(&well(std::slice::from_ref(&two)), None, &record);
        let line = announcement(&[CertificateStatus::from(&one)], &record, &diagnosis, now()).expect("an announcement");
        assert!(line.grade == Unsuited && line.message.contains("to CN=Two (sha256"), "{line:?}");
    }
}
