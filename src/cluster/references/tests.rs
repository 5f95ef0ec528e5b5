//! Against a small API server of our own that serves one kind of answer after another.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::StreamExt as _;
use tokio::sync::{broadcast, watch};
use tokio::time::timeout;

use super::*;
use crate::api::IssuerKind;
use crate::api::material::Data;

/// An API server that holds one Secret.
#[derive(Clone)]
struct Server {
    /// The Secret's value under `k`, base64; none: no Secret.
    value: watch::Sender<Option<String>>,
    may_get: watch::Sender<bool>,
    may_watch: watch::Sender<bool>,
    /// Delete the Secret as soon as it has been read.
    vanishes: watch::Sender<bool>,
    /// Reads, watches.
    calls: watch::Sender<(u32, u32)>,
    lines: broadcast::Sender<String>,
}

impl Server {
    async fn start(value: Option<&str>) -> (Self, Client) {
        let server = Self {
            value: watch::Sender::new(value.map(str::to_owned)),
            may_get: watch::Sender::new(true),
            may_watch: watch::Sender::new(true),
            vanishes: watch::Sender::new(false),
            calls: watch::Sender::default(),
            lines: broadcast::Sender::new(16),
        };
        let routes = Router::new()
            .route("/api/v1/namespaces/mesh/secrets/{name}", get(read))
            .route("/api/v1/namespaces/mesh/secrets", get(stream))
            .with_state(server.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let url = format!("http://{}", listener.local_addr().expect("address")).parse().expect("URL");
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (server, Client::try_from(kube::Config::new(url)).expect("client"))
    }

    /// Changes the Secret and tells the watches.
    fn set(&self, value: Option<&str>) {
        let line = match value {
            Some(value) => event("MODIFIED", value),
            None => event("DELETED", ""),
        };
        self.value.send_replace(value.map(str::to_owned));
        // Nobody may be watching.
        let _ = self.lines.send(line);
    }

    /// Moves the clock to where the next read is due, and waits for that read.
    async fn a_minute_later(&self) {
        // What is under way is answered first.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut calls = self.calls.subscribe();
        let before = calls.borrow().0;
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(61)).await;
        tokio::time::resume();
        timeout(Duration::from_secs(10), calls.wait_for(|(reads, _)| *reads > before))
            .await
            .expect("in time")
            .expect("server");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    async fn watches(&self, count: u32) {
        let mut calls = self.calls.subscribe();
        let reached = calls.wait_for(|(_, watches)| *watches >= count);
        timeout(Duration::from_secs(10), reached).await.expect("in time").expect("server");
    }
}

fn secret(value: &str) -> String {
    let data = serde_json::json!({"k": value});
    serde_json::json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "managedFields": []}, "data": data}).to_string()
}

fn event(kind: &str, value: &str) -> String {
    format!("{{\"type\":\"{kind}\",\"object\":{}}}\n", secret(value))
}

fn refusal(code: StatusCode) -> Response {
    let status = serde_json::json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code.as_u16(), "message": "no"});
    (code, status.to_string()).into_response()
}

async fn read(State(server): State<Server>) -> Response {
    server.calls.send_modify(|(reads, _)| *reads += 1);
    if !*server.may_get.borrow() {
        return refusal(StatusCode::FORBIDDEN);
    }
    let value = server.value.borrow().clone();
    if *server.vanishes.borrow() {
        server.value.send_replace(None);
    }
    value.map_or_else(|| refusal(StatusCode::NOT_FOUND), |value| secret(&value).into_response())
}

async fn stream(State(server): State<Server>, url: Uri) -> Response {
    let query = url.query().unwrap_or_default();
    assert!(query.contains("fieldSelector=metadata.name%3Ds"), "{query}");
    assert!(query.contains("watch=true"), "a list, which RBAC does not grant: {query}");
    let lines = server.lines.subscribe();
    let opening = server.value.borrow().as_deref().map(|value| event("ADDED", value));
    server.calls.send_modify(|(_, watches)| *watches += 1);
    if !*server.may_watch.borrow() {
        return refusal(StatusCode::FORBIDDEN);
    }
    let later = futures::stream::unfold(lines, |mut lines| async {
        lines.recv().await.ok().filter(|line| !line.is_empty()).map(|line| (line, lines))
    });
    let lines = futures::stream::iter(opening).chain(later).map(Ok::<_, std::convert::Infallible>);
    Response::new(Body::from_stream(lines))
}

fn issuer(name: &str) -> IssuerKey {
    IssuerKey::new(IssuerKind::Namespaced, "mesh", name)
}

fn object() -> ObjectKey {
    ObjectKey { kind: ReferencedKind::Secret, namespace: "mesh".to_owned(), name: "s".to_owned() }
}

fn data(value: &[u8]) -> Delivered {
    Delivered::Data(Data { values: BTreeMap::from([("k".to_owned(), value.to_vec())]), ..Data::default() })
}

/// Waits until the object is known so; every step must come with a notice.
#[track_caller]
fn becomes<'a>(
    references: &'a References,
    changes: &'a mut mpsc::UnboundedReceiver<IssuerKey>,
    wanted: Delivered,
) -> impl Future<Output = ()> + 'a {
    let place = std::panic::Location::caller();
    async move {
        while references.read(&object()) != wanted {
            let notice = timeout(Duration::from_secs(10), changes.recv()).await;
            assert!(notice.is_ok(), "{place}: still {:?} instead of {wanted:?}", references.read(&object()));
        }
    }
}

async fn silent(changes: &mut mpsc::UnboundedReceiver<IssuerKey>) {
    while changes.try_recv().is_ok() {}
    let notice = timeout(Duration::from_millis(300), changes.recv()).await;
    assert!(notice.is_err(), "an owner was told of no news: {notice:?}");
}

#[tokio::test]
async fn changes_arrive_by_watch_and_only_news_is_told() {
    let (server, client) = Server::start(Some("b25l")).await;
    let (references, mut changes) = References::start(client);
    references.want(&issuer("a"), BTreeSet::from([object()]));
    assert_eq!(references.read(&object()), Delivered::NotYet);
    becomes(&references, &mut changes, data(b"one")).await;
    server.watches(1).await;
    server.set(Some("dHdv"));
    becomes(&references, &mut changes, data(b"two")).await;
    server.set(Some("dHdv"));
    silent(&mut changes).await;
    server.set(None);
    becomes(&references, &mut changes, Delivered::Missing).await;
    server.set(Some("b25l"));
    becomes(&references, &mut changes, data(b"one")).await;
    assert_eq!(*server.calls.borrow(), (1, 1), "one read and one watch");
}

#[tokio::test]
async fn a_missing_object_is_told_at_once_and_found_when_it_appears() {
    let (server, client) = Server::start(None).await;
    let (references, mut changes) = References::start(client);
    references.want(&issuer("a"), BTreeSet::from([object()]));
    becomes(&references, &mut changes, Delivered::Missing).await;
    server.watches(1).await;
    server.set(Some("b25l"));
    becomes(&references, &mut changes, data(b"one")).await;
}

#[tokio::test]
async fn two_issuers_share_one_watch_and_both_are_told() {
    let (server, client) = Server::start(Some("b25l")).await;
    let (references, mut changes) = References::start(client);
    references.want(&issuer("a"), BTreeSet::from([object()]));
    references.want(&issuer("b"), BTreeSet::from([object()]));
    server.watches(1).await;
    silent(&mut changes).await;
    server.set(Some("dHdv"));
    let told = BTreeSet::from([changes.recv().await.expect("notice"), changes.recv().await.expect("notice")]);
    assert_eq!(told, BTreeSet::from([issuer("a"), issuer("b")]));
    references.want(&issuer("a"), BTreeSet::new());
    assert_eq!(references.read(&object()), data(b"two"), "the other issuer still wants it");
    references.want(&issuer("b"), BTreeSet::new());
    assert_eq!(references.read(&object()), Delivered::NotYet);
    assert_eq!(server.calls.borrow().1, 1);
}

#[tokio::test]
async fn a_closed_watch_is_opened_again_after_a_read() {
    let (server, client) = Server::start(Some("b25l")).await;
    let (references, mut changes) = References::start(client);
    references.want(&issuer("a"), BTreeSet::from([object()]));
    server.watches(1).await;
    becomes(&references, &mut changes, data(b"one")).await;
    // Changed while nobody watches; an empty line ends the stream.
    server.value.send_replace(Some("dHdv".to_owned()));
    server.lines.send(String::new()).expect("a watch is open");
    becomes(&references, &mut changes, data(b"two")).await;
    server.watches(2).await;
}

#[tokio::test]
async fn an_object_deleted_between_read_and_watch_is_noticed() {
    let (server, client) = Server::start(Some("b25l")).await;
    server.vanishes.send_replace(true);
    let (references, mut changes) = References::start(client);
    references.want(&issuer("a"), BTreeSet::from([object()]));
    becomes(&references, &mut changes, data(b"one")).await;
    // The watch opens without showing the object, which is how its end is known.
    becomes(&references, &mut changes, Delivered::Missing).await;
    assert_eq!(*server.calls.borrow(), (2, 1));
}

#[tokio::test]
async fn a_forbidden_object_is_told_and_not_watched() {
    let (server, client) = Server::start(Some("b25l")).await;
    server.may_get.send_replace(false);
    let (references, mut changes) = References::start(client);
    references.want(&issuer("a"), BTreeSet::from([object()]));
    becomes(&references, &mut changes, Delivered::Forbidden).await;
    silent(&mut changes).await;
    assert_eq!(*server.calls.borrow(), (1, 0));
}

#[tokio::test]
async fn reading_alone_suffices_where_watching_is_forbidden() {
    let (server, client) = Server::start(Some("b25l")).await;
    server.may_watch.send_replace(false);
    let (references, mut changes) = References::start(client);
    references.want(&issuer("a"), BTreeSet::from([object()]));
    becomes(&references, &mut changes, data(b"one")).await;
    server.watches(1).await;
    server.value.send_replace(Some("dHdv".to_owned()));
    server.a_minute_later().await;
    becomes(&references, &mut changes, data(b"two")).await;
    // An API server that has just started refuses everybody, so the watch is asked for again; then ever more seldom.
    for _ in 0..6 {
        server.a_minute_later().await;
    }
    let watches = server.calls.borrow().1;
    for _ in 0..3 {
        server.a_minute_later().await;
    }
    assert_eq!(server.calls.borrow().1, watches, "a forbidden watch is not asked for each minute");
}

#[tokio::test]
async fn a_refusal_of_what_could_be_read_is_believed_when_it_lasts() {
    let (server, client) = Server::start(Some("b25l")).await;
    server.may_watch.send_replace(false);
    let (references, mut changes) = References::start(client);
    references.want(&issuer("a"), BTreeSet::from([object()]));
    becomes(&references, &mut changes, data(b"one")).await;
    server.may_get.send_replace(false);
    for _ in 0..3 {
        server.a_minute_later().await;
        assert_eq!(references.read(&object()), data(b"one"), "the API server may have started a moment ago");
    }
    server.a_minute_later().await;
    becomes(&references, &mut changes, Delivered::Forbidden).await;
    server.may_get.send_replace(true);
    server.a_minute_later().await;
    becomes(&references, &mut changes, data(b"one")).await;
}

#[tokio::test]
async fn a_name_that_no_object_can_have_is_missing_without_a_call() {
    let (server, client) = Server::start(None).await;
    let (references, mut changes) = References::start(client);
    let odd = ObjectKey { name: "../../kube-system/secrets/x".to_owned(), ..object() };
    references.want(&issuer("a"), BTreeSet::from([odd.clone()]));
    changes.recv().await.expect("notice");
    assert_eq!(references.read(&odd), Delivered::Missing);
    assert_eq!(*server.calls.borrow(), (0, 0));
}
