//! Which Ready condition an issuer deserves. The reasons are a closed set: scripts read them.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::discovery::Record;
use super::publication::Publication;
use super::role::Suitability;
use super::signer::{Fault, Obstacle, Outage, SignError};
use super::trust::Anchors;
use crate::api::status::{CertificateStatus, IssuerStatus, condition};
use crate::x509::Certificate;

/// Writes the reasons down once: the variant with its meaning, and how it stands in the condition.
macro_rules! reasons {
    ($($(#[$meaning:meta])* $variant:ident = $text:literal,)*) => {
        /// `reason` of an issuer's Ready condition. docs/conditions.md tells users what each means.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum ReadyReason {
            $($(#[$meaning])* $variant,)*
        }

        impl ReadyReason {
            /// Every reason there is.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// As it stands in the condition.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }
    };
}

reasons! {
    /// Login works, the signing path serves us, the anchors are known.
    Verified = "Verified",
    /// Not looked at yet.
    Checking = "Checking",
    /// A field of the spec cannot be used.
    InvalidSpec = "InvalidSpec",
    /// An object that the spec names is missing or unusable.
    InvalidReference = "InvalidReference",
    /// No connection to Vault, or one that was cut or stayed silent.
    VaultUnreachable = "VaultUnreachable",
    /// No TLS with Vault: its certificate, its name, our CA bundle or our client certificate.
    VaultTlsFailed = "VaultTLSFailed",
    /// Vault is sealed.
    VaultSealed = "VaultSealed",
    /// A standby answered that knows no active node.
    VaultStandby = "VaultStandby",
    /// Vault answers that it is not able to (412, 429, 5xx), or somebody else answers in its place.
    VaultUnavailable = "VaultUnavailable",
    /// Vault refuses our credentials, or the token that they gave.
    LoginRefused = "LoginRefused",
    /// Vault has no such namespace.
    NamespaceNotFound = "NamespaceNotFound",
    /// The login may not use the signing path; under least privilege a misspelt mount or role looks the same.
    PermissionDenied = "PermissionDenied",
    /// No secrets engine is mounted at the signing path.
    MountNotFound = "MountNotFound",
    /// The mount has no such role.
    RoleNotFound = "RoleNotFound",
    /// The mount has no such PKI issuer: the one in the path, the role's, or a default one.
    IssuerNotFound = "IssuerNotFound",
    /// What is mounted there does not sign at this path.
    SigningRefused = "SigningRefused",
    /// The mount's CA is missing, may not issue, or makes signatures that cannot be checked.
    CaUnusable = "CAUnusable",
    /// The CA that signs, or its root, is past its end.
    CaExpired = "CAExpired",
    /// No root is known.
    TrustAnchorsUnknown = "TrustAnchorsUnknown",
    /// The mount shows another root than the recorded one.
    TrustAnchorsChanged = "TrustAnchorsChanged",
    /// Vault returned a certificate that must not be published.
    AnswerUntrusted = "AnswerUntrusted",
}

/// The condition that says whether the options of Vault's role refuse what meshes ask for; absent where none could.
const ROLE_SUITS_MESH: &str = "RoleSuitsMesh";

/// Whether a condition says that something is amiss: some are good while they are true, others are there only while something is
/// wrong.
pub fn is_warning(condition: &Condition) -> bool {
    let good = !matches!(condition.type_.as_str(), LIFETIME_SHORTENED | CA_EXPIRING | TOKEN_EXPIRING);
    condition.status != "Unknown" && (condition.status == "True") != good
}

/// Whether a person has to hear of a condition that was written. The reason of a Ready condition may change from check to check,
/// except that a root which changed must be heard of; that of any other condition changes by somebody's hand. Of a role only what is
/// amiss is told, and that it is mended.
pub fn is_news(was: Option<&Condition>, now: &Condition) -> bool {
    if now.type_ == ROLE_SUITS_MESH {
        return was.is_some_and(is_warning) != is_warning(now);
    }
    let passing = now.type_ == "Ready" && now.reason != ReadyReason::TrustAnchorsChanged.as_str();
    was.is_none_or(|was| was.status != now.status || (!passing && was.reason != now.reason))
}

/// The content of a Ready condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// `status: "True"`?
    pub ready: bool,
    /// Its reason.
    pub reason: ReadyReason,
    /// For people: what is wrong and what to do; scripts look for "Vault verified" in it.
    pub message: String,
}

impl Health {
    /// All is well.
    pub fn verified() -> Self {
        Self { ready: true, reason: ReadyReason::Verified, message: "Vault verified".to_owned() }
    }

    /// Nothing is known yet.
    pub fn checking() -> Self {
        Self { ready: false, reason: ReadyReason::Checking, message: "Vault is being asked".to_owned() }
    }

    /// Something keeps the issuer from signing.
    pub fn troubled(error: &SignError) -> Self {
        Self { ready: false, reason: reason(error), message: error.to_string() }
    }
}

/// The condition that says that certificates live much shorter than is asked for; absent where they do not.
const LIFETIME_SHORTENED: &str = "LifetimeShortened";
const TOKEN_EXPIRING: &str = "TokenExpiring";

/// The condition that says that the CA ends before certificates would that are asked for; absent where it does not.
const CA_EXPIRING: &str = "CAExpiring";

/// Everything that an issuer's status is to say.
#[derive(Debug, Clone)]
pub struct Report {
    /// The Ready condition.
    pub health: Health,
    /// The anchors in force, where they are known.
    pub anchors: Option<Anchors>,
    /// The CA that signs, where it is known.
    pub signing: Option<Certificate>,
    /// What is known of the anchors beyond themselves; none: what the status says stays.
    pub record: Option<Record>,
    /// Certificates live much shorter than is asked for: what was seen, for people.
    pub shortened: Option<String>,
    /// The token ends soon and a person has to replace it: what to say.
    pub token_expiring: Option<String>,
    /// The CA ends before certificates would that are asked for: both dates, for people.
    pub ca_expiring: Option<String>,
    /// What Vault's role is worth to a mesh.
    pub role: Option<Suitability>,
}

impl Report {
    /// The issuer cannot even be asked.
    pub fn troubled(error: &SignError) -> Self {
        let health = Health::troubled(error);
        Self {
            health,
            anchors: None,
            signing: None,
            record: None,
            shortened: None,
            token_expiring: None,
            ca_expiring: None,
            role: None,
        }
    }

    /// The status to write, if it is not there yet. What is not known now stays as it was recorded: a trouble must not make
    /// us forget which anchors have been handed out.
    pub fn status(
        &self,
        publication: &Publication,
        generation: Option<i64>,
        written: Option<&IssuerStatus>,
        now: Timestamp,
    ) -> Option<IssuerStatus> {
        let health = (self.health.ready, self.health.reason.as_str(), self.health.message.clone());
        let mut conditions = vec![condition("Ready", health, generation, written, now)];
        let warnings = [
            (LIFETIME_SHORTENED, "SeenInAnswer", &self.shortened),
            (CA_EXPIRING, "LifetimesBeyondCA", &self.ca_expiring),
            (TOKEN_EXPIRING, TOKEN_EXPIRING, &self.token_expiring),
        ];
        conditions.extend(warnings.into_iter().filter_map(|(type_, reason, words)| {
            Some(condition(type_, (true, reason, words.clone()?), generation, written, now))
        }));
        conditions.extend(self.role.as_ref().map(|role| {
            let reason = match role.suits {
                Some(true) => "NothingRefused",
                Some(false) => "OptionsRefuse",
                None => "NotReadable",
            };
            let content = (role.suits, reason, role.message.clone());
            condition(ROLE_SUITS_MESH, content, generation, written, now)
        }));
        conditions.extend(publication.condition(generation, written, now));
        let mut new = written.cloned().unwrap_or_default();
        let seen = |certificate: &Certificate| CertificateStatus::from(certificate);
        new.signing_certificate = self.signing.as_ref().map(seen).or(new.signing_certificate);
        let anchors = self.anchors.as_ref().map(|anchors| anchors.certificates().iter().map(seen).collect());
        new.trust_anchors = anchors.or(new.trust_anchors);
        if let Some(record) = &self.record {
            new.trust_anchors_provisional = record.provisional.then_some(true);
            new.refused_root.clone_from(&record.elsewhere);
        }
        new.conditions = conditions;
        (written != Some(&new)).then_some(new)
    }
}

fn reason(error: &SignError) -> ReadyReason {
    match error {
        SignError::Issuer(fault) => match fault {
            Fault::Spec { .. } | Fault::ServerNotAllowed { .. } => ReadyReason::InvalidSpec,
            Fault::Material { .. } => ReadyReason::InvalidReference,
            Fault::LoginRefused { .. } | Fault::TokenDead { .. } => ReadyReason::LoginRefused,
            Fault::SignForbidden { .. } => ReadyReason::PermissionDenied,
            Fault::Mount { obstacle, .. } => obstructed(*obstacle),
            Fault::CaExpired { .. } => ReadyReason::CaExpired,
            Fault::NoAnchor { .. } | Fault::MountClosed { .. } => ReadyReason::TrustAnchorsUnknown,
            Fault::AnchorsChanged { .. } => ReadyReason::TrustAnchorsChanged,
        },
        // A check asks for nothing that a role could refuse; if one does, the path does not serve us.
        SignError::Request(_) => ReadyReason::SigningRefused,
        SignError::Transient(outage) => match outage {
            Outage::NoAccountToken { .. } => ReadyReason::InvalidReference,
            Outage::Unreachable { .. } | Outage::Interrupted { .. } => ReadyReason::VaultUnreachable,
            Outage::Tls { .. } => ReadyReason::VaultTlsFailed,
            Outage::Sealed { .. } => ReadyReason::VaultSealed,
            Outage::Standby { .. } => ReadyReason::VaultStandby,
            Outage::Throttled { .. } | Outage::Status { .. } | Outage::NotVault { .. } => ReadyReason::VaultUnavailable,
            // What a request that asks for too long a life meets; a check does not.
            Outage::BeyondCa { .. } => ReadyReason::CaExpired,
        },
        SignError::Untrusted(_) => ReadyReason::AnswerUntrusted,
    }
}

fn obstructed(obstacle: Obstacle) -> ReadyReason {
    match obstacle {
        Obstacle::NoRole | Obstacle::NoCelRole => ReadyReason::RoleNotFound,
        Obstacle::NoMount => ReadyReason::MountNotFound,
        Obstacle::NoSuchPath => ReadyReason::SigningRefused,
        Obstacle::NoNamespace => ReadyReason::NamespaceNotFound,
        Obstacle::NoIssuer | Obstacle::NoDefaultIssuer => ReadyReason::IssuerNotFound,
        Obstacle::NoCertificate | Obstacle::NotForIssuing | Obstacle::Algorithm | Obstacle::Root => {
            ReadyReason::CaUnusable
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::publication::Unpublished;
    use super::super::words::Words;
    use super::*;

    fn verified() -> Report {
        Report { health: Health::verified(), ..Report::troubled(&Fault::NoAnchor { mount: String::new() }.into()) }
    }

    fn suits(suits: Option<bool>) -> Report {
        Report { role: Some(Suitability { suits, message: "key_type".to_owned() }), ..verified() }
    }

    #[test]
    fn a_role_is_told_of_when_it_refuses_a_mesh_and_when_that_is_mended() {
        let status = |report: &Report| {
            report.status(&Publication::Unwanted, Some(3), None, Timestamp::UNIX_EPOCH).expect("news").conditions[1]
                .clone()
        };
        let [unknown, bad, good] = [None, Some(false), Some(true)].map(|it| status(&suits(it)));
        let shown = [&unknown, &bad, &good].map(|it| (it.status.as_str(), it.reason.as_str()));
        assert_eq!(shown, [("Unknown", "NotReadable"), ("False", "OptionsRefuse"), ("True", "NothingRefused")]);
        let silent =
            [(None, &unknown), (None, &good), (Some(&unknown), &good), (Some(&bad), &bad), (Some(&good), &unknown)];
        assert!(silent.iter().all(|(was, now)| !is_news(*was, now)));
        let told = [(None, &bad), (Some(&unknown), &bad), (Some(&good), &bad), (Some(&bad), &good)];
        assert!(told.iter().all(|(was, now)| is_news(*was, now)));
        assert!(is_warning(&bad) && !is_warning(&good) && !is_warning(&unknown));
    }

    #[test]
    fn what_is_there_only_while_something_is_wrong_warns_while_it_is_true() {
        let report = Report {
            shortened: Some("less".to_owned()),
            ca_expiring: Some("soon".to_owned()),
            token_expiring: Some("soon".to_owned()),
            ..verified()
        };
        let status = report.status(&Publication::Unwanted, Some(3), None, Timestamp::UNIX_EPOCH).expect("news");
        let shown: Vec<_> = status.conditions.iter().map(|it| (it.type_.as_str(), is_warning(it))).collect();
        assert_eq!(
            shown,
            [("Ready", false), ("LifetimeShortened", true), ("CAExpiring", true), ("TokenExpiring", true)]
        );
        let fault = Fault::NoAnchor { mount: "pki".to_owned() }.into();
        let status = Report::troubled(&fault).status(&Publication::Unwanted, Some(3), Some(&status), Timestamp::MAX);
        assert!(is_warning(&status.expect("news").conditions[0]));
    }

    #[test]
    fn every_reason_stands_in_the_users_page_and_no_other() {
        let page = include_str!("../../docs/conditions.md");
        let rows = page.lines().skip_while(|line| !line.starts_with("## Ready")).skip(1);
        let rows = rows.take_while(|line| !line.starts_with("## ")).filter_map(|line| line.strip_prefix("| `"));
        let told: Vec<_> = rows.filter_map(|row| row.split_once('`')).map(|(reason, _)| reason).collect();
        let known: Vec<_> = ReadyReason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(told, known);
    }

    #[test]
    fn each_trouble_has_the_reason_that_names_it() {
        use super::super::signer::Mistrust;
        let (path, server, words) =
            (|| "pki/sign/web".to_owned(), || "vault:8200".to_owned(), || Words::new("no", &[]));
        let mount = |obstacle| SignError::from(Fault::Mount { path: path(), words: words(), obstacle });
        let status = |status| Outage::Status { server: server(), status, words: words() };
        let rows: [(SignError, &str); 20] = [
            (Outage::Unreachable { server: server(), class: "refused" }.into(), "VaultUnreachable"),
            (Outage::Interrupted { server: server(), class: "timeout" }.into(), "VaultUnreachable"),
            (Outage::Tls { server: server(), words: words(), hint: String::new() }.into(), "VaultTLSFailed"),
            (Outage::Sealed { server: server() }.into(), "VaultSealed"),
            (Outage::Standby { server: server(), words: words() }.into(), "VaultStandby"),
            (status(500).into(), "VaultUnavailable"),
            (Outage::NotVault { server: server(), status: 502, hint: String::new() }.into(), "VaultUnavailable"),
            (Fault::TokenDead { words: words(), hint: String::new() }.into(), "LoginRefused"),
            (Fault::SignForbidden { path: path(), words: words() }.into(), "PermissionDenied"),
            (Fault::CaExpired { mount: path(), ca: String::new() }.into(), "CAExpired"),
            (Mistrust::ForeignKey { path: path() }.into(), "AnswerUntrusted"),
            (mount(Obstacle::NoRole), "RoleNotFound"),
            (mount(Obstacle::NoCelRole), "RoleNotFound"),
            (mount(Obstacle::NoMount), "MountNotFound"),
            (mount(Obstacle::NoSuchPath), "SigningRefused"),
            (mount(Obstacle::NoNamespace), "NamespaceNotFound"),
            (mount(Obstacle::NoIssuer), "IssuerNotFound"),
            (mount(Obstacle::NoDefaultIssuer), "IssuerNotFound"),
            (mount(Obstacle::NotForIssuing), "CAUnusable"),
            (mount(Obstacle::NoCertificate), "CAUnusable"),
        ];
        for (error, expected) in rows {
            assert_eq!(Health::troubled(&error).reason.as_str(), expected, "{error}");
        }
    }

    #[test]
    fn a_ready_issuer_says_vault_verified() {
        let status = verified()
            .status(&Publication::Unwanted, Some(3), None, Timestamp::UNIX_EPOCH)
            .expect("a first status is written");
        let ready = &status.conditions[0];
        assert_eq!((ready.status.as_str(), ready.observed_generation), ("True", Some(3)));
        assert!(ready.message.contains("Vault verified"));
    }

    #[test]
    fn a_token_that_ends_soon_has_a_condition_of_its_own() {
        let report = Report { token_expiring: Some("until noon".to_owned()), ..verified() };
        let status = report
            .status(&Publication::Unwanted, Some(3), None, Timestamp::UNIX_EPOCH)
            .expect("a first status is written");
        let shown: Vec<_> = status.conditions.iter().map(|it| (it.type_.as_str(), it.message.as_str())).collect();
        assert_eq!(shown, [("Ready", "Vault verified"), ("TokenExpiring", "until noon")]);
    }

    #[test]
    fn shortened_lifetimes_have_a_condition_of_their_own_for_as_long_as_they_last() {
        let plain = verified()
            .status(&Publication::Unwanted, Some(3), None, Timestamp::UNIX_EPOCH)
            .expect("a first status is written");
        let cut = Report { shortened: Some("less".to_owned()), ..verified() };
        let status =
            cut.status(&Publication::Unwanted, Some(3), Some(&plain), Timestamp::MAX).expect("news is written");
        assert_eq!(status.conditions[0], plain.conditions[0]);
        let shown = &status.conditions[1];
        assert_eq!(
            (shown.type_.as_str(), shown.status.as_str(), shown.message.as_str()),
            ("LifetimeShortened", "True", "less")
        );
        assert_eq!(cut.status(&Publication::Unwanted, Some(3), Some(&status), Timestamp::UNIX_EPOCH), None);
        let cleared =
            verified().status(&Publication::Unwanted, Some(3), Some(&status), Timestamp::MAX).expect("news is written");
        assert_eq!(cleared.conditions, plain.conditions);
    }

    #[test]
    fn the_same_status_is_not_written_twice() {
        let written = verified()
            .status(&Publication::Unwanted, Some(3), None, Timestamp::UNIX_EPOCH)
            .expect("a first status is written");
        assert_eq!(verified().status(&Publication::Unwanted, Some(3), Some(&written), Timestamp::MAX), None);
        assert!(
            verified().status(&Publication::Unwanted, Some(4), Some(&written), Timestamp::MAX).is_some(),
            "a new generation was seen"
        );
    }

    #[test]
    fn a_publication_is_news_of_its_own() {
        let not = Publication::Not(Unpublished::AnchorsUnknown);
        let written = verified().status(&not, Some(3), None, Timestamp::UNIX_EPOCH).expect("a first status is written");
        let types: Vec<_> = written.conditions.iter().map(|condition| condition.type_.as_str()).collect();
        assert_eq!(types, ["Ready", "Published"]);
        assert_eq!(verified().status(&not, Some(3), Some(&written), Timestamp::MAX), None);
        assert_eq!(verified().status(&Publication::AsWritten, Some(3), Some(&written), Timestamp::MAX), None);
        let gone = verified().status(&Publication::Unwanted, Some(3), Some(&written), Timestamp::MAX).expect("news");
        assert_eq!(gone.conditions, written.conditions[..1]);
    }

    #[test]
    fn a_trouble_keeps_the_recorded_anchors_and_moves_the_transition() {
        let recorded = CertificateStatus {
            subject: "CN=root".into(),
            sha256: "ab".into(),
            not_after: "2030-01-01T00:00:00Z".into(),
        };
        let mut written = verified()
            .status(&Publication::Unwanted, Some(3), None, Timestamp::UNIX_EPOCH)
            .expect("a first status is written");
        written.trust_anchors = Some(vec![recorded.clone()]);
        let fault = Fault::NoAnchor { mount: "pki".to_owned() }.into();
        let status = Report::troubled(&fault)
            .status(&Publication::Unwanted, Some(3), Some(&written), Timestamp::MAX)
            .expect("news is written");
        assert_eq!(status.trust_anchors, Some(vec![recorded]));
        assert_eq!(status.conditions[0].reason, "TrustAnchorsUnknown");
        assert_eq!(
            status.conditions[0].last_transition_time,
            k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::MAX)
        );
    }

    #[test]
    fn what_is_learnt_of_the_anchors_replaces_what_was_written_and_a_trouble_does_not() {
        let refused = CertificateStatus { subject: "CN=new".into(), sha256: "cd".into(), not_after: String::new() };
        let record = Record { provisional: true, elsewhere: Some(refused.clone()), ..Record::default() };
        let report = Report { record: Some(record), ..verified() };
        let written = report
            .status(&Publication::Unwanted, Some(3), None, Timestamp::UNIX_EPOCH)
            .expect("a first status is written");
        assert_eq!((written.trust_anchors_provisional, &written.refused_root), (Some(true), &Some(refused)));
        let fault = Fault::NoAnchor { mount: "pki".to_owned() }.into();
        let status = Report::troubled(&fault)
            .status(&Publication::Unwanted, Some(3), Some(&written), Timestamp::MAX)
            .expect("news is written");
        assert_eq!((status.trust_anchors_provisional, &status.refused_root), (Some(true), &written.refused_root));
        let settled = Report { record: Some(Record::default()), ..verified() };
        let status =
            settled.status(&Publication::Unwanted, Some(3), Some(&written), Timestamp::MAX).expect("news is written");
        assert_eq!((status.trust_anchors_provisional, status.refused_root), (None, None));
    }
}
