//! Which issuers there are that publish their trust anchors, and where to. It is kept by the watches, before anything is checked
//! or even parsed: an issuer that cannot be used for now is still the publisher of its object. And which attempt was in vain: our
//! own words about it come back through the watch, and must not make us try the same again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::api::material::Delivered;
use crate::api::{IssuerKey, ObjectKey};
use crate::issuance::publication::{Entry, Unpublished};

/// How long the same attempt is not made again.
pub const PAUSE: Duration = Duration::from_secs(60);

/// Every issuer that names an object in `spec.trust.publish`.
#[derive(Debug, Default)]
pub struct Publishers(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    all: HashMap<IssuerKey, Publisher>,
    in_vain: HashMap<IssuerKey, (Attempt, Unpublished, Timestamp)>,
    taken: HashMap<IssuerKey, (Entry, Timestamp)>,
}

/// What was to be written, and to what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The entry.
    pub entry: Entry,
    /// The object as it was last seen.
    pub seen: Delivered,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publisher {
    /// `metadata.uid`.
    pub uid: String,
    /// What it publishes to.
    pub object: ObjectKey,
}

impl Publishers {
    /// A watch shows an issuer as it is now; none: it is gone, or publishes nothing. Returns the issuers that may publish where
    /// it did before, whose attempts so far say nothing any more.
    pub fn shown(&self, key: &IssuerKey, now: Option<Publisher>) -> Vec<IssuerKey> {
        let mut book = self.lock();
        let before = match now.clone() {
            Some(now) => book.all.insert(key.clone(), now),
            None => {
                book.in_vain.remove(key);
                book.taken.remove(key);
                book.all.remove(key)
            }
        };
        let Some(left) = before.filter(|before| Some(before) != now.as_ref()) else {
            return Vec::new();
        };
        let others = book.all.iter().filter(|(other, it)| *other != key && it.object == left.object);
        let others: Vec<_> = others.map(|(other, _)| other.clone()).collect();
        for other in &others {
            book.in_vain.remove(other);
        }
        others
    }

    /// The issuer with this UID, if it is there and publishes to this object.
    pub fn find(&self, uid: &str, object: &ObjectKey) -> Option<IssuerKey> {
        let book = self.lock();
        book.all.iter().find(|(_, it)| it.uid == uid && it.object == *object).map(|(key, _)| key.clone())
    }

    /// What an issuer's last attempt met, if it is this one and not long ago.
    pub fn in_vain(&self, key: &IssuerKey, attempt: &Attempt, now: Timestamp) -> Option<Unpublished> {
        let book = self.lock();
        let (last, why, at) = book.in_vain.get(key)?;
        (last == attempt && now.duration_since(*at).unsigned_abs() < PAUSE).then(|| why.clone())
    }

    /// An attempt failed.
    pub fn failed(&self, key: &IssuerKey, attempt: Attempt, why: Unpublished, now: Timestamp) {
        let mut book = self.lock();
        if book.all.contains_key(key) {
            book.in_vain.insert(key.clone(), (attempt, why, now));
        }
    }

    /// An entry was written by force.
    pub fn took(&self, key: &IssuerKey, entry: Entry, now: Timestamp) {
        let mut book = self.lock();
        if book.all.contains_key(key) {
            book.taken.insert(key.clone(), (entry, now));
        }
    }

    /// Whether this very entry was written by force not long ago.
    pub fn has_just_taken(&self, key: &IssuerKey, entry: &Entry, now: Timestamp) -> bool {
        let book = self.lock();
        book.taken.get(key).is_some_and(|(last, at)| last == entry && now.duration_since(*at).unsigned_abs() < PAUSE)
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::IssuerKind;
    use crate::api::config::ReferencedKind;
    use crate::issuance::publication::Target;

    fn key(name: &str) -> IssuerKey {
        IssuerKey::new(IssuerKind::Namespaced, "mesh", name)
    }

    fn object(name: &str) -> ObjectKey {
        ObjectKey { kind: ReferencedKind::ConfigMap, namespace: "mesh".to_owned(), name: name.to_owned() }
    }

    fn at(uid: &str, name: &str) -> Option<Publisher> {
        Some(Publisher { uid: uid.to_owned(), object: object(name) })
    }

    #[test]
    fn who_leaves_an_object_makes_room_for_the_others_that_name_it() {
        let publishers = Publishers::default();
        for (name, publisher) in [("a", at("1", "x")), ("b", at("2", "x")), ("c", at("3", "y")), ("a", at("1", "x"))] {
            assert_eq!(publishers.shown(&key(name), publisher), []);
        }
        assert_eq!(publishers.find("1", &object("x")), Some(key("a")));
        assert_eq!(publishers.find("1", &object("y")), None);
        assert_eq!(publishers.shown(&key("a"), at("1", "y")), [key("b")]);
        assert_eq!(publishers.find("1", &object("x")), None);
        assert_eq!(publishers.shown(&key("a"), at("4", "y")), [key("c")]);
        assert_eq!(publishers.shown(&key("a"), None), [key("c")]);
        assert_eq!(publishers.shown(&key("a"), None), []);
    }

    #[test]
    fn the_same_attempt_is_not_made_again_for_a_while() {
        let target = Target { object: object("x"), key: "ca.crt".to_owned() };
        let entry = Entry { target, bundle: "PEM".to_owned(), mark: "mark".to_owned(), manager: "manager".to_owned() };
        let attempt = Attempt { entry, seen: Delivered::Missing };
        let later = |seconds| Timestamp::UNIX_EPOCH + Duration::from_secs(seconds);
        let publishers = Publishers::default();
        let known = |attempt: &Attempt, seconds| publishers.in_vain(&key("b"), attempt, later(seconds)).is_some();
        for name in ["a", "b"] {
            publishers.shown(&key(name), at(name, "x"));
        }
        let fails = || publishers.failed(&key("b"), attempt.clone(), Unpublished::AnchorsUnknown, later(0));
        fails();
        assert!(known(&attempt, 59) && !known(&attempt, 60));
        assert!(!known(&Attempt { seen: Delivered::Data(Default::default()), ..attempt.clone() }, 1));
        publishers.shown(&key("a"), None);
        assert!(!known(&attempt, 1), "what was in its way is gone");
        fails();
        publishers.shown(&key("b"), None);
        assert!(!known(&attempt, 1), "it is gone itself");
    }

    #[test]
    fn the_same_entry_is_not_forced_again_for_a_while() {
        let target = Target { object: object("x"), key: "ca.crt".to_owned() };
        let entry = Entry { target, bundle: "PEM".to_owned(), mark: "mark".to_owned(), manager: "manager".to_owned() };
        let later = |seconds| Timestamp::UNIX_EPOCH + Duration::from_secs(seconds);
        let publishers = Publishers::default();
        publishers.shown(&key("a"), at("1", "x"));
        publishers.took(&key("a"), entry.clone(), later(0));
        assert!(publishers.has_just_taken(&key("a"), &entry, later(59)));
        assert!(!publishers.has_just_taken(&key("a"), &entry, later(60)));
        let other = Entry { bundle: "another".to_owned(), ..entry };
        assert!(!publishers.has_just_taken(&key("a"), &other, later(1)), "other anchors are written at once");
    }
}
