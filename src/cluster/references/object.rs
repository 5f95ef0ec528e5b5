//! One Secret or ConfigMap: read, watched by name, read again, for as long as somebody wants it.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use futures::{FutureExt as _, TryStreamExt as _};
use kube::Client;
use kube::api::{WatchEvent, WatchParams};
use kube::core::Request;
use serde::Deserialize;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{sleep, timeout};

use super::collection;
use crate::api::config::ReferencedKind;
use crate::api::material::{Data, Delivered};
use crate::api::{GROUP, ObjectKey};

/// How long one read, and the start of a watch, may take.
const TIMEOUT: Duration = Duration::from_secs(15);
/// How often an object is read that cannot be watched, or that we may not read yet.
const POLL: Duration = Duration::from_secs(60);
/// How many polls pass before a forbidden watch is asked for again.
const POLLS_PER_WATCH: u32 = 10;
/// How long the server keeps one watch open; the client gives up 5 s later, in case the connection died silently.
const WATCH_SECONDS: u32 = 240;
/// How long after its start a watch has shown an object that exists: it opens with the present state.
const OPENING: Duration = Duration::from_secs(3);
/// A watch that ends sooner than this counts as a failure, so that a server which ends all of them is not pestered.
const SHORT: Duration = Duration::from_secs(3);
/// The first pause after a failure; it doubles up to [`POLL`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The pause up to which a refusal is not believed of an object that we could read before: an API server that has just started
/// answers 403 to everybody until it has read its roles.
const STARTING: Duration = Duration::from_secs(4);

/// Keeps one object known.
pub(super) struct Task {
    pub client: Client,
    pub watches: Arc<Semaphore>,
    pub object: ObjectKey,
    /// Takes what was read; called for each reading, news or not.
    pub deliver: Box<dyn Fn(Delivered) + Send + Sync>,
}

/// How a round of reading and watching ended.
enum End {
    /// As watches end: the server closes them after a while.
    Closed,
    /// The API server did not answer, or not as it should.
    Failed(String),
    /// There is no place to watch from: read again in a minute.
    Poll,
    /// We may not read the object.
    Forbidden,
    /// We may read the object and not watch it.
    WatchForbidden,
}

/// Why a call gave nothing. Never holds the text of an answer: it could be a Secret's.
enum ReadError {
    Forbidden,
    Missing,
    Other(String),
}

impl Task {
    pub(super) async fn run(self) {
        if !self.object.has_valid_name() {
            // No such object can exist, and as part of a URL it could mean another one (`../`).
            (self.deliver)(Delivered::Missing);
            return;
        }
        loop {
            // A panic here would leave the object as it was for ever, and nobody would see it.
            if AssertUnwindSafe(self.rounds()).catch_unwind().await.is_err() {
                tracing::error!(object = %self.object, "the task that reads an object panicked; it starts again");
                sleep(POLL).await;
            }
        }
    }

    async fn rounds(&self) {
        let mut pause = FIRST_PAUSE;
        let mut polls_until_watch = 0;
        let (mut was_readable, mut refused) = (false, false);
        loop {
            #[expect(clippy::disallowed_methods, reason = "an edge that measures how long its call took")]
            let start = tokio::time::Instant::now();
            let end = self.round(polls_until_watch == 0).await;
            was_readable |= matches!(end, End::Closed | End::Poll | End::WatchForbidden);
            if !std::mem::replace(&mut refused, matches!(end, End::Forbidden)) && refused {
                pause = FIRST_PAUSE;
            }
            match end {
                End::Closed if start.elapsed() >= SHORT => {
                    pause = FIRST_PAUSE;
                    sleep(jitter(FIRST_PAUSE)).await;
                }
                End::Closed => {
                    sleep(pause / 2 + jitter(pause)).await;
                    pause = (pause * 2).min(POLL);
                }
                End::Failed(problem) => {
                    tracing::warn!(object = %self.object, problem, "cannot read an object that an issuer names; trying again");
                    sleep(pause / 2 + jitter(pause)).await;
                    pause = (pause * 2).min(POLL);
                }
                End::Poll => {
                    pause = FIRST_PAUSE;
                    polls_until_watch = u32::saturating_sub(polls_until_watch, 1);
                    sleep(POLL - jitter(POLL / 5)).await;
                }
                End::Forbidden => {
                    if !was_readable || pause > STARTING {
                        was_readable = false;
                        (self.deliver)(Delivered::Forbidden);
                    }
                    sleep(pause / 2 + jitter(pause)).await;
                    pause = (pause * 2).min(POLL);
                }
                End::WatchForbidden => {
                    tracing::debug!(object = %self.object, "watching is forbidden; the object is read instead");
                    polls_until_watch = if pause < POLL { 0 } else { POLLS_PER_WATCH };
                    sleep(pause - jitter(pause / 5)).await;
                    pause = (pause * 2).min(POLL);
                }
            }
        }
    }

    /// One read, and one watch for as long as it lasts.
    async fn round(&self, may_watch: bool) -> End {
        let known = match read(&self.client, &self.object).await {
            Ok(read) => read,
            Err(problem) => return End::Failed(problem),
        };
        if known == Delivered::Forbidden {
            return End::Forbidden;
        }
        (self.deliver)(known.clone());
        if !may_watch {
            return End::Poll;
        }
        match self.watches.try_acquire() {
            Ok(place) => self.watch(&known, place).await,
            Err(_) => End::Poll,
        }
    }

    /// Watches by name, starting with the present state (no resourceVersion): no list is needed, so `get` and `watch` suffice.
    async fn watch(&self, known: &Delivered, _place: SemaphorePermit<'_>) -> End {
        let how = WatchParams::default().fields(&format!("metadata.name={}", self.object.name)).timeout(WATCH_SECONDS);
        let Ok(request) = Request::new(collection(&self.object)).watch(&how, "") else {
            return End::Failed("the request cannot be built".to_owned());
        };
        let events = match timeout(TIMEOUT, self.client.request_events::<Slim>(request)).await {
            Ok(Ok(events)) => events,
            Ok(Err(error)) => {
                return match ReadError::from(error) {
                    ReadError::Forbidden => End::WatchForbidden,
                    ReadError::Missing => End::Failed("404 to a watch".to_owned()),
                    ReadError::Other(problem) => End::Failed(problem),
                };
            }
            Err(_) => return End::Failed("no watch within 15 s".to_owned()),
        };
        let mut events = pin!(events);
        let lasting = Duration::from_secs(u64::from(WATCH_SECONDS) + 5);
        // An object that was there a moment ago and does not appear was deleted between read and watch.
        let mut wait = if matches!(known, Delivered::Data(_)) { OPENING } else { lasting };
        loop {
            match timeout(wait, events.try_next()).await {
                Ok(Ok(Some(WatchEvent::Added(read) | WatchEvent::Modified(read)))) => {
                    (self.deliver)(Delivered::Data(read.data(self.object.kind)));
                    wait = lasting;
                }
                Ok(Ok(Some(WatchEvent::Deleted(_)))) => (self.deliver)(Delivered::Missing),
                Ok(Ok(Some(WatchEvent::Bookmark(_)))) => {}
                Ok(Ok(Some(WatchEvent::Error(status)))) => {
                    return End::Failed(format!("the watch ended with {}", status.code));
                }
                Ok(Ok(None)) => return End::Closed,
                Ok(Err(error)) => return ended(error),
                Err(_) if wait == OPENING => match read(&self.client, &self.object).await {
                    Ok(Delivered::Forbidden) => return End::Forbidden,
                    Ok(read) => {
                        (self.deliver)(read);
                        wait = lasting;
                    }
                    Err(problem) => return End::Failed(problem),
                },
                Err(_) => return End::Closed,
            }
        }
    }
}

/// One read of an object; an error says why it gave nothing.
pub async fn read(client: &Client, object: &ObjectKey) -> Result<Delivered, String> {
    let request = Request::new(collection(object)).get(&object.name, &Default::default());
    let request = request.map_err(|_| "the request cannot be built".to_owned())?;
    // As text: kube logs an answer that it cannot parse itself, and this one may be a Secret.
    let answer =
        timeout(TIMEOUT, client.request_text(request)).await.map_err(|_| "no answer within 15 s".to_owned())?;
    match answer.map_err(ReadError::from) {
        Ok(text) => {
            let read: Slim = serde_json::from_str(&text).map_err(|_| "the answer is no such object".to_owned())?;
            Ok(Delivered::Data(read.data(object.kind)))
        }
        Err(ReadError::Forbidden) => Ok(Delivered::Forbidden),
        Err(ReadError::Missing) => Ok(Delivered::Missing),
        Err(ReadError::Other(problem)) => Err(problem),
    }
}

/// A watch that breaks off is an ordinary end: API servers restart, and balancers cut what is idle.
fn ended(error: kube::Error) -> End {
    match error {
        kube::Error::ReadEvents(_) | kube::Error::HyperError(_) => End::Closed,
        other => match ReadError::from(other) {
            ReadError::Forbidden => End::WatchForbidden,
            ReadError::Missing => End::Closed,
            ReadError::Other(problem) => End::Failed(problem),
        },
    }
}

impl From<kube::Error> for ReadError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 403 => Self::Forbidden,
            kube::Error::Api(status) if status.code == 404 => Self::Missing,
            kube::Error::Api(status) => Self::Other(format!("the API server answered {}", status.code)),
            kube::Error::HyperError(error) => Self::Other(format!("the API server could not be reached: {error}")),
            kube::Error::Service(error) => Self::Other(format!("the API server could not be reached: {error}")),
            // Above all not serde's: it quotes the value that it stumbled over.
            _ => Self::Other("the API server's answer could not be read".to_owned()),
        }
    }
}

/// A Secret or ConfigMap without what we have no use for: managed fields alone can be larger than the data. It cannot be
/// printed, because it has no `Debug`.
#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
struct Slim {
    #[serde(default)]
    metadata: SlimMeta,
    #[serde(default)]
    data: Option<BTreeMap<String, String>>,
    #[serde(default)]
    binary_data: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize, Clone, Default)]
struct SlimMeta {
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

impl Slim {
    /// A Secret's values are base64; a ConfigMap's are text, and those of `binaryData` base64.
    fn data(self, kind: ReferencedKind) -> Data {
        let plain = self.data.unwrap_or_default();
        let encoded = self.binary_data.unwrap_or_default();
        let decode = |(key, value): (String, String)| {
            // The API server stores no other than good base64; a value that is none counts as absent.
            base64::engine::general_purpose::STANDARD.decode(value).ok().map(|bytes| (key, bytes))
        };
        let values = match kind {
            ReferencedKind::Secret => plain.into_iter().filter_map(decode).collect(),
            ReferencedKind::ConfigMap => {
                let texts = plain.into_iter().map(|(key, text)| (key, text.into_bytes()));
                texts.chain(encoded.into_iter().filter_map(decode)).collect()
            }
        };
        let ours = |name: &String| name.strip_prefix(GROUP).is_some_and(|rest| rest.starts_with('/'));
        let mut annotations = self.metadata.annotations.unwrap_or_default();
        annotations.retain(|name, _| ours(name));
        Data { values, annotations }
    }
}

/// Between nothing and `most`, so that what started together does not go on together. The standard library's hash keys are
/// random, which is randomness enough for this.
fn jitter(most: Duration) -> Duration {
    let random = std::hash::RandomState::new().build_hasher().finish();
    most.mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_its_bounds() {
        let drawn: Vec<Duration> = (0..100).map(|_| jitter(POLL)).collect();
        assert!(drawn.iter().all(|drawn| *drawn <= POLL));
        assert!(drawn.iter().any(|other| *other != drawn[0]), "always the same: {:?}", drawn[0]);
    }

    #[test]
    fn values_are_decoded_as_their_kind_has_them() {
        let slim: Slim = serde_json::from_str(r#"{"data":{"a":"aGk="},"binaryData":{"b":"AAE="}}"#).expect("JSON");
        let text = |key: &str, bytes: &[u8]| (key.to_owned(), bytes.to_vec());
        assert_eq!(slim.clone().data(ReferencedKind::Secret).values, BTreeMap::from([text("a", b"hi")]));
        assert_eq!(
            slim.data(ReferencedKind::ConfigMap).values,
            BTreeMap::from([text("a", b"aGk="), text("b", &[0, 1])])
        );
    }

    #[test]
    fn only_our_own_annotations_are_kept() {
        let slim: Slim = serde_json::from_str(
            r#"{"metadata":{"annotations":{"vaultmesh.io/publish":"allow","vaultmesh.iox/y":"z","kubectl.kubernetes.io/x":"{}"}}}"#,
        )
        .expect("JSON");
        let kept = BTreeMap::from([("vaultmesh.io/publish".to_owned(), "allow".to_owned())]);
        assert_eq!(slim.data(ReferencedKind::ConfigMap).annotations, kept);
    }
}
