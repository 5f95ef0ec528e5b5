//! Numbers that look random and come out the same for the same seed, so that a run can be repeated.

use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators").
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// A seed nobody has chosen.
    pub fn any_seed() -> u64 {
        let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| u64::from(since.subsec_nanos()));
        Random(now ^ u64::from(std::process::id()) << 32).next() % 1_000_000
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A time from `least` up to `most`, to the millisecond.
    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = u64::try_from(most.saturating_sub(least).as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        least + Duration::from_millis(self.next() % span)
    }

    /// Puts them into another order.
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            let other = usize::try_from(self.next()).unwrap_or(0) % (last + 1);
            things.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Random;
    use std::time::Duration;

    #[test]
    fn the_same_seed_gives_the_same_run_and_another_seed_another() {
        let run = |seed| {
            let mut random = Random::new(seed);
            let mut cards: Vec<u8> = (0..20).collect();
            random.shuffle(&mut cards);
            (cards, random.between(Duration::from_secs(1), Duration::from_secs(9)))
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        let (cards, time) = run(7);
        assert_eq!(cards.iter().map(|card| u32::from(*card)).sum::<u32>(), 190);
        assert!((Duration::from_secs(1)..=Duration::from_secs(9)).contains(&time));
    }
}
