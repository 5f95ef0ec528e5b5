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
use crate::issuance::discovery::{Record, in_force};
use crate::issuance::health::{Health, Report};
use crate::issuance::signer::{Fact, Fault, Mistrust, Observation, Probe, Shown, SignError, Signer};
use crate::issuance::trust::Anchors;
use crate::issuance::verdict::Waiting;
use crate::metrics::IssuerMetrics;
use crate::x509::{Certificate, CertificationPath};

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
    /// What has been handed out, and what a person has said about it.
    record: Record,
    /// What the mount showed last.
    shown: Shown,
    signing: Option<Certificate>,
    trouble: Option<SignError>,
    last_signed: Option<Timestamp>,
    /// What the last sign met, if it was not the request's own fault and none has succeeded since.
    unsigned: Option<SignError>,
    /// A check has ended.
    checked: bool,
    /// What the status says: only under a written Ready do requests pass, so that the anchors are on record before anything is
    /// published.
    announced: Option<bool>,
}

impl<S: Signer> Live<S> {
    /// A new issuer: closed until it was checked. `record` is what its status says.
    pub fn new(
        origin: Origin,
        configured: Option<Anchors>,
        record: Record,
        signer: S,
        at_once: NonZeroUsize,
        metrics: IssuerMetrics,
    ) -> Self {
        let state = Mutex::new(State { record, ..State::default() });
        Self { origin, configured, signer, turns: Turns::new(at_once), metrics, state }
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

    /// Hears which anchors the issuer's annotation accepts; what it has not said before is followed at once.
    pub fn accept(&self, accepted: Vec<String>) {
        let mut state = self.state();
        if state.record.accepted != accepted {
            state.record.accept(accepted);
            state.breaker.check_now();
        }
    }

    /// Asks the authority, and remembers what that showed.
    pub async fn check(&self, now: impl Fn() -> Timestamp) {
        let recently = self.state().last_signed.is_some_and(|last| now().duration_since(last).unsigned_abs() < RECENT);
        let probe = if recently { Probe::Skip } else { Probe::Ask };
        let observation = self.signer.check(probe).await;
        let mut state = self.state();
        let trust = Trust {
            configured: self.configured.as_ref(),
            known: state.anchors.as_ref(),
            signing: state.signing.as_ref(),
            record: &state.record,
        };
        let Diagnosis { trouble, anchors, signing, hopeless } = diagnose(&observation, trust, self.mount(), now());
        let sight = if hopeless { Sight::Seen } else { sight(&observation) };
        state.checked = true;
        let trouble = trouble.or_else(|| state.unsigned.clone().filter(|_| sight == Sight::Unseen));
        state.breaker.checked(trouble.as_ref(), sight, &self.origin.uid, now());
        if trouble.is_some() || !state.breaker.mistrusted() {
            state.trouble = trouble;
        }
        if let Some(anchors) = anchors {
            self.settle(&mut state, anchors);
        }
        state.signing = signing.or_else(|| state.signing.take());
        if let Fact::Yes(shown) = observation.mount {
            state.shown = shown;
        }
    }

    /// These anchors are in force from now on. Nothing is published under others than before until the status says so.
    fn settle(&self, state: &mut State, anchors: Anchors) {
        if state.anchors.as_ref() != Some(&anchors) {
            state.announced = None;
        }
        state.record.settle(&anchors);
        if self.configured.is_some() {
            state.record.provisional = false;
        }
        state.anchors = Some(anchors);
    }

    fn mount(&self) -> &str {
        self.config().vault.path.mount()
    }

    /// What the status is to say now.
    pub fn report(&self) -> Report {
        let state = self.state();
        let health = match (state.breaker.gate(), &state.trouble) {
            (Gate::Open, _) => Health::verified(),
            (Gate::Trial | Gate::Closed, Some(trouble)) => Health::troubled(trouble),
            (Gate::Trial | Gate::Closed, None) => Health::checking(),
        };
        let (anchors, signing) = (state.anchors.clone(), state.signing.clone());
        Report { health, anchors, signing, record: state.checked.then(|| state.record.clone()) }
    }

    /// The status says what was reported. Returns whether the requests that wait have to hear of it.
    pub fn announced(&self, report: &Report) -> bool {
        let mut state = self.state();
        // An answer has changed the anchors since; the next report is on its way.
        if report.anchors != state.anchors {
            return false;
        }
        let news = state.announced != Some(report.health.ready) || state.breaker.gate() == Gate::Trial;
        state.announced = Some(report.health.ready);
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
                let confirmed = std::mem::take(&mut state.record.provisional);
                // One that was signed before the root changed does not open what that closed.
                let changed = state.record.elsewhere.is_some();
                (!changed && state.breaker.signed()) || confirmed
            }
            // The authority answered, and refused this request only: that says nothing against it.
            Some(SignError::Request(_)) => state.breaker.void(),
            Some(error) => {
                if let SignError::Untrusted(Mistrust::NoPath { root: Some(root), .. }) = error
                    && let Some(news) = self.ended_at(&mut state, root, now)
                {
                    return news;
                }
                state.breaker.sign_failed(error, now);
                if matches!(error, SignError::Untrusted(_)) {
                    state.trouble = Some(error.clone());
                }
                (state.last_signed, state.unsigned) = (None, Some(error.clone()));
                true
            }
        }
    }

    /// A certificate was issued. Returns whether its CA is another than the one known to sign.
    pub fn issued(&self, path: &CertificationPath) -> bool {
        let mut state = self.state();
        // CA certificates may be signed by another issuer of the mount than the one that a role has.
        let Some(signing) = path.issuers().next().filter(|_| !path.leaf.is_ca()) else { return false };
        let news = state.signing.as_ref() != Some(signing);
        state.record.signing = Some(signing.sha256().to_owned());
        state.signing = Some(signing.clone());
        news
    }

    /// An answer ended at a root that was not in force when its request passed. If the mount has this root, it is no forgery:
    /// either it is followed from now on, or somebody has to accept it. Returns whether the issuer has to be looked at; none:
    /// the mount does not show such a root.
    fn ended_at(&self, state: &mut State, root: &Certificate, now: Timestamp) -> Option<bool> {
        let is_root = |anchors: &Anchors| anchors.certificates().contains(root);
        if state.anchors.as_ref().is_some_and(is_root) {
            return Some(state.breaker.void());
        }
        let known_already = matches!(&state.trouble, Some(SignError::Issuer(Fault::AnchorsChanged { .. })))
            && state.record.elsewhere.as_ref().is_some_and(|elsewhere| elsewhere.sha256 == root.sha256());
        if known_already {
            return Some(false);
        }
        state.record.elsewhere = Some(root.into());
        match in_force(&state.shown, state.anchors.as_ref(), &state.record, self.mount(), now) {
            Ok(anchors) if is_root(&anchors) => {
                self.settle(state, anchors);
                state.breaker.void();
                Some(true)
            }
            Err(fault @ Fault::AnchorsChanged { .. }) => {
                let trouble = fault.into();
                state.breaker.checked(Some(&trouble), Sight::Seen, &self.origin.uid, now);
                state.trouble = Some(trouble);
                Some(true)
            }
            Ok(_) | Err(_) => None,
        }
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
