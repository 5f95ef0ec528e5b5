//! What happened to a request, its history and the hour → what is written on it and when it is looked at again.

use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::time::Duration;

use jiff::Timestamp;

use super::inspection::Issued;
use super::signer::{Refusal, SignError};
use super::triage::Ignored;
use crate::api::IssuerKey;

/// How long a request may wait for its approval before an event names the missing rule.
const APPROVAL_PATIENCE: Duration = Duration::from_secs(30);
/// The pace of tries after a transient trouble: doubling from the first to the slowest.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const SLOWEST_PAUSE: Duration = Duration::from_secs(60);

/// Why an attempt ended without a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotIssued {
    /// Nothing to do, nothing to say.
    Ignored(Ignored),
    /// Nobody has approved it.
    Unapproved(IssuerKey),
    /// It was denied.
    Denied,
    /// Something outside the request has to change first.
    Waiting(IssuerKey, Waiting),
    /// It failed a moment ago, and this much of the pause is left.
    Resting(Duration),
    /// It can never be signed.
    Refused(Refusal),
}

/// What a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// There is no such issuer.
    IssuerMissing,
    /// The issuer is there and not Ready.
    IssuerNotReady,
    /// The cluster issuer does not serve the request's namespace.
    NamespaceNotSelected,
    /// Vault could not be asked, or its answer could not be used; tried again after a pause.
    Vault,
    /// The Certificate behind it is issued again and again; it goes on after this pause.
    TooOften(Duration),
    /// The attempt itself broke: a defect of this program.
    Broken,
}

/// What this process remembers of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// When this process first looked at it.
    pub first_seen: Timestamp,
    /// How many attempts have failed with a transient trouble.
    pub tries: u32,
    /// Whether an event has named the missing approval.
    pub approval_missed: bool,
}

/// What to do about a request.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// Write nothing.
    Ignore {
        /// When to look again without being woken.
        look_again: Option<Duration>,
        /// What to tell in an event.
        notice: Option<Notice>,
    },
    /// Finish it as denied.
    Deny,
    /// Leave it `Pending`.
    Wait {
        /// Stable for one cause, so that it is written once.
        message: String,
        /// When to try again without being woken.
        look_again: Option<Duration>,
        /// What to tell in an event, when the cause is new.
        notice: Option<Notice>,
    },
    /// Finish it as failed.
    Fail(Refusal),
    /// Publish.
    Issue(Box<Issued>),
}

/// One event on the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Upper camel case, as `kubectl describe` shows it.
    pub reason: &'static str,
    /// What happened and what to do.
    pub note: String,
}

/// Draws the verdict. `uid` spreads the tries of many requests without a random source.
pub fn judge(attempt: Result<Issued, NotIssued>, history: &History, uid: &str, now: Timestamp) -> Verdict {
    match attempt {
        Ok(issued) => Verdict::Issue(Box::new(issued)),
        Err(NotIssued::Ignored(_)) => Verdict::Ignore { look_again: None, notice: None },
        Err(NotIssued::Unapproved(issuer)) => await_approval(&issuer, history, now),
        Err(NotIssued::Resting(left)) => Verdict::Ignore { look_again: Some(left), notice: None },
        Err(NotIssued::Denied) => Verdict::Deny,
        Err(NotIssued::Refused(refusal)) => Verdict::Fail(refusal),
        Err(NotIssued::Waiting(issuer, waiting)) => Verdict::Wait {
            message: waiting_message(&issuer, waiting),
            look_again: pause(waiting, history, uid),
            notice: event_reason(waiting).map(|reason| Notice { reason, note: waiting_message(&issuer, waiting) }),
        },
    }
}

/// Which attempt a failed sign amounts to: the request's own fault ends it, everybody else's lets it wait.
pub fn not_issued(issuer: &IssuerKey, error: SignError) -> NotIssued {
    match error {
        SignError::Request(refusal) => NotIssued::Refused(refusal),
        SignError::Issuer(_) | SignError::Transient(_) | SignError::Untrusted(_) => {
            NotIssued::Waiting(issuer.clone(), Waiting::Vault)
        }
    }
}

/// The commonest trouble of the first day: cert-manager's approver has no right to approve our signer names.
fn await_approval(issuer: &IssuerKey, history: &History, now: Timestamp) -> Verdict {
    let waited = now.duration_since(history.first_seen).unsigned_abs();
    if history.approval_missed {
        return Verdict::Ignore { look_again: None, notice: None };
    }
    if waited < APPROVAL_PATIENCE {
        return Verdict::Ignore { look_again: Some(APPROVAL_PATIENCE - waited), notice: None };
    }
    let notice = Notice {
        reason: "NotApproved",
        note: format!(
            "nobody has approved this request for {} s. cert-manager's approver may do so once its ServiceAccount has the verb \
             `approve` on signers.cert-manager.io with the resource name {}.{}/* (the chart's value approver binds it)",
            APPROVAL_PATIENCE.as_secs(),
            issuer.kind.plural(),
            crate::api::GROUP
        ),
    };
    Verdict::Ignore { look_again: None, notice: Some(notice) }
}

/// Which waits are an event too: those that somebody else than the issuer's owner has to end.
fn event_reason(waiting: Waiting) -> Option<&'static str> {
    match waiting {
        Waiting::NamespaceNotSelected => Some("NamespaceNotSelected"),
        Waiting::TooOften(_) => Some("IssuedTooOften"),
        Waiting::IssuerMissing | Waiting::IssuerNotReady | Waiting::Vault | Waiting::Broken => None,
    }
}

/// One sentence per cause, without dates or Vault's words: those stand in the issuer's condition, once, instead of on every
/// request that waits for it.
fn waiting_message(issuer: &IssuerKey, waiting: Waiting) -> String {
    match waiting {
        Waiting::IssuerMissing => format!("{issuer} does not exist; the request goes on when it is created"),
        Waiting::IssuerNotReady => {
            format!("{issuer} is not Ready, its status says why; the request goes on when it is")
        }
        Waiting::NamespaceNotSelected => format!(
            "{issuer} does not serve this namespace: its labels do not match spec.policy.namespaceSelector; \
             the request goes on when they do"
        ),
        Waiting::Vault => {
            format!("{issuer} could not have the request signed; it is tried again, and the issuer's status says more")
        }
        Waiting::TooOften(_) => format!(
            "its Certificate asks again although two certificates were issued for it within a tenth of the duration it asks for; \
             {issuer} goes on after a pause, which grows. If nobody renews it by hand, the life that Vault gives is hardly longer \
             than renewBefore: lower the Certificate's renewBefore, raise max_ttl of Vault's role, or renew a CA that is about to end"
        ),
        Waiting::Broken => "the controller failed at this request and tries it again; please report its log".to_owned(),
    }
}

/// Who waits for an issuer or a label is woken by it. The other pauses double, spread by a fifth either way.
fn pause(waiting: Waiting, history: &History, uid: &str) -> Option<Duration> {
    match waiting {
        Waiting::IssuerMissing | Waiting::IssuerNotReady | Waiting::NamespaceNotSelected => None,
        Waiting::Vault => {
            let doubled = FIRST_PAUSE.saturating_mul(1_u32.checked_shl(history.tries).unwrap_or(u32::MAX));
            Some(spread(doubled.min(SLOWEST_PAUSE), uid, history.tries))
        }
        Waiting::TooOften(pause) => Some(pause),
        Waiting::Broken => Some(spread(SLOWEST_PAUSE, uid, history.tries)),
    }
}

/// Between four fifths and six fifths of `pause`, the same for the same `seed` and `round`.
pub(super) fn spread(pause: Duration, seed: &str, round: u32) -> Duration {
    let mut hasher = DefaultHasher::new();
    (seed, round).hash(&mut hasher);
    let share = (hasher.finish() % 1_000) as f64 / 1_000.0;
    pause.mul_f64(0.8 + 0.4 * share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::IssuerKind;
    use crate::issuance::signer::Outage;
    use jiff::ToSpan as _;

    fn issuer() -> IssuerKey {
        IssuerKey::new(IssuerKind::Cluster, "", "vault")
    }

    fn history(tries: u32) -> History {
        History { first_seen: Timestamp::UNIX_EPOCH, tries, approval_missed: false }
    }

    #[test]
    fn only_a_refusal_ends_a_request() {
        let outage = SignError::Transient(Outage::Sealed { server: "vault:8200".to_owned() });
        assert_eq!(not_issued(&issuer(), outage), NotIssued::Waiting(issuer(), Waiting::Vault));
        let refusal = SignError::Request(Refusal::CertificateAuthority);
        assert_eq!(not_issued(&issuer(), refusal), NotIssued::Refused(Refusal::CertificateAuthority));
    }

    #[test]
    fn the_pauses_double_up_to_a_minute_and_are_spread() {
        for (tries, seconds) in [(0, 2.0), (1, 4.0), (4, 32.0), (5, 60.0), (40, 60.0), (u32::MAX, 60.0)] {
            let pause =
                pause(Waiting::Vault, &history(tries), "uid").expect("a transient trouble has a pause").as_secs_f64();
            assert!((seconds * 0.8..=seconds * 1.2).contains(&pause), "{tries}: {pause}");
        }
        assert_ne!(spread(SLOWEST_PAUSE, "a", 1), spread(SLOWEST_PAUSE, "b", 1));
    }

    #[test]
    fn who_waits_for_an_issuer_is_woken_and_does_not_poll() {
        for waiting in [Waiting::IssuerMissing, Waiting::IssuerNotReady, Waiting::NamespaceNotSelected] {
            assert_eq!(pause(waiting, &history(3), "uid"), None, "{waiting:?}");
        }
    }

    #[test]
    fn who_asks_too_often_waits_with_one_message_and_an_event() {
        let judged = |seconds| {
            let waiting = NotIssued::Waiting(issuer(), Waiting::TooOften(Duration::from_secs(seconds)));
            match judge(Err(waiting), &history(2), "uid", Timestamp::UNIX_EPOCH) {
                Verdict::Wait { message, look_again, notice } => (message, look_again, notice),
                other => panic!("{other:?}"),
            }
        };
        let (message, look_again, notice) = judged(5);
        assert_eq!(look_again, Some(Duration::from_secs(5)));
        assert_eq!(notice, Some(Notice { reason: "IssuedTooOften", note: message.clone() }));
        assert_eq!(judged(10).0, message, "a longer pause is the same cause");
    }

    #[test]
    fn a_missing_approval_is_told_once_after_thirty_seconds() {
        let judged = |history: &History, seconds: i64| {
            let now = Timestamp::UNIX_EPOCH + seconds.seconds();
            match judge(Err(NotIssued::Unapproved(issuer())), history, "uid", now) {
                Verdict::Ignore { look_again, notice } => (look_again.map(|pause| pause.as_secs()), notice),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(judged(&history(0), 10), (Some(20), None));
        let (look_again, notice) = judged(&history(0), 30);
        assert_eq!(look_again, None);
        let note = notice.expect("an event is due").note;
        assert!(note.contains("vaultmeshclusterissuers.vaultmesh.io/*"), "{note}");
        assert_eq!(judged(&History { approval_missed: true, ..history(0) }, 60), (None, None));
    }
}
