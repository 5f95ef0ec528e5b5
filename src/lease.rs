//! Which replica acts. One holds a Lease (coordination.k8s.io) and renews it; the others stand by, and one of them takes it when it
//! is given back or has run out. Whoever is not sure to hold it sends nothing.
//!
//! The sentence that keeps two from acting: the holder counts its ten seconds from before it asked for the renewal, every other
//! counts fifteen from after it saw one, each by its own monotonic clock. No clock of one machine is compared with another's.
//! [`Leadership::guard`] asks for each step of each call, and not a task that might not have run: a process that was paused for
//! longer finds its lease run out before it sends anything more.
//!
//! What this cannot hold back is what the network had taken before. A write of a request's status carries its resourceVersion, so
//! the API server refuses what comes too late; a certificate signed twice is all that can happen.

mod candidate;
mod election;

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

pub use candidate::{Candidate, LEASE, Lost};

use crate::clock;

/// The holder gives up when it could not renew for so long: enough before anybody may take the lease that calls under way end.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);

/// Whether this process may act; clones share it.
#[derive(Debug, Clone)]
pub struct Leadership(Arc<Mutex<Term>>);

#[derive(Debug, Clone, Copy)]
enum Term {
    /// There is no election: this process is the only one.
    Sole,
    /// Not (or no longer) elected.
    Out,
    /// Elected, and sure of it until then.
    Until(Instant),
}

/// This process does not hold the lease, or cannot be sure that it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not sent, because another replica may lead by now")]
pub struct NotLeading;

impl Leadership {
    /// That of a process without rivals.
    pub fn sole() -> Self {
        Self(Arc::new(Mutex::new(Term::Sole)))
    }

    /// That of a process that has to be elected first.
    pub fn none_yet() -> Self {
        Self(Arc::new(Mutex::new(Term::Out)))
    }

    /// Whether this process may act at this moment.
    pub fn holds(&self) -> bool {
        self.left(clock::monotonic()).is_none_or(|left| !left.is_zero())
    }

    /// Drives `call` for as long as this process may act.
    ///
    /// # Errors
    /// It may not, or no longer: `call` is dropped wherever it had got to.
    pub async fn guard<F: Future>(&self, call: F) -> Result<F::Output, NotLeading> {
        let mut call = pin!(call);
        std::future::poll_fn(|context| {
            if self.holds() { call.as_mut().poll(context).map(Ok) } else { Poll::Ready(Err(NotLeading)) }
        })
        .await
    }

    /// What is left of the term; none: it has no end.
    fn left(&self, now: Instant) -> Option<Duration> {
        match *self.term() {
            Term::Sole => None,
            Term::Out => Some(Duration::ZERO),
            Term::Until(end) => Some(end.saturating_duration_since(now)),
        }
    }

    /// A renewal that was asked for at this time has succeeded.
    fn renewed(&self, asked: Instant) {
        *self.term() = Term::Until(asked + RENEW_DEADLINE);
    }

    /// From now on nothing may be sent.
    fn ended(&self) {
        *self.term() = Term::Out;
    }

    fn term(&self) -> MutexGuard<'_, Term> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_term_lasts_ten_seconds_from_before_its_renewal_was_asked_for() {
        let asked = clock::monotonic();
        let leadership = Leadership::none_yet();
        assert_eq!(leadership.left(asked), Some(Duration::ZERO));
        leadership.renewed(asked);
        assert_eq!(leadership.left(asked + Duration::from_secs(9)), Some(Duration::from_secs(1)));
        assert_eq!(leadership.left(asked + Duration::from_secs(10)), Some(Duration::ZERO));
        assert_eq!(leadership.left(asked + Duration::from_secs(40)), Some(Duration::ZERO));
        leadership.ended();
        assert_eq!(leadership.left(asked), Some(Duration::ZERO));
    }

    #[test]
    fn without_an_election_a_term_has_no_end() {
        assert_eq!(Leadership::sole().left(clock::monotonic() + Duration::from_secs(1 << 30)), None);
        assert!(Leadership::sole().holds());
    }

    #[tokio::test]
    async fn a_call_goes_no_step_further_once_the_term_is_over() {
        let steps = AtomicUsize::new(0);
        let leadership = Leadership::none_yet();
        let call = async {
            steps.fetch_add(1, Ordering::Relaxed);
            // The pause: when this task runs again its term has run out, and nobody has noticed yet.
            leadership.renewed(clock::monotonic().checked_sub(RENEW_DEADLINE).expect("the clock is older"));
            tokio::task::yield_now().await;
            steps.fetch_add(1, Ordering::Relaxed);
        };
        leadership.renewed(clock::monotonic());
        assert_eq!(leadership.guard(call).await, Err(NotLeading));
        assert_eq!(steps.load(Ordering::Relaxed), 1);
        assert_eq!(leadership.guard(async { 1 }).await, Err(NotLeading));
        assert_eq!(Leadership::sole().guard(async { 1 }).await, Ok(1));
    }
}
