//! Events: where a person should act. They are written off the hot path by one worker behind a bounded queue, and one that is
//! lost harms nobody: the condition on the object says the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc::{self, error::TrySendError};

use crate::api::FIELD_MANAGER;

/// How many events may wait for the worker.
const QUEUE: usize = 256;
/// What the API server accepts as a note, in bytes.
const LONGEST_NOTE: usize = 1_024;
/// How long one write may take before the next one is tried.
const TIMEOUT: Duration = Duration::from_secs(15);
/// events.k8s.io demands a word for what we were doing; there is one thing we do.
const ACTION: &str = "Issuing";

/// Whether a person should look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something is as it should be again.
    Normal,
    /// Something has changed as somebody wanted it. Each such event stands for itself: kube's recorder folds those of one
    /// object and reason into one, which keeps the first note only.
    Change,
    /// Somebody should act.
    Warning,
}

/// Publishes events; clones share the queue.
#[derive(Clone)]
pub struct Events {
    queue: mpsc::Sender<(Kind, Event, ObjectReference)>,
    dropped: Arc<AtomicU64>,
}

impl Events {
    /// Starts the worker; it ends when the last clone is gone.
    pub fn start(client: Client) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        #[expect(
            clippy::disallowed_methods,
            reason = "the worker ends with its queue, and nothing depends on its result"
        )]
        tokio::spawn(work(client, waiting));
        Self { queue, dropped: Arc::default() }
    }

    /// Queues one event about `object`. Never waits and never fails: an event that finds the queue full is dropped and logged.
    pub fn publish(&self, object: &ObjectReference, kind: Kind, reason: &str, note: String) {
        let type_ = match kind {
            Kind::Normal | Kind::Change => EventType::Normal,
            Kind::Warning => EventType::Warning,
        };
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(cut(note)),
            action: ACTION.to_owned(),
            secondary: None,
        };
        match self.queue.try_send((kind, event, object.clone())) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
                tracing::warn!(reason, dropped, "too many events are waiting; this one is dropped");
            }
            Err(TrySendError::Closed(_)) => tracing::warn!(reason, "the events' worker is gone; this event is dropped"),
        }
    }
}

async fn work(client: Client, mut waiting: mpsc::Receiver<(Kind, Event, ObjectReference)>) {
    let forgetful = || Recorder::new(client.clone(), Reporter { controller: FIELD_MANAGER.to_owned(), instance: None });
    let folding = forgetful();
    while let Some((kind, event, object)) = waiting.recv().await {
        let recorder = match kind {
            Kind::Normal | Kind::Warning => folding.clone(),
            Kind::Change => forgetful(),
        };
        let (namespace, name, reason) = (object.namespace.as_deref(), object.name.as_deref(), event.reason.as_str());
        match tokio::time::timeout(TIMEOUT, recorder.publish(&event, &object)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let problem = super::status::WriteError::from(error);
                tracing::warn!(namespace, name, reason, %problem, "an event could not be written");
            }
            Err(_) => tracing::warn!(namespace, name, reason, "an event could not be written within 15 s"),
        }
    }
}

/// Cuts at the last character that fits.
fn cut(mut note: String) -> String {
    const ELLIPSIS: &str = "…";
    if note.len() > LONGEST_NOTE {
        note.truncate(note.floor_char_boundary(LONGEST_NOTE - ELLIPSIS.len()));
        note.push_str(ELLIPSIS);
    }
    note
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_note_is_cut_between_two_characters() {
        for character in ["x", "ä", "€", "🔒"] {
            for shift in ["", "a", "ab", "abc"] {
                let note = cut(format!("{shift}{}", character.repeat(2_000)));
                assert!(
                    note.len() <= LONGEST_NOTE && note.len() > LONGEST_NOTE - 8 && note.ends_with('…'),
                    "{}",
                    note.len()
                );
            }
        }
        assert_eq!(cut("x".repeat(LONGEST_NOTE)).len(), LONGEST_NOTE);
        assert_eq!(cut("short".to_owned()), "short");
    }
}
