//! What is watched, and how it reaches the stores: only our requests, only unfinished ones, only the fields we read.

use std::collections::{BTreeMap, HashSet};

use futures::channel::oneshot;
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Namespace as CoreNamespace;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::{Config, Error, Event, Result, watcher};
use kube::{Api, Client, Resource};
use tracing::info;

use crate::api::{GROUP, IssuerResource};
use crate::requests::certificate_request::{CertificateRequest, standing};

/// A namespace, as far as we read it.
pub type Namespace = PartialObjectMeta<CoreNamespace>;

/// How many objects a page of the first list holds; a page is in memory as a whole.
const PAGE: u32 = 100;

/// What a watch showed to be gone.
pub enum Gone<T> {
    /// This one.
    One(T),
    /// Everything but these: the watch began anew.
    AllBut(HashSet<T>),
}

/// The CertificateRequests of our group. cert-manager before 1.20 has no field to select by: then all are watched, and the
/// others dropped as they come.
pub fn requests(client: Client) -> impl Stream<Item = Result<Event<CertificateRequest>>> + Send {
    let watch = move |selected: bool| {
        let config = Config::default().page_size(PAGE);
        let config = if selected { config.fields(&format!("spec.issuerRef.group={GROUP}")) } else { config };
        watcher(Api::<CertificateRequest>::all(client.clone()), config).boxed()
    };
    let first = watch(true);
    futures::stream::unfold((first, true, watch), |(mut stream, mut selected, watch)| async move {
        let mut event = stream.next().await?;
        if selected && event.as_ref().is_err_and(is_unsupported_field) {
            info!("this cert-manager has no selectable fields (they came with 1.20): watching all CertificateRequests");
            (stream, selected) = (watch(false), false);
            event = stream.next().await?;
        }
        Some((event, (stream, selected, watch)))
    })
    .default_backoff()
}

fn is_unsupported_field(error: &Error) -> bool {
    let (Error::InitialListFailed(kube::Error::Api(status)) | Error::WatchStartFailed(kube::Error::Api(status))) =
        error
    else {
        return false;
    };
    status.code == 400 && status.message.contains("field label not supported")
}

/// Takes finished requests and those of others out of the stream before anything stores them. One that we kept and that is now
/// finished leaves the store as if it had been deleted.
pub fn unfinished(
    events: impl Stream<Item = Result<Event<CertificateRequest>>> + Send,
) -> impl Stream<Item = Result<Event<CertificateRequest>>> + Send {
    let keep = |request: &CertificateRequest| {
        let standing = standing(request);
        standing.issuer.is_some() && !standing.finished
    };
    events.filter_map(move |event| {
        futures::future::ready(match event {
            Ok(Event::InitApply(request)) if !keep(&request) => None,
            Ok(Event::Apply(request)) if !keep(&request) => Some(Ok(Event::Delete(request))),
            other => Some(other),
        })
    })
}

/// The issuers of one kind.
pub fn issuers<K>(client: Client) -> impl Stream<Item = Result<Event<K>>> + Send
where
    K: IssuerResource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    watcher(Api::<K>::all(client), Config::default().page_size(PAGE)).default_backoff().modify(|issuer| {
        issuer.meta_mut().managed_fields = None;
    })
}

/// The labels of all namespaces.
pub fn namespaces(client: Client) -> impl Stream<Item = Result<Event<Namespace>>> + Send {
    watcher(Api::<Namespace>::all(client), Config::default().page_size(PAGE)).default_backoff().modify(|namespace| {
        namespace.metadata.managed_fields = None;
        namespace.metadata.annotations = None;
    })
}

/// The labels of one namespace; none while it is not known.
pub fn labels(namespaces: &Store<Namespace>, name: &str) -> Option<BTreeMap<String, String>> {
    let namespace = namespaces.get(&ObjectRef::new(name))?;
    Some(namespace.metadata.labels.clone().unwrap_or_default())
}

/// Tells `gone` what left. A watch that begins anew does not name what was deleted in between, so what it shows is counted.
pub fn tell_gone<K, T>(
    events: impl Stream<Item = Result<Event<K>>> + Send,
    key: impl Fn(&K) -> T + Send,
    gone: impl Fn(Gone<T>) + Send,
) -> impl Stream<Item = Result<Event<K>>> + Send
where
    K: Send,
    T: Eq + std::hash::Hash + Send,
{
    let mut shown = HashSet::new();
    events.inspect(move |event| match event {
        Ok(Event::Init) => shown.clear(),
        Ok(Event::InitApply(object)) => {
            shown.insert(key(object));
        }
        Ok(Event::InitDone) => gone(Gone::AllBut(std::mem::take(&mut shown))),
        Ok(Event::Delete(object)) => gone(Gone::One(key(object))),
        Ok(Event::Apply(_)) | Err(_) => {}
    })
}

/// The objects to reconcile, each only when the store holds it: those of a first list come when it is complete, which `shown`
/// is told. (A store's own `wait_until_ready` wakes only the last of several waiters, and kube's Controller is one already.)
pub fn settled<K>(
    events: impl Stream<Item = Result<Event<K>>> + Send,
    shown: Option<oneshot::Sender<()>>,
) -> impl Stream<Item = Result<K>> + Send
where
    K: Resource + Send,
{
    let (mut listed, mut shown) = (Vec::new(), shown);
    events
        .map(move |event| match event {
            Ok(Event::Init) => {
                listed.clear();
                Vec::new()
            }
            Ok(Event::InitApply(object)) => {
                listed.push(Ok(object));
                Vec::new()
            }
            Ok(Event::InitDone) => {
                // Nobody listens any more while the process ends.
                let _ended = shown.take().map(|shown| shown.send(()));
                std::mem::take(&mut listed)
            }
            Ok(Event::Apply(object)) => vec![Ok(object)],
            Ok(Event::Delete(_)) => Vec::new(),
            Err(error) => vec![Err(error)],
        })
        .flat_map(futures::stream::iter)
}
