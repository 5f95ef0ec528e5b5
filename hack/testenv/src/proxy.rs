//! A proxy in front of OpenBao or the API server that misbehaves on demand, one
//! request at a time, and remembers what passed. Answers are streamed through,
//! so watches work.

mod action;
mod serve;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use anyhow::{Context, Result};
use bytes::Bytes;
use hyper::HeaderMap;
use serde_json::Value;
use tokio::sync::{oneshot, watch};

use crate::authority::Authority;
use crate::http::Answer;
use crate::run::Run;
use serve::Tls;

pub use action::{Action, Door};

/// A running proxy. Clones are handles of the same one; it ends with the last.
#[derive(Clone)]
pub struct Proxy {
    url: String,
    shared: Arc<Shared>,
    _listening: Arc<Listening>,
}

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Seen {
    /// Whether it has this method and its path and query contain this part.
    pub fn is(&self, method: &str, part_of_path: &str) -> bool {
        self.method == method && self.path.contains(part_of_path)
    }

    /// The body as JSON, `Null` where it is not.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// A request that passed, and what became of it.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The request.
    pub seen: Seen,
    /// The status that upstream answered or that a rule put in its place; `None` while it is under way or was cut.
    pub status: Option<u16>,
    /// When it came in.
    pub at: Instant,
}

impl Recorded {
    /// Whether it carried `X-Vault-Token`.
    pub fn has_vault_token(&self) -> bool {
        self.seen.headers.contains_key("x-vault-token")
    }

    /// A header, where it is there and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.seen.headers.get(name)?.to_str().ok()
    }
}

/// A rule in force; it stays when the handle is dropped.
#[derive(Clone)]
pub struct Rule {
    number: usize,
    shared: Arc<Shared>,
    hits: Arc<AtomicUsize>,
    left: Arc<AtomicUsize>,
}

type Matches = Box<dyn Fn(&Seen) -> bool + Send + Sync>;

struct InForce {
    rule: usize,
    matches: Matches,
    action: Action,
    hits: Arc<AtomicUsize>,
    left: Arc<AtomicUsize>,
}

struct Held {
    seen: Seen,
    record: usize,
    client: oneshot::Sender<Answer>,
}

struct Shared {
    upstream: Mutex<String>,
    client: reqwest::Client,
    rules: Mutex<Vec<InForce>>,
    rules_made: AtomicUsize,
    held: Mutex<Vec<Held>>,
    /// The records; a record is found again by its number, which grows for ever.
    records: Mutex<(usize, Vec<Recorded>)>,
    generation: watch::Sender<u64>,
    door: watch::Sender<Door>,
}

struct Listening(tokio::task::JoinHandle<()>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Proxy {
    /// Listens with TLS (a certificate of the run's CA, for `localhost` and `127.0.0.1`).
    pub async fn start(run: &Run, upstream: &str) -> Result<Proxy> {
        let folder = run.new_folder("proxy")?;
        let identity = run.authority().identity(&folder, "proxy", &["localhost", "127.0.0.1"])?;
        let stranger = Authority::new(&folder.join("stranger-ca.crt"))?;
        let stranger = stranger.identity(&folder, "stranger", &["localhost", "127.0.0.1"])?;
        let tls = Tls { known: serve::acceptor(&identity)?, stranger: serve::acceptor(&stranger)? };
        Proxy::listen(run, upstream, Some(tls)).await
    }

    /// Listens without TLS.
    pub async fn start_plain(run: &Run, upstream: &str) -> Result<Proxy> {
        Proxy::listen(run, upstream, None).await
    }

    async fn listen(run: &Run, upstream: &str, tls: Option<Tls>) -> Result<Proxy> {
        let port = run.port()?;
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.context("listening")?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream.trim_end_matches('/').to_owned()),
            client: run.authority().client()?,
            rules: Mutex::default(),
            rules_made: AtomicUsize::new(0),
            held: Mutex::default(),
            records: Mutex::default(),
            generation: watch::channel(0).0,
            door: watch::channel(Door::Open).0,
        });
        let task = tokio::spawn(serve::accept(listener, tls, shared.clone()));
        Ok(Proxy { url: format!("{scheme}://127.0.0.1:{port}"), shared, _listening: Arc::new(Listening(task)) })
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sends everything elsewhere from now on.
    pub fn set_upstream(&self, upstream: &str) {
        *lock(&self.shared.upstream) = upstream.trim_end_matches('/').to_owned();
    }

    /// Adds a rule. The newest one that matches a request decides; without one it passes.
    pub fn on(&self, matches: impl Fn(&Seen) -> bool + Send + Sync + 'static, action: Action) -> Rule {
        let number = self.shared.rules_made.fetch_add(1, Ordering::SeqCst);
        let (hits, left) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(usize::MAX)));
        let in_force =
            InForce { rule: number, matches: Box::new(matches), action, hits: hits.clone(), left: left.clone() };
        lock(&self.shared.rules).push(in_force);
        Rule { number, shared: self.shared.clone(), hits, left }
    }

    /// Lifts all rules.
    pub fn pass_all(&self) {
        lock(&self.shared.rules).clear();
    }

    /// What came in so far, in order.
    pub fn recorded(&self) -> Vec<Recorded> {
        lock(&self.shared.records).1.clone()
    }

    /// How many requests with this method and part of a path came in.
    pub fn count(&self, method: &str, part_of_path: &str) -> usize {
        lock(&self.shared.records).1.iter().filter(|record| record.seen.is(method, part_of_path)).count()
    }

    /// Forgets what came in so far.
    pub fn clear(&self) {
        let mut records = lock(&self.shared.records);
        records.0 += records.1.len();
        records.1.clear();
    }

    /// How many requests are held back.
    pub fn held(&self) -> usize {
        lock(&self.shared.held).len()
    }

    /// Delivers what is held back, in order, whether the client still waits or not; gives upstream's statuses.
    pub async fn release(&self) -> Result<Vec<u16>> {
        let held = std::mem::take(&mut *lock(&self.shared.held));
        let mut statuses = Vec::new();
        for Held { seen, record, client } in held {
            let answer = Answer::read(self.shared.forward(&seen).await?).await?;
            self.shared.note(record, answer.status);
            statuses.push(answer.status);
            // The client may have given up, which is what holding back is for.
            let _ = client.send(answer);
        }
        Ok(statuses)
    }

    /// Drops what is held back; clients that still wait are cut.
    pub fn discard(&self) {
        lock(&self.shared.held).clear();
    }

    /// Sends a request once more, as it was.
    pub async fn replay(&self, recorded: &Recorded) -> Result<Answer> {
        Answer::read(self.shared.forward(&recorded.seen).await?).await
    }

    /// Meets new connections in another way from now on, and closes those that are open.
    pub fn door(&self, door: Door) {
        self.shared.door.send_replace(door);
        self.cut_all();
    }

    /// Closes every open connection, running watches included.
    pub fn cut_all(&self) {
        self.shared.generation.send_modify(|generation| *generation += 1);
    }
}

impl Rule {
    /// Applies to this many requests from now on and then no more.
    pub fn times(self, times: usize) -> Rule {
        self.left.store(times, Ordering::SeqCst);
        self
    }

    /// How many requests it has applied to.
    pub fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }

    /// Lifts it.
    pub fn remove(&self) {
        lock(&self.shared.rules).retain(|in_force| in_force.rule != self.number);
    }
}

impl Shared {
    /// The action of the newest rule that matches and has times left.
    fn decide(&self, seen: &Seen) -> Action {
        for rule in lock(&self.rules).iter().rev() {
            let used = (rule.matches)(seen)
                && rule
                    .left
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| match left {
                        0 => None,
                        usize::MAX => Some(usize::MAX),
                        left => Some(left - 1),
                    })
                    .is_ok();
            if used {
                rule.hits.fetch_add(1, Ordering::SeqCst);
                return rule.action.clone();
            }
        }
        Action::Pass
    }

    fn record(&self, seen: &Seen) -> usize {
        let mut records = lock(&self.records);
        records.1.push(Recorded { seen: seen.clone(), status: None, at: Instant::now() });
        records.0 + records.1.len() - 1
    }

    fn note(&self, record: usize, status: u16) {
        let mut records = lock(&self.records);
        let forgotten = records.0;
        if let Some(found) = record.checked_sub(forgotten).and_then(|index| records.1.get_mut(index)) {
            found.status = Some(status);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
