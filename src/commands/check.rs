//! `vault-mesh-issuer check`: looks at issuers as the controller does, and says all that it finds. Manifests come from files or from
//! the cluster, what they name as well; login, path, role and trust are tried at Vault by the controller's own code, which signs
//! nothing; and whatever was logged in with is revoked at the end.

mod cluster;
mod input;
mod report;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures::StreamExt as _;

use self::cluster::{Cluster, Recorded};
use self::input::{Entry, Given, Objects};
use self::report::Report;
use super::run::seat::{Signals, namespace};
use crate::api::material::{Delivered, Material, Unresolved};
use crate::api::{IssuerConfig, Manifest, ObjectKey};
use crate::cli::CheckArgs;
use crate::clock;
use crate::issuance::diagnosis::{Trust, diagnose};
use crate::issuance::discovery::Record;
use crate::issuance::findings::{Line, announcement, lines, no_record};
use crate::issuance::signer::{Fault, Probe, Signer as _};
use crate::issuance::trust::Anchors;
use crate::metrics::Metrics;
use crate::vault::{Common, VaultSigner};

/// How many issuers are looked at side by side.
const AT_ONCE: usize = 8;

/// How long the revocations of all tokens may take.
const LAST_REVOCATIONS: Duration = Duration::from_secs(10);

/// Looks at every issuer that the arguments mean, and prints what was found. Success: nothing has to be done about any of them.
///
/// # Errors
/// Something could not be read, so that not every issuer was looked at.
pub async fn check(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let cluster = Cluster::find().await?;
    let namespace = args.namespace.clone().unwrap_or_else(|| cluster.namespace().to_owned());
    let Given { issuers, objects } = match args.files.as_slice() {
        [] => {
            let namespace = (!args.all_namespaces).then_some(namespace.as_str());
            Given { issuers: cluster.issuers(namespace).await?, objects: Objects::default() }
        }
        files => input::read(files, &namespace)?,
    };
    ensure!(!issuers.is_empty(), "there is no issuer to check");
    // From here on there may be tokens to revoke.
    let mut asked_to_end = Signals::listen()?;
    let visit = Visit { common: cluster.common(), metrics: Metrics::new(), cluster, objects, args };
    let all = futures::stream::iter(&issuers).map(|entry| visit.examine(entry));
    let examined: anyhow::Result<Vec<anyhow::Result<Report>>> = tokio::select! {
        examined = all.buffered(AT_ONCE).collect() => Ok(examined),
        () = asked_to_end.come() => Err(anyhow::anyhow!("interrupted")),
    };
    // By now every session is over, and the end of its token under way.
    let left = visit.common.revocations.finish(LAST_REVOCATIONS).await;
    if left > 0 {
        complain(&format!("warning: {left} tokens could not be revoked; they end with their leases"))?;
    }
    let (mut reports, mut unread) = (Vec::new(), Vec::new());
    for outcome in examined? {
        match outcome {
            Ok(report) => reports.push(report),
            Err(error) => unread.push(error),
        }
    }
    if !reports.is_empty() {
        let text = report::printed(&reports, visit.args.output)?;
        std::io::stdout().write_all(text.as_bytes()).context("cannot print what was found")?;
    }
    unread.iter().try_for_each(|error| complain(&format!("error: {error:#}")))?;
    Ok(match (unread.is_empty(), reports.iter().all(|report| report.ok)) {
        (false, _) => ExitCode::from(2),
        (true, true) => ExitCode::SUCCESS,
        (true, false) => ExitCode::FAILURE,
    })
}

fn complain(words: &str) -> anyhow::Result<()> {
    writeln!(std::io::stderr(), "{words}").context("cannot print what went wrong")
}

/// One run of the command.
struct Visit {
    cluster: Cluster,
    /// What the given files hold beside issuers.
    objects: Objects,
    common: Common,
    metrics: Metrics,
    args: CheckArgs,
}

impl Visit {
    /// Looks at one issuer.
    async fn examine(&self, entry: &Entry) -> anyhow::Result<Report> {
        let (report, manifest) = (Report::new(entry), &entry.manifest);
        let config = match &manifest.config {
            Ok(config) => config,
            Err(error) => return Ok(report.with(vec![Line::unusable(&error.clone().into())])),
        };
        let material = match self.material(manifest, config).await? {
            Ok(material) => material,
            Err(fault) => return Ok(report.with(vec![Line::unusable(&fault)])),
        };
        let metrics = self.metrics.issuer(&manifest.key);
        let signer = match VaultSigner::new(config, &material, &self.common, metrics) {
            Ok(signer) => signer,
            Err(fault) => return Ok(report.with(vec![Line::unusable(&fault)])),
        };
        // The rest is looked at even if these can be no anchors.
        let (configured, refused) = match material.anchors.as_slice() {
            [] => (None, None),
            sources => match Anchors::configured(sources, clock::now()) {
                Ok(anchors) => (Some(anchors), None),
                Err(fault) => (None, Some(fault)),
            },
        };
        let observation = signer.check(Probe::Ask).await;
        let recorded = self.cluster.recorded(entry).await;
        let Recorded { status, generation, accepted } = recorded.as_ref().ok().cloned().unwrap_or_default();
        let accepted = manifest.accepted.clone().or(accepted);
        let record = Record::of(status.as_ref(), generation, accepted.as_deref());
        let trust = Trust { configured: configured.as_ref(), known: None, signing: None, record: &record };
        let now = clock::now();
        let mut diagnosis = diagnose(&observation, trust, config, now);
        if let Some(fault) = &refused {
            diagnosis.refuse_anchors(fault);
        }
        let mut found = vec![Line::usable()];
        found.extend(entry.dropped.iter().cloned());
        found.extend(lines(&diagnosis, config, observation.ends, now));
        let handed_out = status.and_then(|status| status.trust_anchors).unwrap_or_default();
        found.extend(match recorded {
            Ok(_) => announcement(&handed_out, &record, &diagnosis, now),
            Err(why) => Some(no_record(&why)),
        });
        Ok(report.with(found).seen(&diagnosis))
    }

    /// What the spec names, from the given files or else from the cluster; the inner error is the issuer's fault.
    async fn material(&self, manifest: &Manifest, config: &IssuerConfig) -> anyhow::Result<Result<Material, Fault>> {
        let references = config.references();
        let namespace = match &manifest.key.namespace {
            Some(namespace) => namespace.clone(),
            None if references.is_empty() => String::new(),
            None => namespace(self.args.cluster_resource_namespace.as_deref(), "--cluster-resource-namespace")?,
        };
        let mut objects = Objects::default();
        for reference in references {
            let object = ObjectKey { kind: reference.kind, namespace: namespace.clone(), name: reference.name.clone() };
            let delivered = match self.objects.get(&object) {
                Some(given) => given.clone(),
                None => self.cluster.object(&object).await.with_context(|| {
                    format!("{} names {object}, which none of the given files holds", reference.field)
                })?,
            };
            objects.insert(object, delivered);
        }
        let read = |kind, name: &str| {
            let object = ObjectKey { kind, namespace: namespace.clone(), name: name.to_owned() };
            objects.get(&object).cloned().unwrap_or(Delivered::Missing)
        };
        match config.material(&manifest.key, &namespace, read) {
            Ok(material) => Ok(Ok(material)),
            Err(Unresolved::Unusable(error)) => Ok(Err(error.into())),
            Err(Unresolved::NotYet) => bail!("{}: an object that it names was not read", manifest.key),
        }
    }
}
