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
    let mut answer = kube.open(&format!("{path}{and}watch=true&resourceVersion={version}")).await?;
    let mut unread = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        unread.extend_from_slice(&chunk);
        while let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = unread.drain(..=end).collect();
            let mut event: Value = serde_json::from_slice(&line)?;
            match event["type"].as_str() {
                Some("ADDED" | "MODIFIED" | "DELETED") => show(event["object"].take()),
                _ => bail!("the watch says {event}"),
            }
        }
    }
    Ok(())
}
