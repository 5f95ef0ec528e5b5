//! Which issuers there are that publish their trust anchors, and where to. It is kept by the watches, before anything is checked
//! or even parsed: an issuer that cannot be used for now is still the publisher of its object.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::api::{IssuerKey, ObjectKey};

/// Every issuer that names an object in `spec.trust.publish`.
#[derive(Debug, Default)]
pub struct Publishers(Mutex<HashMap<IssuerKey, Publisher>>);

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
    /// it did before.
    pub fn shown(&self, key: &IssuerKey, now: Option<Publisher>) -> Vec<IssuerKey> {
        let mut all = self.lock();
        let before = match now.clone() {
            Some(now) => all.insert(key.clone(), now),
            None => all.remove(key),
        };
        let Some(left) = before.filter(|before| Some(before) != now.as_ref()) else {
            return Vec::new();
        };
        all.iter()
            .filter(|(other, it)| *other != key && it.object == left.object)
            .map(|(other, _)| other.clone())
            .collect()
    }

    /// The issuer with this UID, if it is there and publishes to this object.
    pub fn find(&self, uid: &str, object: &ObjectKey) -> Option<IssuerKey> {
        let all = self.lock();
        all.iter().find(|(_, it)| it.uid == uid && it.object == *object).map(|(key, _)| key.clone())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IssuerKey, Publisher>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::IssuerKind;
    use crate::api::config::ReferencedKind;

    #[test]
    fn who_leaves_an_object_makes_room_for_the_others_that_name_it() {
        let key = |name: &str| IssuerKey::new(IssuerKind::Namespaced, "mesh", name);
        let object = |name: &str| ObjectKey {
            kind: ReferencedKind::ConfigMap,
            namespace: "mesh".to_owned(),
            name: name.to_owned(),
        };
        let at = |uid: &str, name: &str| Some(Publisher { uid: uid.to_owned(), object: object(name) });
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
}
