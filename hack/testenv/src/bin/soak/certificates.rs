//! Certificates through cert-manager: one every few seconds, and its request approved by hand.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use testenv::follow::{Going, follow};
use testenv::{Created, IssuerRef, Kube, condition, eventually};

const NAMESPACE: &str = "apps";
const PACE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(500);

/// The Certificates of this soak.
pub struct Certificates {
    shared: Arc<Shared>,
    making: Option<Going>,
    _following: Vec<Going>,
}

#[derive(Default)]
struct Shared {
    /// Name → whether it is Ready.
    ready: Mutex<BTreeMap<String, bool>>,
    csrs: Mutex<HashMap<String, String>>,
}

/// What became of them.
#[derive(Debug, Default)]
pub struct Issued {
    /// How many there were.
    pub asked: usize,
    /// Those that never got ready.
    pub unready: Vec<String>,
}

impl Certificates {
    /// Begins.
    pub async fn start(kube: &Kube, issuer: IssuerRef) -> Result<Certificates> {
        kube.namespace(NAMESPACE).await?;
        let shared = Arc::new(Shared::default());
        let path = |plural: &str| format!("/apis/cert-manager.io/v1/namespaces/{NAMESPACE}/{plural}");
        let (seen, client) = (Arc::clone(&shared), kube.clone());
        let requests = follow(kube, &path("certificaterequests"), move |object| seen.request(&client, &object));
        let seen = Arc::clone(&shared);
        let certificates = follow(kube, &path("certificates"), move |object| seen.certificate(&object));
        let making = Going::new(make(kube.clone(), issuer, Arc::clone(&shared)));
        Ok(Certificates { shared, making: Some(making), _following: vec![requests, certificates] })
    }

    /// CSR → `namespace/name` of its request.
    pub fn csrs(&self) -> HashMap<String, String> {
        lock(&self.shared.csrs).clone()
    }

    /// Makes no more and waits until each is Ready.
    pub async fn finish(&mut self, within: Duration) -> Result<Issued> {
        self.making.take();
        // What is missing at the end is told by name.
        let _ = eventually("every Certificate is Ready", within, async || {
            Ok(lock(&self.shared.ready).values().all(|ready| *ready).then_some(()))
        })
        .await;
        let ready = lock(&self.shared.ready);
        let unready = ready.iter().filter(|(_, ready)| !**ready).map(|(name, _)| name.clone()).collect();
        Ok(Issued { asked: ready.len(), unready })
    }
}

async fn make(kube: Kube, issuer: IssuerRef, shared: Arc<Shared>) {
    for number in 0.. {
        let name = format!("app-{number}");
        let path = format!("/apis/cert-manager.io/v1/namespaces/{NAMESPACE}/certificates/{name}");
        let object = json!({
            "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {
                "secretName": name, "commonName": name, "dnsNames": [format!("{name}.{NAMESPACE}.svc")],
                "privateKey": {"algorithm": "ECDSA"}, "issuerRef": issuer.json(),
            },
        });
        lock(&shared.ready).insert(name, false);
        // An apply may be repeated when its answer was lost.
        while kube.apply_object(&path, "soak", &object).await.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
        tokio::time::sleep(PACE).await;
    }
}

impl Shared {
    /// Approves it, and notes whose CSR it is.
    fn request(&self, kube: &Kube, object: &Value) {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let csr = STANDARD.decode(object["spec"]["request"].as_str().unwrap_or_default()).unwrap_or_default();
        let csr = String::from_utf8_lossy(&csr).trim().to_owned();
        if lock(&self.csrs).insert(csr, format!("{NAMESPACE}/{name}")).is_some()
            || condition(object, "Approved").is_some()
        {
            return;
        }
        let kube = kube.clone();
        tokio::spawn(async move {
            let approved = async || Created::find(&kube, NAMESPACE, &name).await?.approve().await;
            while approved().await.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
        });
    }

    fn certificate(&self, object: &Value) {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let is_ready = condition(object, "Ready").is_some_and(|ready| ready["status"] == "True");
        if let Some(ready) = lock(&self.ready).get_mut(name) {
            *ready = is_ready;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
