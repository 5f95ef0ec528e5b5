//! What this process remembers of each Certificate's issuances, by the Certificate's UID, so that one that asks for ever can be
//! braked. It lives in memory only: a restart gives every loop its first two certificates anew, which is cheap.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::issuance::brake::{Owner, Past};

/// How many Certificates are remembered: about 2 MB. Who loops is among the latest, and those are kept.
const MOST: usize = 10_000;

/// The memory of all owners.
#[derive(Debug, Default)]
pub struct Brakes(Mutex<HashMap<Owner, Past>>);

impl Brakes {
    /// How long a request of this owner has to wait; none if it may go on.
    pub fn pause(&self, owner: Owner, asked: Duration, now: Timestamp) -> Option<Duration> {
        self.lock().get(&owner)?.pause(asked, now)
    }

    /// A certificate was issued.
    pub fn issued(&self, owner: Owner, asked: Duration, ends: Timestamp, now: Timestamp) {
        let life = Duration::try_from(ends.duration_since(now)).unwrap_or_default();
        let mut pasts = self.lock();
        if pasts.len() >= MOST {
            make_room(&mut pasts, now);
        }
        let past = Past::issued(pasts.get(&owner), asked, life, now);
        pasts.insert(owner, past);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Owner, Past>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops what is over, and where that is less than half, the older half: so this is done once in thousands of issuances.
fn make_room(pasts: &mut HashMap<Owner, Past>, now: Timestamp) {
    pasts.retain(|_, past| !past.is_over(now));
    let half = MOST / 2;
    if pasts.len() > half {
        let mut times: Vec<_> = pasts.values().map(Past::last).collect();
        let newest_dropped = *times.select_nth_unstable(half).1;
        pasts.retain(|_, past| past.last() > newest_dropped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn owner(number: usize) -> Owner {
        Owner::new("mesh", &number.to_string())
    }

    fn at(second: usize) -> Timestamp {
        Timestamp::from_second(i64::try_from(second).expect("a time")).expect("a time")
    }

    #[test]
    fn each_owner_is_braked_for_itself() {
        let brakes = Brakes::default();
        for _ in 0..2 {
            assert_eq!(brakes.pause(owner(1), DAY, at(0)), None);
            brakes.issued(owner(1), DAY, at(7_200), at(0));
        }
        assert!(brakes.pause(owner(1), DAY, at(0)).is_some());
        assert_eq!(brakes.pause(owner(2), DAY, at(0)), None);
    }

    #[test]
    fn a_certificate_that_ended_before_it_came_has_no_life() {
        let brakes = Brakes::default();
        for _ in 0..8 {
            brakes.issued(owner(1), DAY, at(0), at(20));
        }
        assert!(brakes.pause(owner(1), DAY, at(20)).is_some_and(|pause| pause > Duration::from_secs(60)));
    }

    #[test]
    fn memory_is_bounded_and_the_latest_are_kept() {
        let brakes = Brakes::default();
        for number in 0..MOST * 3 {
            brakes.issued(owner(number), DAY * 90, at(number + 86_400), at(number));
            assert!(brakes.lock().len() <= MOST);
        }
        assert!(brakes.lock().contains_key(&owner(MOST * 3 - 1)) && !brakes.lock().contains_key(&owner(0)));
    }

    #[test]
    fn what_is_over_goes_before_what_is_not() {
        let brakes = Brakes::default();
        brakes.issued(owner(0), DAY * 90, at(86_400), at(0));
        for number in 1..=MOST {
            brakes.issued(owner(number), Duration::from_secs(1), at(number + 1), at(number));
        }
        assert!(brakes.lock().contains_key(&owner(0)) && brakes.lock().len() < 5);
    }
}
