//! Which Ready condition an issuer deserves. The reasons are a closed set: scripts read them.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::signer::{Fault, SignError};
use super::trust::Anchors;
use crate::api::status::{CertificateStatus, IssuerStatus};
use crate::x509::Certificate;

/// `reason` of an issuer's Ready condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadyReason {
    /// Login works, the signing path serves us, the anchors are known.
    Verified,
    /// Not looked at yet.
    Checking,
    /// A field of the spec cannot be used.
    InvalidSpec,
    /// An object that the spec names is missing or unusable.
    InvalidReference,
    /// Vault refuses our credentials.
    LoginRefused,
    /// The signing path does not serve us, or cannot sign.
    SigningRefused,
    /// No root is known, or another than before.
    TrustAnchorsUnknown,
    /// The mount shows another root than the recorded one.
    TrustAnchorsChanged,
    /// Vault returned a certificate that must not be published.
    AnswerUntrusted,
    /// Vault cannot be reached or is not able to answer.
    VaultUnavailable,
}

impl ReadyReason {
    /// As it stands in the condition.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "Verified",
            Self::Checking => "Checking",
            Self::InvalidSpec => "InvalidSpec",
            Self::InvalidReference => "InvalidReference",
            Self::LoginRefused => "LoginRefused",
            Self::SigningRefused => "SigningRefused",
            Self::TrustAnchorsUnknown => "TrustAnchorsUnknown",
            Self::TrustAnchorsChanged => "TrustAnchorsChanged",
            Self::AnswerUntrusted => "AnswerUntrusted",
            Self::VaultUnavailable => "VaultUnavailable",
        }
    }
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

/// Everything that an issuer's status is to say.
#[derive(Debug, Clone)]
pub struct Report {
    /// The Ready condition.
    pub health: Health,
    /// The anchors in force, where they are known.
    pub anchors: Option<Anchors>,
    /// The CA that signs, where the mount shows it.
    pub signing: Option<Certificate>,
    /// Certificates live much shorter than is asked for: what was seen, for people.
    pub shortened: Option<String>,
}

impl Report {
    /// The issuer cannot even be asked.
    pub fn troubled(error: &SignError) -> Self {
        Self { health: Health::troubled(error), anchors: None, signing: None, shortened: None }
    }

    /// The status to write, if it is not there yet. What is not known now stays as it was recorded: a trouble must not make
    /// us forget which anchors have been handed out.
    pub fn status(
        &self,
        generation: Option<i64>,
        written: Option<&IssuerStatus>,
        now: Timestamp,
    ) -> Option<IssuerStatus> {
        let condition = |type_: &str, status: &str, reason: &str, message: &str| {
            let before = written.and_then(|written| written.conditions.iter().find(|it| it.type_ == type_));
            let since =
                before.filter(|before| before.status == status).map(|before| before.last_transition_time.clone());
            Condition {
                type_: type_.to_owned(),
                status: status.to_owned(),
                reason: reason.to_owned(),
                message: message.to_owned(),
                observed_generation: generation,
                last_transition_time: since.unwrap_or(Time(now)),
            }
        };
        let Health { ready, reason, message } = &self.health;
        let ready = condition("Ready", if *ready { "True" } else { "False" }, reason.as_str(), message);
        let shortened =
            self.shortened.as_ref().map(|message| condition(LIFETIME_SHORTENED, "True", "SeenInAnswer", message));
        let anchors = self.anchors.as_ref().map(|anchors| anchors.certificates().iter().map(certificate).collect());
        let new = IssuerStatus {
            signing_certificate: self
                .signing
                .as_ref()
                .map(certificate)
                .or_else(|| written.and_then(|status| status.signing_certificate.clone())),
            trust_anchors: anchors.or_else(|| written.and_then(|status| status.trust_anchors.clone())),
            conditions: std::iter::once(ready).chain(shortened).collect(),
        };
        let same = written.is_some_and(|written| {
            written.conditions == new.conditions
                && written.signing_certificate == new.signing_certificate
                && written.trust_anchors == new.trust_anchors
        });
        (!same).then_some(new)
    }
}

fn certificate(certificate: &Certificate) -> CertificateStatus {
    CertificateStatus {
        subject: certificate.subject().chars().take(1_024).collect(),
        sha256: certificate.sha256().to_owned(),
        not_after: certificate.not_after().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    }
}

fn reason(error: &SignError) -> ReadyReason {
    match error {
        SignError::Issuer(fault) => match fault {
            Fault::Spec { .. } | Fault::ServerNotAllowed { .. } => ReadyReason::InvalidSpec,
            Fault::Material { .. } => ReadyReason::InvalidReference,
            Fault::LoginRefused { .. } | Fault::TokenDead { .. } => ReadyReason::LoginRefused,
            Fault::SignForbidden { .. } | Fault::Mount { .. } => ReadyReason::SigningRefused,
            Fault::NoAnchor { .. } | Fault::MountClosed { .. } => ReadyReason::TrustAnchorsUnknown,
            Fault::AnchorsChanged { .. } => ReadyReason::TrustAnchorsChanged,
        },
        // A check asks for nothing that a role could refuse; if one does, the path does not serve us.
        SignError::Request(_) => ReadyReason::SigningRefused,
        SignError::Transient(_) => ReadyReason::VaultUnavailable,
        SignError::Untrusted(_) => ReadyReason::AnswerUntrusted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verified() -> Report {
        Report { health: Health::verified(), anchors: None, signing: None, shortened: None }
    }

    #[test]
    fn a_ready_issuer_says_vault_verified() {
        let status = verified().status(Some(3), None, Timestamp::UNIX_EPOCH).expect("a first status is written");
        let ready = &status.conditions[0];
        assert_eq!((ready.status.as_str(), ready.observed_generation), ("True", Some(3)));
        assert!(ready.message.contains("Vault verified"));
    }

    #[test]
    fn shortened_lifetimes_have_a_condition_of_their_own_for_as_long_as_they_last() {
        let plain = verified().status(Some(3), None, Timestamp::UNIX_EPOCH).expect("a first status is written");
        let cut = Report { shortened: Some("less".to_owned()), ..verified() };
        let status = cut.status(Some(3), Some(&plain), Timestamp::MAX).expect("news is written");
        assert_eq!(status.conditions[0], plain.conditions[0]);
        let shown = &status.conditions[1];
        assert_eq!(
            (shown.type_.as_str(), shown.status.as_str(), shown.message.as_str()),
            ("LifetimeShortened", "True", "less")
        );
        assert_eq!(cut.status(Some(3), Some(&status), Timestamp::UNIX_EPOCH), None);
        let cleared = verified().status(Some(3), Some(&status), Timestamp::MAX).expect("news is written");
        assert_eq!(cleared.conditions, plain.conditions);
    }

    #[test]
    fn the_same_status_is_not_written_twice() {
        let written = verified().status(Some(3), None, Timestamp::UNIX_EPOCH).expect("a first status is written");
        assert_eq!(verified().status(Some(3), Some(&written), Timestamp::MAX), None);
        assert!(verified().status(Some(4), Some(&written), Timestamp::MAX).is_some(), "a new generation was seen");
    }

    #[test]
    fn a_trouble_keeps_the_recorded_anchors_and_moves_the_transition() {
        let recorded = CertificateStatus {
            subject: "CN=root".into(),
            sha256: "ab".into(),
            not_after: "2030-01-01T00:00:00Z".into(),
        };
        let mut written = verified().status(Some(3), None, Timestamp::UNIX_EPOCH).expect("a first status is written");
        written.trust_anchors = Some(vec![recorded.clone()]);
        let fault = Fault::NoAnchor { mount: "pki".to_owned() }.into();
        let status = Report::troubled(&fault).status(Some(3), Some(&written), Timestamp::MAX).expect("news is written");
        assert_eq!(status.trust_anchors, Some(vec![recorded]));
        assert_eq!(status.conditions[0].reason, "TrustAnchorsUnknown");
        assert_eq!(status.conditions[0].last_transition_time, Time(Timestamp::MAX));
    }
}
