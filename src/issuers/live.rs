//! One issuer as this process knows it: what it was made from, its signer with its session, its turns, and what checks and
//! signs have shown. Any change of spec or material makes a new one, and with it a new session: a token is never sent to a
//! server it did not come from.

mod evidence;

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::pacer::{Going, Pacer};
use super::turns::{Turn, Turns};
use crate::api::IssuerConfig;
use crate::api::material::Delivered;
use crate::issuance::ageing::Ageing;
use crate::issuance::breaker::{Breaker, Gate, Pass, Sight};
use crate::issuance::diagnosis::{Diagnosis, Trust, diagnose};
use crate::issuance::discovery::Record;
use crate::issuance::expiry::token_expiring;
use crate::issuance::health::{Health, Report};
use crate::issuance::lifetimes::Lifetimes;
use crate::issuance::role::Suitability;
use crate::issuance::signer::{Fact, Observation, Probe, Shown, SignError, Signer};
use crate::issuance::trust::Anchors;
use crate::issuance::verdict::Waiting;
use crate::metrics::IssuerMetrics;
use crate::x509::Certificate;

/// Checks that only keep a token alive are no closer than this.
const KEEPING: Duration = Duration::from_secs(60);
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
    pacer: Pacer,
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
    /// When the last check ended.
    checked: Option<Timestamp>,
    /// What was to be said at that time of a token that ends soon.
    token_expiring: Option<String>,
    /// What the role is worth to a mesh, as the last check that got through saw it.
    role: Option<Suitability>,
    /// What signs have shown about lifetimes.
    lifetimes: Lifetimes,
    /// What signs and refusals have shown about the end of the CA.
    ageing: Ageing,
    /// What the status says: only under a written Ready do requests pass, so that the anchors are on record before anything is
    /// published.
    announced: Option<bool>,
}

impl State {
    /// Returns whether there is news of the CA's end.
    fn look_at_age(&mut self, now: Timestamp) -> bool {
        self.ageing.look(self.signing.as_ref(), now)
    }
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
        let (turns, pacer) = (Turns::new(at_once), Pacer::default());
        Self { origin, configured, signer, turns, pacer, metrics, state }
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

    /// Waits, with a turn, for as long as a rate limit asks for.
    pub async fn leave(&self) -> Going<'_> {
        self.pacer.leave().await
    }

    /// A call has ended. Returns whether it met a rate limit that is no trouble of the issuer.
    pub fn was_slowed(&self, going: Going<'_>, error: Option<&SignError>, now: Timestamp) -> bool {
        going.ended(error, &self.origin.uid, now)
    }

    /// What keeps those waiting that have been admitted, if anything is known to.
    pub fn held_up_by(&self) -> Option<String> {
        let trouble = self.pacer.slowed_by().or_else(|| self.state().unsigned.clone());
        trouble.map(|trouble| trouble.to_string())
    }

    /// Another has taken its place, or none: whoever waits here has to hear of it.
    pub fn retire(&self) {
        self.pacer.end();
    }

    /// How long until the next check is due.
    pub fn due_in(&self, now: Timestamp) -> Duration {
        let state = self.state();
        let mut due = state.breaker.due_in(now);
        if let (Some(keep), Some(checked)) = (self.signer.check_due(), state.checked) {
            due = due.min(keep.max(KEEPING.saturating_sub(now.duration_since(checked).unsigned_abs())));
        }
        due.max(self.pacer.rest(now))
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
        let diagnosis = diagnose(&observation, trust, self.config(), now());
        let (hopeless, trouble) = (diagnosis.is_hopeless(), diagnosis.trouble().cloned());
        let Diagnosis { findings, anchors, signing } = diagnosis;
        if matches!((&observation.login, &observation.signing), (Fact::Yes(()), Fact::Yes(()) | Fact::Unknown)) {
            state.role = Suitability::of(&findings, &self.config().vault.path);
        }
        let other = signing.is_some() && signing != state.signing;
        state.signing = signing.or_else(|| state.signing.take());
        if other {
            state.ageing.renewed();
        }
        // A CA that has refused to sign after its own end answers a probe as it always did.
        let sight = match (hopeless, state.ageing.over(now())) {
            (true, _) => Sight::Seen,
            (false, Some(_)) => Sight::Unseen,
            (false, None) => sight(&observation),
        };
        // Where signs fail one after the other, checks come sooner than this.
        let calm = state.checked.is_none_or(|last| now().duration_since(last).unsigned_abs() >= RECENT);
        state.checked = Some(now());
        state.token_expiring = token_expiring(observation.ends, now());
        if let Some(trouble) = &trouble {
            self.pacer.heard(trouble, &self.origin.uid, now());
        }
        // A rate limit that lets signs pass is no trouble.
        let trouble = trouble.filter(|trouble| !recently || trouble.throttle().is_none());
        let trouble = trouble.or_else(|| state.unsigned.clone().filter(|_| sight == Sight::Unseen));
        state.breaker.checked(trouble.as_ref(), sight, &self.origin.uid, now());
        if trouble.is_none() && sight == Sight::Seen && calm {
            state.unsigned = None;
        }
        if trouble.is_some() || !state.breaker.mistrusted() {
            state.trouble = trouble;
        }
        if let Some(anchors) = anchors {
            self.settle(&mut state, anchors);
        }
        if let Fact::Yes(shown) = observation.mount {
            state.shown = shown;
        }
        state.look_at_age(now());
        if let Some(end) = state.signing.as_ref().map(Certificate::not_after).filter(|end| *end > now()) {
            // The first second of which it can be said that it is over.
            state.breaker.check_by(end.saturating_add(SignedDuration::from_secs(1)).unwrap_or(end));
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
        let health = state.health();
        let shortened = state.lifetimes.message().map(str::to_owned);
        let (anchors, signing, role) = (state.anchors.clone(), state.signing.clone(), state.role.clone());
        let record = state.checked.map(|_| state.record.clone());
        let (token_expiring, ca_expiring) = (state.token_expiring.clone(), state.ageing.message(self.mount()));
        Report { health, anchors, signing, record, shortened, token_expiring, ca_expiring, role }
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
        self.state().checked.is_some()
    }

    /// Lets a request pass.
    ///
    /// # Errors
    /// The issuer is not Ready.
    pub fn admit(&self) -> Result<Pass, Waiting> {
        let mut state = self.state();
        // An issuer on trial is not Ready; its one request is what may make it so.
        let passes = match state.breaker.gate() {
            Gate::Open => state.announced == Some(true),
            Gate::Trial => state.announced.is_some(),
            Gate::Closed => false,
        };
        let pass = if passes && state.anchors.is_some() { state.breaker.pass() } else { None };
        pass.ok_or_else(|| state.not_ready())
    }

    /// A request that was admitted, and then waited for its turn, may still go on: with the anchors in force now, which may be
    /// others than when it was admitted.
    ///
    /// # Errors
    /// The issuer is not Ready any more, or its status does not say so yet.
    pub fn still_admits(&self, pass: Pass) -> Result<Anchors, Waiting> {
        let state = self.state();
        let announced = match pass {
            Pass::Usual => state.announced == Some(true),
            Pass::Trial(_) => state.announced.is_some(),
        };
        let passes = announced && state.breaker.still_passes(pass);
        state.anchors.clone().filter(|_| passes).ok_or_else(|| state.not_ready())
    }

    /// What the mount showed at the last check.
    pub fn mount_certificates(&self) -> Vec<Certificate> {
        self.state().shown.certificates.clone()
    }

    /// A request that was admitted does not go on, for a reason of its own. Returns whether another may try in its place.
    pub fn withdrawn(&self, pass: Pass) -> bool {
        self.state().breaker.withdraw(pass)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn health(&self) -> Health {
        match (self.breaker.gate(), &self.trouble) {
            (Gate::Open, _) => Health::verified(),
            (Gate::Trial | Gate::Closed, Some(trouble)) => Health::troubled(trouble),
            (Gate::Trial | Gate::Closed, None) => Health::checking(),
        }
    }

    /// What a request is told that may not pass.
    fn not_ready(&self) -> Waiting {
        let Health { ready, message, .. } = self.health();
        // Ready is known here, and counts once it is written.
        Waiting::IssuerNotReady(if ready { "its status could not be written".to_owned() } else { message })
    }
}

/// A check that got in and saw nothing of the signing path, good or bad.
fn sight(observation: &Observation) -> Sight {
    match (&observation.login, &observation.signing) {
        (Fact::Yes(()), Fact::Unknown) => Sight::Unseen,
        (Fact::Yes(()) | Fact::No(_) | Fact::Unknown, Fact::Yes(()) | Fact::No(_) | Fact::Unknown) => Sight::Seen,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::material::{Found, Place};
    use crate::api::testing::config;
    use crate::api::{IssuerKey, IssuerKind};
    use crate::issuance::health::ReadyReason;
    use crate::issuance::inspection::Issued;
    use crate::issuance::signer::{Answer, Beyond, Mistrust, Outage, SigningRequest};
    use crate::issuance::words::Words;
    use crate::metrics::Metrics;
    use crate::x509::CertificationPath;
    use crate::x509::testing::{Authority, now};

    /// A mount that shows what the test has put there; nobody signs with it.
    struct Mount(Mutex<Fact<Shown>>, Mutex<Fact<()>>, Mutex<Option<Duration>>);

    impl Signer for Mount {
        async fn check(&self, _: Probe) -> Observation {
            let mount = self.0.lock().expect("no test panics here").clone();
            let signing = self.1.lock().expect("no test panics here").clone();
            Observation { login: Fact::Yes(()), signing, mount, role: Fact::Unknown, ends: None }
        }

        fn check_due(&self) -> Option<Duration> {
            *self.2.lock().expect("no test panics here")
        }

        async fn sign(&self, _: &SigningRequest) -> Result<Answer, SignError> {
            // A test tells how an attempt ended.
            Err(Outage::Sealed { server: "vault:8200".to_owned() }.into())
        }
    }

    /// An issuer whose mount has two roots of its own; its default leads to the first.
    struct Scene {
        one: Certificate,
        two: Certificate,
        live: Live<Mount>,
    }

    impl Scene {
        /// What the issuer's status says is `record`.
        async fn new(record: Record) -> Self {
            let (one, two) = (Authority::new("One").root(2040), Authority::new("Two").root(2040));
            Self::of(one, two, record, None).await
        }

        async fn of(one: Certificate, two: Certificate, record: Record, configured: Option<Anchors>) -> Self {
            let origin = Origin { uid: "uid".to_owned(), config: config(), objects: Vec::new() };
            let metrics = Metrics::new().issuer(&IssuerKey::new(IssuerKind::Namespaced, "mesh", "vault"));
            let shown = Shown { certificates: vec![one.clone(), two.clone()], named: false, complete: true };
            let mount = Mount(Mutex::new(Fact::Yes(shown)), Mutex::new(Fact::Yes(())), Mutex::default());
            let live = Live::new(origin, configured, record, mount, NonZeroUsize::MIN, metrics);
            let scene = Self { one, two, live };
            scene.look().await;
            scene
        }

        /// A check and the write of its report.
        async fn look(&self) -> Report {
            self.live.check(now).await;
            self.write()
        }

        fn write(&self) -> Report {
            let report = self.live.report();
            self.live.announced(&report);
            report
        }

        fn shows(&self, mount: Fact<Shown>) {
            *self.live.signer.0.lock().expect("no test panics here") = mount;
        }

        /// An answer that does not lead to an anchor in force but to `root`.
        fn ends_at(&self, root: &Certificate) -> bool {
            let (path, problem) = ("pki/sign/web".to_owned(), "elsewhere".to_owned());
            let error = Mistrust::NoPath { path, problem, root: Some(root.clone()) };
            self.live.attempted(Some(&error.into()), now())
        }

        #[track_caller]
        fn admits_under(&self, root: &Certificate) {
            let pass = self.live.admit().expect("a request passes");
            self.goes_on_under(pass, root);
        }

        #[track_caller]
        fn goes_on_under(&self, pass: Pass, root: &Certificate) {
            let anchors = self.live.still_admits(pass).expect("it goes on");
            assert_eq!(anchors.certificates(), std::slice::from_ref(root));
        }

        #[track_caller]
        fn is_stopped(&self) {
            assert!(matches!(self.live.admit(), Err(Waiting::IssuerNotReady(_))));
            assert_eq!(self.live.report().health.reason, ReadyReason::TrustAnchorsChanged);
        }
    }

    #[tokio::test]
    async fn a_check_comes_when_the_token_needs_it_and_not_within_a_minute_of_the_last() {
        let scene = Scene::new(Record::default()).await;
        let due = |token: Option<u64>, passed: u64| {
            *scene.live.signer.2.lock().expect("no test panics here") = token.map(Duration::from_secs);
            scene.live.due_in(now().checked_add(Duration::from_secs(passed)).expect("a time")).as_secs()
        };
        let calm = due(None, 0);
        assert!(calm >= 240, "{calm}");
        assert_eq!((due(Some(100), 0), due(Some(5), 0), due(Some(0), 20), due(Some(0), 70)), (100, 60, 40, 0));
        assert_eq!(due(Some(4_000), 0), calm);
    }

    #[tokio::test]
    async fn the_first_answer_corrects_and_nothing_passes_until_that_is_written() {
        let scene = Scene::new(Record::default()).await;
        scene.admits_under(&scene.one);
        let before = scene.live.report();
        assert!(scene.ends_at(&scene.two), "the correction has to be written");
        scene.live.announced(&before);
        assert!(
            matches!(scene.live.admit(), Err(Waiting::IssuerNotReady(_))),
            "what was reported before does not count"
        );
        let report = scene.write();
        assert!(report.health.ready && report.record.is_some_and(|record| !record.provisional));
        scene.admits_under(&scene.two);
        assert!(!scene.ends_at(&scene.two), "one that passed before the correction is no trouble");
        scene.admits_under(&scene.two);
        scene.ends_at(&scene.one);
        scene.is_stopped();
    }

    #[tokio::test]
    async fn who_waits_for_a_turn_while_the_anchors_change_goes_on_under_the_new_ones_once_they_are_written() {
        let scene = Scene::new(Record::default()).await;
        let pass = scene.live.admit().expect("a request passes");
        scene.goes_on_under(pass, &scene.one);
        assert!(scene.ends_at(&scene.two), "the correction has to be written");
        assert!(matches!(scene.live.still_admits(pass), Err(Waiting::IssuerNotReady(_))));
        scene.write();
        scene.goes_on_under(pass, &scene.two);
    }

    #[tokio::test]
    async fn what_was_handed_out_is_not_corrected() {
        let scene = Scene::new(Record::default()).await;
        assert!(scene.live.attempted(None, now()), "that it is confirmed has to be written");
        assert!(!scene.live.attempted(None, now()));
        assert!(scene.ends_at(&scene.two));
        scene.is_stopped();
        assert!(!scene.ends_at(&scene.two), "those in flight say nothing new");
        scene.live.attempted(None, now());
        scene.is_stopped();
        let report = scene.look().await;
        scene.is_stopped();
        assert_eq!(report.anchors.as_ref().map(Anchors::certificates), Some(std::slice::from_ref(&scene.one)));
        assert_eq!(report.record.and_then(|record| record.elsewhere), Some((&scene.two).into()));
    }

    #[tokio::test]
    async fn the_annotation_accepts_and_is_followed_at_once() {
        let scene = Scene::new(Record::default()).await;
        scene.live.attempted(None, now());
        scene.ends_at(&scene.two);
        assert!(!scene.live.due_in(now()).is_zero());
        scene.live.accept(vec![scene.two.sha256().to_owned()]);
        assert!(scene.live.due_in(now()).is_zero());
        scene.look().await;
        scene.admits_under(&scene.two);
        scene.live.accept(vec![scene.two.sha256().to_owned()]);
        assert!(!scene.live.due_in(now()).is_zero(), "the same word again is no news");
    }

    #[tokio::test]
    async fn a_change_outlives_the_process() {
        let (one, two) = (Authority::new("One").root(2040), Authority::new("Two").root(2040));
        let anchors = vec![one.sha256().to_owned()];
        let record = Record { anchors, elsewhere: Some((&two).into()), ..Record::default() };
        Scene::of(one, two, record, None).await.is_stopped();
    }

    #[tokio::test]
    async fn where_a_check_cannot_see_no_request_is_let_through_to_try_another_root() {
        let scene = Scene::new(Record::default()).await;
        scene.live.attempted(None, now());
        scene.ends_at(&scene.two);
        *scene.live.signer.1.lock().expect("no test panics here") = Fact::Unknown;
        scene.look().await;
        scene.is_stopped();
    }

    #[tokio::test]
    async fn an_outage_neither_forgets_nor_shrinks() {
        let scene = Scene::new(Record::default()).await;
        scene.shows(Fact::Unknown);
        assert!(scene.look().await.health.ready, "what cannot be seen is not gone");
        scene.shows(Fact::No(Outage::Sealed { server: "vault:8200".to_owned() }.into()));
        assert!(scene.look().await.health.ready, "the first of two");
        let report = scene.look().await;
        assert_eq!(report.health.reason, ReadyReason::VaultSealed);
        assert_eq!(report.anchors.as_ref().map(Anchors::certificates), Some(std::slice::from_ref(&scene.one)));
    }

    #[tokio::test]
    async fn what_a_sign_met_long_ago_is_no_cause_any_more() {
        let scene = Scene::new(Record::default()).await;
        let outage = SignError::from(Outage::Sealed { server: "vault:8200".to_owned() });
        scene.live.attempted(Some(&outage), now());
        scene.look().await;
        assert!(scene.live.held_up_by().is_some(), "the check that it brings on does not see what signs meet");
        scene.live.check(|| now() + SignedDuration::from_secs(300)).await;
        assert_eq!(scene.live.held_up_by(), None);
    }

    #[tokio::test]
    async fn a_pin_is_not_corrected() {
        let (one, two) = (Authority::new("One").root(2040), Authority::new("Two").root(2040));
        let place = Place { field: "spec.trust.anchors[0].pem".to_owned(), object: None };
        let configured =
            Anchors::configured(&[Found { place, value: one.pem().as_bytes().to_vec() }], now()).expect("roots");
        let scene = Scene::of(one, two, Record::default(), Some(configured)).await;
        let error = Mistrust::NoPath { path: "pki/sign/web".to_owned(), problem: "elsewhere".to_owned(), root: None };
        scene.live.attempted(Some(&error.into()), now());
        assert_eq!(scene.live.report().health.reason, ReadyReason::AnswerUntrusted);
        assert!(!scene.live.report().record.is_some_and(|record| record.provisional));
    }

    #[tokio::test]
    async fn who_signed_last_is_known_after_a_restart() {
        let (one, two) = (Authority::new("One").root(2040), Authority::new("Two").root(2040));
        let record = Record { signing: Some(two.sha256().to_owned()), ..Record::default() };
        let scene = Scene::of(one, two, record, None).await;
        assert_eq!(scene.live.report().signing.as_ref(), Some(&scene.two));
    }

    #[tokio::test]
    async fn anchors_that_were_handed_out_with_a_ca_certificate_are_provisional_no_more() {
        let (one, two) = (Authority::new("One").root(2040), Authority::new("Two").root(2040));
        let scene = Scene::of(one, two, Record::default(), None).await;
        let provisional = || scene.live.report().record.is_some_and(|record| record.provisional);
        assert!(provisional(), "nothing was handed out yet");
        assert!(scene.live.attempted_elsewhere(), "the status has to say so");
        assert!(!provisional());
    }

    fn beyond(ends: &str) -> SignError {
        let at = |text: &str| text.parse().expect("a timestamp");
        let dates = Some(Beyond { wanted: at("2035-01-01T00:00:00Z"), ends: at(ends) });
        Outage::BeyondCa { path: "pki/sign/web".to_owned(), words: Words::new("beyond", &[]), dates }.into()
    }

    #[tokio::test]
    async fn a_request_that_outlives_the_ca_is_told_and_says_nothing_against_the_issuer() {
        let (one, two) = (Authority::new("One").root(2031), Authority::new("Two").root(2040));
        let scene = Scene::of(one, two, Record::default(), None).await;
        let error = beyond("2031-01-01T00:00:00Z");
        assert!(scene.live.attempted(Some(&error), now()), "the status has to say so");
        assert!(!scene.live.attempted(Some(&error), now()), "once");
        for _ in 0..3 {
            let report = scene.look().await;
            assert!(
                report.health.ready && report.ca_expiring.is_some_and(|words| words.contains("2031-01-01T00:00:00Z"))
            );
        }
        let renewed = Authority::new("One").root(2040);
        scene.live.accept(vec![renewed.sha256().to_owned()]);
        scene.shows(Fact::Yes(Shown { certificates: vec![renewed], named: false, complete: true }));
        let report = scene.look().await;
        assert_eq!((report.health.ready, report.ca_expiring), (true, None));
    }

    #[tokio::test]
    async fn an_expired_ca_stops_its_issuer_until_the_mount_has_another() {
        let ([root, ca], two) = (["Root", "CA"].map(Authority::new), Authority::new("Two").root(2040));
        let scene = Scene::of(root.root(2040), two, Record::default(), None).await;
        let shows = |until| {
            let certificates = vec![root.signs(&ca, until), scene.one.clone()];
            scene.shows(Fact::Yes(Shown { certificates, named: false, complete: true }));
        };
        shows(2030);
        let report = scene.look().await;
        assert_eq!(report.health.reason, ReadyReason::CaExpired);
        assert!(report.health.message.contains("until 2030-01-01T00:00:00Z"), "{}", report.health.message);
        assert!(matches!(scene.live.admit(), Err(Waiting::IssuerNotReady(_))));
        shows(2031);
        assert!(scene.look().await.health.ready);
    }

    #[tokio::test]
    async fn a_ca_that_signed_last_and_has_ended_makes_room_for_the_mounts_default() {
        let (root, old) = (Authority::new("Root"), Authority::new("Old"));
        let (renewed, ended) = (root.signs(&Authority::new("New"), 2035), root.signs(&old, 2030));
        let record = Record { signing: Some(ended.sha256().to_owned()), ..Record::default() };
        let scene = Scene::of(root.root(2040), Authority::new("Two").root(2040), record, None).await;
        let certificates = vec![renewed.clone(), scene.one.clone(), ended];
        scene.shows(Fact::Yes(Shown { certificates, named: false, complete: true }));
        let report = scene.look().await;
        assert_eq!((report.health.ready, report.signing), (true, Some(renewed)));
    }

    #[tokio::test]
    async fn an_expired_ca_that_only_its_refusals_show_is_tried_by_one_request_after_each_check() {
        let scene = Scene::new(Record::default()).await;
        assert!(scene.live.attempted(Some(&beyond("2030-05-01T00:00:00Z")), now()));
        for _ in 0..2 {
            let report = scene.look().await;
            assert_eq!(report.health.reason, ReadyReason::CaExpired);
            assert!(scene.live.admit().is_ok(), "one request");
            assert!(matches!(scene.live.admit(), Err(Waiting::IssuerNotReady(_))));
            scene.live.attempted(Some(&beyond("2030-05-01T00:00:00Z")), now());
            assert!(matches!(scene.live.admit(), Err(Waiting::IssuerNotReady(_))), "nobody else before the next check");
        }
    }

    #[tokio::test]
    async fn the_end_of_the_ca_is_not_slept_through() {
        let scene = Scene::new(Record::default()).await;
        let a_minute_before = || scene.one.not_after() - SignedDuration::from_secs(60);
        scene.live.check(a_minute_before).await;
        assert_eq!(scene.live.due_in(a_minute_before()), Duration::from_secs(61));
    }

    #[tokio::test]
    async fn the_answers_tell_who_signs() {
        let [root, ca] = ["Root", "CA"].map(Authority::new);
        let scene = Scene::of(root.root(2040), Authority::new("Two").root(2040), Record::default(), None).await;
        assert_eq!(scene.live.report().signing.as_ref(), Some(&scene.one), "what the mount shows");
        let issued = Issued {
            path: CertificationPath {
                leaf: ca.leaf("a.example", 2031),
                intermediates: vec![root.signs(&ca, 2035)],
                anchor: scene.one.clone(),
            },
            chain_pem: String::new(),
            ca_pem: String::new(),
            request_id: String::new(),
            concerns: Vec::new(),
        };
        let hour = Duration::from_secs(3_600);
        assert!(scene.live.issued(hour, &issued, now()) && !scene.live.issued(hour, &issued, now()));
        let last = issued.path.intermediates.first();
        assert_eq!(scene.live.report().signing.as_ref(), last);
        let shown = Shown { certificates: vec![scene.one.clone()], named: false, complete: false };
        scene.shows(Fact::Yes(shown.clone()));
        assert_eq!(scene.look().await.signing.as_ref(), last, "the list has gaps");
        scene.shows(Fact::Yes(Shown { complete: true, ..shown }));
        assert_eq!(scene.look().await.signing.as_ref(), Some(&scene.one), "the mount has it no more");
    }
}
