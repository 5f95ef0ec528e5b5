//! When to look at an issuer again, and whether a trouble is yet reason enough to stop signing.

use std::time::Duration;

use jiff::Timestamp;

use super::signer::{Outage, SignError};
use super::verdict::spread;

/// The pace of checks while all is well.
const CALM: Duration = Duration::from_secs(300);
/// The shortest time between two checks, and the first pause after a trouble.
const CLOSEST: Duration = Duration::from_secs(15);

/// Whether requests may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Every request.
    Open,
    /// One request, which shows whether the authority can be trusted again.
    Trial,
    /// None.
    Closed,
}

/// The right of one request to go on, given by [`Breaker::pass`]: that of a trial is good for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// As everybody's.
    Usual,
    /// That of the trial with this number.
    Trial(u32),
}

/// The state of one issuer between checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaker {
    gate: Gate,
    /// Checks in a row after which the gate did not open as it would where all is well.
    troubles: u32,
    last_check: Option<Timestamp>,
    next_check: Option<Timestamp>,
    /// An answer could not be trusted: the next check alone does not open the gate.
    mistrusted: bool,
    /// How many trials there have been.
    trials: u32,
    /// The one request of this trial is under way.
    trying: Option<Pass>,
}

/// Whether a check could see if the signing path serves us. It cannot where a probe would use up what requests need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// It could.
    Seen,
    /// Only a request can show it.
    Unseen,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            gate: Gate::Closed,
            troubles: 0,
            last_check: None,
            next_check: None,
            mistrusted: false,
            trials: 0,
            trying: None,
        }
    }
}

impl Breaker {
    /// Whether requests may pass.
    pub fn gate(&self) -> Gate {
        self.gate
    }

    /// How long until the next check is due; zero means now.
    pub fn due_in(&self, now: Timestamp) -> Duration {
        match self.next_check {
            Some(next) if next > now => next.duration_since(now).unsigned_abs(),
            Some(_) | None => Duration::ZERO,
        }
    }

    /// The next check is due, whatever the pace was.
    pub fn check_now(&mut self) {
        self.next_check = None;
    }

    /// Something is known to happen at this time: the next check is not later.
    pub fn check_by(&mut self, moment: Timestamp) {
        self.next_check = self.next_check.map(|next| next.min(moment));
    }

    /// A check ended.
    pub fn checked(&mut self, trouble: Option<&SignError>, sight: Sight, seed: &str, now: Timestamp) {
        self.last_check = Some(now);
        self.trying = None;
        if trouble.is_none() && !self.mistrusted {
            (self.gate, self.troubles) = (Gate::Open, 0);
            self.next_check = now.checked_add(spread(CALM, seed, 0)).ok();
            return;
        }
        self.troubles = self.troubles.saturating_add(1);
        let passes = trouble.is_some_and(|trouble| self.troubles <= passing(trouble));
        if !(passes && self.gate == Gate::Open) {
            let trial = trouble.is_none() || sight == Sight::Unseen;
            self.gate = if trial { Gate::Trial } else { Gate::Closed };
        }
        let doubled = CLOSEST.saturating_mul(1_u32.checked_shl(self.troubles - 1).unwrap_or(u32::MAX));
        self.next_check = now.checked_add(spread(doubled.min(CALM), seed, self.troubles)).ok();
    }

    /// A request passes, if it may.
    pub fn pass(&mut self) -> Option<Pass> {
        match self.gate {
            Gate::Open => Some(Pass::Usual),
            Gate::Trial => {
                self.gate = Gate::Closed;
                self.trials = self.trials.wrapping_add(1);
                self.trying = Some(Pass::Trial(self.trials));
                self.trying
            }
            Gate::Closed => None,
        }
    }

    /// Whether a request that passed, and then waited for its turn, may still go on. While one request is on trial, those that
    /// passed before it may not.
    pub fn still_passes(&self, pass: Pass) -> bool {
        self.gate == Gate::Open || self.trying == Some(pass)
    }

    /// A request that passed does not go on, for a reason of its own: if it was that of a trial, the next one may try. Returns
    /// whether that is so.
    pub fn withdraw(&mut self, pass: Pass) -> bool {
        self.trying == Some(pass) && self.void()
    }

    /// A request ended without showing anything about the authority: if it was that of a trial, the next one may try. Returns
    /// whether that is so.
    pub fn void(&mut self) -> bool {
        let again = self.trying.take().is_some();
        if again {
            self.gate = Gate::Trial;
        }
        again
    }

    /// A sign succeeded and its answer was trusted. Returns whether that is news.
    pub fn signed(&mut self) -> bool {
        let news = self.mistrusted || self.gate != Gate::Open;
        (self.mistrusted, self.trying) = (false, None);
        self.troubles = 0;
        self.gate = Gate::Open;
        news
    }

    /// A sign failed for another reason than the request's own. While the gate is open, the next check is due at once, yet not
    /// within 15 s of the last. Otherwise it was a trial, or late news, and the checks keep to their growing pauses.
    pub fn sign_failed(&mut self, error: &SignError, now: Timestamp) {
        self.trying = None;
        if self.gate == Gate::Open {
            let soonest = self.last_check.and_then(|last| last.checked_add(CLOSEST).ok()).unwrap_or(now).max(now);
            self.next_check = Some(self.next_check.map_or(soonest, |next| next.min(soonest)));
        }
        if matches!(error, SignError::Untrusted(_)) {
            self.mistrusted = true;
            self.gate = Gate::Closed;
        }
    }

    /// Whether an answer is still held against the authority.
    pub fn mistrusted(&self) -> bool {
        self.mistrusted
    }
}

/// How many such troubles in a row may pass before the gate closes. A rate limit lets others through meanwhile, and asks for
/// nothing but time.
fn passing(trouble: &SignError) -> u32 {
    match trouble {
        SignError::Transient(Outage::Throttled { .. }) => 2,
        SignError::Transient(_) => 1,
        SignError::Request(_) | SignError::Issuer(_) | SignError::Untrusted(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issuance::signer::{Fault, Mistrust, Outage};
    use jiff::ToSpan as _;

    fn outage() -> SignError {
        SignError::Transient(Outage::Sealed { server: "vault:8200".to_owned() })
    }

    fn fault() -> SignError {
        SignError::Issuer(Fault::NoAnchor { mount: "pki".to_owned() })
    }

    fn mistrust() -> SignError {
        SignError::Untrusted(Mistrust::ForeignKey { path: "pki/sign/web".to_owned() })
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + seconds.seconds()
    }

    fn open() -> Breaker {
        let mut breaker = Breaker::default();
        breaker.checked(None, Sight::Seen, "seed", at(0));
        breaker
    }

    #[track_caller]
    fn due_between(breaker: &Breaker, now: Timestamp, from: u64, to: u64) {
        let due = breaker.due_in(now);
        assert!((Duration::from_secs(from)..=Duration::from_secs(to)).contains(&due), "{due:?}");
    }

    #[test]
    fn a_new_issuer_is_closed_and_checked_now() {
        assert_eq!((Breaker::default().gate(), Breaker::default().due_in(at(0))), (Gate::Closed, Duration::ZERO));
    }

    #[test]
    fn all_is_well_every_five_minutes() {
        due_between(&open(), at(0), 240, 360);
        assert_eq!(open().gate(), Gate::Open);
    }

    #[test]
    fn a_configuration_fault_closes_at_once() {
        let mut breaker = open();
        breaker.checked(Some(&fault()), Sight::Seen, "seed", at(300));
        assert_eq!(breaker.gate(), Gate::Closed);
        due_between(&breaker, at(300), 12, 18);
    }

    #[test]
    fn only_the_second_transient_trouble_closes() {
        let mut breaker = open();
        breaker.checked(Some(&outage()), Sight::Seen, "seed", at(300));
        assert_eq!(breaker.gate(), Gate::Open);
        due_between(&breaker, at(300), 12, 18);
        breaker.checked(Some(&outage()), Sight::Seen, "seed", at(315));
        assert_eq!(breaker.gate(), Gate::Closed);
        due_between(&breaker, at(315), 24, 36);
        for _ in 0..40 {
            breaker.checked(Some(&outage()), Sight::Seen, "seed", at(400));
        }
        due_between(&breaker, at(400), 240, 360);
    }

    #[test]
    fn only_the_third_rate_limit_closes() {
        let throttled = Outage::Throttled { server: "vault:8200".to_owned(), status: 429, retry_after: None }.into();
        let mut breaker = open();
        for (second, gate) in [(300, Gate::Open), (315, Gate::Open), (345, Gate::Closed)] {
            breaker.checked(Some(&throttled), Sight::Seen, "seed", at(second));
            assert_eq!(breaker.gate(), gate, "{second}");
        }
    }

    #[test]
    fn what_is_known_to_come_is_looked_at_when_it_comes() {
        let mut breaker = open();
        breaker.check_by(at(60));
        due_between(&breaker, at(0), 60, 60);
        breaker.check_by(at(90));
        due_between(&breaker, at(0), 60, 60);
    }

    #[test]
    fn a_failed_sign_brings_the_check_forward_but_not_within_fifteen_seconds() {
        let mut breaker = open();
        breaker.sign_failed(&outage(), at(5));
        due_between(&breaker, at(5), 10, 10);
        let mut breaker = open();
        breaker.sign_failed(&outage(), at(100));
        assert_eq!((breaker.due_in(at(100)), breaker.gate()), (Duration::ZERO, Gate::Open));
    }

    #[test]
    fn an_untrusted_answer_lets_one_request_through_after_the_next_check() {
        let mut breaker = open();
        breaker.sign_failed(&mistrust(), at(100));
        assert_eq!(breaker.gate(), Gate::Closed);
        breaker.checked(None, Sight::Seen, "seed", at(100));
        assert_eq!(breaker.gate(), Gate::Trial);
        let pass = breaker.pass().expect("one request");
        assert_eq!(breaker.pass(), None);
        assert!(breaker.still_passes(pass) && !breaker.still_passes(Pass::Usual), "those before it wait");
        assert!(!breaker.withdraw(Pass::Usual), "the trial is another's");
        assert_eq!(breaker.gate(), Gate::Closed);
        assert!(breaker.withdraw(pass) && !breaker.withdraw(pass));
        assert_eq!(breaker.gate(), Gate::Trial);
        let next = breaker.pass().expect("the next one");
        assert!(breaker.still_passes(next) && !breaker.still_passes(pass));
        assert!(breaker.void() && !breaker.void());
        assert!(breaker.pass().is_some());
        assert!(breaker.signed());
        assert_eq!(breaker.gate(), Gate::Open);
        assert!(!breaker.signed());
    }

    #[test]
    fn where_a_check_cannot_see_one_request_may_try() {
        let mut breaker = open();
        breaker.sign_failed(&fault(), at(100));
        breaker.checked(Some(&fault()), Sight::Unseen, "seed", at(100));
        assert_eq!(breaker.gate(), Gate::Trial);
        due_between(&breaker, at(100), 12, 18);
        let pass = breaker.pass().expect("one request");
        assert_eq!(breaker.pass(), None);
        breaker.sign_failed(&fault(), at(101));
        assert!(
            !breaker.still_passes(pass) && !breaker.void(),
            "it failed, and nobody else may try before the next check"
        );
        breaker.checked(Some(&fault()), Sight::Unseen, "seed", at(115));
        due_between(&breaker, at(115), 24, 36);
        assert!(breaker.pass().is_some() && breaker.signed());
        assert_eq!(breaker.gate(), Gate::Open);
    }

    /// Trials that fail a second after the check that allowed them, until the pauses no longer grow.
    #[track_caller]
    fn trials_are_rarer_and_rarer(trouble: Option<&SignError>, sight: Sight, met: &SignError) {
        let mut breaker = open();
        breaker.sign_failed(met, at(100));
        let mut now = 100;
        for pause in [15, 30, 60, 120, 240, 300, 300] {
            assert_eq!(breaker.due_in(at(now)), Duration::ZERO, "{pause}");
            breaker.checked(trouble, sight, "seed", at(now));
            assert!(breaker.pass().is_some(), "{pause}");
            breaker.sign_failed(met, at(now + 1));
            due_between(&breaker, at(now), pause * 4 / 5, pause * 6 / 5);
            now += i64::try_from(pause * 6 / 5).expect("it is short");
        }
        breaker.signed();
        breaker.checked(None, Sight::Seen, "seed", at(now));
        breaker.sign_failed(met, at(now + 1));
        due_between(&breaker, at(now + 1), 14, 14);
    }

    #[test]
    fn a_trial_that_fails_does_not_bring_the_next_one_nearer() {
        trials_are_rarer_and_rarer(Some(&fault()), Sight::Unseen, &fault());
        trials_are_rarer_and_rarer(None, Sight::Seen, &mistrust());
    }

    #[test]
    fn where_a_check_cannot_see_only_the_second_transient_trouble_closes() {
        let mut breaker = open();
        breaker.checked(Some(&outage()), Sight::Unseen, "seed", at(300));
        assert_eq!(breaker.gate(), Gate::Open);
        breaker.checked(Some(&outage()), Sight::Unseen, "seed", at(315));
        assert_eq!(breaker.gate(), Gate::Trial);
    }
}
