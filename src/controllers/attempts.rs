//! What this process remembers of each request, by UID: when it was first seen, how often it was tried, and the answer, which
//! is kept until the watch shows it written. An answer is never asked for twice.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::room::give_back;
use crate::issuance::inspection::Issued;
use crate::issuance::signer::Refusal;
use crate::issuance::triage::Standing;
use crate::issuance::verdict::History;

/// The memory of all requests.
#[derive(Debug, Default)]
pub struct Attempts(Mutex<HashMap<String, Attempt>>);

#[derive(Debug)]
struct Attempt {
    history: History,
    /// Approved and unfinished: it counts as pending.
    pending: bool,
    answer: Option<Answered>,
    /// The end of the pause before the next try. Our own `Pending` comes back as an event, which must not end it.
    rests_until: Option<Timestamp>,
    /// Nor does a wake end that pause.
    firm: bool,
    /// What it waited for has changed since its last try began.
    woken: bool,
    /// The version that our last `Pending` was written on, and the one that it has made of the request.
    own_write: Option<(String, String)>,
}

/// What became of the answer to a request.
#[derive(Debug, Clone)]
pub enum Answered {
    /// Signed and checked, or refused for ever; not yet seen written.
    Kept(Result<Arc<Issued>, Refusal>),
    /// The API server has taken our write.
    Written,
}

impl Attempts {
    /// The history of a request that stands so now; it starts when it is first asked for. Only this begins a memory: what comes
    /// after the watch showed the request gone finds none, and leaves none behind.
    pub fn history(&self, uid: &str, standing: &Standing, now: Timestamp) -> History {
        let mut attempts = self.lock();
        let attempt = attempts.entry(uid.to_owned()).or_insert_with(|| Attempt {
            history: History::new(now),
            pending: false,
            answer: None,
            rests_until: None,
            firm: false,
            woken: false,
            own_write: None,
        });
        attempt.history.seen(standing, now);
        attempt.history
    }

    /// The answer that is kept for a request.
    pub fn answer(&self, uid: &str) -> Option<Answered> {
        self.lock().get(uid).and_then(|attempt| attempt.answer.clone())
    }

    /// Keeps the answer.
    pub fn keep(&self, uid: &str, answer: Result<Arc<Issued>, Refusal>) {
        self.with(uid, |attempt| attempt.answer = Some(Answered::Kept(answer)));
    }

    /// The final status was written: nothing of the request is asked or written again.
    pub fn written(&self, uid: &str) {
        self.with(uid, |attempt| {
            attempt.answer = Some(Answered::Written);
            attempt.pending = false;
        });
    }

    /// An attempt failed and will be repeated after a pause; `firm`: not before, whatever changes.
    pub fn failed(&self, uid: &str, pause: Duration, firm: bool, now: Timestamp) {
        self.with(uid, |attempt| {
            attempt.history.tries = attempt.history.tries.saturating_add(1);
            attempt.rests_until = now.checked_add(pause).ok();
            attempt.firm = firm;
        });
    }

    /// What is left of the pause before the next try.
    pub fn rests(&self, uid: &str, now: Timestamp) -> Option<Duration> {
        let until = self.lock().get(uid)?.rests_until.filter(|until| *until > now)?;
        Some(until.duration_since(now).unsigned_abs())
    }

    /// What it waited for has changed: the pause is over, unless it is firm.
    pub fn woken(&self, uid: &str) {
        self.with(uid, |attempt| {
            attempt.rests_until = attempt.rests_until.filter(|_| attempt.firm);
            attempt.woken = !attempt.firm;
        });
    }

    /// Whether it has been woken since its last try began: what that try has found is old.
    pub fn is_woken(&self, uid: &str) -> bool {
        self.lock().get(uid).is_some_and(|attempt| attempt.woken)
    }

    /// The request waits to be signed, and is tried now.
    pub fn waits(&self, uid: &str) {
        self.with(uid, |attempt| {
            attempt.pending = true;
            attempt.woken = false;
        });
    }

    /// A `Pending` was written on the version `seen` of the request, and has made another one of it.
    pub fn waits_as(&self, uid: &str, seen: &str, made: Option<String>) {
        self.with(uid, |attempt| attempt.own_write = made.map(|made| (seen.to_owned(), made)));
    }

    /// The newest version of a request that the watch shows as `seen`: it may not have shown our own last write yet, which was
    /// accepted only because nothing else had changed.
    pub fn newest_version(&self, uid: &str, seen: &str) -> String {
        let attempts = self.lock();
        let own_write = attempts.get(uid).and_then(|attempt| attempt.own_write.as_ref());
        own_write.filter(|(on, _)| on == seen).map_or_else(|| seen.to_owned(), |(_, made)| made.clone())
    }

    /// An event has named the missing approval.
    pub fn approval_missed(&self, uid: &str) {
        self.with(uid, |attempt| attempt.history.approval_missed = true);
    }

    /// The request is finished or gone.
    pub fn forget(&self, uid: &str) {
        let mut attempts = self.lock();
        attempts.remove(uid);
        give_back(&mut attempts);
    }

    /// The watch began anew and showed only these.
    pub fn retain(&self, uids: &HashSet<String>) {
        self.lock().retain(|uid, _| uids.contains(uid));
    }

    /// How many requests wait to be signed, and for how long the oldest has.
    pub fn pending(&self, now: Timestamp) -> (usize, Option<Duration>) {
        let attempts = self.lock();
        let waiting = attempts.values().filter(|attempt| attempt.pending).map(|attempt| attempt.history.first_seen);
        let (count, oldest) = waiting.fold((0, None), |(count, oldest): (usize, Option<Timestamp>), first| {
            (count + 1, Some(oldest.map_or(first, |oldest| oldest.min(first))))
        });
        (count, oldest.map(|oldest| now.duration_since(oldest).unsigned_abs()))
    }

    fn with(&self, uid: &str, change: impl FnOnce(&mut Attempt)) {
        if let Some(attempt) = self.lock().get_mut(uid) {
            change(attempt);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Attempt>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unapproved() -> Standing {
        Standing {
            issuer: None,
            finished: false,
            denied: false,
            invalid: false,
            approved: false,
            has_certificate: false,
            owned: false,
        }
    }

    #[test]
    fn what_is_learnt_of_a_request_that_is_gone_is_not_remembered() {
        let (attempts, now) = (Attempts::default(), Timestamp::UNIX_EPOCH);
        attempts.history("uid", &unapproved(), now);
        attempts.waits("uid");
        assert_eq!(attempts.pending(now).0, 1);
        attempts.forget("uid");
        attempts.waits("uid");
        attempts.failed("uid", Duration::from_secs(2), false, now);
        attempts.approval_missed("uid");
        attempts.written("uid");
        assert_eq!(attempts.lock().len(), 0);
    }

    #[test]
    fn a_pause_lasts_unless_something_has_changed() {
        let (attempts, now) = (Attempts::default(), Timestamp::UNIX_EPOCH);
        attempts.history("uid", &unapproved(), now);
        let pause = Duration::from_secs(2);
        assert_eq!(attempts.rests("uid", now), None);
        attempts.failed("uid", pause, false, now);
        assert_eq!(attempts.rests("uid", now), Some(pause));
        assert_eq!(attempts.rests("uid", now + pause), None);
        attempts.woken("uid");
        assert_eq!(attempts.rests("uid", now), None);
        assert_eq!(attempts.history("uid", &unapproved(), now).tries, 1);
        attempts.failed("uid", pause, true, now);
        attempts.woken("uid");
        assert_eq!(attempts.rests("uid", now), Some(pause), "it is the request's own");
        assert_eq!(attempts.rests("uid", now + pause), None);
    }

    #[test]
    fn our_own_write_is_known_before_the_watch_shows_it() {
        let (attempts, now) = (Attempts::default(), Timestamp::UNIX_EPOCH);
        attempts.history("uid", &unapproved(), now);
        assert_eq!(attempts.newest_version("uid", "7"), "7");
        attempts.waits_as("uid", "7", Some("9".to_owned()));
        assert_eq!(attempts.newest_version("uid", "7"), "9");
        attempts.waits_as("uid", "7", Some("12".to_owned()));
        assert_eq!(attempts.newest_version("uid", "7"), "12");
        assert_eq!(attempts.newest_version("uid", "10"), "10", "somebody else has written since");
        attempts.waits_as("uid", "10", None);
        assert_eq!(attempts.newest_version("uid", "10"), "10");
    }

    #[test]
    fn what_a_try_has_found_is_old_once_the_request_is_woken() {
        let (attempts, now) = (Attempts::default(), Timestamp::UNIX_EPOCH);
        attempts.history("uid", &unapproved(), now);
        attempts.waits("uid");
        assert!(!attempts.is_woken("uid"));
        attempts.woken("uid");
        assert!(attempts.is_woken("uid"));
        attempts.waits("uid");
        assert!(!attempts.is_woken("uid"), "this try will see what has changed");
        attempts.failed("uid", Duration::from_secs(2), true, now);
        attempts.woken("uid");
        assert!(!attempts.is_woken("uid"), "its pause is its own");
    }
}
