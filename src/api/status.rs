//! What we write back to an issuer. One writer: `controllers/issuers.rs`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the controller last saw of this issuer.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct IssuerStatus {
    /// `Ready`: whether certificates can be signed; its message says what is wrong and what to do. `LifetimeShortened` is there while certificates get less than a third of the lifetime that is asked for.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    /// The CA whose key signs, as far as the mount shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_certificate: Option<CertificateStatus>,
    /// The trust anchors in force: what `status.ca` of every request holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub trust_anchors: Option<Vec<CertificateStatus>>,
}

/// One certificate, told apart by its fingerprint.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq)]
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
