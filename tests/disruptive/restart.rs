//! A start beside many requests: those that are finished are nobody's business any more.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::json;
use testenv::{Csr, IssuerRef, KubeCalls, Request, Run, eventually};

use crate::support::{LATER, MESH, SOON, World, all_issued, bare};
use crate::{Outcome, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("a start beside 10,000 finished and 500 waiting requests touches only the 500", restarted);
}

const FINISHED: usize = 10_000;
const WAITING: usize = 500;
/// How many clients keep the API server busy.
const CLIENTS: usize = 24;

async fn restarted(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let ours = world.controller(|_| ()).await?;
    let issuer = world.ready_issuer().await?.issuer_ref;
    let issued = world.approved("before", &issuer).await?.issued(&world, SOON).await?;
    ensure!(ours.terminate(Duration::from_secs(40)).await?.code() == Some(0));
    // As large as what we wrote ourselves.
    let (certificate, ca) = (&issued["status"]["certificate"], &issued["status"]["ca"]);
    finished(&world, &issuer, &json!({"certificate": certificate, "ca": ca})).await?;
    let waiting = world.many("waiting", WAITING, &issuer).await?;

    let (kube, bao) = (world.plane.kube_audit.mark()?, world.plane.bao.audit().mark()?);
    let written = || {
        let calls = world.plane.kube_audit.since(kube)?.with(&ours.credential);
        anyhow::Ok(calls.writes().resource("certificaterequests/status"))
    };
    let began = jiff::Timestamp::now();
    ours.start_again().await?;
    let memory = ours.peer().memory()? as f64 / 1e6;
    until_written(WAITING, &written).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    all_issued(&world, waiting.get(..20).unwrap_or_default(), SOON).await?;
    let written = written()?;
    ensure!(written.len() == WAITING, "one write each, not {}", written.len());
    let after = |call: Option<&testenv::KubeCall>| -> anyhow::Result<Duration> {
        let time: jiff::Timestamp = call.context("nothing was written")?.time.parse()?;
        Ok(Duration::try_from(time.duration_since(began))?)
    };
    eprintln!(
        "    restarted: the first of {WAITING} after {:.2?}, the last after {:.2?}; {memory:.1} MB when it was ready, {:.1} MB then",
        after(written.iter().next())?,
        after(written.iter().last())?,
        ours.peer().memory()? as f64 / 1e6
    );
    let calls = world.plane.kube_audit.since(kube)?.with(&ours.credential);
    let touched = calls.keep(|call| !call.name.is_empty() && call.resource.starts_with("certificaterequests"));
    let others = touched.keep(|call| !call.name.starts_with("waiting-"));
    ensure!(others.is_empty(), "{} calls about others, such as {:?}", others.len(), others.iter().next());
    let signs = world.plane.bao.audit().since(bao)?.sign_attempts(&world.recipe.sign_path);
    ensure!(signs == WAITING, "one sign each, not {signs}");
    Ok(())
}

async fn until_written(count: usize, written: impl Fn() -> anyhow::Result<KubeCalls>) -> Outcome {
    eventually("certificates are written", LATER, async || {
        // The log is long: it is not read all the time.
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok((written()?.len() >= count).then_some(()))
    })
    .await
}

/// Makes requests that were issued long ago.
async fn finished(world: &World, issuer: &IssuerRef, issued: &serde_json::Value) -> anyhow::Result<()> {
    let kube = &world.plane.kube;
    let csr = Csr::workload(MESH, "finished").ec()?.csr_pem;
    let condition = |kind: &str, reason: &str| {
        json!({"type": kind, "status": "True", "reason": reason, "message": "long ago",
               "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    let mut status = issued.clone();
    status["conditions"] = json!([condition("Approved", "testenv"), condition("Ready", "Issued")]);
    let status = &json!({"apiVersion": "cert-manager.io/v1", "kind": "CertificateRequest", "status": status});
    let made = futures::stream::iter((0..FINISHED).map(|number| {
        let request = Request::new(MESH, &format!("finished-{number}"), issuer, &csr).duration("1h");
        async move {
            let created = request.create(kube).await?;
            kube.patch(&format!("{}/status", created.path), status).await.map(drop)
        }
    }));
    made.buffer_unordered(CLIENTS).try_collect().await
}
