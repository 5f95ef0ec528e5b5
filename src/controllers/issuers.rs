//! An issuer → its session, its health, its status. The only writer of issuer status; generic over both kinds.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use kube::runtime::Controller;
use kube::runtime::controller::Action;
use kube::runtime::reflector::{ObjectRef, Store};
use serde::de::DeserializeOwned;
use tracing::{info, warn};

use super::watches::Gone;
use super::{Context, Wake, publication};
use crate::api::config::SpecError;
use crate::api::material::Unresolved;
use crate::api::{ACCEPT_ANCHORS, IssuerConfig, IssuerKey, IssuerKind, IssuerResource};
use crate::clock;
use crate::cluster::events::Kind;
use crate::cluster::status::{WriteError, Written, apply_issuer_status};
use crate::issuance::changes::changes;
use crate::issuance::discovery::{self, Record};
use crate::issuance::health::{Report, is_news, is_warning};
use crate::issuance::publication::Publication;
use crate::issuance::signer::Fault;
use crate::issuance::trust::Anchors;
use crate::issuance::verdict::Notice;
use crate::issuers::{Live, Origin};
use crate::vault::VaultSigner;
use crate::x509::Certificate;

/// The pause after a write that the API server did not take.
const WRITE_PAUSE: Duration = Duration::from_secs(2);

/// What the controller needs of an issuer's type.
pub trait Issuer: IssuerResource + Clone + Debug + DeserializeOwned + Send + Sync + 'static {}
impl<K> Issuer for K where K: IssuerResource + Clone + Debug + DeserializeOwned + Send + Sync + 'static {}

/// Runs until the stream of issuers ends or `stop` resolves.
pub async fn run<K: Issuer>(
    issuers: impl Stream<Item = kube::runtime::watcher::Result<K>> + Send + 'static,
    store: Store<K>,
    look_at: impl Stream<Item = IssuerKey> + Send + 'static,
    context: Arc<Context>,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    Controller::for_stream(issuers, store)
        .reconcile_on(look_at.map(|key| {
            let object = ObjectRef::new(&key.name);
            match &key.namespace {
                Some(namespace) => object.within(namespace),
                None => object,
            }
        }))
        .graceful_shutdown_on(stop)
        .run(reconcile::<K>, |_, _, _| Action::requeue(WRITE_PAUSE), context)
        .for_each(|result| async move {
            match result {
                Ok(_) | Err(kube::runtime::controller::Error::ObjectNotFound(_)) => {}
                Err(error) => warn!("{}: {error}", K::KIND.name()),
            }
        })
        .await;
}

/// The key of an issuer object.
pub fn key<K: IssuerResource>(issuer: &K) -> IssuerKey {
    let meta = issuer.meta();
    IssuerKey { kind: K::KIND, namespace: meta.namespace.clone(), name: meta.name.clone().unwrap_or_default() }
}

/// Forgets issuers that are gone, with their sessions, their watches and their metrics.
pub fn forget(kind: IssuerKind, gone: Gone<IssuerKey>, context: &Context) {
    let gone = match gone {
        Gone::One(key) => vec![key],
        Gone::AllBut(shown) => {
            context.issuers.listed(kind);
            wake(Wake::Kind(kind), context);
            context.issuers.keys(kind).into_iter().filter(|key| !shown.contains(key)).collect()
        }
    };
    for key in gone {
        context.issuers.forget(&key);
        publication::gone(&key, context);
        context.references.want(&key, BTreeSet::new());
        context.metrics.forget(&key);
        wake(Wake::Issuer(key), context);
    }
}

async fn reconcile<K: Issuer>(issuer: Arc<K>, context: Arc<Context>) -> Result<Action, WriteError> {
    let key = key(issuer.as_ref());
    let settled = settle(issuer.as_ref(), &key, &context);
    // It may have gone between the event and now; what was begun for it ends with it.
    if !context.issuers.is_expected(&key) {
        context.references.want(&key, BTreeSet::new());
        context.metrics.forget(&key);
        return Ok(Action::await_change());
    }
    let live = match settled {
        Ok(live) => live,
        Err(Unsettled::NotYet) => return Ok(Action::await_change()),
        Err(Unsettled::Fault(fault)) => {
            context.issuers.unusable(&key, fault.to_string());
            context.metrics.issuer(&key).ready(false);
            let publication = publication::without_anchors(issuer.as_ref());
            record(issuer.as_ref(), &key, &Report::troubled(&fault.into()), &publication, &context).await?;
            wake(Wake::Issuer(key), &context);
            return Ok(Action::await_change());
        }
    };
    live.accept(discovery::accepted(annotation(issuer.as_ref())));
    if live.due_in(clock::now()).is_zero() {
        live.check(clock::now).await;
    }
    let report = live.report();
    let (publication, again) =
        publication::publish(issuer.as_ref(), &key, live.config(), report.anchors.as_ref(), &context).await;
    let recorded = record(issuer.as_ref(), &key, &report, &publication, &context).await?;
    measure(&live, &report);
    if recorded && live.announced(&report) {
        wake(Wake::Issuer(key), &context);
    }
    let due = live.due_in(clock::now());
    Ok(Action::requeue(again.map_or(due, |again| again.min(due))))
}

/// Why there is nothing that could be checked.
enum Unsettled {
    /// An object that the spec names has not been read yet; its arrival brings the issuer back.
    NotYet,
    /// A person has to act.
    Fault(Fault),
}

impl From<Fault> for Unsettled {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<SpecError> for Unsettled {
    fn from(error: SpecError) -> Self {
        Self::Fault(error.into())
    }
}

impl From<Unresolved> for Unsettled {
    fn from(unresolved: Unresolved) -> Self {
        match unresolved {
            Unresolved::NotYet => Self::NotYet,
            Unresolved::Unusable(error) => Self::Fault(error.into()),
        }
    }
}

/// The issuer as it is now: the one we know, or a new one where spec or material have changed.
fn settle<K: Issuer>(issuer: &K, key: &IssuerKey, context: &Context) -> Result<Arc<Live<VaultSigner>>, Unsettled> {
    let config =
        IssuerConfig::parse(issuer.issuer_spec()).inspect_err(|_| context.references.want(key, BTreeSet::new()))?;
    // Before any Secret is read: who may create an issuer must not make us read one for a server we would not call.
    if !context.settings.allowed_servers.permits(&config.vault.authority) {
        context.references.want(key, BTreeSet::new());
        return Err(Fault::ServerNotAllowed { server: config.vault.authority }.into());
    }
    let namespace = key.namespace.as_deref().unwrap_or(&context.settings.cluster_resource_namespace);
    let object = |kind, name: &str| context.settings.object(key, kind, name);
    let objects: Vec<_> = config.references().iter().map(|it| object(it.kind, &it.name)).collect();
    let target = config.publish.iter().map(|it| object(it.kind, &it.name));
    context.references.want(key, objects.iter().cloned().chain(target).collect());

    let delivered = objects.iter().map(|object| context.references.read(object)).collect();
    let uid = issuer.meta().uid.clone().unwrap_or_default();
    let origin = Origin { uid, config, objects: delivered };
    context.issuers.adopt(key, &origin, || {
        let material =
            origin.config.material(key, namespace, |kind, name| context.references.read(&object(kind, name)))?;
        let configured = match material.anchors.as_slice() {
            [] => None,
            sources => Some(Anchors::configured(sources, clock::now())?),
        };
        let metrics = context.metrics.issuer(key);
        let signer = VaultSigner::new(&origin.config, &material, &context.vault, metrics.clone())?;
        let record = Record::of(issuer.issuer_status(), issuer.meta().generation, annotation(issuer));
        Ok(Live::new(origin.clone(), configured, record, signer, context.settings.signs_per_issuer, metrics))
    })
}

fn annotation<K: IssuerResource>(issuer: &K) -> Option<&str> {
    issuer.meta().annotations.as_ref()?.get(ACCEPT_ANCHORS).map(String::as_str)
}

/// Writes the status where it says something new, with an event for each condition that is news. Returns whether it stands there now.
async fn record<K: Issuer>(
    issuer: &K,
    key: &IssuerKey,
    report: &Report,
    publication: &Publication,
    context: &Context,
) -> Result<bool, WriteError> {
    let meta = issuer.meta();
    let before = issuer.issuer_status();
    let Some(status) = report.status(publication, meta.generation, before, clock::now()) else {
        return Ok(true);
    };
    let version = meta.resource_version.as_deref().unwrap_or_default();
    match apply_issuer_status::<K>(&context.client, key, version, &status).await? {
        Written::Applied { .. } => {}
        // Somebody else wrote it, or it is gone: the watch brings what is there now.
        Written::Conflict | Written::Gone => return Ok(false),
    }
    info!(issuer = %key, ready = report.health.ready, reason = report.health.reason.as_str(), "{}", report.health.message);
    for now in &status.conditions {
        if is_news(before.and_then(|before| before.condition(&now.type_)), now) {
            let kind = if is_warning(now) { Kind::Warning } else { Kind::Normal };
            context.events.publish(&issuer.object_ref(&()), kind, &now.reason, now.message.clone());
        }
    }
    for (changed, Notice { reason, note }) in changes(before, &status) {
        info!(issuer = %key, reason, "{note}");
        context.metrics.issuer(key).changed(changed);
        context.events.publish(&issuer.object_ref(&()), Kind::Change, reason, note);
    }
    Ok(true)
}

fn measure(live: &Live<VaultSigner>, report: &Report) {
    let metrics = live.metrics();
    metrics.ready(report.health.ready);
    metrics.ca_not_after(report.signing.as_ref().map(Certificate::not_after));
    let anchors = report.anchors.iter().flat_map(Anchors::certificates);
    let anchors: Vec<_> = anchors.map(|anchor| (anchor.sha256().to_owned(), anchor.not_after())).collect();
    metrics.anchors(&anchors);
}

fn wake(whom: Wake, context: &Context) {
    if context.wake.send(whom).is_err() {
        warn!("waiting requests cannot be woken: their controller has ended");
    }
}
