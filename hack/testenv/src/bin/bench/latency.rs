//! From approval to certificate, with few clients that ask again and again, and with a herd that asks at once. Both moments
//! are the API server's own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use serde_json::Value;
use testenv::follow::{Going, follow};
use testenv::{Kube, condition, in_parallel};
use tokio::sync::oneshot;

use crate::arena::{Arena, Contender, REQUESTS, Signing, request};
use crate::gauge::{Figures, Gauge, Moments};
use crate::walls::{Meter, PlainClient};

/// So many that the twenty slowest, and not one or two, decide what p99 is.
const MEASURED: usize = 2_000;
/// At least so many are not measured: the first of each issuer logs in and opens connections.
const WARM_UP: usize = 16;
const CLIENTS_OF_HERD: usize = 500;
const WITHIN: Duration = Duration::from_secs(120);

/// The herd's name in the record.
pub const HERD: &str = "herd";

/// The closed loop's name in the record.
pub fn name(clients: usize) -> String {
    format!("latency, {clients} client{}", if clients == 1 { "" } else { "s" })
}

/// So many clients, each of which asks for the next certificate when it has one, from so many issuers in turn.
pub async fn closed_loop(arena: &Arena, contender: Contender, clients: usize, issuers: usize) -> Result<Figures> {
    measure(arena, contender, MEASURED, clients, issuers).await
}

/// As many clients as certificates.
pub async fn herd(arena: &Arena, contender: Contender) -> Result<Figures> {
    measure(arena, contender, CLIENTS_OF_HERD, CLIENTS_OF_HERD, 1).await
}

async fn measure(arena: &Arena, contender: Contender, count: usize, clients: usize, issuers: usize) -> Result<Figures> {
    arena.go(contender).await?;
    arena.issuers(contender, Signing::USUAL, issuers).await?;
    arena.ready(contender, issuers).await?;
    let askers = Askers::new(arena, contender, issuers, None);
    askers.ask("warm-up", WARM_UP.max(issuers), clients).await?;
    arena.calm().await?;
    let gauge = Gauge::start(arena, contender).await?;
    askers.ask("asked", count, clients).await?;
    let (figures, moments) = gauge.read(count).await?;
    let figures = timed(figures, &moments, count)?;
    arena.stop(contender).await?;
    arena.clear(contender).await?;
    Ok(figures)
}

/// The closed loop without an issuer: whoever has approved signs and writes at once. An issuer, which has to be told by a watch and
/// looks at what Vault answers, cannot be sooner.
pub async fn plain(arena: &Arena, clients: usize) -> Result<Figures> {
    let askers = Askers::new(arena, Contender::Ours, 1, Some(PlainClient::log_in(arena, Signing::USUAL).await?));
    askers.ask("warm-up", WARM_UP, clients).await?;
    arena.calm().await?;
    let (mark, begun) = (arena.plane.kube_audit.mark()?, Timestamp::now());
    let meter = Meter::start(arena.running())?;
    askers.ask("asked", MEASURED, clients).await?;
    let figures = meter.read(MEASURED)?;
    let calls = arena.plane.kube_audit.since(mark)?;
    let moments = Moments::of(begun, &calls, &calls.keep(|call| call.uri.contains(PlainClient::NAME)))?;
    timed(figures, &moments, MEASURED)
}

fn timed(figures: Figures, moments: &Moments, count: usize) -> Result<Figures> {
    let waits = moments.since_approval();
    ensure!(waits.len() == count, "{} of {count} were issued", waits.len());
    Ok(figures.with_rate(count - 1, moments.span()?).with_waits(waits))
}

/// Who asks, one of a contender's issuers after the other.
struct Askers {
    kube: Kube,
    contender: Contender,
    issuers: usize,
    ends: Arc<Ends>,
    /// Who issues, if it is no contender.
    plain: Option<PlainClient>,
}

impl Askers {
    fn new(arena: &Arena, contender: Contender, issuers: usize, plain: Option<PlainClient>) -> Askers {
        let kube = arena.plane.kube.clone();
        Askers { contender, issuers, ends: Arc::new(Ends::watch(&kube)), plain, kube }
    }

    /// Has so many certificates issued, so many at once, and deletes their requests.
    async fn ask(&self, prefix: &'static str, count: usize, at_once: usize) -> Result<()> {
        in_parallel(count, at_once, |number| {
            let (kube, ends, plain) = (self.kube.clone(), Arc::clone(&self.ends), self.plain.clone());
            let issuer = self.contender.issuer(number % self.issuers);
            async move {
                let name = format!("{prefix}-{number}");
                let end = ends.of(&name);
                let created = request(&kube, &issuer, &name).await?;
                created.approve().await?;
                if let Some(plain) = plain {
                    plain.issue(&name).await?;
                }
                let reason = tokio::time::timeout(WITHIN, end).await.context("it is not issued")??;
                ensure!(reason == "Issued", "{name} ended {reason}");
                created.delete().await
            }
        })
        .await
    }
}

/// Tells when a request has ended, by one watch for all.
struct Ends {
    waiting: Arc<Mutex<HashMap<String, oneshot::Sender<String>>>>,
    _watching: Going,
}

impl Ends {
    fn watch(kube: &Kube) -> Ends {
        let waiting: Arc<Mutex<HashMap<String, oneshot::Sender<String>>>> = Arc::default();
        let told = Arc::clone(&waiting);
        let watching = follow(kube, REQUESTS, move |object: Value| {
            let reason = condition(&object, "Ready").and_then(|ready| ready["reason"].as_str()).unwrap_or_default();
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            if matches!(reason, "Issued" | "Failed" | "Denied")
                && let Some(sender) = lock(&told).remove(name)
            {
                // Who asked may have given up.
                let _gone = sender.send(reason.to_owned());
            }
        });
        Ends { waiting, _watching: watching }
    }

    fn of(&self, name: &str) -> oneshot::Receiver<String> {
        let (sender, receiver) = oneshot::channel();
        lock(&self.waiting).insert(name.to_owned(), sender);
        receiver
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
