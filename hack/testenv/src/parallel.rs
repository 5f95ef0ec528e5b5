//! The same work many times, some of it at once.

use anyhow::Result;
use tokio::task::JoinSet;

/// As many clients as keep an API server busy.
pub const CLIENTS: usize = 24;

/// Runs `work` for each number below `count`, `at_once` at a time.
///
/// # Errors
/// The first one; the rest of the work is dropped.
pub async fn in_parallel<F>(count: usize, at_once: usize, work: impl Fn(usize) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let mut under_way = JoinSet::new();
    for number in 0..count {
        if under_way.len() >= at_once
            && let Some(done) = under_way.join_next().await
        {
            done??;
        }
        under_way.spawn(work(number));
    }
    while let Some(done) = under_way.join_next().await {
        done??;
    }
    Ok(())
}
