//! Several of our controllers on one control plane: one acts, and another takes over when that one is ended, killed, paused or cut
//! off. The audit logs of the API server and of OpenBao tell who did what: each process has a token of its own at either.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use testenv::{Action, Controller, ControllerOptions, IssuerRef, KubeCalls, Proxy, Run, eventually};

use crate::support::{Asked, LATER, SOON, World, all_issued, bare, controller_options, is_sign, until};
use crate::{Outcome, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("a leader that is ended under load hands over at once, and nothing is signed twice", ended);
    suite.add("a leader that is killed under load is followed when its lease runs out", killed);
    suite.add("a leader that was paused for 30 s signs and writes nothing when it wakes, and ends", paused);
    suite.add("a leader that cannot renew its lease ends, and one leads when the API server is back", cut_off);
    suite.add("what a leader wrote last is not signed again by one whose watch has not shown it", behind);
    suite.add("one that is ended while it takes the lease gives it back", ended_as_it_takes);
    suite.add("one that is ended while it looks for what the former leader wrote ends at once", ended_as_it_looks);
    suite.add("of four that stand for election never two act", four);
}

/// How long a lease lasts after its last renewal.
const LEASE: Duration = Duration::from_secs(15);
/// The pause between two requests of the load.
const PACE: Duration = Duration::from_millis(100);

fn standing_for_election(options: &mut ControllerOptions) {
    options.alone = false;
}

/// One that leads and one that stands by.
async fn two(world: &World) -> anyhow::Result<(Controller, Controller)> {
    let first = world.controller(standing_for_election).await?;
    leads(&first, SOON).await?;
    let second = another(world, None).await?;
    Ok((first, second))
}

/// One more, which is ready and stands by; perhaps with a proxy between it and the API server.
async fn another(world: &World, api: Option<&Proxy>) -> anyhow::Result<Controller> {
    let options = controller_options(|options| {
        standing_for_election(options);
        options.installed = true;
        options.via = api.map(|api| api.url().to_owned());
    });
    // It counts as started when /readyz answers 200.
    let one = world.prepared(options).await?;
    one.start_again().await?;
    ensure!(!is_leader(&one).await?, "it leads beside another");
    Ok(one)
}

async fn is_leader(one: &Controller) -> anyhow::Result<bool> {
    Ok(one.metric("vault_mesh_issuer_leader", &[]).await? == 1.0)
}

async fn leads(one: &Controller, within: Duration) -> anyhow::Result<()> {
    eventually("it leads", within, async || Ok(is_leader(one).await?.then_some(()))).await
}

/// Approved requests, one after the other.
async fn load(world: &World, prefix: &str, count: usize, issuer: &IssuerRef) -> anyhow::Result<Vec<Asked>> {
    let mut asked = Vec::new();
    for number in 0..count {
        asked.push(world.approved(&format!("{prefix}-{number}"), issuer).await?);
        tokio::time::sleep(PACE).await;
    }
    Ok(asked)
}

/// What one controller changed in the cluster, its lease aside.
fn writes(world: &World, one: &Controller) -> anyhow::Result<KubeCalls> {
    let writes = world.plane.kube_audit.all()?.with(&one.credential).writes();
    Ok(writes.keep(|call| call.resource != "leases"))
}

/// The certificates that one controller wrote.
fn certificates(world: &World, one: &Controller) -> anyhow::Result<KubeCalls> {
    let writes = writes(world, one)?.resource("certificaterequests/status");
    Ok(writes.keep(|call| call.code == 200))
}

/// Shows, and gives, the time between the last certificate of the one and the first of the other.
fn gap(world: &World, how: &str, old: &Controller, new: &Controller) -> anyhow::Result<Duration> {
    let at = |time: &str| time.parse::<jiff::Timestamp>().context("a time in the audit log");
    let (old, new) = (certificates(world, old)?, certificates(world, new)?);
    let last = at(&old.iter().last().context("the old one wrote none")?.time)?;
    let first = at(&new.iter().next().context("the new one wrote none")?.time)?;
    let gap = Duration::try_from(first.duration_since(last)).context("the new one was before the old one")?;
    eprintln!("    {how}: {} certificates, then {gap:.2?} without any, then {}", old.len(), new.len());
    Ok(gap)
}

/// Whose tokens the signs so far were made with.
fn accessors(world: &World) -> anyhow::Result<BTreeSet<String>> {
    let signs = world.plane.bao.audit().all()?.to(&world.recipe.sign_path);
    Ok(signs.iter().filter_map(|call| call.accessor.clone()).collect())
}

async fn ended(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let (first, second) = two(&world).await?;
    let issuer = world.ready_issuer().await?.issuer_ref;
    let handed_over = async {
        until("it is under load", 20, || world.signs()).await?;
        let status = first.terminate(Duration::from_secs(30)).await?;
        ensure!(status.code() == Some(0), "the exit code is not 0: {status}");
        leads(&second, SOON).await
    };
    let (asked, handed_over) = tokio::join!(load(&world, "load", 100, &issuer), handed_over);
    handed_over?;
    let asked = asked?;
    all_issued(&world, &asked, LATER).await?;
    ensure!(world.signs()? == asked.len(), "one sign each, not {}", world.signs()?);
    let gap = gap(&world, "ended", &first, &second)?;
    ensure!(gap < LEASE / 2, "{gap:?}: the lease was not given back");
    Ok(())
}

async fn killed(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let vault = Proxy::start(&world.run, world.plane.bao.address()).await?;
    let (first, second) = two(&world).await?;
    let issuer = world.ready_issuer_at(vault.url()).await?.issuer_ref;
    let handed_over = async {
        until("it is under load", 20, || world.signs()).await?;
        // Vault signs these for a caller who is gone.
        let slow = vault.on(is_sign, Action::Hold);
        until("the signs are with Vault", 8, || Ok(vault.held())).await?;
        first.kill().await?;
        slow.remove();
        vault.release().await?;
        leads(&second, LATER).await
    };
    let (asked, handed_over) = tokio::join!(load(&world, "load", 180, &issuer), handed_over);
    handed_over?;
    let asked = asked?;
    all_issued(&world, &asked, LATER).await?;
    let (old, new) = (certificates(&world, &first)?.len(), certificates(&world, &second)?.len());
    ensure!(old + new == asked.len(), "{old} and {new} certificates were written for {}", asked.len());
    ensure!(world.signs()? == asked.len() + 8, "one sign each and the eight that were lost, not {}", world.signs()?);
    gap(&world, "killed", &first, &second)?;
    Ok(())
}

async fn paused(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let vault = Proxy::start(&world.run, world.plane.bao.address()).await?;
    let (first, second) = two(&world).await?;
    let issuer = world.ready_issuer_at(vault.url()).await?.issuer_ref;
    world.approved("before", &issuer).await?.issued(&world, SOON).await?;
    let tokens_of_first = accessors(&world)?;

    // Its eight signs are answered while it sleeps, and twelve requests wait for their turn in it.
    let slow = vault.on(is_sign, Action::Hold);
    let mut asked = world.many("web", 20, &issuer).await?;
    until("the signs are with Vault", 8, || Ok(vault.held())).await?;
    let written = writes(&world, &first)?.len();
    first.peer().pause()?;
    slow.remove();
    vault.release().await?;
    let sleeps = tokio::time::sleep(Duration::from_secs(30));
    let (more, ()) = tokio::join!(load(&world, "load", 100, &issuer), sleeps);
    asked.extend(more?);
    leads(&second, SOON).await?;
    all_issued(&world, &asked, LATER).await?;
    gap(&world, "paused", &first, &second)?;

    // It wakes to eight answers, and to more requests than those that it knew.
    let (kube, bao) = (world.plane.kube_audit.mark()?, world.plane.bao.audit().mark()?);
    first.peer().resume()?;
    let more = load(&world, "later", 30, &issuer).await?;
    let status = first.peer().exit(SOON).await?;
    ensure!(status.code() == Some(1), "{status}");
    ensure!(
        first.log()?.contains("could not be renewed for 10 s"),
        "{}",
        first.peer().complaint("says something else")
    );
    all_issued(&world, &more, LATER).await?;
    asked.extend(more);
    let calls = world.plane.kube_audit.since(kube)?.with(&first.credential).writes();
    ensure!(calls.is_empty(), "after it woke: {:?}", calls.iter().collect::<Vec<_>>());
    ensure!(writes(&world, &first)?.len() == written, "it wrote while it was asleep");
    let calls = world.plane.bao.audit().since(bao)?;
    let of_first = |call: &testenv::Call| call.accessor.as_ref().is_some_and(|it| tokens_of_first.contains(it));
    ensure!(calls.keep(of_first).is_empty(), "after it woke: {:?}", calls.keep(of_first));
    ensure!(calls.logins("approle") == 0, "it logged in anew");
    // "before" counts too.
    ensure!(
        world.signs()? == asked.len() + 1 + 8,
        "one sign each and the eight that were lost, not {}",
        world.signs()?
    );

    first.start_again().await?;
    ensure!(!is_leader(&first).await?, "it leads beside the other");
    Ok(())
}

async fn cut_off(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let (first, second) = two(&world).await?;
    let issuer = world.ready_issuer().await?.issuer_ref;
    world.approved("before", &issuer).await?.issued(&world, SOON).await?;

    world.plane.apiserver.kill().await?;
    let status = first.peer().exit(LATER).await?;
    ensure!(status.code() == Some(1), "{status}");
    ensure!(
        first.log()?.contains("could not be renewed for 10 s"),
        "{}",
        first.peer().complaint("says something else")
    );
    ensure!(second.peer().is_running() && second.get("/livez").await?.status == 200, "the other one ended as well");
    ensure!(!is_leader(&second).await?, "nobody can have elected it");

    world.plane.apiserver.start_again().await?;
    leads(&second, LATER).await?;
    world.approved("after", &issuer).await?.issued(&world, LATER).await?;
    first.start_again().await?;
    ensure!(!is_leader(&first).await?, "it leads beside the other");
    ensure!(world.signs()? == 2);
    Ok(())
}

async fn behind(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let vault = Proxy::start(&world.run, world.plane.bao.address()).await?;
    let api = Proxy::start(&world.run, world.plane.kube.server()).await?;
    let first = world.controller(standing_for_election).await?;
    leads(&first, SOON).await?;
    let second = another(&world, Some(&api)).await?;
    let issuer = world.ready_issuer_at(vault.url()).await?.issuer_ref;
    let slow = vault.on(is_sign, Action::Hold);
    let asked = world.many("web", 8, &issuer).await?;
    until("the signs are with Vault", 8, || Ok(vault.held())).await?;
    // Nothing that could be seen tells that the other one has read them too.
    tokio::time::sleep(Duration::from_secs(1)).await;

    // From now on it sees no change of any request.
    let blind =
        api.on(|seen| seen.is("GET", "/certificaterequests?") && seen.path.contains("watch=true"), Action::Hold);
    api.cut_all();
    until("its watch is cut off", 1, || Ok(api.held())).await?;
    slow.remove();
    vault.release().await?;
    all_issued(&world, &asked, SOON).await?;
    // Nor can it read any at first.
    let unreadable = api.on(|seen| seen.is("GET", "/certificaterequests/"), Action::Cut).times(asked.len());
    first.terminate(Duration::from_secs(30)).await?;
    leads(&second, SOON).await?;
    until("the reads fail", asked.len(), || Ok(unreadable.hits())).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    ensure!(world.signs()? == asked.len(), "one sign each, not {}", world.signs()?);

    blind.remove();
    api.discard();
    world.approved("after", &issuer).await?.issued(&world, LATER).await?;
    ensure!(world.signs()? == asked.len() + 1, "{} signs", world.signs()?);
    Ok(())
}

/// The Lease's spec.
async fn lease(world: &World) -> anyhow::Result<Value> {
    let path = "/apis/coordination.k8s.io/v1/namespaces/vault-mesh-issuer/leases/vault-mesh-issuer";
    Ok(world.plane.kube.get(path).await?["spec"].clone())
}

async fn ended_as_it_takes(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let api = Proxy::start(&world.run, world.plane.kube.server()).await?;
    // It is told too late that the Lease is its own.
    let late = api.on(|seen| seen.is("POST", "/leases"), Action::Late(Duration::from_secs(60)));
    let one = world
        .controller(|options| {
            standing_for_election(options);
            options.via = Some(api.url().to_owned());
        })
        .await?;
    eventually("the Lease is its own", SOON, async || Ok(lease(&world).await.is_ok().then_some(()))).await?;
    ensure!(lease(&world).await?["holderIdentity"] != "" && !is_leader(&one).await?, "it knows already");
    let status = one.terminate(SOON).await?;
    ensure!(status.code() == Some(0) && late.hits() == 1, "{status}, {} writes", late.hits());
    let left = lease(&world).await?;
    ensure!(left["holderIdentity"] == "", "{left}");
    Ok(())
}

async fn ended_as_it_looks(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let api = Proxy::start(&world.run, world.plane.kube.server()).await?;
    let first = world.controller(standing_for_election).await?;
    leads(&first, SOON).await?;
    let second = another(&world, Some(&api)).await?;
    world.approved("waits", &IssuerRef::new("VaultMeshIssuer", "missing")).await?;
    // Nothing that could be seen tells that the other one has read it too.
    tokio::time::sleep(Duration::from_secs(1)).await;
    api.on(|seen| seen.is("GET", "/certificaterequests/"), Action::Hold);
    first.terminate(Duration::from_secs(30)).await?;
    until("it reads the request", 1, || Ok(api.held())).await?;
    // A call to the API server takes 10 s to be given up.
    let status = second.terminate(Duration::from_secs(6)).await?;
    ensure!(status.code() == Some(0), "{status}");
    Ok(())
}

async fn four(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let options = controller_options(standing_for_election);
    let first = world.prepared(options.clone()).await?;
    let mut all = vec![first];
    for _ in 0..3 {
        let options = ControllerOptions { installed: true, ..options.clone() };
        all.push(world.prepared(options).await?);
    }
    futures::future::try_join_all(all.iter().map(Controller::start_again)).await?;
    let issuer = world.ready_issuer().await?.issuer_ref;
    let rounds = async {
        for _ in 0..4 {
            let leader = leader(&all).await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
            leader.terminate(Duration::from_secs(30)).await?;
            leader.start_again().await?;
        }
        leader(&all).await.map(drop)
    };
    let (asked, rounds) = tokio::join!(load(&world, "load", 100, &issuer), rounds);
    rounds?;
    let asked = asked?;
    all_issued(&world, &asked, LATER).await?;
    ensure!(world.signs()? == asked.len(), "one sign each, not {}", world.signs()?);

    let calls = world.plane.kube_audit.all()?.of(&all[0].namespace, &all[0].account).writes();
    let won = calls.keep(|call| call.resource == "leases" && call.code < 300);
    let acted = calls.keep(|call| call.resource != "leases");
    for (what, calls) in [("held the lease", won), ("wrote", acted)] {
        let mut turns: Vec<&str> = calls.iter().map(|call| call.credential.as_str()).collect();
        turns.dedup();
        eprintln!("    four: {} calls of {} terms {what}", calls.len(), turns.len());
        ensure!(turns.len() <= 5, "{what}: terms overlap: {turns:?}");
    }
    let spec = lease(&world).await?;
    ensure!(spec["leaseTransitions"] == 4, "{spec}");
    Ok(())
}

/// The one that leads.
async fn leader(all: &[Controller]) -> anyhow::Result<&Controller> {
    eventually("one leads", SOON, async || {
        for one in all {
            if is_leader(one).await? {
                return Ok(Some(one));
            }
        }
        Ok(None)
    })
    .await
}
