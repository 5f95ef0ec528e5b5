//! Waits for what [`Pace`] decides: the calls of one issuer, while somebody limits their rate.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;

use crate::clock;
use crate::issuance::pace::{Leave, Pace};
use crate::issuance::signer::SignError;

/// The pace of one issuer.
#[derive(Debug, Default)]
pub struct Pacer {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    pace: Pace,
    /// What was answered to the last call that was refused; none once another got through.
    slowed_by: Option<SignError>,
    /// Nobody needs to wait any more: the issuer is no longer the one that is asked.
    over: bool,
}

/// The leave to make one call. Dropped without [`Going::ended`], the call was not made.
#[derive(Debug)]
pub struct Going<'a> {
    pacer: &'a Pacer,
    leave: Leave,
}

impl Pacer {
    /// Waits until a call may be made.
    pub async fn leave(&self) -> Going<'_> {
        loop {
            // Before the look at the pace, so that no change is missed in between.
            let changed = self.changed.notified();
            let leave = {
                let mut state = self.lock();
                if state.over { Leave::Usual } else { state.pace.leave(clock::now()) }
            };
            match leave {
                Leave::Usual | Leave::Scout => return Going { pacer: self, leave },
                Leave::Behind => changed.await,
                Leave::After(pause) => {
                    // Either of the two is reason to look again.
                    let _either = tokio::time::timeout(pause, changed).await;
                }
            }
        }
    }

    /// What is left of a pause.
    pub fn rest(&self, now: Timestamp) -> Duration {
        self.lock().pace.rest(now)
    }

    /// What slows the calls down, if anything does.
    pub fn slowed_by(&self) -> Option<SignError> {
        let state = self.lock();
        state.slowed_by.clone().filter(|_| state.pace.is_slowed(clock::now()))
    }

    /// A call that took no leave met this.
    pub fn heard(&self, error: &SignError, seed: &str, now: Timestamp) {
        self.refused(Leave::Usual, error, seed, now);
    }

    /// Lets everybody go who waits, now and from now on.
    pub fn end(&self) {
        self.lock().over = true;
        self.changed.notify_waiters();
    }

    fn refused(&self, leave: Leave, error: &SignError, seed: &str, now: Timestamp) {
        let Some(asked) = error.throttle() else { return };
        let mut state = self.lock();
        state.pace.refused(leave, asked, seed, now);
        state.slowed_by = Some(error.clone());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Going<'_> {
    /// The call has ended. Returns whether it met a rate limit that is no trouble of the issuer: one that lets others pass.
    pub fn ended(mut self, error: Option<&SignError>, seed: &str, now: Timestamp) -> bool {
        let leave = std::mem::replace(&mut self.leave, Leave::Usual);
        if let Some(error) = error.filter(|error| error.throttle().is_some()) {
            self.pacer.refused(leave, error, seed, now);
            return !self.pacer.lock().pace.is_lasting();
        }
        let mut state = self.pacer.lock();
        state.pace.answered(leave);
        if leave == Leave::Scout {
            state.slowed_by = None;
        }
        false
    }
}

impl Drop for Going<'_> {
    fn drop(&mut self) {
        self.pacer.lock().pace.back(self.leave);
        self.pacer.changed.notify_waiters();
    }
}
