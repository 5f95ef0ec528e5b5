//! What happened to a request, its history and the hour → what is written on it and when it is looked at again.

use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::inspection::Issued;
use super::signer::{Refusal, SignError};
use super::triage::{Ignored, Standing};
use crate::api::IssuerKey;

/// What a request that was denied is told.
pub const DENIED: &str = "the request was denied by its approver";
/// What a request is told whose certificate stands beside it.
pub const ISSUED: &str = "the certificate was signed by Vault and verified";
/// How long a request may wait for its approval before an event names the missing rule.
const APPROVAL_PATIENCE: Duration = Duration::from_secs(30);
/// How long an approved request that nobody owns may wait. Whoever made it (istio-csr, OSM, SPIRE) asks anew, and is held up by
/// one that stays; failing it sooner would breed requests, because Istio's agent repeats a failed call five times in three seconds.
const PATIENCE: Duration = Duration::from_secs(300);
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// There is no such issuer.
    IssuerMissing,
    /// The issuer is being looked at for the first time, or anew after a change, and wakes it when that is over.
    IssuerUnseen,
    /// The issuer is there and not Ready, for this cause.
    IssuerNotReady(String),
    /// The labels of its namespace are not known yet; their arrival wakes it.
    NamespaceUnseen,
    /// The cluster issuer does not serve the request's namespace.
    NamespaceNotSelected,
    /// Its turn has not come in time; the trouble that holds up those before it, where there is one.
    Turn(Option<String>),
    /// Vault could not be asked, or its answer could not be used, for this cause; tried again after a pause.
    Vault(String),
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
    /// When this process first saw it approved. Not its creation: a controller that was down does not punish those that waited.
    pub approved_seen: Option<Timestamp>,
    /// It has an owner, and so waits for as long as it takes.
    pub owned: bool,
    /// How many attempts have failed with a transient trouble.
    pub tries: u32,
    /// Whether an event has named the missing approval.
    pub approval_missed: bool,
}

impl History {
    /// Of a request that is looked at for the first time.
    pub fn new(now: Timestamp) -> Self {
        Self { first_seen: now, approved_seen: None, owned: false, tries: 0, approval_missed: false }
    }

    /// The request stands so now.
    pub fn seen(&mut self, standing: &Standing, now: Timestamp) {
        self.owned = standing.owned;
        if standing.approved {
            self.approved_seen.get_or_insert(now);
        }
    }

    /// How much longer the request may wait; none: for as long as it takes.
    pub fn patience(&self, now: Timestamp) -> Option<Duration> {
        let waited = self.waited(now).filter(|_| !self.owned)?;
        Some(PATIENCE.saturating_sub(waited))
    }

    fn waited(&self, now: Timestamp) -> Option<Duration> {
        // A clock that was set back has not made it wait.
        self.approved_seen.map(|since| Duration::try_from(now.duration_since(since)).unwrap_or_default())
    }
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
        /// The pause before the next try; none where trying would not help.
        pause: Option<Duration>,
        /// A wake does not cut the pause short: it is the request's own, whatever becomes of its issuer.
        firm: bool,
        /// When to look again without being woken.
        look_again: Option<Duration>,
        /// What to tell in an event, when the cause is new.
        notice: Option<Notice>,
    },
    /// Finish it as failed.
    Fail(Refusal),
    /// Publish.
    Issue(Arc<Issued>),
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
pub fn judge(attempt: Result<Arc<Issued>, NotIssued>, history: &History, uid: &str, now: Timestamp) -> Verdict {
    match attempt {
        Ok(issued) => Verdict::Issue(issued),
        Err(NotIssued::Ignored(_)) => Verdict::Ignore { look_again: None, notice: None },
        Err(NotIssued::Unapproved(issuer)) => await_approval(&issuer, history, now),
        Err(NotIssued::Resting(left)) => Verdict::Ignore { look_again: Some(left), notice: None },
        Err(NotIssued::Denied) => Verdict::Deny,
        Err(NotIssued::Refused(refusal)) => Verdict::Fail(refusal),
        Err(NotIssued::Waiting(issuer, waiting)) => wait(&issuer, &waiting, history, uid, now),
    }
}

/// Whatever it waits for: who has an owner waits on, and the others until their patience is over, which wakes them at the latest.
fn wait(issuer: &IssuerKey, waiting: &Waiting, history: &History, uid: &str, now: Timestamp) -> Verdict {
    let left = history.patience(now);
    let message = waiting_message(issuer, waiting);
    if left.is_some_and(|left| left.is_zero()) {
        let waited = history.waited(now).unwrap_or_default();
        let cause = cause(waiting).unwrap_or(message);
        return Verdict::Fail(Refusal::OutOfTime { waited, cause });
    }
    let pause = pause(waiting, history, uid).map(|pause| left.map_or(pause, |left| pause.min(left)));
    let look_again = pause.or(left);
    match waiting {
        // Over in a moment as a rule, and then nobody needs to have heard of it.
        Waiting::IssuerUnseen | Waiting::NamespaceUnseen => Verdict::Ignore { look_again, notice: None },
        Waiting::IssuerMissing
        | Waiting::IssuerNotReady(_)
        | Waiting::NamespaceNotSelected
        | Waiting::Turn(_)
        | Waiting::Vault(_)
        | Waiting::TooOften(_)
        | Waiting::Broken => {
            let notice = event_reason(waiting).map(|reason| Notice { reason, note: message.clone() });
            // Who is woken to be told the same again would take an issuer's trial and give it back, which wakes it, for ever.
            let firm = matches!(waiting, Waiting::TooOften(_));
            Verdict::Wait { message, pause, firm, look_again, notice }
        }
    }
}

/// Which attempt a failed sign amounts to: the request's own fault ends it, everybody else's lets it wait.
pub fn not_issued(issuer: &IssuerKey, error: SignError) -> NotIssued {
    match error {
        SignError::Request(refusal) => NotIssued::Refused(refusal),
        error @ (SignError::Issuer(_) | SignError::Transient(_) | SignError::Untrusted(_)) => {
            NotIssued::Waiting(issuer.clone(), Waiting::Vault(error.to_string()))
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
    Verdict::Ignore { look_again: None, notice: Some(not_approved(issuer)) }
}

pub(super) fn not_approved(issuer: &IssuerKey) -> Notice {
    Notice {
        reason: "NotApproved",
        note: format!(
            "nobody has approved this request for {} s. cert-manager's approver may do so once its ServiceAccount has the verb \
             `approve` on signers.cert-manager.io with the resource name {}.{}/* (the chart's value approver binds it)",
            APPROVAL_PATIENCE.as_secs(),
            issuer.kind.plural(),
            crate::api::GROUP
        ),
    }
}

/// Which waits are an event too: those that somebody else than the issuer's owner has to end.
pub(super) fn event_reason(waiting: &Waiting) -> Option<&'static str> {
    match waiting {
        Waiting::NamespaceNotSelected => Some("NamespaceNotSelected"),
        Waiting::TooOften(_) => Some("IssuedTooOften"),
        Waiting::IssuerMissing
        | Waiting::IssuerUnseen
        | Waiting::IssuerNotReady(_)
        | Waiting::NamespaceUnseen
        | Waiting::Turn(_)
        | Waiting::Vault(_)
        | Waiting::Broken => None,
    }
}

/// The trouble behind it, in the words that an end needs and a wait does not; none where the wait's own message says it all.
fn cause(waiting: &Waiting) -> Option<String> {
    match waiting {
        Waiting::IssuerNotReady(cause) | Waiting::Vault(cause) | Waiting::Turn(Some(cause)) => Some(cause.clone()),
        Waiting::IssuerMissing
        | Waiting::IssuerUnseen
        | Waiting::NamespaceUnseen
        | Waiting::NamespaceNotSelected
        | Waiting::Turn(None)
        | Waiting::TooOften(_)
        | Waiting::Broken => None,
    }
}

/// One sentence per cause, without dates or Vault's words: those stand in the issuer's condition, once, instead of on every
/// request that waits for it.
pub(super) fn waiting_message(issuer: &IssuerKey, waiting: &Waiting) -> String {
    match waiting {
        Waiting::IssuerMissing => format!("{issuer} does not exist; the request goes on when it is created"),
        Waiting::IssuerUnseen => format!("{issuer} has not been looked at yet"),
        Waiting::NamespaceUnseen => {
            format!("the labels of its namespace are not known yet, and {issuer} selects by them")
        }
        Waiting::IssuerNotReady(_) => {
            format!("{issuer} is not Ready, its status says why; the request goes on when it is")
        }
        Waiting::NamespaceNotSelected => format!(
            "{issuer} does not serve this namespace: its labels do not match spec.policy.namespaceSelector; \
             the request goes on when they do"
        ),
        Waiting::Turn(_) => format!("{issuer} signs a few requests at a time, and its turn has not come"),
        Waiting::Vault(_) => {
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
fn pause(waiting: &Waiting, history: &History, uid: &str) -> Option<Duration> {
    match waiting {
        Waiting::IssuerMissing
        | Waiting::IssuerUnseen
        | Waiting::IssuerNotReady(_)
        | Waiting::NamespaceUnseen
        | Waiting::NamespaceNotSelected => None,
        Waiting::Turn(_) | Waiting::Vault(_) => {
            let doubled = FIRST_PAUSE.saturating_mul(1_u32.checked_shl(history.tries).unwrap_or(u32::MAX));
            Some(spread(doubled.min(SLOWEST_PAUSE), uid, history.tries))
        }
        Waiting::TooOften(pause) => Some(*pause),
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
        History { tries, ..History::new(at(0)) }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + seconds.seconds()
    }

    /// The history of a request that was first seen at 0 and approved at 10.
    fn approved(owned: bool) -> History {
        let mut history = History::new(at(0));
        let mut standing = Standing {
            issuer: Some(issuer()),
            finished: false,
            denied: false,
            invalid: false,
            approved: false,
            has_certificate: false,
            owned,
        };
        history.seen(&standing, at(0));
        standing.approved = true;
        for seconds in [10, 200] {
            history.seen(&standing, at(seconds));
        }
        history
    }

    fn every_waiting() -> [Waiting; 9] {
        [
            Waiting::IssuerMissing,
            Waiting::IssuerUnseen,
            Waiting::IssuerNotReady("Vault is sealed".to_owned()),
            Waiting::NamespaceUnseen,
            Waiting::NamespaceNotSelected,
            Waiting::Turn(Some("429".to_owned())),
            Waiting::Vault("no route".to_owned()),
            Waiting::TooOften(Duration::from_secs(3_600)),
            Waiting::Broken,
        ]
    }

    fn waits(waiting: Waiting, history: &History, seconds: i64) -> Verdict {
        judge(Err(NotIssued::Waiting(issuer(), waiting)), history, "uid", at(seconds))
    }

    #[test]
    fn whatever_it_waits_for_who_has_no_owner_is_looked_at_in_time_and_given_up_after_five_minutes() {
        for waiting in every_waiting() {
            for (seconds, left) in [(10, 300), (309, 1)] {
                match waits(waiting.clone(), &approved(false), seconds) {
                    Verdict::Wait { look_again: Some(look_again), .. }
                    | Verdict::Ignore { look_again: Some(look_again), notice: None } => {
                        assert!(look_again <= Duration::from_secs(left), "{waiting:?}: {look_again:?}");
                    }
                    other => panic!("{waiting:?}: {other:?}"),
                }
            }
            for seconds in [310, 999] {
                let Verdict::Fail(Refusal::OutOfTime { waited, cause }) =
                    waits(waiting.clone(), &approved(false), seconds)
                else {
                    panic!("{waiting:?} is not given up");
                };
                assert_eq!(waited.as_secs() + 10, u64::try_from(seconds).expect("it is positive"));
                let known = super::cause(&waiting).unwrap_or_else(|| waiting_message(&issuer(), &waiting));
                assert_eq!(cause, known);
            }
            let owned = waits(waiting.clone(), &approved(true), 9_999);
            assert!(matches!(owned, Verdict::Wait { .. } | Verdict::Ignore { .. }), "{waiting:?}: {owned:?}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_gives_nobody_up() {
        assert_eq!(approved(false).patience(at(-500)), Some(PATIENCE));
        assert_eq!(history(0).patience(at(9_999)), None, "nobody has approved it");
    }

    #[test]
    fn only_a_refusal_ends_a_request() {
        let outage = SignError::Transient(Outage::Sealed { server: "vault:8200".to_owned() });
        let words = "Vault at vault:8200 is sealed".to_owned();
        assert_eq!(not_issued(&issuer(), outage), NotIssued::Waiting(issuer(), Waiting::Vault(words)));
        let refusal = SignError::Request(Refusal::CertificateAuthority);
        assert_eq!(not_issued(&issuer(), refusal), NotIssued::Refused(Refusal::CertificateAuthority));
    }

    #[test]
    fn the_pauses_double_up_to_a_minute_and_are_spread() {
        for (tries, seconds) in [(0, 2.0), (1, 4.0), (4, 32.0), (5, 60.0), (40, 60.0), (u32::MAX, 60.0)] {
            let pause = pause(&Waiting::Vault(String::new()), &history(tries), "uid");
            let pause = pause.expect("a transient trouble has a pause").as_secs_f64();
            assert!((seconds * 0.8..=seconds * 1.2).contains(&pause), "{tries}: {pause}");
        }
        assert_ne!(spread(SLOWEST_PAUSE, "a", 1), spread(SLOWEST_PAUSE, "b", 1));
    }

    #[test]
    fn the_last_pause_ends_with_the_patience() {
        let slow = History { tries: 9, ..approved(false) };
        match waits(Waiting::Vault(String::new()), &slow, 300) {
            Verdict::Wait { pause, firm: false, look_again, .. } => {
                assert_eq!((pause, look_again), (Some(Duration::from_secs(10)), Some(Duration::from_secs(10))));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn who_waits_for_an_issuer_is_woken_and_does_not_poll() {
        for waiting in every_waiting().into_iter().take(5) {
            assert_eq!(pause(&waiting, &history(3), "uid"), None, "{waiting:?}");
        }
    }

    #[test]
    fn who_asks_too_often_waits_with_one_message_and_an_event() {
        let judged = |seconds| {
            let waiting = NotIssued::Waiting(issuer(), Waiting::TooOften(Duration::from_secs(seconds)));
            match judge(Err(waiting), &history(2), "uid", Timestamp::UNIX_EPOCH) {
                Verdict::Wait { message, firm: true, look_again, notice, .. } => (message, look_again, notice),
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
