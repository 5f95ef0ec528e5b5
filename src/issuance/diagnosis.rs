//! What a check saw, and what it means, finding by finding: what is right, wrong or unknown, which anchors are in force, whose key
//! signs.

use jiff::Timestamp;
use serde::Serialize;

use super::discovery::{self, Record};
use super::role::{self, Advice, RoleOptions};
use super::signer::{Fact, Fault, Observation, Shown, SignError};
use super::trust::Anchors;
use crate::api::IssuerConfig;
use crate::api::status::CertificateStatus;
use crate::x509::Certificate;
use crate::x509::path::{self, PathError};

/// One thing that a check looks at, and what it found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub subject: Subject,
    /// How it stands, and how it is mended.
    pub standing: Standing,
}

/// What a check looks at, in the order in which a person would mend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Subject {
    /// Can the spec be used, and what it names?
    Spec,
    /// Do our credentials give a token?
    Login,
    /// Does the signing path serve us?
    SigningPath,
    /// Can the CA sign, and can its signatures be checked?
    Ca,
    /// Is it known what the mesh is to trust?
    Anchors,
    /// One option of Vault's role.
    Role,
}

impl Subject {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spec => "spec",
            Self::Login => "login",
            Self::SigningPath => "signing path",
            Self::Ca => "CA",
            Self::Anchors => "trust anchors",
            Self::Role => "role",
        }
    }
}

/// How something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// As it should be.
    Right,
    /// Good enough, and there is a better.
    Hint(Advice),
    /// It refuses requests that meshes make, or bites later; the issuer signs on.
    Unsuited(Advice),
    /// It keeps the issuer from signing.
    Wrong(SignError),
    /// It could not be seen.
    Unknown,
}

impl Standing {
    fn of<T>(fact: &Fact<T>) -> Self {
        match fact {
            Fact::Yes(_) => Self::Right,
            Fact::No(error) => Self::Wrong(error.clone()),
            Fact::Unknown => Self::Unknown,
        }
    }

    /// What refuses or bites.
    pub fn unsuited(&self) -> Option<&Advice> {
        match self {
            Self::Unsuited(advice) => Some(advice),
            Self::Right | Self::Hint(_) | Self::Wrong(_) | Self::Unknown => None,
        }
    }

    /// What could be better.
    pub fn hint(&self) -> Option<&Advice> {
        match self {
            Self::Hint(advice) => Some(advice),
            Self::Right | Self::Unsuited(_) | Self::Wrong(_) | Self::Unknown => None,
        }
    }

    fn wrong(&self) -> Option<&SignError> {
        match self {
            Self::Wrong(error) => Some(error),
            Self::Right | Self::Hint(_) | Self::Unsuited(_) | Self::Unknown => None,
        }
    }
}

/// The meaning of one check.
#[derive(Debug, Clone)]
pub struct Diagnosis {
    /// What was found, in the order in which a person would mend things.
    pub findings: Vec<Finding>,
    /// The anchors in force, where they are known.
    pub anchors: Option<Anchors>,
    /// The CA that signs, where it is known.
    pub signing: Option<Certificate>,
}

impl Diagnosis {
    /// The first thing that keeps this issuer from signing.
    pub fn trouble(&self) -> Option<&SignError> {
        self.findings.iter().find_map(|finding| finding.standing.wrong())
    }

    /// There is a trouble about the CA or about roots, which no request that is let through could put right.
    pub fn is_hopeless(&self) -> bool {
        let of_trust = |finding: &&Finding| matches!(finding.subject, Subject::Ca | Subject::Anchors);
        self.findings.iter().filter(of_trust).any(|finding| finding.standing.wrong().is_some())
    }

    /// What spec.trust.anchors holds can be no anchor, whatever else was found.
    pub fn refuse_anchors(&mut self, fault: &Fault) {
        self.anchors = None;
        for finding in self.findings.iter_mut().filter(|finding| finding.subject == Subject::Anchors) {
            finding.standing = Standing::Wrong(fault.clone().into());
        }
    }

    /// Vault could not be reached, or does not serve for now.
    pub fn is_away(&self) -> bool {
        let asked = |finding: &&Finding| matches!(finding.subject, Subject::Login | Subject::SigningPath);
        let away = |finding: &Finding| matches!(finding.standing, Standing::Wrong(SignError::Transient(_)));
        self.findings.iter().filter(asked).any(away)
    }

    /// The root to which the mount leads now, where that is not the one on record and nobody has accepted it.
    pub fn refused_root(&self) -> Option<&CertificateStatus> {
        self.findings.iter().find_map(|finding| match finding.standing.wrong() {
            Some(SignError::Issuer(Fault::AnchorsChanged { root, .. })) => Some(&**root),
            Some(_) | None => None,
        })
    }
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

/// Reads an observation.
pub fn diagnose(observation: &Observation, trust: Trust<'_>, config: &IssuerConfig, now: Timestamp) -> Diagnosis {
    let (path, mount) = (&config.vault.path, config.vault.path.mount());
    let (signing, ca) = match &observation.mount {
        Fact::Yes(shown) => ca(shown, trust, mount, now),
        Fact::No(_) | Fact::Unknown => (None, Standing::Unknown),
    };
    let (anchors, rooted) = match anchors(&observation.mount, trust, mount, now) {
        Ok(anchors) => {
            let standing = elsewhere(observation, signing.as_ref(), &anchors, trust.record, mount);
            (Some(anchors), standing.map_or(Standing::Right, Standing::Unsuited))
        }
        Err(error) => (None, Standing::Wrong(error)),
    };
    let seen = [
        (Subject::Login, Standing::of(&observation.login)),
        (Subject::SigningPath, Standing::of(&observation.signing)),
        (Subject::Ca, ca),
        (Subject::Anchors, rooted),
    ];
    let of_role = match &observation.role {
        Fact::Yes(options) => role::findings(options, path.verb(), config.certificates.durations.default),
        Fact::No(_) | Fact::Unknown => Vec::new(),
    };
    let seen = seen.into_iter().map(|(subject, standing)| Finding { subject, standing });
    Diagnosis { findings: seen.chain(of_role).collect(), anchors, signing }
}

/// The CA that signs, and whether it can.
fn ca(shown: &Shown, trust: Trust<'_>, mount: &str, now: Timestamp) -> (Option<Certificate>, Standing) {
    let Some(signing) = signing(shown, trust, now) else { return (None, Standing::Unknown) };
    let usable = discovery::usable(mount, signing, shown, trust.configured, now);
    let standing = usable.map_or_else(|fault| Standing::Wrong(fault.into()), |()| Standing::Right);
    (Some(signing.clone()), standing)
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

/// A CA that does not lead to the anchors in force. It keeps no issuer from being Ready: a role may sign with another CA than the
/// one that its mount shows, and each answer is looked at.
fn elsewhere(
    seen: &Observation,
    signing: Option<&Certificate>,
    anchors: &Anchors,
    record: &Record,
    mount: &str,
) -> Option<Advice> {
    let (Fact::Yes(shown), Some(signing)) = (&seen.mount, signing) else { return None };
    let of_role = |options: &RoleOptions| options.issuer_ref.as_ref().is_some_and(|it| it != "default");
    // Who may not read the role sees by the last signature that another CA than the mount's own signs.
    let signed = |sha256: &String| shown.certificates.iter().all(|shown| shown.sha256() != sha256.as_str());
    let has_another = !shown.named
        && (matches!(&seen.role, Fact::Yes(options) if of_role(options))
            || record.signing.as_ref().is_some_and(signed));
    if has_another || anchors.certificates().contains(signing) {
        return None;
    }
    match path::build(signing, &shown.certificates, anchors.certificates()) {
        Err(PathError::MissingIssuer { .. } | PathError::OtherRoot { .. }) => {
            Some(Advice::Elsewhere { mount: mount.to_owned(), ca: CertificateStatus::from(signing).to_string() })
        }
        // What cannot be checked is said of the CA itself.
        Ok(_)
        | Err(
            PathError::MayNotSign { .. }
            | PathError::Unsupported { .. }
            | PathError::TooManyCertificates(_)
            | PathError::TooManyChecks,
        ) => None,
    }
}

/// The CA that signs: the one that the path names; else the one that signed last, as long as the mount has it and its time is not
/// over; else the mount's default.
fn signing<'a>(shown: &'a Shown, trust: Trust<'a>, now: Timestamp) -> Option<&'a Certificate> {
    let first = shown.certificates.first();
    if shown.named {
        return first;
    }
    let lives = |one: &&Certificate| one.not_after() >= now;
    let is_last = |one: &&Certificate| trust.record.signing.as_deref() == Some(one.sha256());
    let last = shown.certificates.iter().find(is_last);
    last.or_else(|| trust.signing.filter(|_| !shown.complete)).filter(lives).or(first)
}

#[cfg(test)]
mod tests {
    use super::super::signer::Outage;
    use super::*;
    use crate::api::testing::config;
    use crate::x509::testing::{Authority, now};

    fn diagnosed(observation: &Observation) -> Diagnosis {
        let trust = Trust { configured: None, known: None, signing: None, record: &Record::default() };
        diagnose(observation, trust, &config(), now())
    }

    #[test]
    fn everything_that_a_check_looks_at_has_a_finding_and_the_first_wrong_one_is_the_trouble() {
        let certificates = vec![Authority::new("Root").root(2040)];
        let role = RoleOptions { require_cn: Some(true), ..RoleOptions::default() };
        let well = Observation {
            login: Fact::Yes(()),
            signing: Fact::Unknown,
            mount: Fact::Yes(Shown { certificates, named: false, complete: true }),
            role: Fact::Yes(role),
            ends: None,
        };
        let diagnosis = diagnosed(&well);
        let of = |subject| {
            let standing = diagnosis.findings.iter().find(|finding| finding.subject == subject);
            standing.map(|finding| finding.standing.clone()).expect("a finding")
        };
        assert_eq!([Subject::Login, Subject::Ca, Subject::Anchors].map(of), [const { Standing::Right }; 3]);
        assert_eq!(
            (of(Subject::SigningPath), of(Subject::Role)),
            (Standing::Unknown, Standing::Unsuited(Advice::RequireCn))
        );
        assert!(
            diagnosis.trouble().is_none() && !diagnosis.is_hopeless(),
            "what a role refuses is no trouble of the issuer"
        );

        let sealed: SignError = Outage::Sealed { server: "vault:8200".to_owned() }.into();
        let nothing = Observation { signing: Fact::No(sealed.clone()), mount: Fact::Unknown, ..well };
        let diagnosis = diagnosed(&nothing);
        assert_eq!(diagnosis.trouble(), Some(&sealed), "before the anchors, which are not known either");
        assert!(diagnosis.is_hopeless());
    }
}
