//! `vault-mesh-issuer run`: builds everything and lets it run. What reads (`read`) and what acts (`act`) are started by two
//! functions; where there is an election, its outcome stands between them (`stand_by`).

pub(super) mod seat;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use futures::channel::oneshot;
use futures::stream::BoxStream;
use futures::{FutureExt as _, Stream, StreamExt as _, TryStreamExt as _};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{Store, store};
use kube::runtime::watcher;
use kube::runtime::{WatchStreamExt as _, predicates};
use kube::{Client, Config, Resource};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};

use self::seat::{Seat, Signals, namespace};
use crate::api::{IssuerKey, IssuerKind, VaultMeshClusterIssuer, VaultMeshIssuer};
use crate::cli::RunArgs;
use crate::clock;
use crate::cluster::client::{client, cluster_config};
use crate::cluster::events::Events;
use crate::cluster::references::References;
use crate::cluster::service_accounts::ServiceAccounts;
use crate::controllers::watches::{self, Gone, Namespace};
use crate::controllers::{
    CERTIFICATE_WRITES, Context, OTHER_WRITES, Settings, Wake, attempts::Attempts, brakes::Brakes, handover, issuers,
    publication, requests,
};
use crate::http::{self, Admin};
use crate::issuers::{Issuers, Publishers, Turns};
use crate::lease::Leadership;
use crate::metrics::Metrics;
use crate::requests::certificate_request::CertificateRequest;
use crate::vault::{Common, PublicRoots, Revocations};

/// How long signs under way may take after SIGTERM; Kubernetes' own patience (40 s in the chart) is a little longer.
const LAST_SIGNS: Duration = Duration::from_secs(30);

/// How long the tokens of all issuers may take to be revoked after that.
const LAST_REVOCATIONS: Duration = Duration::from_secs(3);

/// What a running task is, for the message when it ends and must not.
type Tasks = JoinSet<&'static str>;

/// Runs until SIGTERM or SIGINT, or until something that must not end has ended, the lease included.
///
/// # Errors
/// What could not be built, or what ended.
pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    let mut asked_to_end = Signals::listen()?;
    let address = args.http_address;
    let listener = TcpListener::bind(address).await.with_context(|| format!("--http-address {address}"))?;
    let leadership = if args.leader_election { Leadership::none_yet() } else { Leadership::sole() };
    let config = cluster_config().await?;
    let client = client(config.clone(), &leadership)?;
    let mut seat = Seat::new(&client, &args, &leadership)?;
    let (stop, stopped) = watch::channel(false);
    let mut tasks = Tasks::new();

    let (context, stores, inbox) = build(client, config, leadership, &args, stopped.clone())?;
    let (mut streams, shown) = read(&context, stores, inbox);
    serve(&mut tasks, listener, &context, shown, &stopped);
    tokio::select! {
        () = seat.taken() => act(&mut tasks, streams, &context, &stopped),
        () = asked_to_end.come() => {
            // It may be ours already: a write of the Lease may have been under way.
            seat.given_up().await;
            return Ok(());
        }
        Some(ended) = tasks.join_next() => return Err(ended_by_itself(ended)),
        what = stand_by(&mut streams) => bail!("the {what} ended by itself; a restart begins anew"),
    }

    let ended = tokio::select! {
        () = asked_to_end.come() => None,
        Some(ended) = tasks.join_next() => Some(ended_by_itself(ended)),
        lost = seat.lost() => return Err(lost.into()),
    };
    if ended.is_none() {
        info!("stopping: no new signs, those under way have {} s", LAST_SIGNS.as_secs());
        stop.send_replace(true);
        let last_signs = async { while tasks.join_next().await.is_some() {} };
        tokio::select! {
            drained = tokio::time::timeout(LAST_SIGNS, last_signs) => if drained.is_err() {
                info!("some signs did not end in time and are abandoned; their requests stay Pending");
            },
            lost = seat.lost() => return Err(lost.into()),
        }
    }
    // Whoever comes next may act at once: nothing of ours is under way any more.
    tasks.shutdown().await;
    context.issuers.forget_all();
    context.vault.revocations.finish(LAST_REVOCATIONS).await;
    seat.given_up().await;
    ended.map_or(Ok(()), Err)
}

fn ended_by_itself(ended: Result<&'static str, tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Ok(what) => anyhow!("the {what} ended by itself; a restart begins anew"),
        Err(error) => anyhow!("a task broke: {error}"),
    }
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
    config: Config,
    leadership: Leadership,
    args: &RunArgs,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<(Arc<Context>, Stores, Inbox)> {
    let namespace = namespace(args.cluster_resource_namespace.as_deref(), "--cluster-resource-namespace")?;
    let (requests, requests_writer) = store::<CertificateRequest>();
    let (namespaces, namespaces_writer) = store::<Namespace>();
    let accounts = ServiceAccounts::new(client.clone(), config).context("cannot make a client without credentials")?;
    let (references, changed_material) = References::start(client.clone());
    let (look_at, looks) = mpsc::unbounded_channel();
    let (wake, wakes) = mpsc::unbounded_channel();
    let vault = Common { roots: PublicRoots::load(), accounts, leadership, revocations: Revocations::default() };
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
        certificate_writes: Turns::new(CERTIFICATE_WRITES),
        other_writes: Turns::new(OTHER_WRITES),
        metrics: Metrics::new(),
        vault,
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
    let inbox = Inbox { look_at: looks, changed_material, wake: wakes };
    Ok((Arc::new(context), stores, inbox))
}

/// What a watch shows, once the store holds it.
type Read<K> = BoxStream<'static, watcher::Result<K>>;

/// What has been read, for those who act on it.
struct Streams {
    requests: Read<CertificateRequest>,
    relabelled: BoxStream<'static, String>,
    namespaced: (Store<VaultMeshIssuer>, Read<VaultMeshIssuer>),
    cluster: (Store<VaultMeshClusterIssuer>, Read<VaultMeshClusterIssuer>),
    look_at: BoxStream<'static, IssuerKey>,
    wake: BoxStream<'static, Wake>,
}

/// Each watch tells here that it has shown everything that was there.
type Shown = Vec<oneshot::Receiver<()>>;

/// Starts what reads: the four watches, into their stores.
fn read(context: &Arc<Context>, stores: Stores, inbox: Inbox) -> (Streams, Shown) {
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
        look_at: futures::stream::select(received(inbox.look_at), received(inbox.changed_material)).boxed(),
        wake: received(inbox.wake),
    };
    (streams, shown)
}

fn read_issuers<K: issuers::Issuer>(context: &Arc<Context>, shown: Option<oneshot::Sender<()>>) -> (Store<K>, Read<K>) {
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
        let (count, oldest) = counted.attempts.pending(clock::steady());
        counted.metrics.set_pending(count, oldest);
        counted.metrics.set_leader(counted.vault.leadership.holds());
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

/// Keeps the stores up to date while another replica acts; a watch that nobody polls stands still. What wakes the controllers
/// is dropped: they will begin with everything that the stores hold. Ends with what must not end, and says what that was.
async fn stand_by(streams: &mut Streams) -> &'static str {
    tokio::select! {
        what = kept(&mut streams.requests, "watch of CertificateRequests") => what,
        what = kept(&mut streams.namespaced.1, "watch of VaultMeshIssuers") => what,
        what = kept(&mut streams.cluster.1, "watch of VaultMeshClusterIssuers") => what,
        () = dropped(&mut streams.relabelled) => "watch of namespaces",
        () = dropped(&mut streams.look_at) => "sorting of woken issuers",
        () = dropped(&mut streams.wake) => "sorting of woken requests",
    }
}

async fn kept<K>(watched: &mut Read<K>, what: &'static str) -> &'static str {
    dropped(&mut watched.inspect_err(|error| warn!("{what}: {error}"))).await;
    what
}

async fn dropped<T>(stream: &mut (impl Stream<Item = T> + Unpin)) {
    while stream.next().await.is_some() {}
}

/// What the store holds already, and then what comes: what was shown while another replica acted is not shown again.
fn from_the_start<K>(store: &Store<K>, watched: Read<K>) -> Read<K>
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let held = store.state().into_iter().map(|object| Ok(K::clone(&object)));
    futures::stream::iter(held).chain(watched).boxed()
}

/// Starts what acts: checks, signs, writes, events.
fn act(tasks: &mut Tasks, streams: Streams, context: &Arc<Context>, stopped: &watch::Receiver<bool>) {
    let (to_namespaced, namespaced) = futures::channel::mpsc::unbounded();
    let (to_cluster, cluster) = futures::channel::mpsc::unbounded();
    let sort = streams.look_at.take_until(stop_signal(stopped)).for_each(move |key| {
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
    let stream = from_the_start(&store, stream);
    let run = issuers::run(stream, store, namespaced, Arc::clone(context), stop_signal(stopped));
    tasks.spawn(run.map(|()| "controller of VaultMeshIssuers"));
    let (store, stream) = streams.cluster;
    let stream = from_the_start(&store, stream);
    let run = issuers::run(stream, store, cluster, Arc::clone(context), stop_signal(stopped));
    tasks.spawn(run.map(|()| "controller of VaultMeshClusterIssuers"));

    let woken = futures::stream::select(
        requests::waiting_for(streams.wake, Arc::clone(context)),
        requests::in_namespace(streams.relabelled, Arc::clone(context)),
    );
    let requests = from_the_start(&context.requests, streams.requests);
    let context = Arc::clone(context);
    tasks.spawn(async move {
        handover::catch_up(&context).await;
        requests::run(requests, woken, context).await;
        "controller of CertificateRequests"
    });
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
