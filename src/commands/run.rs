//! `vault-mesh-issuer run`: builds everything and lets it run. What reads (`read`) and what acts (`act`) are started by two
//! functions, so that a lease can stand between them.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::channel::oneshot;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use kube::config::Kubeconfig;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{Store, store};
use kube::runtime::watcher;
use kube::runtime::{WatchStreamExt as _, predicates};
use kube::{Client, Config};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::api::{IssuerKey, IssuerKind, VaultMeshClusterIssuer, VaultMeshIssuer};
use crate::cli::RunArgs;
use crate::clock;
use crate::cluster::events::Events;
use crate::cluster::references::References;
use crate::controllers::watches::{self, Gone, Namespace};
use crate::controllers::{
    Context, Settings, WRITES_AT_ONCE, Wake, attempts::Attempts, brakes::Brakes, issuers, publication, requests,
};
use crate::http::{self, Admin};
use crate::issuers::{Issuers, Publishers, Turns};
use crate::metrics::Metrics;
use crate::requests::certificate_request::CertificateRequest;
use crate::vault::PublicRoots;

/// How long signs under way may take after SIGTERM; Kubernetes' own patience (40 s in the chart) is a little longer.
const LAST_SIGNS: Duration = Duration::from_secs(30);

/// What a running task is, for the message when it ends and must not.
type Tasks = JoinSet<&'static str>;

/// Runs until SIGTERM or SIGINT, or until something that must not end has ended.
///
/// # Errors
/// What could not be built, or what ended.
pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let address = args.http_address;
    let listener = TcpListener::bind(address).await.with_context(|| format!("--http-address {address}"))?;
    let client = client().await?;
    let (stop, stopped) = watch::channel(false);
    let mut tasks = Tasks::new();

    let (context, stores, inbox) = build(client, &args, stopped.clone())?;
    let (streams, shown) = read(&context, stores);
    serve(&mut tasks, listener, &context, shown, &stopped);
    act(&mut tasks, streams, inbox, &context, &stopped);

    let ended = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        ended = tasks.join_next() => ended,
    };
    match ended {
        None => {}
        Some(Ok(what)) => bail!("the {what} ended by itself; a restart begins anew"),
        Some(Err(error)) => bail!("a task broke: {error}"),
    }
    info!("stopping: no new signs, those under way have {} s", LAST_SIGNS.as_secs());
    stop.send_replace(true);
    let drained = tokio::time::timeout(LAST_SIGNS, async { while tasks.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        info!("some signs did not end in time and are abandoned; their requests stay Pending");
    }
    Ok(())
}

/// A client for the cluster that kubectl would find.
async fn client() -> anyhow::Result<Client> {
    let mut config = Config::infer().await.context("no cluster found: neither KUBECONFIG nor a ServiceAccount")?;
    // The proxy variables are for Vault; kube would take HTTPS_PROXY for the API server too. A proxy that the kubeconfig itself
    // names stays, and is refused in kube's words: this program is not built to reach an API server through one.
    config.proxy_url =
        Kubeconfig::read().ok().and_then(|kubeconfig| named_proxy(&kubeconfig)).and_then(|url| url.parse().ok());
    Client::try_from(config).context("cannot make a client from this cluster configuration")
}

/// The proxy of the current context's cluster.
fn named_proxy(kubeconfig: &Kubeconfig) -> Option<String> {
    let current = kubeconfig.current_context.as_ref()?;
    let context = kubeconfig.contexts.iter().find(|context| context.name == *current)?.context.as_ref()?;
    let cluster = kubeconfig.clusters.iter().find(|cluster| cluster.name == context.cluster)?;
    cluster.cluster.as_ref()?.proxy_url.clone()
}

/// The namespace of the pod that we run in, where every container finds it.
fn own_namespace() -> Option<String> {
    let namespace = Config::incluster().ok()?.default_namespace;
    (!namespace.is_empty()).then_some(namespace)
}

/// The stores' writing halves.
struct Stores {
    requests: Writer<CertificateRequest>,
    namespaces: Writer<Namespace>,
}

/// What wakes the controllers.
struct Inbox {
    look_at: mpsc::UnboundedReceiver<IssuerKey>,
    changed_material: mpsc::UnboundedReceiver<IssuerKey>,
    wake: mpsc::UnboundedReceiver<Wake>,
}

fn build(
    client: Client,
    args: &RunArgs,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<(Arc<Context>, Stores, Inbox)> {
    let named = args.cluster_resource_namespace.as_ref().filter(|namespace| !namespace.is_empty());
    let namespace = match named {
        Some(namespace) => namespace.clone(),
        None => {
            own_namespace().context("set --cluster-resource-namespace: the controller's own namespace is not known")?
        }
    };
    let (requests, requests_writer) = store::<CertificateRequest>();
    let (namespaces, namespaces_writer) = store::<Namespace>();
    let (references, changed_material) = References::start(client.clone());
    let (look_at, looks) = mpsc::unbounded_channel();
    let (wake, wakes) = mpsc::unbounded_channel();
    let context = Context {
        events: Events::start(client.clone()),
        client,
        issuers: Issuers::default(),
        publishers: Publishers::default(),
        references,
        attempts: Attempts::default(),
        brakes: Brakes::default(),
        requests,
        namespaces,
        writes: Turns::new(WRITES_AT_ONCE),
        metrics: Metrics::new(),
        roots: PublicRoots::load(),
        settings: Settings {
            cluster_resource_namespace: namespace,
            signs_per_issuer: args.signs_per_issuer,
            allowed_servers: args.allowed_servers.clone(),
        },
        look_at,
        wake,
        stopped,
    };
    let stores = Stores { requests: requests_writer, namespaces: namespaces_writer };
    Ok((Arc::new(context), stores, Inbox { look_at: looks, changed_material, wake: wakes }))
}

/// What has been read, for those who act on it.
struct Streams {
    requests: BoxStream<'static, watcher::Result<CertificateRequest>>,
    relabelled: BoxStream<'static, String>,
    namespaced: (Store<VaultMeshIssuer>, BoxStream<'static, watcher::Result<VaultMeshIssuer>>),
    cluster: (Store<VaultMeshClusterIssuer>, BoxStream<'static, watcher::Result<VaultMeshClusterIssuer>>),
}

/// Each watch tells here that it has shown everything that was there.
type Shown = Vec<oneshot::Receiver<()>>;

/// Starts what reads: the four watches, into their stores.
fn read(context: &Arc<Context>, stores: Stores) -> (Streams, Shown) {
    let (mut shown, mut tell) = (Shown::new(), Vec::new());
    for _ in 0..4 {
        let (sender, receiver) = oneshot::channel();
        shown.push(receiver);
        tell.push(sender);
    }
    let mut tell = tell.into_iter();
    let forgetful = Arc::clone(context);
    // Told after the store has let it go, so that whoever looks there and finds it can still be told.
    let requests = watches::tell_gone(
        watches::unfinished(watches::requests(context.client.clone())).reflect(stores.requests),
        |request| request.uid().to_owned(),
        move |gone| match gone {
            Gone::One(uid) => forgetful.attempts.forget(&uid),
            Gone::AllBut(uids) => forgetful.attempts.retain(&uids),
        },
    );
    let relabelled =
        watches::settled(watches::namespaces(context.client.clone()).reflect(stores.namespaces), tell.next())
            .predicate_filter(predicates::labels, Default::default())
            .filter_map(async |namespace| {
                namespace.inspect_err(|error| warn!("namespaces: {error}")).ok()?.metadata.name
            });
    let streams = Streams {
        requests: watches::settled(requests, tell.next()).boxed(),
        relabelled: relabelled.boxed(),
        namespaced: read_issuers(context, tell.next()),
        cluster: read_issuers(context, tell.next()),
    };
    (streams, shown)
}

fn read_issuers<K: issuers::Issuer>(
    context: &Arc<Context>,
    shown: Option<oneshot::Sender<()>>,
) -> (Store<K>, BoxStream<'static, watcher::Result<K>>) {
    let (reader, writer) = store::<K>();
    let (expectant, forgetful) = (Arc::clone(context), Arc::clone(context));
    let events = watches::issuers::<K>(context.client.clone()).inspect(move |event| {
        if let Ok(watcher::Event::InitApply(issuer) | watcher::Event::Apply(issuer)) = event {
            let key = issuers::key(issuer);
            publication::shown(issuer, &key, &expectant);
            expectant.issuers.expect(key);
        }
    });
    let events = watches::tell_gone(events, issuers::key::<K>, move |gone| issuers::forget(K::KIND, gone, &forgetful));
    (reader, watches::settled(events.reflect(writer), shown).boxed())
}

fn serve(
    tasks: &mut Tasks,
    listener: TcpListener,
    context: &Arc<Context>,
    shown: Shown,
    stopped: &watch::Receiver<bool>,
) {
    let (ready, is_ready) = watch::channel(false);
    let counted = Arc::clone(context);
    let refresh = Arc::new(move || {
        let (count, oldest) = counted.attempts.pending(clock::now());
        counted.metrics.set_pending(count, oldest);
    });
    let admin = Admin { metrics: context.metrics.clone(), refresh, synced: is_ready };
    let stop = stop_signal(stopped);
    let routes = http::serve(listener, admin, stop.clone());
    tasks.spawn(async move {
        let announce = async {
            // A watch that ended without having shown everything ends the process, by its controller.
            if futures::future::try_join_all(shown).await.is_err() {
                return futures::future::pending().await;
            }
            info!("the watches have synced");
            ready.send_replace(true);
            futures::future::pending::<()>().await;
        };
        tokio::select! {
            _ = routes => {}
            () = announce => {}
        }
        "HTTP server"
    });
}

/// Starts what acts: checks, signs, writes, events.
fn act(tasks: &mut Tasks, streams: Streams, inbox: Inbox, context: &Arc<Context>, stopped: &watch::Receiver<bool>) {
    let (to_namespaced, namespaced) = futures::channel::mpsc::unbounded();
    let (to_cluster, cluster) = futures::channel::mpsc::unbounded();
    let looks = futures::stream::select(received(inbox.look_at), received(inbox.changed_material));
    let sort = looks.take_until(stop_signal(stopped)).for_each(move |key| {
        let receiver = match key.kind {
            IssuerKind::Namespaced => &to_namespaced,
            IssuerKind::Cluster => &to_cluster,
        };
        // A closed receiver means that its controller has ended, and that ends the process.
        let _closed = receiver.unbounded_send(key).is_err();
        futures::future::ready(())
    });
    tasks.spawn(sort.map(|()| "sorting of woken issuers"));

    let (store, stream) = streams.namespaced;
    let run = issuers::run(stream, store, namespaced, Arc::clone(context), stop_signal(stopped));
    tasks.spawn(run.map(|()| "controller of VaultMeshIssuers"));
    let (store, stream) = streams.cluster;
    let run = issuers::run(stream, store, cluster, Arc::clone(context), stop_signal(stopped));
    tasks.spawn(run.map(|()| "controller of VaultMeshClusterIssuers"));

    let woken = futures::stream::select(
        requests::waiting_for(received(inbox.wake), Arc::clone(context)),
        requests::in_namespace(streams.relabelled, Arc::clone(context)),
    );
    let run = requests::run(streams.requests, woken, Arc::clone(context), stop_signal(stopped));
    tasks.spawn(run.map(|()| "controller of CertificateRequests"));
}

/// A channel as the controllers take it.
fn received<T: Send + 'static>(mut receiver: mpsc::UnboundedReceiver<T>) -> BoxStream<'static, T> {
    futures::stream::poll_fn(move |context| receiver.poll_recv(context)).boxed()
}

/// Resolves when the process is to stop.
fn stop_signal(stopped: &watch::Receiver<bool>) -> futures::future::Shared<Pin<Box<dyn Future<Output = ()> + Send>>> {
    let mut stopped = stopped.clone();
    let resolved: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
        // A dropped sender means that the process is ending anyway.
        let _ended = stopped.wait_for(|stop| *stop).await.is_err();
    });
    resolved.shared()
}
