//! What is counted. Edges and flow record into it; `/metrics` prints it in the OpenMetrics text format. Labels are an issuer's
//! kind, namespace and name and bounded sets, never a request's name or an error's text.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::api::IssuerKey;
use crate::issuance::changes::Changed;

/// Upper bounds of the sign call's duration in seconds: 1 ms is what an idle server takes, 30 s is where we give up.
const SIGN_SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0];

/// Everything that is counted in this process; clones share it.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    issuers: Arc<Issuers>,
    leader: Gauge,
    pending: Gauge,
    oldest_pending: Gauge<f64, AtomicU64>,
    panics: Counter,
}

/// How one sign call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A certificate was made and passed inspection.
    Issued,
    /// Vault or its role refused this one request.
    Refused,
    /// The issuer's configuration or credentials were at fault.
    IssuerFault,
    /// A trouble that passes.
    Transient,
    /// Refused for a rate limit; the request asks again in the same turn.
    Throttled,
    /// An answer that must not be published.
    Untrusted,
}

impl Outcome {
    const ALL: [Self; 6] =
        [Self::Issued, Self::Refused, Self::IssuerFault, Self::Transient, Self::Throttled, Self::Untrusted];

    fn label(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Refused => "refused",
            Self::IssuerFault => "issuer_fault",
            Self::Transient => "transient",
            Self::Throttled => "throttled",
            Self::Untrusted => "untrusted",
        }
    }
}

/// Where one issuer's figures are recorded. After [`Metrics::forget`] what is still recorded here is shown no more, so that a
/// sign which outlives its issuer does not bring the issuer's series back.
#[derive(Clone)]
pub struct IssuerMetrics(Arc<Series>);

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// An empty set.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("vault_mesh_issuer");
        let (issuers, leader, panics) = (Arc::<Issuers>::default(), Gauge::default(), Counter::default());
        let (pending, oldest_pending) = (Gauge::default(), Gauge::default());
        registry.register(
            "leader",
            "Whether this replica signs and writes: 1 yes, 0 no (it stands by)",
            leader.clone(),
        );
        registry.register(
            "requests_pending",
            "Approved requests that wait to be signed, of all issuers",
            pending.clone(),
        );
        registry.register_with_unit(
            "oldest_pending_request_age",
            "Age of the approved request that has waited longest, in seconds; 0 when none waits",
            Unit::Seconds,
            oldest_pending.clone(),
        );
        registry.register(
            "panics",
            "Attempts at a request that panicked; each is a defect of this program",
            panics.clone(),
        );
        registry.register_collector(Box::new(issuers.clone()));
        Self(Arc::new(Inner { registry, issuers, leader, pending, oldest_pending, panics }))
    }

    /// The current figures as OpenMetrics text (`application/openmetrics-text; version=1.0.0; charset=utf-8`).
    pub fn encode(&self) -> String {
        let mut page = String::new();
        // Writing to a String does not fail; if it did, an incomplete page without its `# EOF` is what a scraper rejects.
        let _ = text::encode(&mut page, &self.0.registry);
        page
    }

    /// Where this issuer's figures are recorded; the same series for the same key until it is forgotten.
    pub fn issuer(&self, key: &IssuerKey) -> IssuerMetrics {
        IssuerMetrics(self.0.issuers.lock().entry(key.clone()).or_default().clone())
    }

    /// Drops the issuer's series.
    pub fn forget(&self, key: &IssuerKey) {
        self.0.issuers.lock().remove(key);
    }

    /// Whether this replica acts.
    pub fn set_leader(&self, leads: bool) {
        self.0.leader.set(i64::from(leads));
    }

    /// How many approved requests wait, and how long the oldest one has.
    pub fn set_pending(&self, count: usize, oldest: Option<Duration>) {
        self.0.pending.set(i64::try_from(count).unwrap_or(i64::MAX));
        self.0.oldest_pending.set(oldest.map_or(0.0, |age| age.as_secs_f64()));
    }

    /// One attempt at a request panicked.
    pub fn panicked(&self) {
        self.0.panics.inc();
    }
}

impl IssuerMetrics {
    /// Whether the issuer is Ready.
    pub fn ready(&self, ready: bool) {
        self.0.facts().ready = ready;
    }

    /// When the certificate of the signing CA ends; none: not known.
    pub fn ca_not_after(&self, not_after: Option<Timestamp>) {
        self.0.facts().ca_not_after = not_after;
    }

    /// When the static token in use ends for good; none: not known, or it does not.
    pub fn token_not_after(&self, not_after: Option<Timestamp>) {
        self.0.facts().token_not_after = not_after;
    }

    /// The trust anchors in force (SHA-256 in hex, end of validity); replaces those shown before.
    pub fn anchors(&self, anchors: &[(String, Timestamp)]) {
        self.0.facts().anchors = anchors.iter().cloned().collect();
    }

    /// One sign call ended so, after so long.
    pub fn signed(&self, outcome: Outcome, took: Duration) {
        self.0.signs.of(outcome).inc();
        self.0.sign_seconds.observe(took.as_secs_f64());
    }

    /// What people were told of a change.
    pub fn changed(&self, what: Changed) {
        match what {
            Changed::TrustAnchors => &self.0.anchor_changes,
            Changed::SigningCertificate => &self.0.signing_changes,
        }
        .inc();
    }

    /// One login was accepted or not.
    pub fn login(&self, success: bool) {
        self.0.logins.count(success);
    }

    /// One renewal of a token was granted or not.
    pub fn renewal(&self, success: bool) {
        self.0.renewals.count(success);
    }

    /// One token was revoked or not.
    pub fn revocation(&self, success: bool) {
        self.0.revocations.count(success);
    }
}

/// All issuers' figures. A collector of our own instead of the library's families: an issuer's series go in one step when it
/// is forgotten, and nothing recorded later brings them back.
#[derive(Debug, Default)]
struct Issuers(Mutex<BTreeMap<IssuerKey, Arc<Series>>>);

#[derive(Debug)]
struct Series {
    facts: Mutex<Facts>,
    signs: Signs,
    sign_seconds: Histogram,
    logins: Asked,
    renewals: Asked,
    revocations: Asked,
    anchor_changes: Counter,
    signing_changes: Counter,
}

/// What was asked of Vault beside signs, by how it ended.
#[derive(Debug, Default)]
struct Asked {
    accepted: Counter,
    failed: Counter,
}

impl Asked {
    fn count(&self, success: bool) {
        if success { &self.accepted } else { &self.failed }.inc();
    }
}

#[derive(Debug, Default)]
struct Signs {
    issued: Counter,
    refused: Counter,
    issuer_fault: Counter,
    transient: Counter,
    throttled: Counter,
    untrusted: Counter,
}

impl Signs {
    fn of(&self, outcome: Outcome) -> &Counter {
        match outcome {
            Outcome::Issued => &self.issued,
            Outcome::Refused => &self.refused,
            Outcome::IssuerFault => &self.issuer_fault,
            Outcome::Transient => &self.transient,
            Outcome::Throttled => &self.throttled,
            Outcome::Untrusted => &self.untrusted,
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Facts {
    ready: bool,
    ca_not_after: Option<Timestamp>,
    token_not_after: Option<Timestamp>,
    anchors: BTreeMap<String, Timestamp>,
}

impl Default for Series {
    fn default() -> Self {
        Self {
            facts: Mutex::default(),
            signs: Signs::default(),
            sign_seconds: Histogram::new(SIGN_SECONDS),
            logins: Asked::default(),
            renewals: Asked::default(),
            revocations: Asked::default(),
            anchor_changes: Counter::default(),
            signing_changes: Counter::default(),
        }
    }
}

impl Series {
    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Issuers {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<IssuerKey, Arc<Series>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Issuers {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // Copied out, so that a slow scraper holds up nobody who records.
        let issuers = self.lock().iter().map(|(key, series)| (key.clone(), series.clone())).collect();
        let mut page = Page { encoder, issuers };
        page.gauges("ready", "Whether the issuer can sign: 1 yes, 0 no", None, |facts| Some(i64::from(facts.ready)))?;
        let help = "End of validity of the signing CA's certificate, in seconds since 1970";
        page.gauges("ca_not_after", help, Some(&Unit::Seconds), |facts| facts.ca_not_after.map(Timestamp::as_second))?;
        let help = "End of validity of a static Vault token, where it is known and no renewal can put it off, in seconds since 1970";
        page.gauges("token_not_after", help, Some(&Unit::Seconds), |facts| {
            facts.token_not_after.map(Timestamp::as_second)
        })?;
        page.anchors()?;
        page.signs()?;
        page.sign_seconds()?;
        page.asked("logins", "Logins at Vault by whether they were accepted", |series| &series.logins)?;
        page.asked("token_renewals", "Renewals of a token by whether Vault granted them", |series| &series.renewals)?;
        let help = "Tokens that were no longer needed, by whether Vault revoked them";
        page.asked("token_revocations", help, |series| &series.revocations)?;
        page.changes()
    }
}

/// The page being written.
struct Page<'a> {
    encoder: DescriptorEncoder<'a>,
    issuers: Vec<(IssuerKey, Arc<Series>)>,
}

impl Page<'_> {
    /// One number an issuer, or none where it is not known.
    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: impl Fn(&Facts) -> Option<i64>,
    ) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for (key, series) in &self.issuers {
            if let Some(value) = value(&series.facts()) {
                ConstGauge::new(value).encode(family.encode_family(&labels(key, None))?)?;
            }
        }
        Ok(())
    }

    fn anchors(&mut self) -> fmt::Result {
        let help = "End of validity of a trust anchor in force, in seconds since 1970";
        let unit = Some(&Unit::Seconds);
        let mut family = self.encoder.encode_descriptor("trust_anchor_not_after", help, unit, MetricType::Gauge)?;
        for (key, series) in &self.issuers {
            for (sha256, end) in &series.facts().anchors {
                let labels = labels(key, Some(("sha256", sha256)));
                ConstGauge::new(end.as_second()).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn signs(&mut self) -> fmt::Result {
        let help = "Calls of the signing endpoint by how they ended";
        let mut family = self.encoder.encode_descriptor("signs", help, None, MetricType::Counter)?;
        for (key, series) in &self.issuers {
            for outcome in Outcome::ALL {
                series
                    .signs
                    .of(outcome)
                    .encode(family.encode_family(&labels(key, Some(("outcome", outcome.label()))))?)?;
            }
        }
        Ok(())
    }

    fn sign_seconds(&mut self) -> fmt::Result {
        let help = "How long calls of the signing endpoint took, in seconds, whatever their end";
        let unit = Some(&Unit::Seconds);
        let mut family = self.encoder.encode_descriptor("sign_duration", help, unit, MetricType::Histogram)?;
        for (key, series) in &self.issuers {
            series.sign_seconds.encode(family.encode_family(&labels(key, None))?)?;
        }
        Ok(())
    }

    fn asked(&mut self, name: &str, help: &str, of: impl Fn(&Series) -> &Asked) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (key, series) in &self.issuers {
            let Asked { accepted, failed } = of(series);
            for (outcome, count) in [("accepted", accepted), ("failed", failed)] {
                count.encode(family.encode_family(&labels(key, Some(("outcome", outcome))))?)?;
            }
        }
        Ok(())
    }

    fn changes(&mut self) -> fmt::Result {
        let help = "How often other trust anchors came into force, and another CA signed, since this process started";
        let mut family = self.encoder.encode_descriptor("trust_changes", help, None, MetricType::Counter)?;
        for (key, series) in &self.issuers {
            for (of, count) in [("anchors", &series.anchor_changes), ("signing_ca", &series.signing_changes)] {
                count.encode(family.encode_family(&labels(key, Some(("of", of))))?)?;
            }
        }
        Ok(())
    }
}

fn labels<'a>(key: &'a IssuerKey, further: Option<(&'static str, &'a str)>) -> Vec<(&'static str, &'a str)> {
    let namespace = key.namespace.as_deref().unwrap_or_default();
    [("kind", key.kind.name()), ("namespace", namespace), ("name", &key.name)].into_iter().chain(further).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::IssuerKind;

    fn key() -> IssuerKey {
        IssuerKey::new(IssuerKind::Namespaced, "mesh", "vault")
    }

    const LABELS: &str = r#"kind="VaultMeshIssuer",namespace="mesh",name="vault""#;

    #[track_caller]
    fn shows(metrics: &Metrics, line: &str) {
        let page = metrics.encode();
        assert!(page.lines().any(|shown| shown == line), "no line {line:?} in\n{page}");
    }

    #[test]
    fn every_figure_of_an_issuer_is_shown_with_its_labels() {
        let metrics = Metrics::new();
        let issuer = metrics.issuer(&key());
        issuer.ready(true);
        issuer.ca_not_after(Some(Timestamp::from_second(1_900_000_000).expect("time")));
        issuer.anchors(&[("ab12".to_owned(), Timestamp::from_second(2_000_000_000).expect("time"))]);
        issuer.signed(Outcome::IssuerFault, Duration::from_millis(3));
        issuer.login(true);
        issuer.renewal(false);
        issuer.revocation(true);
        issuer.changed(Changed::TrustAnchors);
        shows(&metrics, &format!("vault_mesh_issuer_ready{{{LABELS}}} 1"));
        shows(&metrics, &format!("vault_mesh_issuer_ca_not_after_seconds{{{LABELS}}} 1900000000"));
        shows(
            &metrics,
            &format!(r#"vault_mesh_issuer_trust_anchor_not_after_seconds{{{LABELS},sha256="ab12"}} 2000000000"#),
        );
        shows(&metrics, &format!(r#"vault_mesh_issuer_signs_total{{{LABELS},outcome="issuer_fault"}} 1"#));
        shows(&metrics, &format!(r#"vault_mesh_issuer_signs_total{{{LABELS},outcome="issued"}} 0"#));
        shows(&metrics, &format!(r#"vault_mesh_issuer_sign_duration_seconds_bucket{{le="0.005",{LABELS}}} 1"#));
        shows(&metrics, &format!(r#"vault_mesh_issuer_logins_total{{{LABELS},outcome="accepted"}} 1"#));
        shows(&metrics, &format!(r#"vault_mesh_issuer_token_renewals_total{{{LABELS},outcome="failed"}} 1"#));
        shows(&metrics, &format!(r#"vault_mesh_issuer_token_revocations_total{{{LABELS},outcome="accepted"}} 1"#));
        shows(&metrics, &format!(r#"vault_mesh_issuer_trust_changes_total{{{LABELS},of="anchors"}} 1"#));
        shows(&metrics, &format!(r#"vault_mesh_issuer_trust_changes_total{{{LABELS},of="signing_ca"}} 0"#));
        assert!(!metrics.encode().contains("token_not_after_seconds{"), "an unknown end must not be shown");
    }

    #[test]
    fn anchors_replace_the_former_ones() {
        let metrics = Metrics::new();
        for sha256 in ["old", "new"] {
            metrics.issuer(&key()).anchors(&[(sha256.to_owned(), Timestamp::UNIX_EPOCH)]);
        }
        assert!(!metrics.encode().contains("sha256=\"old\""));
        assert!(metrics.encode().contains("sha256=\"new\""));
    }

    #[test]
    fn a_forgotten_issuer_is_not_brought_back_by_a_late_sign() {
        let metrics = Metrics::new();
        let late = metrics.issuer(&key());
        metrics.forget(&key());
        late.signed(Outcome::Issued, Duration::ZERO);
        assert!(!metrics.encode().contains(LABELS));
    }

    /// Each name as Prometheus knows it, from the page that is scraped.
    fn names() -> Vec<String> {
        let metrics = Metrics::new();
        metrics.issuer(&key());
        let page = metrics.encode();
        let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        types.map(|(name, kind)| format!("{name}{}", if kind == "counter" { "_total" } else { "" })).collect()
    }

    #[test]
    fn every_metric_stands_in_the_users_page_and_no_other() {
        let page = include_str!("../docs/monitoring.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `vault_mesh_issuer_")?.split_once('`'));
        let mut told: Vec<_> = rows.map(|(name, _)| format!("vault_mesh_issuer_{name}")).collect();
        let mut known = names();
        told.sort();
        known.sort();
        assert_eq!(told, known);
    }

    #[test]
    fn every_alert_asks_for_metrics_that_exist_and_stands_in_the_users_page() {
        let rule: serde_json::Value =
            serde_yaml_ng::from_str(include_str!("../deploy/monitoring/alerts.yaml")).expect("YAML");
        assert_eq!(
            (&rule["apiVersion"], &rule["kind"]),
            (&"monitoring.coreos.com/v1".into(), &"PrometheusRule".into())
        );
        let (page, known) = (include_str!("../docs/monitoring.md"), names());
        let alerts = rule["spec"]["groups"][0]["rules"].as_array().expect("rules");
        for alert in alerts {
            let (name, expr) =
                (alert["alert"].as_str().expect("a name"), alert["expr"].as_str().expect("an expression"));
            let words = expr.split(|it: char| !it.is_ascii_alphanumeric() && it != '_');
            let used: Vec<_> = words.filter(|word| word.starts_with("vault_mesh_issuer")).collect();
            assert!(!used.is_empty(), "{name}: {expr}");
            for metric in used {
                assert!(known.iter().any(|known| known == metric), "{name} asks for {metric}");
            }
            assert!(page.contains(&format!("| `{name}` |")), "{name} is not told");
        }
        assert_eq!(page.matches("| `VaultMeshIssuer").count(), alerts.len());
    }

    #[test]
    fn the_process_wide_figures_are_shown() {
        let metrics = Metrics::new();
        metrics.set_pending(7, Some(Duration::from_millis(1_500)));
        metrics.panicked();
        shows(&metrics, "vault_mesh_issuer_leader 0");
        metrics.set_leader(true);
        shows(&metrics, "vault_mesh_issuer_leader 1");
        shows(&metrics, "vault_mesh_issuer_requests_pending 7");
        shows(&metrics, "vault_mesh_issuer_oldest_pending_request_age_seconds 1.5");
        shows(&metrics, "vault_mesh_issuer_panics_total 1");
        shows(&metrics, "# EOF");
    }
}
