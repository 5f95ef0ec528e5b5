//! Objects of the API server followed through every outage of it: a list, a watch from there, and from the start again when the
//! watch ends. Each state is shown at least once, in order.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::kube::Kube;

const PAUSE: Duration = Duration::from_millis(300);

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
        loop {
            // An API server that is away, or a watch that has ended: what was missed is in the next list.
            let _ended = once(&kube, &path, &mut show).await;
            tokio::time::sleep(PAUSE).await;
        }
    })
}

async fn once(kube: &Kube, path: &str, show: &mut (impl FnMut(Value) + Send)) -> Result<()> {
    let mut list = kube.get(path).await?;
    let version = list["metadata"]["resourceVersion"].as_str().context("a list without a version")?.to_owned();
    if let Some(items) = list["items"].as_array_mut() {
        items.drain(..).for_each(&mut *show);
    }
    let and = if path.contains('?') { '&' } else { '?' };
    let mut watch = Watch::open(kube, &format!("{path}{and}watch=true&resourceVersion={version}")).await?;
    while let Some((_, object)) = watch.next().await? {
        show(object);
    }
    Ok(())
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
