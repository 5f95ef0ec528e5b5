//! One issuer as this process knows it: what it was made from, its signer with its session, its turns, and what checks and
//! signs have shown. Any change of spec or material makes a new one, and with it a new session: a token is never sent to a
//! server it did not come from.

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::turns::{Turn, Turns};
use crate::api::IssuerConfig;
use crate::api::material::Delivered;
use crate::issuance::breaker::{Breaker, Gate, Sight};
use crate::issuance::diagnosis::{Diagnosis, Trust, diagnose};
use crate::issuance::health::{Health, Report};
use crate::issuance::inspection::Issued;
use crate::issuance::lifetimes::Lifetimes;
use crate::issuance::signer::{Fact, Observation, Probe, SignError, Signer};
use crate::issuance::trust::Anchors;
use crate::issuance::verdict::Waiting;
use crate::metrics::IssuerMetrics;
use crate::x509::Certificate;

/// A sign within this time shows what a probe would show.
const RECENT: Duration = Duration::from_secs(60);

/// What an issuer is made from. Two equal ones make the same session.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// `metadata.uid`.
    pub uid: String,
    /// The parsed spec.
    pub config: IssuerConfig,
    /// The objects it names, in the order of [`IssuerConfig::references`].
    pub objects: Vec<Delivered>,
}

/// One issuer that can be asked.
pub struct Live<S> {
    origin: Origin,
    configured: Option<Anchors>,
    signer: S,
    turns: Turns,
    metrics: IssuerMetrics,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    breaker: Breaker,
    anchors: Option<Anchors>,
    signing: Option<Certificate>,
    trouble: Option<SignError>,
    last_signed: Option<Timestamp>,
    /// What the last sign met, if it was not the request's own fault and none has succeeded since.
    unsigned: Option<SignError>,
    /// A check has ended.
    checked: bool,
    /// What signs have shown about lifetimes.
    lifetimes: Lifetimes,
    /// What the status says: only under a written Ready do requests pass, so that the anchors are on record before anything is
    /// published.
    announced: Option<bool>,
}

impl<S: Signer> Live<S> {
    /// A new issuer: closed until it was checked.
    pub fn new(
        origin: Origin,
        configured: Option<Anchors>,
        signer: S,
        at_once: NonZeroUsize,
        metrics: IssuerMetrics,
    ) -> Self {
        Self { origin, configured, signer, turns: Turns::new(at_once), metrics, state: Mutex::default() }
    }

    /// What it was made from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The parsed spec.
    pub fn config(&self) -> &IssuerConfig {
        &self.origin.config
    }

    /// Its counters.
    pub fn metrics(&self) -> &IssuerMetrics {
        &self.metrics
    }

    /// The authority itself.
    pub fn signer(&self) -> &S {
        &self.signer
    }

    /// Waits for a turn on behalf of `namespace`.
    pub async fn turn(&self, namespace: &str) -> Turn {
        self.turns.take(namespace).await
    }

    /// How long until the next check is due.
    pub fn due_in(&self, now: Timestamp) -> Duration {
        self.state().breaker.due_in(now)
    }

    /// Asks the authority, and remembers what that showed. `recorded` are the fingerprints in the issuer's status.
    pub async fn check(&self, recorded: &[String], now: impl Fn() -> Timestamp) {
        let recently = self.state().last_signed.is_some_and(|last| now().duration_since(last).unsigned_abs() < RECENT);
        let probe = if recently { Probe::Skip } else { Probe::Ask };
        let observation = self.signer.check(probe).await;
        let trust = Trust { configured: self.configured.as_ref(), recorded };
        let Diagnosis { trouble, anchors, signing } =
            diagnose(&observation, trust, self.config().vault.path.mount(), now());
        let sight = sight(&observation);
        let mut state = self.state();
        state.checked = true;
        let trouble = trouble.or_else(|| state.unsigned.clone().filter(|_| sight == Sight::Unseen));
        state.breaker.checked(trouble.as_ref(), sight, &self.origin.uid, now());
        if trouble.is_some() || !state.breaker.mistrusted() {
            state.trouble = trouble;
        }
        state.anchors = anchors.or_else(|| state.anchors.take());
        state.signing = signing.or_else(|| state.signing.take());
    }

    /// What the status is to say now.
    pub fn report(&self) -> Report {
        let state = self.state();
        let health = match (state.breaker.gate(), &state.trouble) {
            (Gate::Open, _) => Health::verified(),
            (Gate::Trial | Gate::Closed, Some(trouble)) => Health::troubled(trouble),
            (Gate::Trial | Gate::Closed, None) => Health::checking(),
        };
        let shortened = state.lifetimes.message().map(str::to_owned);
        Report { health, anchors: state.anchors.clone(), signing: state.signing.clone(), shortened }
    }

    /// The status has been written. Returns whether the requests that wait have to hear of it.
    pub fn announced(&self, ready: bool) -> bool {
        let mut state = self.state();
        let news = state.announced != Some(ready) || state.breaker.gate() == Gate::Trial;
        state.announced = Some(ready);
        news
    }

    /// Whether anything is known of it at all.
    pub fn was_checked(&self) -> bool {
        self.state().checked
    }

    /// Lets a request pass, with the anchors in force.
    ///
    /// # Errors
    /// The issuer is not Ready.
    pub fn admit(&self) -> Result<Anchors, Waiting> {
        let mut state = self.state();
        let anchors = state.anchors.clone().ok_or(Waiting::IssuerNotReady)?;
        // An issuer on trial is not Ready; its one request is what may make it so.
        let passes = match state.breaker.gate() {
            Gate::Open => state.announced == Some(true),
            Gate::Trial => state.announced.is_some(),
            Gate::Closed => false,
        };
        if passes && state.breaker.pass() { Ok(anchors) } else { Err(Waiting::IssuerNotReady) }
    }

    /// Whether a request that was admitted, and then waited for its turn, may still go on.
    pub fn still_admits(&self) -> bool {
        self.state().breaker.still_passes()
    }

    /// An attempt ended. Returns whether the issuer has to be looked at.
    pub fn attempted(&self, error: Option<&SignError>, now: Timestamp) -> bool {
        let mut state = self.state();
        match error {
            None => {
                (state.last_signed, state.unsigned) = (Some(now), None);
                state.breaker.signed()
            }
            // The authority answered, and refused this request only: that says nothing against it.
            Some(SignError::Request(_)) => state.breaker.void(),
            Some(error) => {
                state.breaker.sign_failed(error, now);
                if matches!(error, SignError::Untrusted(_)) {
                    state.trouble = Some(error.clone());
                }
                (state.last_signed, state.unsigned) = (None, Some(error.clone()));
                true
            }
        }
    }

    /// A CA certificate was signed at a path of its own: that shows nothing of the path that signs leaves.
    pub fn attempted_elsewhere(&self) -> bool {
        self.state().breaker.void()
    }

    /// A certificate was issued at the issuer's own path. Returns whether its lifetime is news.
    pub fn issued(&self, asked: Duration, issued: &Issued) -> bool {
        self.state().lifetimes.seen(asked, issued)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A check that got in and saw nothing of the signing path, good or bad.
fn sight(observation: &Observation) -> Sight {
    match (&observation.login, &observation.signing) {
        (Fact::Yes(()), Fact::Unknown) => Sight::Unseen,
        (Fact::Yes(()) | Fact::No(_) | Fact::Unknown, Fact::Yes(()) | Fact::No(_) | Fact::Unknown) => Sight::Seen,
    }
}
