//! The one place that reads the clock; everything that decides is told the time.

use std::sync::LazyLock;
use std::time::Instant;

use jiff::Timestamp;

/// The time of day.
#[expect(clippy::disallowed_methods, reason = "the one clock; the pure half takes `now` as an argument")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// A clock that never goes back, for measuring.
pub fn monotonic() -> Instant {
    let now = instant();
    #[cfg(test)]
    let now = now + testing::SKIPPED.get();
    now
}

#[expect(clippy::disallowed_methods, reason = "the one clock; the pure half takes durations as arguments")]
fn instant() -> Instant {
    Instant::now()
}

/// For how long something has waited, or is to wait: the time of day as it would be had nobody set the clock since the first
/// call. Times of certificates, and what others read, are those of [`now`].
pub fn steady() -> Timestamp {
    static FIRST: LazyLock<(Timestamp, Instant)> = LazyLock::new(|| (now(), instant()));
    let (day, first) = *FIRST;
    day.saturating_add(monotonic().duration_since(first)).unwrap_or(day)
}

/// Time that passes at once, so that no test waits for the end of a lease, or misses it on a busy machine.
#[cfg(test)]
pub(crate) mod testing {
    use std::cell::Cell;
    use std::time::Duration;

    thread_local! {
        pub(super) static SKIPPED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    /// Puts [`super::monotonic`] forward for this thread, which is one test's; timers go on as they were.
    pub fn pass(time: Duration) {
        SKIPPED.set(SKIPPED.get() + time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steady_clock_goes_as_time_does() {
        let (steady, began) = (steady(), monotonic());
        assert!(now().duration_since(steady).abs().as_secs() < 60, "it starts with the time of day");
        std::thread::sleep(std::time::Duration::from_millis(20));
        let passed = std::time::Duration::try_from(super::steady().duration_since(steady)).expect("it goes on");
        assert!(
            passed.as_millis() >= 20 && passed <= began.elapsed() + std::time::Duration::from_millis(1),
            "{passed:?}"
        );
    }
}
