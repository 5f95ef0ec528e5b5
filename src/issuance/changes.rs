//! What has changed in an issuer's status that people have to hear of: the roots that a mesh trusts, and the CA that signs.

use super::verdict::Notice;
use crate::api::status::{CertificateStatus, IssuerStatus};

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Changed {
    /// Other trust anchors are in force.
    TrustAnchors,
    /// Another CA signs.
    SigningCertificate,
}

/// The changes from one status to the next, each with what to tell. What is seen for the first time has not changed.
pub fn changes(before: Option<&IssuerStatus>, after: &IssuerStatus) -> Vec<(Changed, Notice)> {
    let mut changes = Vec::new();
    let old = before.and_then(|status| status.trust_anchors.as_ref());
    if let (Some(old), Some(new)) = (old, &after.trust_anchors)
        && old != new
    {
        let note = format!("the trust anchors in force are now {}; until now {}", listed(new), listed(old));
        changes.push((Changed::TrustAnchors, Notice { reason: "TrustAnchorsInForce", note }));
    }
    let old = before.and_then(|status| status.signing_certificate.as_ref());
    if let (Some(old), Some(new)) = (old, &after.signing_certificate)
        && old != new
    {
        let note = format!("certificates are now signed by {new}; until now by {old}");
        changes.push((Changed::SigningCertificate, Notice { reason: "SigningCertificateChanged", note }));
    }
    changes
}

/// Certificates in a row, for messages.
pub(super) fn listed(certificates: &[CertificateStatus]) -> String {
    certificates.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(name: &str) -> CertificateStatus {
        let (subject, not_after) = (format!("CN={name}"), "2040-01-01T00:00:00Z".to_owned());
        CertificateStatus { subject, sha256: name.repeat(64), not_after }
    }

    fn status(anchors: &[&str], signing: Option<&str>) -> IssuerStatus {
        let anchors = (!anchors.is_empty()).then(|| anchors.iter().map(|name| certificate(name)).collect());
        IssuerStatus {
            trust_anchors: anchors,
            signing_certificate: signing.map(certificate),
            ..IssuerStatus::default()
        }
    }

    #[track_caller]
    fn tells(before: Option<&IssuerStatus>, after: &IssuerStatus, expected: &[(Changed, &str, String)]) {
        let told: Vec<_> = changes(before, after).into_iter().map(|(what, it)| (what, it.reason, it.note)).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn every_change_is_told_with_names_fingerprints_and_ends() {
        let (a, b) = (certificate("a"), certificate("b"));
        assert_eq!(a.to_string(), format!("CN=a (sha256 {}, until 2040-01-01T00:00:00Z)", "a".repeat(64)));
        let anchors = |note| (Changed::TrustAnchors, "TrustAnchorsInForce", note);
        let more = format!("the trust anchors in force are now {a}, {b}; until now {a}");
        tells(Some(&status(&["a"], None)), &status(&["a", "b"], Some("c")), &[anchors(more)]);
        let note = format!("certificates are now signed by {b}; until now by {a}");
        let signing = (Changed::SigningCertificate, "SigningCertificateChanged", note);
        tells(Some(&status(&["c"], Some("a"))), &status(&["c"], Some("b")), &[signing]);
    }

    #[test]
    fn where_nothing_changes_nothing_is_told() {
        tells(None, &status(&["a"], Some("b")), &[]);
        tells(Some(&status(&["a"], Some("b"))), &status(&["a"], Some("b")), &[]);
    }
}
