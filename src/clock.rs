//! The one place that reads the clock; everything that decides is told the time.

use jiff::Timestamp;

/// The time of day.
#[expect(clippy::disallowed_methods, reason = "the one clock; the pure half takes `now` as an argument")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// A clock that never goes back, for measuring.
#[expect(clippy::disallowed_methods, reason = "the one clock; the pure half takes durations as arguments")]
pub fn monotonic() -> std::time::Instant {
    std::time::Instant::now()
}
