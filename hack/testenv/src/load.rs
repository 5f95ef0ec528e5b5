//! A steady load of requests as meshes make it: each is created, approved (or denied), followed by a watch until it has ended,
//! and mostly deleted then, as istio-csr does. Every other request has an owner. The load goes on through every outage.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::MissedTickBehavior;

use crate::csr::Csr;
use crate::follow::{Going, follow};
use crate::kube::{Kube, condition};
use crate::openssl;
use crate::requests::{Created, IssuerRef, Request, ca_of, certificate_of};
use crate::wait::eventually;

/// One certificate in so many is judged by openssl, whose processes are most of what a request costs here.
const JUDGED_EVERY: usize = 20;
/// So many requests are made at a time: when the API server is slow, so are those who ask.
const CLIENTS: usize = 32;
const PAUSE: Duration = Duration::from_millis(200);

/// Who signs, and what must come out.
#[derive(Clone)]
pub struct Target {
    /// The namespace of the requests.
    pub namespace: String,
    /// The issuer they name.
    pub issuer: IssuerRef,
    /// The root that they must be published with, PEM.
    pub root_pem: String,
}

/// What the load is made of.
#[derive(Clone)]
pub struct LoadOptions {
    /// Whom requests name, in turn.
    pub targets: Vec<Target>,
    /// How many requests a second.
    pub per_second: f64,
    /// One in so many is denied; 0: none.
    pub denied_every: usize,
    /// One in so many stays when it has ended; 1: all of them.
    pub kept_every: usize,
}

/// A running load.
pub struct Load {
    shared: Arc<Shared>,
    making: Option<Going>,
    _following: Vec<Going>,
}

struct Shared {
    kube: Kube,
    options: LoadOptions,
    /// By `namespace/name`.
    asked: Mutex<BTreeMap<String, Asked>>,
    /// What the audit log of Vault calls a request: its CSR, to `namespace/name`.
    csrs: Mutex<HashMap<String, String>>,
    wrong: Mutex<Vec<String>>,
    under_way: AtomicUsize,
}

struct Asked {
    number: usize,
    csr_pem: String,
    approved: Option<Instant>,
    end: Option<(String, Duration)>,
}

/// What became of a load.
#[derive(Debug, Default)]
pub struct Tally {
    /// Requests made.
    pub asked: usize,
    /// Requests that ended Issued.
    pub issued: usize,
    /// Requests that were denied, and ended so.
    pub denied: usize,
    /// What should not be, in words: requests that failed, certificates that openssl does not accept.
    pub wrong: Vec<String>,
    /// From approval to certificate, shortest first.
    pub waits: Vec<Duration>,
}

impl Tally {
    /// The wait that this share of requests did not exceed, for instance 0.99.
    pub fn wait(&self, share: f64) -> Duration {
        let last = self.waits.len().saturating_sub(1);
        self.waits.get((last as f64 * share) as usize).copied().unwrap_or_default()
    }
}

impl Load {
    /// Begins.
    pub fn start(kube: &Kube, options: LoadOptions) -> Load {
        let mut namespaces: Vec<_> = options.targets.iter().map(|target| target.namespace.clone()).collect();
        namespaces.sort();
        namespaces.dedup();
        let shared = Arc::new(Shared {
            kube: kube.clone(),
            options,
            asked: Mutex::default(),
            csrs: Mutex::default(),
            wrong: Mutex::default(),
            under_way: AtomicUsize::new(0),
        });
        let following = namespaces.iter().map(|namespace| {
            let path = format!(
                "/apis/cert-manager.io/v1/namespaces/{namespace}/certificaterequests?labelSelector=part-of=load"
            );
            let shared = Arc::clone(&shared);
            follow(kube, &path, move |object| shared.saw(&object))
        });
        let following = following.collect();
        let making = Going::new(make(Arc::clone(&shared)));
        Load { shared, making: Some(making), _following: following }
    }

    /// How many requests wait for their end at this moment.
    pub fn waiting(&self) -> usize {
        lock(&self.shared.asked).values().filter(|asked| asked.end.is_none()).count()
    }

    /// How many requests have been made so far.
    pub fn asked(&self) -> usize {
        lock(&self.shared.asked).len()
    }

    /// CSR → `namespace/name`.
    pub fn csrs(&self) -> HashMap<String, String> {
        lock(&self.shared.csrs).clone()
    }

    /// Makes no more requests and waits until each has ended.
    pub async fn finish(&mut self, within: Duration) -> Result<Tally> {
        self.making.take();
        let waited = eventually("every request of the load ends", within, async || {
            let made = self.shared.under_way.load(Ordering::SeqCst) == 0;
            Ok((made && self.waiting() == 0).then_some(()))
        });
        let waited = waited.await;
        let mut tally = Tally { wrong: lock(&self.shared.wrong).clone(), ..Tally::default() };
        for (name, asked) in lock(&self.shared.asked).iter() {
            tally.asked += 1;
            let denied = self.shared.is_denied(asked.number);
            match &asked.end {
                Some((end, wait)) if end == "Issued" && !denied => {
                    tally.issued += 1;
                    tally.waits.push(*wait);
                }
                Some((end, _)) if end == "Denied" && denied => tally.denied += 1,
                Some((end, wait)) => tally.wrong.push(format!("{name} ended {end} after {wait:?}")),
                None => tally.wrong.push(format!("{name} has not ended")),
            }
        }
        tally.waits.sort();
        if let Err(error) = waited {
            tally.wrong.push(format!("{error:#}"));
        }
        Ok(tally)
    }
}

async fn make(shared: Arc<Shared>) {
    let clients = Arc::new(Semaphore::new(CLIENTS));
    let mut pace = tokio::time::interval(Duration::from_secs_f64(1.0 / shared.options.per_second));
    // What could not be asked in time is not asked all at once later.
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0.. {
        pace.tick().await;
        // Nobody closes it.
        let Ok(client) = Arc::clone(&clients).acquire_owned().await else { return };
        shared.under_way.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            if let Err(error) = shared.ask(number).await {
                lock(&shared.wrong).push(format!("request {number} could not be made: {error:#}"));
            }
            shared.under_way.fetch_sub(1, Ordering::SeqCst);
            drop(client);
        });
    }
}

impl Shared {
    fn is_denied(&self, number: usize) -> bool {
        self.options.denied_every > 0 && number % self.options.denied_every == self.options.denied_every - 1
    }

    /// Creates and approves a request, however long the API server is away.
    async fn ask(&self, number: usize) -> Result<()> {
        let target = &self.options.targets[number % self.options.targets.len()];
        let (namespace, name) = (target.namespace.as_str(), format!("load-{number}"));
        let pair = Csr::workload(namespace, &name).ec()?;
        let request = Request::new(namespace, &name, &target.issuer, &pair.csr_pem).duration("1h");
        let request = request.with("/metadata/labels", json!({"part-of": "load"}));
        // Two targets that alternate would otherwise get all of one kind each.
        let owned = (number / self.options.targets.len()).is_multiple_of(2);
        let request = if owned { request.owner("ConfigMap", &name, &format!("uid-{name}")) } else { request };
        let key = format!("{namespace}/{name}");
        lock(&self.csrs).insert(pair.csr_pem.trim().to_owned(), key.clone());
        let asked = Asked { number, csr_pem: pair.csr_pem, approved: None, end: None };
        lock(&self.asked).insert(key.clone(), asked);
        let created = loop {
            if let Ok(created) = request.clone().create(&self.kube).await {
                break created;
            }
            // The answer to a request that was created may have been lost.
            if let Ok(created) = Created::find(&self.kube, namespace, &name).await {
                break created;
            }
            tokio::time::sleep(PAUSE).await;
        };
        if let Some(asked) = lock(&self.asked).get_mut(&key) {
            asked.approved = Some(Instant::now());
        }
        let denied = self.is_denied(number);
        while (if denied { created.deny().await } else { created.approve().await }).is_err() {
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Notes an end, has some certificates judged, and tidies up.
    fn saw(self: &Arc<Self>, object: &Value) {
        let reason = condition(object, "Ready").and_then(|ready| ready["reason"].as_str()).unwrap_or_default();
        if !matches!(reason, "Issued" | "Failed" | "Denied") {
            return;
        }
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
        let key = format!("{}/{}", text("namespace"), text("name"));
        let (number, csr_pem) = {
            let mut all = lock(&self.asked);
            let Some(asked) = all.get_mut(&key).filter(|asked| asked.end.is_none()) else { return };
            asked.end = Some((reason.to_owned(), asked.approved.map(|at| at.elapsed()).unwrap_or_default()));
            (asked.number, asked.csr_pem.clone())
        };
        if reason == "Failed" {
            lock(&self.wrong).push(format!("{key}: {}", object["status"]["conditions"]));
        }
        let (shared, object, issued) = (Arc::clone(self), object.clone(), reason == "Issued");
        tokio::spawn(async move {
            if issued && let Err(error) = shared.judge(number, &object, &csr_pem).await {
                lock(&shared.wrong).push(format!("{key}: {error:#}"));
            }
            if !number.is_multiple_of(shared.options.kept_every) {
                let path = key.replacen('/', "/certificaterequests/", 1);
                while shared.kube.delete(&format!("/apis/cert-manager.io/v1/namespaces/{path}")).await.is_err() {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        });
    }

    async fn judge(&self, number: usize, object: &Value, csr_pem: &str) -> Result<()> {
        let (chain, ca) = (certificate_of(object)?, ca_of(object)?);
        let target = &self.options.targets[number % self.options.targets.len()];
        ensure!(ca.trim() == target.root_pem.trim(), "another root is published");
        if number.is_multiple_of(JUDGED_EVERY) {
            openssl::verify(&chain, &ca).await?;
            openssl::same_key(&chain, csr_pem).await?;
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
