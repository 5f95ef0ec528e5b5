//! What this process knows of each issuer. Requests ask here, in memory; the issuers' controller is the one that changes it.

mod live;
mod pacer;
pub mod publishers;
mod turns;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use kube::core::SelectorExt as _;

pub use live::{Live, Origin};
pub use pacer::Going;
pub use publishers::Publishers;
pub use turns::{Turn, Turns};

use crate::api::{IssuerKey, IssuerKind};
use crate::issuance::signer::Signer;
use crate::issuance::verdict::{NotIssued, Waiting};

/// Every issuer that is there, by name.
pub struct Issuers<S>(RwLock<Shown<S>>);

/// What the watches have shown.
struct Shown<S> {
    known: HashMap<IssuerKey, Known<S>>,
    /// The kinds whose watch has shown everything that was there: only then is an issuer known to be missing.
    listed: HashSet<IssuerKind>,
}

/// One issuer that is there.
enum Known<S> {
    /// A watch has shown it; nothing is known of it yet.
    Unseen,
    /// Its spec or what it names cannot be used, for this cause.
    Unusable(String),
    /// It can be asked.
    Live(Arc<Live<S>>),
}

impl<S> Default for Issuers<S> {
    fn default() -> Self {
        Self(RwLock::new(Shown { known: HashMap::new(), listed: HashSet::new() }))
    }
}

impl<S: Signer> Issuers<S> {
    /// The issuer that a request may use, if that admits it. `labels` are those of the request's namespace; none where the
    /// namespace is not known.
    ///
    /// # Errors
    /// What the request waits for.
    pub fn ready(&self, key: &IssuerKey, labels: Option<&BTreeMap<String, String>>) -> Result<Arc<Live<S>>, NotIssued> {
        let waiting = |waiting| NotIssued::Waiting(key.clone(), waiting);
        let shown = self.read();
        let live = match shown.known.get(key) {
            None if shown.listed.contains(&key.kind) => return Err(waiting(Waiting::IssuerMissing)),
            None | Some(Known::Unseen) => return Err(waiting(Waiting::IssuerUnseen)),
            Some(Known::Unusable(cause)) => return Err(waiting(Waiting::IssuerNotReady(cause.clone()))),
            Some(Known::Live(live)) => Arc::clone(live),
        };
        drop(shown);
        let selector = &live.config().namespaces;
        if !selector.selects_all() {
            let labels = labels.ok_or_else(|| waiting(Waiting::NamespaceUnseen))?;
            if !selector.matches(labels) {
                return Err(waiting(Waiting::NamespaceNotSelected));
            }
        }
        if !live.was_checked() {
            return Err(waiting(Waiting::IssuerUnseen));
        }
        Ok(live)
    }

    /// Whether this is still the issuer of that name: a change of spec or material puts another in its place.
    pub fn is_current(&self, key: &IssuerKey, live: &Arc<Live<S>>) -> bool {
        matches!(self.read().known.get(key), Some(Known::Live(now)) if Arc::ptr_eq(now, live))
    }

    /// The issuer made from exactly this origin; otherwise the one that `make` makes takes the place of whatever is there.
    ///
    /// # Errors
    /// What `make` says; nothing is known of the issuer then, and no session of it is left.
    pub fn adopt<E>(
        &self,
        key: &IssuerKey,
        origin: &Origin,
        make: impl FnOnce() -> Result<Live<S>, E>,
    ) -> Result<Arc<Live<S>>, E> {
        if let Some(Known::Live(live)) = self.read().known.get(key)
            && live.origin() == origin
        {
            return Ok(Arc::clone(live));
        }
        let made = make().map(Arc::new);
        let known = made.as_ref().map_or(Known::Unseen, |live| Known::Live(Arc::clone(live)));
        self.put(key, known);
        made
    }

    /// The watch of one kind has shown everything that is there.
    pub fn listed(&self, kind: IssuerKind) {
        self.write().listed.insert(kind);
    }

    /// Whether the watches of both kinds have shown everything that is there.
    pub fn all_listed(&self) -> bool {
        let shown = self.read();
        [IssuerKind::Namespaced, IssuerKind::Cluster].iter().all(|kind| shown.listed.contains(kind))
    }

    /// A watch shows the issuer; requests that name it have to wait until it was looked at.
    pub fn expect(&self, key: IssuerKey) {
        self.write().known.entry(key).or_insert(Known::Unseen);
    }

    /// The issuer is there, and cannot be used, for this cause.
    pub fn unusable(&self, key: &IssuerKey, cause: String) {
        self.put(key, Known::Unusable(cause));
    }

    /// Whether a watch shows it.
    pub fn is_expected(&self, key: &IssuerKey) -> bool {
        self.read().known.contains_key(key)
    }

    /// Only a watch begins what is known of an issuer: one that went while it was looked at does not come back.
    fn put(&self, key: &IssuerKey, known: Known<S>) {
        let former = self.write().known.get_mut(key).map(|slot| std::mem::replace(slot, known));
        retire(former);
    }

    /// The issuer is gone, and its session with it.
    pub fn forget(&self, key: &IssuerKey) {
        let former = self.write().known.remove(key);
        retire(former);
    }

    /// Nothing is signed any more: every session that nobody uses ends.
    pub fn forget_all(&self) {
        self.write().known.clear();
    }

    /// The issuers of one kind.
    pub fn keys(&self, kind: IssuerKind) -> Vec<IssuerKey> {
        self.read().known.keys().filter(|key| key.kind == kind).cloned().collect()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Shown<S>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Shown<S>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn retire<S: Signer>(former: Option<Known<S>>) {
    if let Some(Known::Live(live)) = former {
        live.retire();
    }
}
