//! cert-manager's CertificateRequest, as much of it as we need: a hand-written slim type that drops managed fields, certificates
//! and the rest while parsing (managed fields alone cost 12 KB an object), and takes whatever the schema takes.

use std::borrow::Cow;

use base64::Engine as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use serde::{Deserialize, Deserializer, Serialize};

use crate::api::{GROUP, IssuerKey, IssuerKind};
use crate::issuance::brake::Owner;
use crate::issuance::policy::CertificateDetails;
use crate::issuance::triage::Standing;
use crate::issuance::verdict::{DENIED, ISSUED, Verdict};

/// A CertificateRequest without what we do not read. Thousands may wait for one issuer.
#[derive(Debug, Clone)]
pub struct CertificateRequest {
    metadata: ObjectMeta,
    owned: bool,
    owner: Option<Owner>,
    issuer: IssuerRef,
    /// None: no base64.
    csr: Option<Box<[u8]>>,
    duration: Option<String>,
    is_ca: bool,
    usages: Vec<String>,
    username: String,
    approved: bool,
    denied: bool,
    invalid: bool,
    ready: Option<Condition<'static>>,
    has_certificate: bool,
    has_failure_time: bool,
}

/// The same as it comes. What is only looked at is borrowed from the text.
#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
    #[serde(borrow, default)]
    spec: Spec<'a>,
    #[serde(borrow, default)]
    status: Status<'a>,
}

/// Metadata without labels, annotations and managed fields.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    creation_timestamp: Option<Time>,
    #[serde(borrow, default)]
    owner_references: Vec<OwnerReference<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct OwnerReference<'a> {
    #[serde(borrow)]
    api_version: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    uid: Cow<'a, str>,
    controller: bool,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec<'a> {
    issuer_ref: IssuerRef,
    #[serde(borrow)]
    request: Cow<'a, str>,
    duration: Option<String>,
    #[serde(rename = "isCA")]
    is_ca: bool,
    usages: Vec<String>,
    username: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct IssuerRef {
    group: String,
    kind: String,
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status<'a> {
    #[serde(borrow)]
    conditions: Vec<Condition<'a>>,
    #[serde(deserialize_with = "is_not_empty")]
    certificate: bool,
    failure_time: Option<String>,
}

impl Status<'_> {
    fn holds(&self, type_: &str) -> bool {
        self.conditions.iter().find(|it| it.type_ == type_).is_some_and(|it| it.status == "True")
    }
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
struct Condition<'a> {
    #[serde(borrow, rename = "type")]
    type_: Cow<'a, str>,
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow)]
    reason: Cow<'a, str>,
    #[serde(borrow)]
    message: Cow<'a, str>,
    last_transition_time: Option<String>,
}

impl Condition<'_> {
    fn into_owned(self) -> Condition<'static> {
        let Self { type_, status, reason, message, last_transition_time } = self;
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Condition {
            type_: owned(type_),
            status: owned(status),
            reason: owned(reason),
            message: owned(message),
            last_transition_time,
        }
    }
}

impl<'de> Deserialize<'de> for CertificateRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Wire::deserialize(deserializer).map(Self::from)
    }
}

impl Resource for CertificateRequest {
    type DynamicType = ();
    type Scope = k8s_openapi::NamespaceResourceScope;

    fn kind(_: &()) -> Cow<'_, str> {
        "CertificateRequest".into()
    }
    fn group(_: &()) -> Cow<'_, str> {
        "cert-manager.io".into()
    }
    fn version(_: &()) -> Cow<'_, str> {
        "v1".into()
    }
    fn plural(_: &()) -> Cow<'_, str> {
        "certificaterequests".into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl CertificateRequest {
    /// `metadata.uid`, by which everything about a request is kept: names repeat.
    pub fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    /// `metadata.namespace`.
    pub fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// `metadata.resourceVersion`, which protects what we write from landing on something newer.
    pub fn resource_version(&self) -> &str {
        self.metadata.resource_version.as_deref().unwrap_or_default()
    }

    /// `spec.username`: who made the request, as cert-manager's webhook recorded it.
    pub fn requester(&self) -> &str {
        &self.username
    }

    /// The Certificate that it was made for.
    pub fn owner(&self) -> Option<Owner> {
        self.owner
    }

    /// Whom an event is about.
    pub fn reference(&self) -> ObjectReference {
        self.object_ref(&())
    }
}

/// Where the request stands.
pub fn standing(request: &CertificateRequest) -> Standing {
    let IssuerRef { group, kind, name } = &request.issuer;
    let kind = IssuerKind::from_name(kind).filter(|_| group == GROUP);
    let reason = request.ready.as_ref().map(|ready| ready.reason.as_ref()).unwrap_or_default();
    Standing {
        issuer: kind.map(|kind| IssuerKey::new(kind, request.namespace(), name)),
        finished: matches!(reason, "Issued" | "Failed") || reason == "Denied" && request.has_failure_time,
        denied: request.denied,
        invalid: request.invalid,
        approved: request.approved,
        has_certificate: request.has_certificate,
        owned: request.owned,
    }
}

/// What the request wants.
pub fn details(request: &CertificateRequest) -> CertificateDetails {
    CertificateDetails {
        csr: request.csr.as_deref().map(<[u8]>::to_vec),
        duration: request.duration.clone(),
        is_ca: request.is_ca,
        usages: request.usages.clone(),
        requester: request.username.clone(),
        namespace: request.namespace().to_owned(),
    }
}

/// What a verdict makes of a request's status. It carries our own condition only: a server-side apply leaves the conditions of
/// others as they are.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewStatus<'a> {
    conditions: [Condition<'a>; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_time: Option<String>,
}

/// The status to apply, if the verdict asks for one that is not there yet.
pub fn status<'a>(request: &CertificateRequest, verdict: &'a Verdict, now: Timestamp) -> Option<NewStatus<'a>> {
    let ready = |status: &'static str, reason: &'static str, message: Cow<'a, str>| NewStatus {
        conditions: [condition(request, status, reason, message, now)],
        certificate: None,
        ca: None,
        failure_time: None,
    };
    // A failureTime before the Certificate's `Issuing` transition counts as left over, and cert-manager asks anew in a tight loop.
    let created = request.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    let failed = |status| NewStatus { failure_time: Some(seconds(now.max(created))), ..status };
    match verdict {
        Verdict::Ignore { .. } => None,
        Verdict::Wait { message, .. } => {
            let written = request.ready.as_ref().is_some_and(|it| it.reason == "Pending" && it.message == *message);
            (!written).then(|| ready("False", "Pending", message.into()))
        }
        Verdict::Deny => Some(failed(ready("False", "Denied", DENIED.into()))),
        Verdict::Fail(refusal) => Some(failed(ready("False", "Failed", refusal.to_string().into()))),
        Verdict::Issue(issued) => {
            let encode = |pem: &str| base64::engine::general_purpose::STANDARD.encode(pem);
            let (certificate, ca) = (Some(encode(&issued.chain_pem)), Some(encode(&issued.ca_pem)));
            Some(NewStatus { certificate, ca, ..ready("True", "Issued", ISSUED.into()) })
        }
    }
}

fn condition<'a>(
    request: &CertificateRequest,
    status: &'a str,
    reason: &'a str,
    message: Cow<'a, str>,
    now: Timestamp,
) -> Condition<'a> {
    let same = request.ready.as_ref().filter(|ready| ready.status == status);
    let since = same.and_then(|ready| ready.last_transition_time.clone());
    Condition {
        type_: "Ready".into(),
        status: status.into(),
        reason: reason.into(),
        message,
        last_transition_time: Some(since.unwrap_or_else(|| seconds(now))),
    }
}

/// A time as Kubernetes writes it.
fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl From<Wire<'_>> for CertificateRequest {
    fn from(Wire { metadata, spec, status }: Wire<'_>) -> Self {
        // Other owners ask for several certificates at once, as a Pod does for its volumes.
        let is_certificate = |owner: &&OwnerReference<'_>| {
            owner.controller && owner.kind == "Certificate" && owner.api_version.starts_with("cert-manager.io/")
        };
        let owned = !metadata.owner_references.is_empty();
        let owner = metadata.owner_references.iter().find(is_certificate);
        let owner = owner.map(|owner| Owner::new(metadata.namespace.as_deref().unwrap_or_default(), &owner.uid));
        let metadata = ObjectMeta {
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            creation_timestamp: metadata.creation_timestamp,
            ..ObjectMeta::default()
        };
        Self {
            metadata,
            owned,
            owner,
            issuer: spec.issuer_ref,
            csr: base64::engine::general_purpose::STANDARD
                .decode(spec.request.as_bytes())
                .ok()
                .map(Vec::into_boxed_slice),
            duration: spec.duration,
            is_ca: spec.is_ca,
            usages: spec.usages,
            username: spec.username,
            approved: status.holds("Approved"),
            denied: status.holds("Denied"),
            invalid: status.holds("InvalidRequest"),
            has_certificate: status.certificate,
            has_failure_time: status.failure_time.is_some(),
            ready: status.conditions.into_iter().find(|it| it.type_ == "Ready").map(Condition::into_owned),
        }
    }
}

/// Whether a string is there and not empty, without keeping it.
fn is_not_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    struct Length;
    impl serde::de::Visitor<'_> for Length {
        type Value = bool;
        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str("a base64 string or null")
        }
        fn visit_str<E>(self, text: &str) -> Result<bool, E> {
            Ok(!text.is_empty())
        }
        fn visit_unit<E>(self) -> Result<bool, E> {
            Ok(false)
        }
    }
    deserializer.deserialize_any(Length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issuance::signer::Refusal;
    use jiff::ToSpan as _;
    use serde_json::json;

    fn request(edit: impl FnOnce(&mut serde_json::Value)) -> CertificateRequest {
        let mut object = json!({
            "metadata": {"name": "web-1", "namespace": "mesh", "uid": "u-1", "resourceVersion": "7",
                "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": [{"manager": "kubectl"}]},
            "spec": {"issuerRef": {"group": "vaultmesh.io", "kind": "VaultMeshIssuer", "name": "vault"}, "request": "Y3Ny"},
            "status": {"conditions": [{"type": "Approved", "status": "True", "reason": "x", "message": "y"}]},
        });
        edit(&mut object);
        serde_json::from_value(object).expect("the test's object has the type's shape")
    }

    fn ready(reason: &'static str) -> impl FnOnce(&mut serde_json::Value) {
        move |object| object["status"]["conditions"] = json!([{"type": "Ready", "status": "False", "reason": reason}])
    }

    #[test]
    fn an_approved_request_of_ours_is_recognised() {
        let standing = standing(&request(|_| ()));
        assert_eq!(standing.issuer, Some(IssuerKey::new(IssuerKind::Namespaced, "mesh", "vault")));
        assert!(standing.approved && !standing.finished && !standing.denied && !standing.has_certificate);
    }

    #[test]
    fn an_empty_group_is_cert_managers_own() {
        for (field, value) in
            [("group", ""), ("group", "cert-manager.io"), ("kind", "Issuer"), ("kind", "vaultmeshissuer")]
        {
            let request = request(|object| object["spec"]["issuerRef"][field] = value.into());
            assert_eq!(standing(&request).issuer, None, "{field}={value}");
        }
    }

    #[test]
    fn finished_means_issued_or_failed_or_denied_with_its_time() {
        assert!(standing(&request(ready("Issued"))).finished);
        assert!(standing(&request(ready("Failed"))).finished);
        assert!(!standing(&request(ready("Pending"))).finished);
        assert!(!standing(&request(ready("Denied"))).finished);
        let denied = request(|object| {
            ready("Denied")(object);
            object["status"]["failureTime"] = "2026-01-01T00:00:00Z".into();
        });
        assert!(standing(&denied).finished);
    }

    #[test]
    fn a_certificate_is_seen_and_not_kept() {
        assert!(standing(&request(|object| object["status"]["certificate"] = "LS0t".into())).has_certificate);
        assert!(!standing(&request(|object| object["status"]["certificate"] = "".into())).has_certificate);
    }

    #[test]
    fn the_owner_is_the_certificate_that_controls_it() {
        let uid = "0b7e5f1c-9a3d-4c58-8f2e-6d1a2b3c4d5e";
        let owned = |change: fn(&mut serde_json::Value)| {
            let mut owner = json!({"apiVersion": "cert-manager.io/v1", "kind": "Certificate", "name": "web", "uid": uid, "controller": true});
            change(&mut owner);
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": uid});
            request(|object| object["metadata"]["ownerReferences"] = json!([pod, owner])).owner()
        };
        assert_eq!(owned(|_| ()), Some(Owner::new("mesh", uid)));
        assert_eq!(owned(|owner| owner["controller"] = false.into()), None);
        assert_eq!(owned(|owner| owner["kind"] = "Pod".into()), None);
        assert_eq!(owned(|owner| owner["apiVersion"] = "v1".into()), None);
        assert_eq!(request(|_| ()).owner(), None);
    }

    #[test]
    fn escapes_in_the_text_are_read() {
        let object = r#"{"metadata": {"namespace": "mesh", "ownerReferences":
                [{"apiVersion": "cert-manager.io\/v1", "kind": "Certificate", "uid": "0b7e5f1c-9a3d-4c58-8f2e-6d1a2b3c4d5e", "controller": true}]},
            "spec": {"request": "Y3N\u0079"},
            "status": {"conditions": [{"type": "Ready", "status": "False", "reason": "Pending", "message": "no \"vault\"\n"}]}}"#;
        let request: CertificateRequest = serde_json::from_str(object).expect("a request");
        assert!(request.owner().is_some());
        assert_eq!(request.csr.as_deref(), Some(&b"csr"[..]));
        assert_eq!(request.ready.expect("a condition").message, "no \"vault\"\n");
    }

    #[test]
    fn an_odd_duration_is_read_as_it_stands() {
        let request = request(|object| object["spec"]["duration"] = "1 day".into());
        assert_eq!(details(&request).duration.as_deref(), Some("1 day"));
    }

    #[test]
    fn pending_is_written_once_per_cause() {
        let wait = |message: &str| Verdict::Wait {
            message: message.to_owned(),
            pause: None,
            firm: false,
            look_again: None,
            notice: None,
        };
        let now = Timestamp::UNIX_EPOCH;
        let written = request(|object| {
            object["status"]["conditions"] = json!([{"type": "Ready", "status": "False", "reason": "Pending", "message": "a", "lastTransitionTime": "2026-01-01T00:00:05Z"}]);
        });
        assert_eq!(status(&written, &wait("a"), now), None);
        let other = wait("b");
        let new = status(&written, &other, now).expect("a new cause is written");
        let since = new.conditions[0].last_transition_time.as_deref();
        assert_eq!(since, Some("2026-01-01T00:00:05Z"), "the status did not change");
        assert!(status(&request(|_| ()), &wait("a"), now).is_some());
    }

    #[test]
    fn the_failure_time_is_never_before_the_request() {
        let request = request(|_| ());
        let created: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a timestamp");
        let written = |verdict: &Verdict, now| {
            let written = status(&request, verdict, now).expect("an end is written");
            serde_json::to_value(written).expect("a status is JSON")
        };
        let failed = |now| written(&Verdict::Fail(Refusal::CertificateAuthority), now);
        assert_eq!(failed(created - 10.seconds())["failureTime"], "2026-01-01T00:00:00Z");
        assert_eq!(failed(created + 10.seconds())["failureTime"], "2026-01-01T00:00:10Z");
        assert_eq!(failed(created)["conditions"][0]["reason"], "Failed");
        let denied = written(&Verdict::Deny, created);
        assert_eq!(
            (&denied["failureTime"], &denied["conditions"][0]["reason"]),
            (&"2026-01-01T00:00:00Z".into(), &"Denied".into())
        );
    }
}
