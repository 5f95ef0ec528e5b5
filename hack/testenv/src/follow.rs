//! Objects of the API server followed through every outage of it: a list, a watch from there, and another one where that has
//! ended. Each state is shown at least once, in order.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::kube::Kube;

const PAUSE: Duration = Duration::from_millis(300);
/// Objects of a list at a time.
const PAGE: usize = 500;

/// Something that goes on until this is dropped.
pub struct Going(tokio::task::JoinHandle<()>);

impl Going {
    /// Begins.
    pub fn new(work: impl Future<Output = ()> + Send + 'static) -> Going {
        Going(tokio::spawn(work))
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Shows every state of the objects under `path` (`/apis/…`, perhaps with `?labelSelector=…`), deleted ones a last time.
pub fn follow(kube: &Kube, path: &str, mut show: impl FnMut(Value) + Send + 'static) -> Going {
    let (kube, path) = (kube.clone(), path.to_owned());
    Going::new(async move {
        let mut from = None;
        loop {
            // An API server that is away, or one that has forgotten where this was: what was missed is in the next list.
            if once(&kube, &path, &mut from, &mut show).await.is_err() {
                from = None;
            }
            tokio::time::sleep(PAUSE).await;
        }
    })
}

/// Lists, unless it is known where the last watch has ended, and watches from there.
async fn once(kube: &Kube, path: &str, from: &mut Option<String>, show: &mut (impl FnMut(Value) + Send)) -> Result<()> {
    let and = if path.contains('?') { '&' } else { '?' };
    let version = match from.take() {
        Some(version) => version,
        None => list(kube, &format!("{path}{and}"), show).await?,
    };
    let mut watch = Watch::open(kube, &format!("{path}{and}watch=true&resourceVersion={version}")).await?;
    *from = Some(version);
    while let Some((_, object)) = watch.next().await? {
        *from = Some(version_of(&object)?);
        show(object);
    }
    Ok(())
}

/// Shows what is there, piece by piece: of many thousands the whole would keep everybody waiting. Gives the version of the list.
async fn list(kube: &Kube, path_and: &str, show: &mut (impl FnMut(Value) + Send)) -> Result<String> {
    let mut rest = String::new();
    loop {
        let mut page = kube.get(&format!("{path_and}limit={PAGE}{rest}")).await?;
        if let Some(items) = page["items"].as_array_mut() {
            items.drain(..).for_each(&mut *show);
        }
        match page["metadata"]["continue"].as_str().filter(|next| !next.is_empty()) {
            Some(next) => rest = format!("&continue={next}"),
            None => return version_of(&page),
        }
    }
}

fn version_of(object: &Value) -> Result<String> {
    object["metadata"]["resourceVersion"].as_str().map(str::to_owned).context("an object without a version")
}

/// A watch while it lasts.
pub(crate) struct Watch {
    answer: reqwest::Response,
    unread: Vec<u8>,
}

impl Watch {
    /// Begins; `path` has `watch=true`.
    pub(crate) async fn open(kube: &Kube, path: &str) -> Result<Watch> {
        Ok(Watch { answer: kube.open(path).await?, unread: Vec::new() })
    }

    /// The next event, `ADDED`, `MODIFIED` or `DELETED`, and its object; `None` when the watch has ended.
    pub(crate) async fn next(&mut self) -> Result<Option<(String, Value)>> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                let mut event: Value = serde_json::from_slice(&line)?;
                return match event["type"].as_str() {
                    Some(kind @ ("ADDED" | "MODIFIED" | "DELETED")) => {
                        let kind = kind.to_owned();
                        Ok(Some((kind, event["object"].take())))
                    }
                    _ => bail!("the watch says {event}"),
                };
            }
            let Some(chunk) = self.answer.chunk().await? else { return Ok(None) };
            self.unread.extend_from_slice(&chunk);
        }
    }
}
