//! Is this request ours, approved and unfinished? The order is cert-manager's own (its certificaterequests sync): a denial wins
//! over everything unfinished, and what is finished is never touched again.

use super::verdict::NotIssued;
use crate::api::IssuerKey;

/// Where a request stands, drawn from its spec and conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The issuer it names, if that is one of our kinds in our group.
    pub issuer: Option<IssuerKey>,
    /// `Issued`, `Failed`, or `Denied` with its `failureTime`.
    pub finished: bool,
    /// `Denied=True`.
    pub denied: bool,
    /// `InvalidRequest=True`.
    pub invalid: bool,
    /// `Approved=True`.
    pub approved: bool,
    /// `status.certificate` is not empty.
    pub has_certificate: bool,
    /// It has an owner (a Certificate, a Pod), which does without it until it is issued.
    pub owned: bool,
}

/// Why a request is left as it is, without a word on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignored {
    /// Another group's, or a kind we do not have.
    NotOurs,
    /// It has reached its end.
    Finished,
    /// cert-manager's own validation found it invalid.
    Invalid,
    /// Somebody has written a certificate into it.
    HasCertificate,
    /// Our answer is written; the watch has not shown it yet.
    Written,
    /// It went away while it waited for its turn.
    Vanished,
    /// The process is ending; the next one takes over.
    Stopping,
}

/// Lets a request pass that should be signed, and names its issuer.
///
/// # Errors
/// Why nothing is to be signed.
pub fn triage(standing: &Standing) -> Result<&IssuerKey, NotIssued> {
    let Some(issuer) = &standing.issuer else {
        return Err(NotIssued::Ignored(Ignored::NotOurs));
    };
    if standing.finished {
        return Err(NotIssued::Ignored(Ignored::Finished));
    }
    if standing.denied {
        return Err(NotIssued::Denied);
    }
    if standing.invalid {
        return Err(NotIssued::Ignored(Ignored::Invalid));
    }
    if !standing.approved {
        return Err(NotIssued::Unapproved(issuer.clone()));
    }
    if standing.has_certificate {
        return Err(NotIssued::Ignored(Ignored::HasCertificate));
    }
    Ok(issuer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::IssuerKind;

    fn approved() -> Standing {
        Standing {
            issuer: Some(IssuerKey::new(IssuerKind::Namespaced, "mesh", "vault")),
            finished: false,
            denied: false,
            invalid: false,
            approved: true,
            has_certificate: false,
            owned: false,
        }
    }

    #[track_caller]
    fn check(edit: impl FnOnce(&mut Standing), expected: NotIssued) {
        let mut standing = approved();
        edit(&mut standing);
        assert_eq!(triage(&standing), Err(expected), "{standing:?}");
    }

    #[test]
    fn an_approved_unfinished_request_passes() {
        assert!(triage(&approved()).is_ok());
    }

    #[test]
    fn each_reason_to_stop_is_told_apart() {
        check(|standing| standing.issuer = None, NotIssued::Ignored(Ignored::NotOurs));
        check(|standing| standing.finished = true, NotIssued::Ignored(Ignored::Finished));
        check(|standing| standing.denied = true, NotIssued::Denied);
        check(|standing| standing.invalid = true, NotIssued::Ignored(Ignored::Invalid));
        let issuer = IssuerKey::new(IssuerKind::Namespaced, "mesh", "vault");
        check(|standing| standing.approved = false, NotIssued::Unapproved(issuer));
        check(|standing| standing.has_certificate = true, NotIssued::Ignored(Ignored::HasCertificate));
    }

    #[test]
    fn a_denial_wins_over_everything_unfinished_and_over_nothing_finished() {
        check(
            |standing| (standing.denied, standing.invalid, standing.approved) = (true, true, false),
            NotIssued::Denied,
        );
        check(|standing| (standing.denied, standing.has_certificate) = (true, true), NotIssued::Denied);
        check(|standing| (standing.denied, standing.finished) = (true, true), NotIssued::Ignored(Ignored::Finished));
    }
}
