//! The end of tokens that nobody needs any more. A session that is dropped has its token revoked behind its back; the end of the
//! process waits for that, and for nothing longer than it must.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinSet;

/// The revocations under way; clones share them.
#[derive(Clone, Default)]
pub struct Revocations {
    under_way: Arc<Mutex<JoinSet<()>>>,
    failed: Arc<AtomicUsize>,
}

impl Revocations {
    /// Carries one out; it tells whether it succeeded.
    pub(super) fn begin(&self, revocation: impl Future<Output = bool> + Send + 'static) {
        // Without a runtime the process is at its very end, and the token ends with its lease.
        let Ok(runtime) = Handle::try_current() else { return };
        let failed = Arc::clone(&self.failed);
        let counted = async move {
            if !revocation.await {
                failed.fetch_add(1, Ordering::Relaxed);
            }
        };
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        while under_way.try_join_next().is_some() {}
        under_way.spawn_on(counted, &runtime);
    }

    /// Waits until all have ended, for so long at most; what has not ended then is given up. How many tokens were not revoked
    /// since the process began.
    pub async fn finish(&self, patience: Duration) -> usize {
        let mut under_way = std::mem::take(&mut *self.under_way.lock().unwrap_or_else(PoisonError::into_inner));
        let ended = async { while under_way.join_next().await.is_some() {} };
        if tokio::time::timeout(patience, ended).await.is_err() {
            tracing::info!("some tokens were not revoked in time; they end with their leases");
        }
        self.failed.load(Ordering::Relaxed) + under_way.len()
    }
}
