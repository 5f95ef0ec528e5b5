//! What we write back to an issuer. One writer: `controllers/issuers.rs`.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::x509::Certificate;

/// What the controller last saw of this issuer.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct IssuerStatus {
    /// `Ready`: whether certificates can be signed. `Published`, where spec.trust.publish is set: whether the trust anchors in force stand there. `LifetimeShortened` is there while certificates get less than a third of the lifetime that is asked for, `CAExpiring` while the CA ends before certificates would that are asked for, `TokenExpiring` from 24 h before the end of a static token that no renewal puts off. `RoleSuitsMesh` says whether options of Vault's role refuse what meshes ask for; `Unknown` where the login may not read the role. A message says what is wrong and what to do.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    /// The CA that signed last; before the first certificate, the CA that the mount shows for `spec.vault.path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_certificate: Option<CertificateStatus>,
    /// The trust anchors in force: what `status.ca` of every request holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub trust_anchors: Option<Vec<CertificateStatus>>,
    /// True while no certificate has been issued under trust anchors that the mount itself showed: the first one may still correct them, because a role of Vault's may name another issuer than the one that the mount shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_anchors_provisional: Option<bool>,
    /// A root of the mount that Vault signs under now and that is not in force. Nothing is signed until spec.trust.anchors names the root that is meant, or the annotation vaultmesh.io/accept-anchors holds this fingerprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_root: Option<CertificateStatus>,
}

impl IssuerStatus {
    /// The condition of this type.
    pub fn condition(&self, type_: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == type_)
    }
}

/// One certificate, told apart by its fingerprint.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// The subject, RFC 4514.
    #[schemars(length(max = 1024))]
    pub subject: String,
    /// SHA-256 of the DER, in lower-case hex.
    #[schemars(length(max = 64))]
    pub sha256: String,
    /// The end of its validity, RFC 3339.
    #[schemars(length(max = 40))]
    pub not_after: String,
}

impl From<&Certificate> for CertificateStatus {
    fn from(certificate: &Certificate) -> Self {
        Self {
            subject: certificate.subject().chars().take(1_024).collect(),
            sha256: certificate.sha256().to_owned(),
            not_after: day(certificate.not_after()),
        }
    }
}

/// A moment as statuses and messages have it: RFC 3339, UTC, whole seconds.
pub fn day(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl fmt::Display for CertificateStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, sha256, not_after } = self;
        // A name may be as long as its CA likes; the fingerprint must not be what is cut off.
        let short: String = subject.chars().take(100).collect();
        write!(f, "{short} (sha256 {sha256}, until {not_after})")
    }
}

/// A condition of status (none: unknown), reason and message; its transition is the one that is written there while its status stays the same.
pub fn condition(
    type_: &str,
    (status, reason, message): (impl Into<Option<bool>>, &str, String),
    generation: Option<i64>,
    written: Option<&IssuerStatus>,
    now: Timestamp,
) -> Condition {
    let status = match status.into() {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    let before = written.and_then(|written| written.condition(type_)).filter(|before| before.status == status);
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: before.map_or(Time(now), |before| before.last_transition_time.clone()),
    }
}
