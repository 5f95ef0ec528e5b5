//! Turns at one issuer: so many signs at a time, and fair between namespaces. A Vault saturates at a handful of signs; beyond
//! that more of them only wait inside it, and a namespace with ten thousand requests would hold up one with a single one.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The turns of one issuer.
#[derive(Debug, Clone)]
pub struct Turns(Arc<Mutex<Queue>>);

/// The right to one sign; it passes on when dropped.
#[derive(Debug)]
pub struct Turn(Option<Turns>);

#[derive(Debug)]
struct Queue {
    free: usize,
    waiting: HashMap<String, VecDeque<oneshot::Sender<Turn>>>,
    /// The namespaces that wait, each once, in the order in which they are served.
    order: VecDeque<String>,
}

impl Turns {
    /// `at_once` signs at a time.
    pub fn new(at_once: NonZeroUsize) -> Self {
        Self(Arc::new(Mutex::new(Queue { free: at_once.get(), waiting: HashMap::new(), order: VecDeque::new() })))
    }

    /// Waits for a turn on behalf of `namespace`.
    pub async fn take(&self, namespace: &str) -> Turn {
        let receiver = {
            let mut queue = self.lock();
            if queue.free > 0 {
                queue.free -= 1;
                return Turn(Some(self.clone()));
            }
            let (sender, receiver) = oneshot::channel();
            let waiting = queue.waiting.entry(namespace.to_owned()).or_default();
            waiting.push_back(sender);
            if waiting.len() == 1 {
                queue.order.push_back(namespace.to_owned());
            }
            receiver
        };
        // The sender is dropped unsent only together with the queue, which lives as long as `self`.
        receiver.await.unwrap_or(Turn(None))
    }

    /// Hands a turn to the next namespace, past those whose waiter has gone.
    fn pass_on(&self) {
        loop {
            let next = self.lock().next();
            let Some(waiter) = next else { return };
            match waiter.send(Turn(Some(self.clone()))) {
                Ok(()) => return,
                // Dropping this turn would come back here: it is taken apart instead, and the next waiter gets it.
                Err(mut unwanted) => unwanted.0 = None,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// The waiter to serve now; without one the turn becomes free.
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        while let Some(namespace) = self.order.pop_front() {
            let Some(waiting) = self.waiting.get_mut(&namespace) else { continue };
            let waiter = waiting.pop_front();
            if waiting.is_empty() {
                self.waiting.remove(&namespace);
            } else {
                self.order.push_back(namespace);
            }
            if waiter.is_some() {
                return waiter;
            }
        }
        self.free += 1;
        None
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.0.take() {
            turns.pass_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    fn turns(at_once: usize) -> Turns {
        Turns::new(NonZeroUsize::new(at_once).expect("the test asks for some"))
    }

    #[tokio::test]
    async fn no_more_than_so_many_at_once() {
        let turns = turns(2);
        let first = turns.take("a").await;
        let _second = turns.take("a").await;
        let mut third = Box::pin(turns.take("a"));
        assert!(third.as_mut().now_or_never().is_none());
        drop(first);
        assert!(third.now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_lone_request_is_not_held_up_by_a_crowd_elsewhere() {
        let turns = turns(1);
        let running = turns.take("crowd").await;
        let mut crowd: Vec<_> = (0..100).map(|_| Box::pin(turns.take("crowd"))).collect();
        for waiter in &mut crowd {
            assert!(waiter.as_mut().now_or_never().is_none());
        }
        let mut lone = Box::pin(turns.take("lone"));
        assert!(lone.as_mut().now_or_never().is_none());
        drop(running);
        let next = crowd[0].as_mut().now_or_never().expect("who came first is first");
        drop(next);
        assert!(lone.now_or_never().is_some(), "the other namespace is second");
    }

    #[tokio::test]
    async fn who_gave_up_waiting_is_passed_over() {
        let turns = turns(1);
        let running = turns.take("a").await;
        let mut gone = Box::pin(turns.take("a"));
        assert!(gone.as_mut().now_or_never().is_none());
        let mut waits = Box::pin(turns.take("a"));
        assert!(waits.as_mut().now_or_never().is_none());
        drop(gone);
        drop(running);
        drop(waits.now_or_never().expect("the one that still waits is served"));
        assert!(turns.take("a").now_or_never().is_some(), "the turn came back");
    }
}
