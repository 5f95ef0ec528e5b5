//! The Secrets and ConfigMaps that issuers name: each is read once, then watched by its name, and shared between the issuers
//! that name it. A request never causes a read: [`References::read`] answers from memory.
//!
//! Each object is a task of its own, so a refused or broken watch delays nobody else. `get` alone suffices: where `watch` is
//! forbidden, and beyond 200 objects (a watch is a connection), an object is read every minute.

mod object;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::Client;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;

use crate::api::config::ReferencedKind;
use crate::api::material::Delivered;
use crate::api::{IssuerKey, ObjectKey};

/// The most objects that are watched at the same time.
const MOST_WATCHES: usize = 200;

/// Everything that issuers name; clones share it.
#[derive(Clone)]
pub struct References(Arc<Shared>);

struct Shared {
    client: Client,
    watches: Arc<Semaphore>,
    changed: mpsc::UnboundedSender<IssuerKey>,
    book: Mutex<Book>,
}

/// Who wants what, and what is known of it.
#[derive(Default)]
struct Book {
    wishes: HashMap<IssuerKey, BTreeSet<ObjectKey>>,
    objects: BTreeMap<ObjectKey, Entry>,
    /// Numbers the entries, so that the last word of a task that was stopped is not taken for its successor's.
    entries: u64,
}

struct Entry {
    number: u64,
    owners: BTreeSet<IssuerKey>,
    known: Delivered,
    task: AbortHandle,
}

impl References {
    /// Nothing is wanted yet. The receiver yields each issuer one of whose objects has changed, the first reading included.
    /// Must be called, and used, within a tokio runtime.
    pub fn start(client: Client) -> (Self, mpsc::UnboundedReceiver<IssuerKey>) {
        let (changed, changes) = mpsc::unbounded_channel();
        let watches = Arc::new(Semaphore::new(MOST_WATCHES));
        (Self(Arc::new(Shared { client, watches, changed, book: Mutex::default() })), changes)
    }

    /// Replaces what `owner` wants; nothing forgets it. What nobody wants any more is no longer watched.
    pub fn want(&self, owner: &IssuerKey, objects: BTreeSet<ObjectKey>) {
        let mut book = self.book();
        let former = book.wishes.remove(owner).unwrap_or_default();
        for object in former.difference(&objects) {
            book.unwant(owner, object);
        }
        for object in objects.difference(&former) {
            self.add(&mut book, owner, object);
        }
        if !objects.is_empty() {
            book.wishes.insert(owner.clone(), objects);
        }
    }

    /// What is known of an object at this moment; `NotYet` where nobody wants it.
    pub fn read(&self, object: &ObjectKey) -> Delivered {
        self.book().objects.get(object).map_or(Delivered::NotYet, |entry| entry.known.clone())
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, book: &mut Book, owner: &IssuerKey, object: &ObjectKey) {
        if let Some(entry) = book.objects.get_mut(object) {
            entry.owners.insert(owner.clone());
            return;
        }
        book.entries += 1;
        let number = book.entries;
        let task = object::Task {
            client: self.0.client.clone(),
            watches: self.0.watches.clone(),
            object: object.clone(),
            deliver: {
                // Weak, because the book holds the task: the two must not keep each other alive.
                let (shared, object) = (Arc::downgrade(&self.0), object.clone());
                Box::new(move |known| {
                    if let Some(shared) = shared.upgrade() {
                        Self(shared).deliver(&object, number, known);
                    }
                })
            },
        };
        #[expect(clippy::disallowed_methods, reason = "one task an object; the book holds its handle and ends it")]
        let task = tokio::spawn(task.run()).abort_handle();
        let owners = BTreeSet::from([owner.clone()]);
        book.objects.insert(object.clone(), Entry { number, owners, known: Delivered::NotYet, task });
    }

    /// Keeps what a task has read and tells the owners if it is news.
    fn deliver(&self, object: &ObjectKey, number: u64, known: Delivered) {
        let mut book = self.book();
        let Some(entry) = book.objects.get_mut(object).filter(|entry| entry.number == number && entry.known != known)
        else {
            return;
        };
        entry.known = known;
        for owner in &entry.owners {
            // A receiver that is gone means that the process ends.
            let _ = self.0.changed.send(owner.clone());
        }
    }
}

impl Book {
    fn unwant(&mut self, owner: &IssuerKey, object: &ObjectKey) {
        let Some(entry) = self.objects.get_mut(object) else {
            return;
        };
        entry.owners.remove(owner);
        if entry.owners.is_empty() {
            entry.task.abort();
            self.objects.remove(object);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let book = self.book.get_mut().unwrap_or_else(PoisonError::into_inner);
        book.objects.values().for_each(|entry| entry.task.abort());
    }
}

/// Reads an object once, for a command that has no use for a watch.
///
/// # Errors
/// The API server did not answer, or not as it should.
pub async fn read_once(client: &Client, object: &ObjectKey) -> Result<Delivered, String> {
    // No such object can exist, and as part of a URL it could mean another one (`../`).
    if object.has_valid_name() { object::read(client, object).await } else { Ok(Delivered::Missing) }
}

/// Where the API server keeps objects such as this one.
pub(super) fn collection(object: &ObjectKey) -> String {
    let resource = match object.kind {
        ReferencedKind::Secret => "secrets",
        ReferencedKind::ConfigMap => "configmaps",
    };
    format!("/api/v1/namespaces/{}/{resource}", object.namespace)
}

#[cfg(test)]
mod tests;
