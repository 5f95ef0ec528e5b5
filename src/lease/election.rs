//! One candidate's part in an election: what it saw of the Lease and when, and what follows. Data and arguments only.
//!
//! The fields are written as Kubernetes' own components write them, so that `kubectl get lease` reads as usual.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

/// How long the others wait after the last renewal they saw.
const LEASE_SECONDS: i32 = 15;
/// What stands in a lease that was given back; Kubernetes wants a positive number.
const RELEASED_SECONDS: i32 = 1;

/// What one candidate knows.
pub struct Election {
    identity: String,
    seen: Option<Seen>,
}

/// The lease, and since when it says what it says.
struct Seen {
    lease: Lease,
    since: Instant,
}

/// What a candidate does next.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Makes the Lease: there is none.
    Create(Lease),
    /// Writes over what it has read.
    Replace(Lease),
    /// Leaves it to its holder, at least for so long.
    Wait(Duration),
}

impl Election {
    /// Nothing is known yet. `identity` must be no other process's, not even that of a former one in this place.
    pub fn new(identity: String) -> Self {
        Self { identity, seen: None }
    }

    /// The Lease as it was read; none: there is no such object. Must not be called with a time before the reading was asked for.
    pub fn observe(&mut self, lease: Option<Lease>, now: Instant) {
        self.seen = lease.map(|lease| {
            // What does not touch the spec, such as a label, is no sign of life.
            let unchanged = self.seen.as_ref().filter(|seen| seen.lease.spec == lease.spec);
            let since = unchanged.map_or(now, |seen| seen.since);
            Seen { lease, since }
        });
    }

    /// Who holds it, by the last reading.
    pub fn holder(&self) -> Option<&str> {
        let holder = self.seen.as_ref()?.lease.spec.as_ref()?.holder_identity.as_deref();
        holder.filter(|holder| !holder.is_empty())
    }

    /// Whether that is this candidate.
    pub fn is_mine(&self) -> bool {
        self.holder() == Some(&self.identity)
    }

    /// What this candidate does about it: `now` by its own clock, `wall` for people to read.
    pub fn step(&self, name: &str, now: Instant, wall: Timestamp) -> Step {
        let Some(seen) = &self.seen else {
            let mut lease = Lease::default();
            lease.metadata.name = Some(name.to_owned());
            lease.spec = Some(self.claim(None, wall));
            return Step::Create(lease);
        };
        let spec = seen.lease.spec.as_ref();
        if self.holder().is_some() && !self.is_mine() {
            let seconds = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or(LEASE_SECONDS);
            let lasts = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
            let left = lasts.saturating_sub(now.saturating_duration_since(seen.since));
            if !left.is_zero() {
                return Step::Wait(left);
            }
        }
        Step::Replace(Lease { spec: Some(self.claim(spec, wall)), ..seen.lease.clone() })
    }

    /// What gives the Lease back; none where it is not this candidate's to give.
    pub fn release(&self, wall: Timestamp) -> Option<Lease> {
        let seen = self.seen.as_ref().filter(|_| self.is_mine())?;
        let spec = seen.lease.spec.clone()?;
        let spec = LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(RELEASED_SECONDS),
            acquire_time: Some(MicroTime(wall)),
            renew_time: Some(MicroTime(wall)),
            ..spec
        };
        Some(Lease { spec: Some(spec), ..seen.lease.clone() })
    }

    fn claim(&self, before: Option<&LeaseSpec>, wall: Timestamp) -> LeaseSpec {
        let kept = before.filter(|_| self.is_mine());
        let transitions = before.map(|before| before.lease_transitions.unwrap_or(0));
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            acquire_time: kept.and_then(|kept| kept.acquire_time.clone()).or(Some(MicroTime(wall))),
            renew_time: Some(MicroTime(wall)),
            lease_transitions: Some(transitions.map_or(0, |count| count.saturating_add(i32::from(kept.is_none())))),
            ..before.cloned().unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const SECOND: Duration = Duration::from_secs(1);

    fn wall(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("time")
    }

    fn lease(holder: &str, renewed: i64) -> Lease {
        let mut lease = Lease::default();
        lease.metadata.resource_version = Some("7".to_owned());
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            acquire_time: Some(MicroTime(wall(100))),
            renew_time: Some(MicroTime(wall(renewed))),
            lease_transitions: Some(3),
            ..LeaseSpec::default()
        });
        lease
    }

    fn spec(step: Step) -> LeaseSpec {
        match step {
            Step::Create(lease) | Step::Replace(lease) => lease.spec.expect("a spec"),
            Step::Wait(left) => panic!("it waits for {left:?}"),
        }
    }

    #[test]
    fn a_missing_lease_is_made() {
        let start = clock::monotonic();
        let election = Election::new("me".to_owned());
        let Step::Create(made) = election.step("lease", start, wall(200)) else { panic!("it does not make one") };
        assert_eq!(made.metadata.name.as_deref(), Some("lease"));
        let expected = LeaseSpec {
            holder_identity: Some("me".to_owned()),
            lease_duration_seconds: Some(15),
            acquire_time: Some(MicroTime(wall(200))),
            renew_time: Some(MicroTime(wall(200))),
            lease_transitions: Some(0),
            ..LeaseSpec::default()
        };
        assert_eq!(made.spec, Some(expected));
    }

    /// What is done about another's lease: its fields, how long ago it was first and last read.
    #[track_caller]
    fn check_other(holder: &str, seconds: Option<i32>, read_for: Duration, wait: Option<Duration>) {
        let start = clock::monotonic();
        let mut election = Election::new("me".to_owned());
        let mut theirs = lease(holder, 101);
        theirs.spec.as_mut().expect("spec").lease_duration_seconds = seconds;
        election.observe(Some(theirs.clone()), start);
        // Neither another reading nor a label is a sign of life.
        theirs.metadata.labels = Some([("some".to_owned(), "label".to_owned())].into());
        election.observe(Some(theirs), start + read_for);
        let step = election.step("lease", start + read_for, wall(1_000_000));
        let waits = if let Step::Wait(left) = step { Some(left) } else { None };
        assert_eq!(waits, wait, "{holder:?} {seconds:?} {read_for:?}");
    }

    #[test]
    fn anothers_lease_is_left_alone_until_it_has_said_nothing_for_as_long_as_it_lasts() {
        check_other("other", Some(15), Duration::ZERO, Some(15 * SECOND));
        check_other("other", Some(15), 14 * SECOND, Some(SECOND));
        check_other("other", Some(15), 15 * SECOND, None);
        check_other("other", Some(60), 15 * SECOND, Some(45 * SECOND));
        check_other("other", None, 14 * SECOND, Some(SECOND));
        check_other("other", Some(-1), Duration::ZERO, None);
        check_other("", Some(1), Duration::ZERO, None);
    }

    #[test]
    fn a_renewal_is_a_sign_of_life_whatever_time_it_names() {
        let start = clock::monotonic();
        let mut election = Election::new("me".to_owned());
        election.observe(Some(lease("other", 1_000)), start);
        // The holder's clock goes back, ours is an hour ahead: only that something was written counts.
        election.observe(Some(lease("other", 10)), start + 14 * SECOND);
        assert_eq!(election.step("lease", start + 15 * SECOND, wall(9_999)), Step::Wait(14 * SECOND));
    }

    #[test]
    fn taking_over_counts_and_renewing_does_not() {
        let start = clock::monotonic();
        let mut election = Election::new("me".to_owned());
        election.observe(Some(lease("", 101)), start);
        let Step::Replace(taken) = election.step("lease", start, wall(200)) else { panic!("it does not take it") };
        assert_eq!(
            taken.metadata.resource_version.as_deref(),
            Some("7"),
            "the write must be refused if another came first"
        );
        let mine = taken.spec.clone().expect("spec");
        assert_eq!((mine.holder_identity.as_deref(), mine.lease_transitions), (Some("me"), Some(4)));
        assert_eq!((mine.acquire_time, mine.renew_time), (Some(MicroTime(wall(200))), Some(MicroTime(wall(200)))));

        election.observe(Some(taken), start);
        assert!(election.is_mine());
        let renewed = spec(election.step("lease", start + 2 * SECOND, wall(202)));
        assert_eq!((renewed.holder_identity.as_deref(), renewed.lease_transitions), (Some("me"), Some(4)));
        assert_eq!(
            (renewed.acquire_time, renewed.renew_time),
            (Some(MicroTime(wall(200))), Some(MicroTime(wall(202))))
        );
    }

    #[test]
    fn only_the_holder_gives_back_and_the_next_one_need_not_wait() {
        let start = clock::monotonic();
        let mut election = Election::new("me".to_owned());
        assert_eq!(election.release(wall(1)), None);
        election.observe(Some(lease("other", 101)), start);
        assert_eq!(election.release(wall(1)), None);
        election.observe(Some(lease("me", 101)), start);
        let given = election.release(wall(300)).expect("given back");
        let spec = given.spec.clone().expect("spec");
        assert_eq!((spec.holder_identity.as_deref(), spec.lease_duration_seconds), (Some(""), Some(1)));
        assert_eq!((spec.lease_transitions, given.metadata.resource_version.as_deref()), (Some(3), Some("7")));

        let mut next = Election::new("next".to_owned());
        next.observe(Some(given), start);
        assert_eq!(next.holder(), None);
        assert!(matches!(next.step("lease", start, wall(301)), Step::Replace(_)));
    }
}
