//! Waiting for something to become true, or to stay true, with a deadline.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const PACE: Duration = Duration::from_millis(25);

/// Asks until the answer is `Some`. An error counts as "not yet"; the last one
/// is part of the failure.
pub async fn eventually<T>(what: &str, within: Duration, mut ask: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        let last = match ask().await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => String::new(),
            Err(error) => format!("; last: {error:#}"),
        };
        if Instant::now() >= deadline {
            bail!("{what}: not within {within:?}{last}");
        }
        tokio::time::sleep(PACE).await;
    }
}

/// Asks for the whole time; fails as soon as the answer is no longer true.
pub async fn holds_for(what: &str, time: Duration, mut ask: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + time;
    while Instant::now() < deadline {
        if !ask().await? {
            bail!("{what}: no longer true {:?} before the time was up", deadline - Instant::now());
        }
        tokio::time::sleep(PACE).await;
    }
    Ok(())
}
