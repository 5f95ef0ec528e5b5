//! How fast an issuer may be asked. A rate limit (429) is no outage: whoever was refused keeps its place, nobody asks during a
//! short pause, then one does, and its success lets the others go.

use std::time::Duration;

use jiff::Timestamp;

use super::verdict::spread;

/// The shortest pause. OpenBao and Vault refill their quotas once in an interval, of one second unless told otherwise.
const SHORTEST: Duration = Duration::from_millis(100);
/// The longest pause of our own choice; whoever refuses may ask for a longer one.
const LONGEST: Duration = Duration::from_secs(15);
/// A pause is this part of the time since the first refusal: so a limit by the second is met within a quarter of one, and a
/// limit by the minute costs some twenty refused calls a minute.
const SHARE: u32 = 4;
/// After so long without a success, refusals are a trouble of the issuer.
const LASTING: Duration = Duration::from_secs(60);
/// A refusal that nobody has followed up for so long is no part of what comes later: who waits for a pause of its own comes back
/// within 72 s.
const FORGOTTEN: Duration = Duration::from_secs(120);

/// The pace of one issuer's calls.
#[derive(Debug, Default)]
pub struct Pace(Option<Slowed>);

/// Calls are refused.
#[derive(Debug)]
struct Slowed {
    since: Timestamp,
    /// Nobody asks before.
    until: Timestamp,
    refusals: u32,
    /// One asks, and the others wait to see what becomes of it.
    scouting: bool,
}

/// Whether a call may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// Yes, as everybody.
    Usual,
    /// Yes, alone.
    Scout,
    /// Not before this pause is over.
    After(Duration),
    /// Not before the scout is back.
    Behind,
}

impl Pace {
    /// Asks for leave to make one call.
    pub fn leave(&mut self, now: Timestamp) -> Leave {
        let rest = self.rest(now);
        match &mut self.0 {
            None => Leave::Usual,
            Some(_) if !rest.is_zero() => Leave::After(rest),
            Some(slowed) if slowed.scouting => Leave::Behind,
            Some(slowed) => {
                slowed.scouting = true;
                Leave::Scout
            }
        }
    }

    /// A call was refused, with a pause that was asked for (zero: none). `seed` spreads the pauses of several issuers.
    pub fn refused(&mut self, leave: Leave, asked: Duration, seed: &str, now: Timestamp) {
        self.back(leave);
        if !self.is_slowed(now) {
            self.0 = None;
        }
        let slowed = self.0.get_or_insert(Slowed { since: now, until: now, refusals: 0, scouting: false });
        let passed = Duration::try_from(now.duration_since(slowed.since)).unwrap_or_default();
        slowed.refusals = slowed.refusals.saturating_add(1);
        let pause = spread((passed / SHARE).clamp(SHORTEST, LONGEST), seed, slowed.refusals).max(asked);
        slowed.until = now.checked_add(pause).unwrap_or(now).max(slowed.until);
    }

    /// A call was answered in any other way. One that was made before the pause began says nothing about it.
    pub fn answered(&mut self, leave: Leave) {
        if leave == Leave::Scout {
            self.0 = None;
        }
    }

    /// A call was not made after all.
    pub fn back(&mut self, leave: Leave) {
        if let Some(slowed) = &mut self.0
            && leave == Leave::Scout
        {
            slowed.scouting = false;
        }
    }

    /// What is left of the pause.
    pub fn rest(&self, now: Timestamp) -> Duration {
        self.0
            .as_ref()
            .map_or(Duration::ZERO, |it| Duration::try_from(it.until.duration_since(now)).unwrap_or_default())
    }

    /// Whether calls are refused, as far as is known: the last refusal is not long past.
    pub fn is_slowed(&self, now: Timestamp) -> bool {
        self.0.as_ref().is_some_and(|it| it.until.checked_add(FORGOTTEN).is_ok_and(|forgotten| now <= forgotten))
    }

    /// Whether nothing has passed, or will, for so long that it is a trouble of the issuer.
    pub fn is_lasting(&self) -> bool {
        self.0.as_ref().is_some_and(|it| it.until.duration_since(it.since).unsigned_abs() >= LASTING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::UNIX_EPOCH + Duration::from_millis(millis)
    }

    fn refused(millis: u64) -> Pace {
        let mut pace = Pace::default();
        pace.refused(Leave::Usual, Duration::ZERO, "seed", at(millis));
        pace
    }

    #[test]
    fn nobody_asks_during_a_pause_then_one_and_its_success_lets_the_others_go() {
        let mut pace = refused(0);
        assert!(matches!(pace.leave(at(50)), Leave::After(_)));
        let scout = pace.leave(at(120));
        assert_eq!((scout, pace.leave(at(120))), (Leave::Scout, Leave::Behind));
        pace.answered(Leave::Usual);
        assert_eq!(pace.leave(at(130)), Leave::Behind, "one that was under way before tells nothing");
        pace.answered(scout);
        assert_eq!(pace.leave(at(130)), Leave::Usual);
    }

    #[test]
    fn a_scout_that_does_not_go_is_replaced() {
        let mut pace = refused(0);
        let scout = pace.leave(at(120));
        pace.back(Leave::Usual);
        assert_eq!(pace.leave(at(120)), Leave::Behind);
        pace.back(scout);
        assert_eq!(pace.leave(at(120)), Leave::Scout);
    }

    #[test]
    fn eight_refusals_of_one_burst_are_one_pause() {
        let mut pace = refused(0);
        for _ in 0..7 {
            pace.refused(Leave::Usual, Duration::ZERO, "seed", at(4));
        }
        assert!(pace.rest(at(4)) <= Duration::from_millis(120), "{:?}", pace.rest(at(4)));
    }

    /// A server that lets `burst` calls pass per interval: how much time and how many refusals each interval costs.
    #[test]
    fn a_limit_by_the_second_is_met_soon_and_one_by_the_minute_costs_few_calls() {
        for (interval, latest, most) in [(1_000_u64, 350, 9), (10_000, 3_000, 18), (40_000, 12_000, 24)] {
            for seed in ["a", "b", "c", "d"] {
                let (mut pace, mut now, mut refusals) = (Pace::default(), 10, 0);
                pace.refused(Leave::Usual, Duration::ZERO, seed, at(now));
                loop {
                    now += u64::try_from(pace.rest(at(now)).as_millis()).expect("it is short") + 1;
                    assert_eq!(pace.leave(at(now)), Leave::Scout);
                    if now >= interval {
                        break;
                    }
                    pace.refused(Leave::Scout, Duration::ZERO, seed, at(now));
                    refusals += 1;
                }
                assert!(now - interval < latest && refusals <= most, "{interval} {seed}: {now}, {refusals} refusals");
            }
        }
    }

    #[test]
    fn who_asks_for_a_longer_pause_gets_it_and_no_shorter_one() {
        let mut pace = refused(0);
        pace.refused(Leave::Usual, Duration::from_secs(7), "seed", at(10));
        pace.refused(Leave::Usual, Duration::ZERO, "seed", at(20));
        assert_eq!(pace.rest(at(10)), Duration::from_secs(7));
        assert_eq!(pace.leave(at(7_010)), Leave::Scout);
        assert!(!pace.is_lasting());
        pace.refused(Leave::Scout, Duration::from_secs(55), "seed", at(7_010));
        assert!(pace.is_lasting(), "it will have been a minute");
    }

    #[test]
    fn a_refusal_that_nobody_followed_up_is_forgotten() {
        let mut pace = refused(0);
        assert!(pace.is_slowed(at(119_000)) && !pace.is_slowed(at(3_600_000)));
        let scout = pace.leave(at(3_600_000));
        pace.refused(scout, Duration::ZERO, "seed", at(3_600_000));
        assert!(!pace.is_lasting() && pace.rest(at(3_600_000)) <= Duration::from_millis(120));
    }

    #[test]
    fn a_minute_without_a_success_is_a_trouble() {
        let (mut pace, mut now) = (refused(0), 0);
        while !pace.is_lasting() {
            now += u64::try_from(pace.rest(at(now)).as_millis()).expect("it is short") + 1;
            assert_eq!(pace.leave(at(now)), Leave::Scout);
            pace.refused(Leave::Scout, Duration::ZERO, "seed", at(now));
        }
        assert!((40_000..62_000).contains(&now), "{now}");
        assert_eq!(pace.leave(at(now + 20_000)), Leave::Scout);
        pace.answered(Leave::Scout);
        assert!(!pace.is_lasting());
    }
}
