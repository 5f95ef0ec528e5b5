//! CertificateRequests, made and approved by hand as a mesh or an admin would.

use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::csr::Csr;
use crate::kube::{Kube, condition};
use crate::parallel::{CLIENTS, in_parallel};

/// Which issuer a request names.
#[derive(Clone, Debug)]
pub struct IssuerRef {
    /// API group; ours by default.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
}

impl IssuerRef {
    /// An issuer of our group.
    pub fn new(kind: &str, name: &str) -> IssuerRef {
        IssuerRef { group: "vaultmesh.io".into(), kind: kind.into(), name: name.into() }
    }

    /// As it stands in a spec.
    pub fn json(&self) -> Value {
        json!({"group": self.group, "kind": self.kind, "name": self.name})
    }
}

/// A CertificateRequest in the making.
#[derive(Clone, Debug)]
pub struct Request {
    namespace: String,
    object: Value,
}

/// A CertificateRequest that exists.
#[derive(Clone)]
pub struct Created {
    /// Its path at the API server.
    pub path: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    kube: Kube,
}

impl Request {
    /// A request for this CSR, with cert-manager's own default usages and duration.
    pub fn new(namespace: &str, name: &str, issuer: &IssuerRef, csr_pem: &str) -> Request {
        let object = json!({
            "apiVersion": "cert-manager.io/v1",
            "kind": "CertificateRequest",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"issuerRef": issuer.json(), "request": STANDARD.encode(csr_pem)},
        });
        Request { namespace: namespace.into(), object }
    }

    /// `spec.duration`.
    pub fn duration(self, duration: &str) -> Request {
        self.with("/spec/duration", duration.into())
    }

    /// `spec.usages`.
    pub fn usages(self, usages: &[&str]) -> Request {
        self.with("/spec/usages", json!(usages))
    }

    /// `spec.isCA: true`.
    pub fn ca(self) -> Request {
        self.with("/spec/isCA", true.into())
    }

    /// An annotation.
    pub fn annotation(mut self, key: &str, value: &str) -> Request {
        self.object["metadata"]["annotations"][key] = value.into();
        self
    }

    /// Makes it owned, so that it may wait as long as it takes.
    pub fn owner(self, kind: &str, name: &str, uid: &str) -> Request {
        let owner = json!([{"apiVersion": "v1", "kind": kind, "name": name, "uid": uid, "controller": true}]);
        self.with("/metadata/ownerReferences", owner)
    }

    /// Sets any top-level field of a parent that is there: `("/spec/duration", …)`.
    pub fn with(mut self, pointer: &str, value: Value) -> Request {
        if let Some((parent, key)) = pointer.rsplit_once('/')
            && let Some(parent) = self.object.pointer_mut(parent)
        {
            parent[key] = value;
        }
        self
    }

    /// The object.
    pub fn object(&self) -> &Value {
        &self.object
    }

    /// Creates it, as whoever `kube` is; the handle that comes back acts as `kube` too.
    pub async fn create(self, kube: &Kube) -> Result<Created> {
        let plural = format!("/apis/cert-manager.io/v1/namespaces/{}/certificaterequests", self.namespace);
        let made = kube.post(&plural, &self.object).await?;
        let text =
            |field: &str| made["metadata"][field].as_str().map(str::to_owned).context("an odd CertificateRequest");
        let name = text("name")?;
        Ok(Created {
            path: format!("{plural}/{name}"),
            namespace: self.namespace,
            uid: text("uid")?,
            name,
            kube: kube.clone(),
        })
    }
}

/// Makes so many requests in `namespace` (made if it is not there) to an issuer that nobody here serves.
pub async fn requests_of_others(kube: &Kube, namespace: &'static str, count: usize) -> Result<()> {
    kube.namespace(namespace).await?;
    let issuer = IssuerRef { group: "cert-manager.io".into(), kind: "Issuer".into(), name: "other".into() };
    let csr = Csr::new().cn("other.example").dns("other.example").ec()?.csr_pem;
    in_parallel(count, CLIENTS, |number| {
        let request = Request::new(namespace, &format!("other-{number}"), &issuer, &csr);
        let kube = kube.clone();
        async move { request.create(&kube).await.map(drop) }
    })
    .await
}

impl Created {
    /// A handle of a request somebody else made.
    pub async fn find(kube: &Kube, namespace: &str, name: &str) -> Result<Created> {
        let path = format!("/apis/cert-manager.io/v1/namespaces/{namespace}/certificaterequests/{name}");
        let uid = kube.get(&path).await?["metadata"]["uid"].as_str().context("it has no UID")?.to_owned();
        Ok(Created { path, namespace: namespace.into(), name: name.into(), uid, kube: kube.clone() })
    }

    /// The object as it is now.
    pub async fn get(&self) -> Result<Value> {
        self.kube.get(&self.path).await
    }

    /// The same request in the hands of somebody else.
    pub fn seen_by(&self, kube: &Kube) -> Created {
        Created { kube: kube.clone(), ..self.clone() }
    }

    /// Sets `Approved`, as `kube` was when it was created.
    pub async fn approve(&self) -> Result<()> {
        self.decide("Approved").await
    }

    /// Sets `Denied`.
    pub async fn deny(&self) -> Result<()> {
        self.decide("Denied").await
    }

    async fn decide(&self, kind: &str) -> Result<()> {
        let mine = json!({
            "apiVersion": "cert-manager.io/v1",
            "kind": "CertificateRequest",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "status": {"conditions": [{
                "type": kind, "status": "True", "reason": "testenv", "message": "decided by the test",
                "lastTransitionTime": jiff::Timestamp::now().round(jiff::Unit::Second)?.to_string(),
            }]},
        });
        let _turn = self.kube.approver().await?;
        self.kube.apply_object(&format!("{}/status", self.path), "testenv-approver", &mine).await.map(drop)
    }

    /// Waits for Ready=True; gives the object.
    pub async fn ready(&self, within: Duration) -> Result<Value> {
        self.kube.wait_condition(&self.path, "Ready", "True", within).await
    }

    /// Waits for Ready with this reason (`Pending`, `Failed`, `Denied`, `Issued`); gives the object.
    pub async fn reason(&self, reason: &str, within: Duration) -> Result<Value> {
        let done = |object: &Value| condition(object, "Ready").is_some_and(|ready| ready["reason"] == reason);
        self.kube.wait(&self.path, within, done).await.with_context(|| format!("waiting for reason {reason}"))
    }

    /// Deletes it.
    pub async fn delete(&self) -> Result<()> {
        self.kube.delete(&self.path).await
    }
}

/// `status.certificate` of a request, decoded.
pub fn certificate_of(request: &Value) -> Result<String> {
    pem_in(request, "certificate")
}

/// `status.ca` of a request, decoded.
pub fn ca_of(request: &Value) -> Result<String> {
    pem_in(request, "ca")
}

fn pem_in(request: &Value, field: &str) -> Result<String> {
    let encoded = request["status"][field].as_str().with_context(|| format!("the request has no status.{field}"))?;
    let bytes = STANDARD.decode(encoded).with_context(|| format!("status.{field} is not base64"))?;
    String::from_utf8(bytes).with_context(|| format!("status.{field} is not text"))
}
