//! The brake: a Certificate whose certificates are asked for anew as soon as they are there waits instead of costing signs for
//! ever. cert-manager renews at `notAfter - renewBefore` of the certificate that it was given; where Vault's role or an ageing
//! CA gives a life that is hardly longer than `renewBefore`, that hour is at once, every time (cert-manager#4423, #7157; an
//! expired CA with `truncate` cost 8,000 requests in five minutes, #7741). We see only what is asked and what is given.

use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::time::Duration;

use jiff::Timestamp;

/// The first pause: what a person who has a certificate issued a third time in a row waits at most.
const FIRST: Duration = Duration::from_secs(5);
/// Pauses double up to this: a loop then costs 24 signs a day, and whoever has mended its cause waits an hour at most.
const SLOWEST: Duration = Duration::from_secs(3_600);
/// Issuances count together within this part of the duration that is asked for. With certificates of seconds it is a moment.
const WINDOW: u32 = 10;
/// A pause never takes more than this part of the life that was given, so no certificate ends because we waited.
const OF_LIFE: u32 = 4;
/// A certificate that is asked for anew before this part of its life is over was renewed early. cert-manager's own choice is
/// two thirds of the life, so what renews by schedule is never early, and the longest pause above always is.
const EARLY: u32 = 2;

/// The Certificate that owns a request, by its namespace and UID: eight bytes for each of them. Two that share a hash would share
/// their pauses, no more. Who writes a foreign UID into a request of another namespace does not reach that Certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner(u64);

impl Owner {
    /// The Certificate of this namespace with this `metadata.uid`.
    pub fn new(namespace: &str, uid: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        (namespace, uid).hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// What is remembered of the certificates that were issued for one owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past {
    last: Timestamp,
    before: Option<Timestamp>,
    /// How many in a row, up to the last, were renewed early.
    early: u32,
    /// What was left of the last one's life when it was issued.
    life: Duration,
    window: Duration,
}

impl Past {
    /// Another certificate is issued: `asked` is the duration it was asked for, `life` what is left until its end.
    pub fn issued(past: Option<&Self>, asked: Duration, life: Duration, now: Timestamp) -> Self {
        let early = past.filter(|past| past.is_early(now)).map_or(0, |past| past.early.saturating_add(1));
        Self { last: now, before: past.map(|past| past.last), early, life, window: asked / WINDOW }
    }

    /// How long a request has to wait that asks for `asked`; none if it may go on. The first two never wait.
    pub fn pause(&self, asked: Duration, now: Timestamp) -> Option<Duration> {
        let alone = self.before?.checked_add(asked / WINDOW).unwrap_or(Timestamp::MAX);
        let rested = self.last.checked_add(self.rest()).unwrap_or(Timestamp::MAX);
        let until = alone.min(rested);
        (until > now).then(|| until.duration_since(now).unsigned_abs())
    }

    /// Whether nothing depends on it any more.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.age(now) >= self.window
    }

    /// When the last certificate was issued.
    pub fn last(&self) -> Timestamp {
        self.last
    }

    /// The pause after the last issuance.
    fn rest(&self) -> Duration {
        let Some(doublings) = self.early.checked_sub(1) else {
            return Duration::ZERO;
        };
        let doubled = FIRST.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(SLOWEST);
        // One that was over when it came has no life to protect.
        if self.life.is_zero() { doubled } else { doubled.min((self.life / OF_LIFE).max(FIRST)) }
    }

    /// Whether a certificate now would come early. Who comes back as soon as a pause is over is in the same row, however short
    /// the life.
    fn is_early(&self, now: Timestamp) -> bool {
        self.age(now) < (self.life / EARLY).max(self.rest() * 2).max(FIRST)
    }

    fn age(&self, now: Timestamp) -> Duration {
        now.duration_since(self.last).unsigned_abs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3_600);
    const DAY: Duration = Duration::from_secs(86_400);

    fn at(after: Duration) -> Timestamp {
        Timestamp::UNIX_EPOCH.checked_add(after).expect("a time")
    }

    /// Certificates of `life` for requests of `asked`, each asked for `gap` after the last; when each was issued.
    fn issued(count: usize, asked: Duration, life: Duration, gap: Duration) -> Vec<Duration> {
        let (mut past, mut clock, mut times) = (None::<Past>, Duration::ZERO, Vec::new());
        for _ in 0..count {
            clock += past.and_then(|past| past.pause(asked, at(clock))).unwrap_or_default();
            assert_eq!(past.and_then(|past| past.pause(asked, at(clock))), None, "the pause is over");
            past = Some(Past::issued(past.as_ref(), asked, life, at(clock)));
            times.push(clock);
            clock += gap;
        }
        times
    }

    /// The longest that one of them had to wait.
    fn longest_wait(count: usize, asked: Duration, life: Duration, gap: Duration) -> Duration {
        let times = issued(count, asked, life, gap);
        times.windows(2).map(|pair| pair[1] - pair[0] - gap).max().unwrap_or_default()
    }

    #[test]
    fn a_loop_pauses_longer_each_time_up_to_an_hour() {
        let times = issued(14, DAY * 90, DAY * 30, Duration::ZERO);
        let seconds: Vec<_> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
        assert_eq!(seconds, [0, 5, 10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 3_600, 3_600]);
    }

    #[test]
    fn the_first_two_never_wait() {
        let first = Past::issued(None, DAY, DAY, at(Duration::ZERO));
        assert_eq!(first.pause(DAY, at(Duration::ZERO)), None);
        let second = Past::issued(Some(&first), DAY, DAY, at(Duration::ZERO));
        assert_eq!(second.pause(DAY, at(SECOND)), Some(FIRST - SECOND));
        assert_eq!(second.pause(DAY, at(FIRST)), None);
    }

    #[test]
    fn what_renews_by_schedule_never_waits_however_short_vault_cuts_it() {
        for life in [DAY * 90, DAY * 3, HOUR, HOUR / 12, SECOND * 30] {
            assert_eq!(longest_wait(50, DAY * 90, life, life * 2 / 3), Duration::ZERO, "{life:?}");
        }
    }

    #[test]
    fn a_pause_leaves_three_quarters_of_the_life() {
        for life in [DAY, HOUR, HOUR / 12, SECOND * 30] {
            let longest = longest_wait(50, DAY * 90, life, Duration::ZERO);
            assert!(longest <= life / 4 || longest == FIRST, "{life:?}: {longest:?}");
        }
        assert_eq!(longest_wait(50, DAY * 90, HOUR, SECOND), HOUR / 4 - SECOND);
    }

    #[test]
    fn certificates_that_are_over_when_they_come_pause_longer_each_time_too() {
        assert!(issued(50, DAY, Duration::ZERO, SECOND).iter().filter(|time| **time < HOUR / 12).count() < 9);
        assert_eq!(longest_wait(8, DAY, Duration::ZERO, Duration::ZERO), SECOND * 160);
    }

    #[test]
    fn within_a_small_window_no_pause_outlasts_it() {
        assert_eq!(longest_wait(50, SECOND, SECOND, Duration::ZERO), SECOND / 10);
        let longest = longest_wait(50, HOUR / 12, HOUR / 12, Duration::ZERO);
        assert!(longest <= HOUR / 120, "{longest:?}");
    }

    #[test]
    fn a_person_who_renews_again_and_again_waits_seconds() {
        let year = DAY * 365;
        assert_eq!(longest_wait(3, year, year, SECOND * 6), Duration::ZERO);
        assert_eq!(longest_wait(3, year, year, Duration::ZERO), FIRST);
        // Twice by hand after years of renewals by schedule, which Vault made frequent.
        let mut past = Past::issued(None, year, DAY * 3, at(Duration::ZERO));
        for scheduled in 1..500 {
            past = Past::issued(Some(&past), year, DAY * 3, at(DAY * 2 * scheduled));
        }
        let now = at(DAY * 1_000);
        for expected in [None, None, Some(FIRST)] {
            assert_eq!(past.pause(year, now), expected);
            past = Past::issued(Some(&past), year, DAY * 3, now);
        }
    }

    #[test]
    fn a_row_ends_with_the_first_certificate_that_lives_half_its_life() {
        let (mut past, now) = (Past::issued(None, DAY * 90, DAY, at(Duration::ZERO)), at(HOUR));
        for _ in 0..20 {
            past = Past::issued(Some(&past), DAY * 90, DAY, now);
        }
        assert_eq!(past.pause(DAY * 90, now), Some(HOUR));
        let later = at(HOUR * 13);
        past = Past::issued(Some(&past), DAY * 90, DAY, later);
        assert_eq!(past.pause(DAY * 90, later), None);
    }

    #[test]
    fn it_is_over_when_a_tenth_of_what_was_asked_has_passed() {
        let past = Past::issued(None, HOUR, HOUR, at(Duration::ZERO));
        assert!(!past.is_over(at(SECOND * 359)) && past.is_over(at(SECOND * 360)));
    }

    #[test]
    fn the_same_uid_in_another_namespace_is_another_owner() {
        assert_eq!(Owner::new("a", "uid"), Owner::new("a", "uid"));
        assert_ne!(Owner::new("a", "uid"), Owner::new("b", "uid"));
        assert_ne!(Owner::new("a", "uid"), Owner::new("a", "uid-2"));
    }
}
