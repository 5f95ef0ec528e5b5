//! Publishing the trust anchors in force under one key of a ConfigMap or Secret: what is to be done about it as it is now, whose it
//! is, and the `Published` condition. The API server is what holds the rule of one owner: each issuer applies as a field manager of
//! its own, so a second issuer, or anybody else's value, is a conflict, and what we know of the object may be late without harm.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::trust::Anchors;
use super::words::Words;
use crate::api::config::ReferencedKind;
use crate::api::material::{Data, Delivered};
use crate::api::status::{IssuerStatus, condition};
use crate::api::{FIELD_MANAGER, IssuerKey, ObjectKey};

/// Names the issuer on the object that it publishes to. Never an owner reference: the mesh's root outlives the issuer.
pub const PUBLISHED_BY: &str = "vaultmesh.io/published-by";
/// Set to `allow` on the object by a person, it hands a key over that belongs to somebody else.
const HAND_OVER: &str = "vaultmesh.io/publish";
/// The longest field manager that the API server takes.
const LONGEST_MANAGER: usize = 128;

/// One key of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The object.
    pub object: ObjectKey,
    /// The key in its data.
    pub key: String,
}

/// One issuer's publication: what is written, where, and in whose name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub target: Target,
    /// The anchors in force, as PEM.
    pub bundle: String,
    /// The value of [`PUBLISHED_BY`].
    pub mark: String,
    /// Who owns the fields.
    pub manager: String,
}

impl Entry {
    /// The publication of an issuer.
    pub fn new(target: Target, anchors: &Anchors, issuer: &IssuerKey, uid: &str) -> Self {
        let namespace = issuer.namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
        let mark = format!("{}/{namespace}{}/{uid}", issuer.kind.name(), issuer.name);
        // With the key, because an apply removes what the same manager applied before and leaves out now: an issuer that turns to
        // another key must not take the former one away from those who read it.
        let mut manager = format!("{FIELD_MANAGER}/{uid}/{}", target.key);
        manager.truncate(manager.floor_char_boundary(LONGEST_MANAGER));
        Self { target, bundle: anchors.bundle_pem(), mark, manager }
    }

    /// What is to be done about the object as it was last seen.
    pub fn step(&self, seen: &Delivered) -> Step {
        match seen {
            Delivered::NotYet => Step::Wait,
            Delivered::Forbidden => Step::Refuse(Unpublished::Unreadable(self.target.object.clone())),
            Delivered::Missing => Step::Write,
            Delivered::Data(data) if self.stands_in(data) => Step::Nothing,
            Delivered::Data(_) => Step::Write,
        }
    }

    fn stands_in(&self, data: &Data) -> bool {
        data.values.get(&self.target.key).is_some_and(|value| value == self.bundle.as_bytes())
            && data.annotations.get(PUBLISHED_BY) == Some(&self.mark)
    }

    /// Whether what belongs to `owners` may be taken all the same. `publisher` gives the issuer with a UID, if it is there and
    /// still names this object.
    ///
    /// # Errors
    /// It may not.
    pub fn may_take(
        &self,
        owners: &[String],
        seen: &Delivered,
        publisher: impl Fn(&str) -> Option<IssuerKey>,
    ) -> Result<(), Unpublished> {
        let (ours, others): (Vec<_>, Vec<_>) = owners.iter().partition(|owner| issuer_uid(owner).is_some());
        let object = || self.target.object.clone();
        if let Some(issuer) = ours.into_iter().filter_map(|owner| issuer_uid(owner)).find_map(publisher) {
            return Err(Unpublished::ByAnotherIssuer(object(), issuer));
        }
        let handed_over =
            matches!(seen, Delivered::Data(data) if data.annotations.get(HAND_OVER).is_some_and(|it| it == "allow"));
        if others.is_empty() || handed_over {
            return Ok(());
        }
        let owners: BTreeSet<&str> = others.into_iter().map(String::as_str).collect();
        let owners = Words::new(&owners.into_iter().collect::<Vec<_>>().join(", "), &[]);
        Err(Unpublished::OwnedBySomebodyElse(self.target.clone(), owners))
    }
}

/// The UID of the issuer that applies as this field manager; none where it is not ours.
fn issuer_uid(manager: &str) -> Option<&str> {
    manager.strip_prefix(FIELD_MANAGER)?.strip_prefix('/')?.split('/').next()
}

/// What is to be done about the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It has not been read yet, and its arrival brings the issuer back.
    Wait,
    /// The anchors stand there in our name.
    Nothing,
    /// They are to be applied.
    Write,
    /// They cannot be.
    Refuse(Unpublished),
}

/// Why the anchors in force do not stand where the spec wants them. Nothing was written then: what stands there stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unpublished {
    /// There is no set that could be written.
    #[error(
        "nothing is written while the trust anchors are not known, for the reason that the Ready condition gives; \
         what was published before stays as it is"
    )]
    AnchorsUnknown,
    /// The key, or our annotation, was written by somebody who is no issuer.
    #[error(
        "{0} holds something else than the trust anchors in force, and belongs to {1}. Name another object or key in \
         spec.trust.publish, remove this one there, or hand it over: \
         kubectl annotate {kind} -n {namespace} {name} {HAND_OVER}=allow",
        kind = resource(.0.object.kind), namespace = .0.object.namespace, name = .0.object.name
    )]
    OwnedBySomebodyElse(Target, Words),
    /// The object has a publisher already.
    #[error("{1} publishes to {0}, and one object has one publisher. Name another object in spec.trust.publish")]
    ByAnotherIssuer(ObjectKey, IssuerKey),
    /// We may not see what stands there.
    #[error("this controller may not read {0}; the chart's value secrets.namespaces lists where it may")]
    Unreadable(ObjectKey),
    /// The API server does not let us write it.
    #[error(
        "this controller may not write {object}: {hint} (the API server's words: {words})",
        hint = hint(object.kind, *missing)
    )]
    WriteForbidden {
        /// Which object.
        object: ObjectKey,
        /// It does not exist yet.
        missing: bool,
        /// The API server's words.
        words: Words,
    },
    /// The write did not get through, or the API server would not.
    #[error("{object} could not be written, which is tried again: {words}")]
    WriteFailed {
        /// Which object.
        object: ObjectKey,
        /// What was wrong.
        words: Words,
    },
}

impl Unpublished {
    /// `reason` of the condition.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::AnchorsUnknown => "AnchorsUnknown",
            Self::OwnedBySomebodyElse(..) => "OwnedBySomebodyElse",
            Self::ByAnotherIssuer(..) => "PublishedByAnotherIssuer",
            Self::Unreadable(_) => "ReadForbidden",
            Self::WriteForbidden { .. } => "WriteForbidden",
            Self::WriteFailed { .. } => "WriteFailed",
        }
    }
}

fn resource(kind: ReferencedKind) -> &'static str {
    match kind {
        ReferencedKind::Secret => "secret",
        ReferencedKind::ConfigMap => "configmap",
    }
}

/// Which of the chart's values would let us.
fn hint(kind: ReferencedKind, missing: bool) -> String {
    let value = match kind {
        ReferencedKind::Secret => "publish.secrets",
        ReferencedKind::ConfigMap => "publish.configMaps",
    };
    let create = if missing { " (and publish.create, unless somebody else creates the object)" } else { "" };
    format!("the chart's value {value}{create} lets it, in the namespaces of publish.namespaces")
}

/// What is to be said of an issuer's publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Publication {
    /// The spec asks for none.
    Unwanted,
    /// Nothing is known that was not known before.
    AsWritten,
    /// The anchors in force stand there.
    Done(Target),
    /// They do not.
    Not(Unpublished),
}

impl Publication {
    /// The `Published` condition.
    pub fn condition(
        &self,
        generation: Option<i64>,
        written: Option<&IssuerStatus>,
        now: Timestamp,
    ) -> Option<Condition> {
        let new = |status, reason, message| condition("Published", (status, reason, message), generation, written, now);
        match self {
            Self::Unwanted => None,
            Self::AsWritten => written.and_then(|status| status.condition("Published")).cloned(),
            Self::Done(target) => Some(new(true, "Published", format!("the trust anchors in force stand in {target}"))),
            Self::Not(why) => Some(new(false, why.reason(), why.to_string())),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, key {}", self.object, self.key)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::api::IssuerKind;
    use crate::api::material::{Found, Place};
    use crate::x509::testing::{Authority, now};

    fn entry(key: &str, uid: &str) -> Entry {
        let place = Place { field: "spec.trust.anchors[0].pem".to_owned(), object: None };
        let value = Authority::new("Root").root(2035).pem().as_bytes().to_vec();
        let anchors = Anchors::configured(&[Found { place, value }], now()).expect("anchors");
        let object =
            ObjectKey { kind: ReferencedKind::ConfigMap, namespace: "mesh".to_owned(), name: "bundle".to_owned() };
        Entry::new(
            Target { object, key: key.to_owned() },
            &anchors,
            &IssuerKey::new(IssuerKind::Namespaced, "mesh", "vault"),
            uid,
        )
    }

    fn holding(value: &str, annotations: &[(&str, &str)]) -> Delivered {
        let text = |text: &str| text.to_owned();
        Delivered::Data(Data {
            values: BTreeMap::from([(text("ca.crt"), value.as_bytes().to_vec()), (text("other"), b"x".to_vec())]),
            annotations: annotations.iter().map(|(name, value)| (text(name), text(value))).collect(),
        })
    }

    #[test]
    fn an_entry_names_issuer_and_key() {
        let entry = entry("ca.crt", "1-2-3");
        assert_eq!(entry.mark, "VaultMeshIssuer/mesh/vault/1-2-3");
        assert_eq!(entry.manager, "vault-mesh-issuer/1-2-3/ca.crt");
        assert_eq!(issuer_uid(&entry.manager), Some("1-2-3"));
        let cluster = IssuerKey::new(IssuerKind::Cluster, "mesh", "vault");
        let anchors = Anchors::discovered(vec![Authority::new("Root").root(2035)]).expect("anchors");
        assert_eq!(Entry::new(entry.target, &anchors, &cluster, "1").mark, "VaultMeshClusterIssuer/vault/1");
        assert_eq!(self::entry(&"k".repeat(253), "1-2-3").manager.len(), LONGEST_MANAGER);
    }

    #[test]
    fn what_stands_in_our_name_is_not_written_again() {
        let entry = entry("ca.crt", "1");
        let mark = [(PUBLISHED_BY, entry.mark.as_str())];
        assert_eq!(entry.step(&holding(&entry.bundle, &mark)), Step::Nothing);
        assert_eq!(entry.step(&Delivered::NotYet), Step::Wait);
        for other in [
            Delivered::Missing,
            Delivered::Data(Data::default()),
            holding("", &mark),
            holding(&format!("{}\n", entry.bundle), &mark),
            holding(&entry.bundle, &[]),
            holding(&entry.bundle, &[(PUBLISHED_BY, "VaultMeshIssuer/mesh/vault/2")]),
        ] {
            assert_eq!(entry.step(&other), Step::Write, "{other:?}");
        }
        let refused = entry.step(&Delivered::Forbidden);
        assert!(matches!(refused, Step::Refuse(Unpublished::Unreadable(_))), "{refused:?}");
    }

    /// Whether the entry may take a key from these owners, while issuer `2` is there and issuer `3` is not.
    fn takes(owners: &[&str], annotations: &[(&str, &str)]) -> Result<(), String> {
        let owners: Vec<_> = owners.iter().map(|owner| (*owner).to_owned()).collect();
        let there = |uid: &str| (uid == "2").then(|| IssuerKey::new(IssuerKind::Cluster, "mesh", "other"));
        entry("ca.crt", "1").may_take(&owners, &holding("x", annotations), there).map_err(|error| error.to_string())
    }

    #[test]
    fn a_key_is_taken_from_issuers_that_are_gone_and_from_who_hands_it_over() {
        let allow = [("vaultmesh.io/publish", "allow")];
        assert_eq!(takes(&["vault-mesh-issuer/3/ca.crt"], &[]), Ok(()));
        assert_eq!(takes(&["kubectl-create"], &allow), Ok(()));
        assert_eq!(takes(&["kubectl-create", "vault-mesh-issuer/3/ca.crt"], &allow), Ok(()));
        let owned = "ConfigMap mesh/bundle, key ca.crt holds something else than the trust anchors in force, and belongs to \
                     argocd, kubectl. Name another object or key in spec.trust.publish, remove this one there, or hand it over: \
                     kubectl annotate configmap -n mesh bundle vaultmesh.io/publish=allow";
        assert_eq!(takes(&["kubectl", "argocd", "kubectl", "vault-mesh-issuer/3/ca.crt"], &[]), Err(owned.to_owned()));
        for no_word in [("vaultmesh.io/publish", "deny"), ("vaultmesh.io/other", "allow")] {
            assert!(takes(&["kubectl"], &[no_word]).is_err(), "{no_word:?}");
        }
        for stranger in ["vault-mesh-issuer", "vault-mesh-issuer-2/2", ""] {
            assert!(takes(&[stranger], &[]).is_err(), "{stranger}");
        }
    }

    #[test]
    fn nothing_takes_a_key_from_an_issuer_that_is_there() {
        let words = "VaultMeshClusterIssuer other publishes to ConfigMap mesh/bundle, and one object has one publisher. \
                     Name another object in spec.trust.publish";
        for annotations in [&[][..], &[("vaultmesh.io/publish", "allow")]] {
            assert_eq!(takes(&["kubectl", "vault-mesh-issuer/2/ca.crt"], annotations), Err(words.to_owned()));
        }
    }

    #[test]
    fn a_refusal_names_the_value_of_the_chart() {
        let refused = |kind, missing| {
            let object = ObjectKey { kind, namespace: "mesh".to_owned(), name: "bundle".to_owned() };
            Unpublished::WriteForbidden { object, missing, words: Words::new("no", &[]) }.to_string()
        };
        assert_eq!(
            refused(ReferencedKind::Secret, false),
            "this controller may not write Secret mesh/bundle: the chart's value publish.secrets lets it, in the namespaces \
             of publish.namespaces (the API server's words: no)"
        );
        let words = "the chart's value publish.configMaps (and publish.create, unless somebody else creates the object) lets it";
        assert!(refused(ReferencedKind::ConfigMap, true).contains(words));
    }

    #[test]
    fn the_condition_is_absent_kept_or_told() {
        let target = entry("ca.crt", "1").target;
        let told = |publication: Publication, written: Option<&IssuerStatus>, now| {
            publication.condition(Some(1), written, now)
        };
        let done = told(Publication::Done(target), None, Timestamp::UNIX_EPOCH).expect("a condition");
        assert_eq!(
            (done.type_.as_str(), done.status.as_str(), done.reason.as_str()),
            ("Published", "True", "Published")
        );
        assert_eq!(done.message, "the trust anchors in force stand in ConfigMap mesh/bundle, key ca.crt");
        let written = IssuerStatus { conditions: vec![done.clone()], ..IssuerStatus::default() };
        assert_eq!(told(Publication::AsWritten, Some(&written), Timestamp::MAX), Some(done));
        assert_eq!(told(Publication::Unwanted, Some(&written), Timestamp::MAX), None);
        let not =
            told(Publication::Not(Unpublished::AnchorsUnknown), Some(&written), Timestamp::MAX).expect("a condition");
        assert_eq!((not.status.as_str(), not.reason.as_str()), ("False", "AnchorsUnknown"));
        assert_eq!(not.last_transition_time.0, Timestamp::MAX);
    }
}
