//! `hack/test --memory`: what the controller holds in memory, idle and after work. `memory PROGRAM`.
//!
//! Only etcd, the API server (with cert-manager's CRDs) and OpenBao run beside it, and requests are approved here.
//! `VMI_MEMORY_IDLE_MB` and `VMI_MEMORY_BUSY_MB` set other limits, to see it fail.

#![allow(
    clippy::disallowed_methods,
    reason = "the environment of tests reads the clock, the environment and starts tasks"
)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use testenv::{
    CLIENTS, Chain, ControlPlane, Controller, ControllerOptions, Csr, Issuer, IssuerRef, Kube, Options, Request, Run,
    condition, exit_code, in_a_run, in_parallel, openssl, requests_of_others,
};

const OURS: usize = 10_000;
const OTHERS: usize = 20_000;
/// How long it is left alone before it is measured.
const SETTLES: Duration = Duration::from_secs(5);
const WITHIN: Duration = Duration::from_secs(8 * 60);
const MB: f64 = 1_000_000.0;

fn main() -> ExitCode {
    exit_code("memory", measured())
}

fn measured() -> Result<()> {
    let program = std::env::args_os().nth(1).context("usage: memory PROGRAM")?;
    let program = std::path::absolute(program).context("the program's path")?;
    let limits = [limit("VMI_MEMORY_IDLE_MB", 15.0)?, limit("VMI_MEMORY_BUSY_MB", 20.0)?];
    let found = in_a_run("memory", async |run| {
        let found = tokio::time::timeout(WITHIN, measure(run, program)).await;
        found.with_context(|| format!("it was not done within {WITHIN:?}"))?
    })?;
    println!(
        "memory: idle {:.1} MB (limit {}), after 10,000 that waited at once, beside 20,000 others {:.1} MB (limit {})",
        found.idle, limits[0], found.busy, limits[1],
    );
    ensure!(found.idle <= limits[0] && found.busy <= limits[1], "above the limit");
    Ok(())
}

fn limit(variable: &str, usual: f64) -> Result<f64> {
    match std::env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("{variable} is no number")),
        Err(_) => Ok(usual),
    }
}

/// Resident memory in MB (a million bytes).
struct Found {
    idle: f64,
    busy: f64,
}

async fn measure(run: &Run, program: PathBuf) -> Result<Found> {
    let options = Options { cert_manager: false, webhook: false, ..Options::default() };
    let plane = ControlPlane::start(run, options).await?;
    let controller = Controller::start(&plane, ControllerOptions::as_installed(program)).await?;
    plane.kube.namespace("mesh").await?;
    let recipe = plane.bao.plain_recipe("mesh", Chain::WithRoot).await?;
    let issuer = Issuer::app_role("mesh", "vault", &plane.bao, &recipe).create(&plane.kube).await?;
    let ready = issuer.ready(Duration::from_secs(60)).await;
    ready.with_context(|| controller.peer().complaint("does not make the issuer Ready"))?;
    let idle = settled(&controller, "idle, with one issuer").await?;

    let began = Instant::now();
    requests_of_others(&plane.kube, "others", OTHERS).await?;
    println!("{OTHERS} requests of another issuer created in {} s", began.elapsed().as_secs());
    settled(&controller, "beside them").await?;

    let late = Issuer::app_role("mesh", "late", &plane.bao, &recipe);
    let began = Instant::now();
    in_parallel(OURS, CLIENTS, |number| {
        let (issuer, kube) = (IssuerRef::new("VaultMeshIssuer", "late"), plane.kube.clone());
        async move {
            let csr = Csr::workload("mesh", &format!("workload-{number}")).ec()?.csr_pem;
            let request = Request::new("mesh", &format!("workload-{number}"), &issuer, &csr).duration("1h");
            request.create(&kube).await?.approve().await
        }
    })
    .await?;
    println!("{OURS} requests of ours created and approved in {} s", began.elapsed().as_secs());
    settled(&controller, "while they wait for their issuer").await?;

    let began = Instant::now();
    late.create(&plane.kube).await?;
    issued(&plane.kube).await.with_context(|| controller.peer().complaint("does not issue them all"))?;
    println!("{OURS} requests of ours issued in {} s", began.elapsed().as_secs());
    let worked = settled(&controller, "after that work").await?;

    // A start reads everything that is there, which a watch never does again.
    controller.terminate(Duration::from_secs(60)).await?;
    controller.start_again().await?;
    issuer.ready(Duration::from_secs(60)).await?;
    let restarted = settled(&controller, "started anew beside all of them").await?;
    Ok(Found { idle, busy: worked.max(restarted) })
}

/// Lets it settle; gives, and prints, its resident memory.
async fn settled(controller: &Controller, when: &str) -> Result<f64> {
    tokio::time::sleep(SETTLES).await;
    let peer = controller.peer();
    ensure!(peer.is_running(), "{}", peer.complaint("has ended"));
    let status = std::fs::read_to_string(format!("/proc/{}/status", peer.pid().context("it does not run")?))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.trim().trim_end_matches("kB").trim().parse::<f64>().map_or(0.0, |kib| kib * 1024.0 / MB)
    };
    let resident = field("VmRSS:");
    ensure!(resident > 0.0, "no VmRSS in its /proc");
    println!(
        "{when}: {resident:.1} MB, of which {:.1} MB are pages of its file; at most {:.1} MB so far",
        field("RssFile:"),
        field("VmHWM:"),
    );
    Ok(resident)
}

/// Waits until every request of ours has its certificate; openssl looks at one of them.
async fn issued(kube: &Kube) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(300);
    loop {
        let requests = kube.list("/apis/cert-manager.io/v1/namespaces/mesh/certificaterequests").await?;
        let reason = |request| condition(request, "Ready").map(|ready| ready["reason"].clone()).unwrap_or_default();
        let done = requests.iter().filter(|request| reason(request) == "Issued").count();
        if done == OURS {
            let one = requests.last().context("there is none")?;
            return openssl::verify(&testenv::certificate_of(one)?, &testenv::ca_of(one)?).await;
        }
        if let Some(failed) = requests.iter().find(|request| reason(request) == "Failed") {
            bail!("a request failed: {}", failed["status"]);
        }
        ensure!(Instant::now() < deadline, "only {done} of {OURS} are issued");
        // A list of them all costs the API server seconds.
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}
