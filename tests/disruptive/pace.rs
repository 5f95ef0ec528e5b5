//! How fast Vault is asked, and who comes next: rate limits, crowds, and connections that are closed while nobody uses them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures::future::try_join_all;
use testenv::{Action, Controller, Csr, Issuer, IssuerRef, Options, Proxy, Request, Run, eventually};

use crate::support::{Asked, LATER, MESH, SOON, World, all_issued, bare, is_sign, until};
use crate::{Outcome, Suite};

/// How many requests wait in the namespace of a crowd, and how many are made side by side.
const CROWD: usize = 5_000;
const BATCH: usize = 250;
/// How long a crowd may take on a busy machine.
const CROWDED: Duration = Duration::from_secs(300);

pub fn add(suite: &mut Suite) {
    suite.add("a crowd of 300 requests in one namespace does not hold up a single one in another", turns);
    suite.add(
        "500 requests at a rate limit of 20 a second are all issued, and hardly later than the limit lets them",
        rate_limit,
    );
    suite.add(
        "a rate limit that lets nothing pass makes the issuer not Ready, and its end brings it back",
        no_rate_at_all,
    );
    suite.add(
        "one request waits no longer for 5,000 in another namespace, at a shared issuer or at one of its own",
        tenants,
    );
    suite.add("connections closed between signs, and a restarted OpenBao, cost no request a try", idle_connections);
}

async fn turns(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let kube = &world.plane.kube;
    for namespace in ["crowd", "lone"] {
        kube.namespace(namespace).await?;
    }
    let vault = Proxy::start(&world.run, world.plane.bao.address()).await?;
    let ours = world.controller(|_| ()).await?;
    let slow = vault.on(is_sign, Action::Hold);
    let reference = IssuerRef::new("VaultMeshClusterIssuer", "vault");
    let crowd = world.many_in("crowd", "web", 300, &reference).await?;
    let bao = world.plane.bao.with_address(vault.url());
    let issuer = Issuer::app_role(&ours.namespace, "vault", &bao, &world.recipe).cluster().create(kube).await?;
    issuer.ready(SOON).await?;
    until("as many as may are with Vault", 8, || Ok(vault.held())).await?;
    let lone = world.ask("lone", "web", &reference).await?;
    lone.request.approve().await?;
    // It takes its place in the queue; nothing that could be seen tells when.
    tokio::time::sleep(Duration::from_secs(2)).await;
    ensure!(vault.held() == 8, "{} are with Vault at a time", vault.held());
    slow.remove();
    vault.release().await?;
    lone.issued(&world, SOON).await?;
    all_issued(&world, &crowd, LATER).await?;

    let calls = world.plane.bao.audit().all()?.to(&world.recipe.sign_path).keep(|call| !call.probe);
    ensure!(calls.len() == 301, "one sign each, not {}", calls.len());
    let place =
        calls.iter().position(|call| call.data["csr"].as_str().map(str::trim) == Some(lone.pair.csr_pem.trim()));
    let place = place.context("the lone request's sign is not in the audit log")?;
    ensure!(place < 24, "300 were before it, and it was number {place}");
    Ok(())
}

/// 20 a second, asked for by the mount's path, so that checks count as well.
async fn rate_limit(run: Run) -> Outcome {
    const PER_SECOND: u32 = 20;
    const REQUESTS: usize = 500;
    let world = World::start(run, bare()).await?;
    let ours = world.controller(|_| ()).await?;
    let reference = IssuerRef::new("VaultMeshIssuer", "vault");
    let asked = world.many("web", REQUESTS, &reference).await?;
    let mount = world.recipe.mount();
    world.plane.bao.rate_limit("mesh", &format!("{mount}/"), f64::from(PER_SECOND)).await?;
    let issuer = world.issuer_at(world.plane.bao.address()).create(&world.plane.kube).await?;
    issuer.ready(SOON).await?;
    let began = Instant::now();
    eventually("all are signed", LATER, async || Ok((world.signs()? >= REQUESTS).then_some(()))).await?;
    let took = began.elapsed();
    // The first of the limit's intervals is full when it begins.
    let least = Duration::from_secs(REQUESTS as u64) / PER_SECOND - Duration::from_secs(1);
    let refused = ours.metric("vault_mesh_issuer_signs_total", &["outcome=\"throttled\""]).await?;
    println!(
        "{REQUESTS} requests at {PER_SECOND} a second: {:.1} s, {:.2} times the least, {refused} refused calls",
        took.as_secs_f64(),
        took.as_secs_f64() / least.as_secs_f64(),
    );
    ensure!(took >= least - Duration::from_secs(1), "the limit was not in force: {took:?}");
    ensure!(took <= least.mul_f64(1.5), "{took:?} for what takes {least:?}");
    all_issued(&world, &asked, LATER).await?;
    ensure!(world.signs()? == REQUESTS, "one sign each, not {}", world.signs()?);
    ensure!(ours.metric("vault_mesh_issuer_ready", &[]).await? == 1.0);
    let told = world.events(MESH, "vault").await?;
    ensure!(told.len() == 1, "Ready once, and nothing about a limit: {told:?}");
    Ok(())
}

async fn no_rate_at_all(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let vault = Proxy::start(&world.run, world.plane.bao.address()).await?;
    let ours = world.controller(|_| ()).await?;
    let issuer = world.ready_issuer_at(vault.url()).await?;
    let busy = serde_json::json!({"errors": ["request path \"x\": rate limit quota exceeded"]});
    let limit = vault.on(|seen| seen.path.starts_with("/v1/"), Action::answer(429, &busy));
    let asked = world.many("web", 20, &issuer.issuer_ref).await?;
    let gone = world.approved("gone", &issuer.issuer_ref).await?;
    until("somebody was refused", 8, || Ok(limit.hits())).await?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    ensure!(limit.hits() < 60, "{} calls in ten seconds", limit.hits());
    ensure!(ours.metric("vault_mesh_issuer_ready", &[]).await? == 1.0, "it is no outage yet");
    gone.request.delete().await?;
    let condition = issuer.not_ready(Duration::from_secs(240)).await?;
    ensure!(condition["message"].as_str().is_some_and(|words| words.contains("rate limit")), "{condition}");
    for one in &asked {
        one.request.reason("Pending", SOON).await?;
    }
    vault.pass_all();
    issuer.ready(Duration::from_secs(300)).await?;
    all_issued(&world, &asked, LATER).await?;
    ensure!(world.signs()? == 20, "one sign each, and none for the deleted one, not {}", world.signs()?);
    Ok(())
}

async fn tenants(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let kube = &world.plane.kube;
    for namespace in ["crowd", "lone"] {
        kube.namespace(namespace).await?;
    }
    let ours = world.controller(|options| options.rust_log = Some("info".to_owned())).await?;
    let issuer_in = |namespace: &str, name: &str| Issuer::app_role(namespace, name, &world.plane.bao, &world.recipe);
    let own = issuer_in("lone", "own").create(kube).await?;
    own.ready(SOON).await?;
    let alone = waits(&world, "alone", &own.issuer_ref, 20, async || Ok(true)).await?;

    let shared = IssuerRef::new("VaultMeshClusterIssuer", "shared");
    crowd(&world, &ours, "shared", &shared).await?;
    resident(&ours, "5,000 wait")?;
    issuer_in(&ours.namespace, "shared").cluster().create(kube).await?.ready(SOON).await?;
    let beside_shared = beside(&world, &ours, "shared", &shared).await?;

    let crowded = IssuerRef::new("VaultMeshIssuer", "crowded");
    crowd(&world, &ours, "crowded", &crowded).await?;
    issuer_in("crowd", "crowded").create(kube).await?.ready(SOON).await?;
    let beside_crowded = beside(&world, &ours, "crowded", &own.issuer_ref).await?;

    for (what, waited) in
        [("alone", &alone), ("5,000 at the same issuer", &beside_shared), ("5,000 at another issuer", &beside_crowded)]
    {
        println!("one request, {what}: {}", figures(waited));
    }
    ensure!(world.signs()? == 20 + beside_shared.len() + beside_crowded.len() + 2 * CROWD, "one sign each");
    // However far the watch lags behind, what we wrote ourselves is known.
    let writes =
        world.plane.kube_audit.all()?.of(&ours.namespace, &ours.account).resource("certificaterequests/status");
    let conflicts = writes.keep(|call| call.code == 409).len();
    ensure!(conflicts == 0, "{conflicts} of {} writes met a newer version", writes.len());
    Ok(())
}

/// 5,000 approved requests in `crowd`, with one CSR and in batches: neither keys nor the API server are under test.
async fn crowd(world: &World, ours: &Controller, prefix: &str, issuer: &IssuerRef) -> Outcome {
    let began = Instant::now();
    let pair = Csr::workload("crowd", "web").ec()?;
    for batch in 0..CROWD / BATCH {
        let requests = (0..BATCH).map(|number| {
            let name = format!("{prefix}-{}", batch * BATCH + number);
            let request = Request::new("crowd", &name, issuer, &pair.csr_pem).duration("1h");
            // With an owner, or a slow machine would see some of them given up.
            request.owner("Pod", "web", "0b8e3f9a-5b3b-4c69-8f0f-a5b6a2a7f6d1")
        });
        try_join_all(requests.map(async |it| it.create(&world.plane.kube).await?.approve().await)).await?;
    }
    println!("{CROWD} requests were made in {:.1} s", began.elapsed().as_secs_f64());
    // What is to be seen is how long one waits beside them, not how fast events are read.
    let pending = async || ours.metric("vault_mesh_issuer_requests_pending", &[]).await;
    let known = async || Ok((pending().await? == CROWD as f64).then_some(()));
    eventually("all of them wait", CROWDED, known).await
}

/// How long requests in `lone` wait, one after the other, until the crowd is through.
async fn beside(world: &World, ours: &Controller, prefix: &str, issuer: &IssuerRef) -> anyhow::Result<Vec<Duration>> {
    let began = Instant::now();
    let signed = async || ours.metric("vault_mesh_issuer_signs_total", &["outcome=\"issued\""]).await;
    let all = signed().await? + CROWD as f64;
    let waited = waits(world, prefix, issuer, 1_000, async || Ok(signed().await? < all)).await?;
    let took = began.elapsed();
    println!(
        "{CROWD} were signed in {:.1} s, and one after the other {} beside them",
        took.as_secs_f64(),
        waited.len()
    );
    let longest = waited.last().context("nothing was asked for meanwhile")?;
    ensure!(*longest < took / 10, "it waits with the crowd: {}", figures(&waited));
    resident(ours, "they are signed")?;
    let pending = async || Ok((ours.metric("vault_mesh_issuer_requests_pending", &[]).await? == 0.0).then_some(()));
    eventually("all are written", CROWDED, pending).await?;
    Ok(waited)
}

/// Asks one after the other, as long as something holds; gives the times from approval to certificate, sorted.
async fn waits(
    world: &World,
    prefix: &str,
    issuer: &IssuerRef,
    most: usize,
    goes_on: impl AsyncFn() -> anyhow::Result<bool>,
) -> anyhow::Result<Vec<Duration>> {
    let mut waited = Vec::new();
    while waited.len() < most && goes_on().await? {
        let Asked { request, .. } = world.ask("lone", &format!("{prefix}-{}", waited.len()), issuer).await?;
        let began = Instant::now();
        request.approve().await?;
        request.ready(CROWDED).await?;
        waited.push(began.elapsed());
    }
    waited.sort_unstable();
    Ok(waited)
}

fn figures(waited: &[Duration]) -> String {
    let millis = |index: usize| waited.get(index).map_or(0, Duration::as_millis);
    let last = waited.len().saturating_sub(1);
    format!("p50 {} ms, longest {} ms, of {}", millis(last / 2), millis(last), waited.len())
}

fn resident(ours: &Controller, when: &str) -> Outcome {
    let status = std::fs::read_to_string(format!("/proc/{}/status", ours.peer().pid().context("it does not run")?))?;
    let lines: Vec<_> = status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM")).collect();
    println!("{when}: {}", lines.join(", ").replace('\t', " "));
    Ok(())
}

async fn idle_connections(run: Run) -> Outcome {
    let world = World::start(run, Options { raft: true, ..bare() }).await?;
    let vault = Proxy::start(&world.run, world.plane.bao.address()).await?;
    let ours = world.controller(|_| ()).await?;
    let through = world.ready_issuer_at(vault.url()).await?.issuer_ref;
    let straight =
        Issuer::app_role(MESH, "straight", &world.plane.bao, &world.recipe).create(&world.plane.kube).await?;
    straight.ready(SOON).await?;
    let mut asked = Vec::new();
    for round in 0..10 {
        // Several at once, so that several connections are in the pool when they are closed.
        let batch = world.many(&format!("cut-{round}"), 8, &through).await?;
        all_issued(&world, &batch, SOON).await?;
        asked.extend(batch);
        vault.cut_all();
    }
    for round in 0..3 {
        let batch = world.many(&format!("restart-{round}"), 8, &straight.issuer_ref).await?;
        all_issued(&world, &batch, SOON).await?;
        asked.extend(batch);
        world.plane.bao.restart().await?;
    }
    let last = world.approved("last", &straight.issuer_ref).await?;
    last.issued(&world, SOON).await?;
    asked.push(last);
    for one in &asked {
        let writes = world.status_writes(&ours, &one.request.name)?;
        ensure!(writes == [200], "{} never was Pending: {writes:?}", one.request.name);
    }
    ensure!(world.signs()? == asked.len(), "one sign each, not {}", world.signs()?);
    let failed = ours.metric("vault_mesh_issuer_signs_total", &["outcome=\"transient\""]).await?;
    ensure!(failed == 0.0, "{failed} tries failed");
    Ok(())
}
