//! Whoever falls, falls while requests keep coming: every request ends Issued, none Failed, each is signed once, and only what
//! was under way at the fall may be signed again. Both audit logs are the witnesses.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures::future::LocalBoxFuture;
use jiff::Timestamp;
use testenv::{
    Account, Action, Controller, Fall, Ledger, Load, LoadOptions, Options, Proxy, Random, Run, SIGNS_PER_ISSUER, Target,
};

use crate::support::{MESH, World, bare, is_sign};
use crate::{Outcome, Suite};

pub fn add(suite: &mut Suite) {
    let mut add = |sentence: &'static str, most, fall: Fallen| {
        suite.add(sentence, move |run| fallen(run, sentence, most, fall));
    };
    add("under load Vault is sealed for 90 s", AT_A_TIME, |world| Box::pin(sealed(world)));
    add("under load Vault is paused for 30 s", 2 * AT_A_TIME, |world| Box::pin(paused(world)));
    add("under load Vault is killed and restarted", AT_A_TIME, |world| Box::pin(vault_killed(world)));
    add("under load the API server is killed and restarted", 0, |world| Box::pin(api_server_killed(world)));
    add("under load etcd is paused for 15 s", 0, |world| Box::pin(etcd_paused(world)));
    suite.add("under load our process is killed three times at random points", killed);
}

/// What falls, and stands up again.
type Fallen = for<'a> fn(&'a World) -> LocalBoxFuture<'a, Outcome>;

/// Requests a second: as many as leave two cores some time for the faults.
const PACE: f64 = 12.0;
/// No more of Vault's answers can be under way: there is one issuer.
const AT_A_TIME: usize = SIGNS_PER_ISSUER;
/// The load runs so long before and after.
const BEFORE: Duration = Duration::from_secs(4);
const AFTER: Duration = Duration::from_secs(8);
/// An issuer that was away for 90 s is looked at again after another minute at most, and then all that waits is signed.
const ENDS: Duration = Duration::from_secs(240);

async fn sealed(world: &World) -> Outcome {
    world.plane.bao.seal().await?;
    tokio::time::sleep(Duration::from_secs(90)).await;
    world.plane.bao.unseal().await
}

async fn paused(world: &World) -> Outcome {
    world.plane.bao.peer().pause()?;
    tokio::time::sleep(Duration::from_secs(30)).await;
    world.plane.bao.peer().resume()
}

async fn vault_killed(world: &World) -> Outcome {
    world.plane.bao.peer().kill().await?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    world.plane.bao.restart().await
}

async fn api_server_killed(world: &World) -> Outcome {
    for _ in 0..2 {
        world.plane.apiserver.kill().await?;
        tokio::time::sleep(Duration::from_secs(4)).await;
        world.plane.apiserver.start_again().await?;
        tokio::time::sleep(Duration::from_secs(4)).await;
    }
    Ok(())
}

async fn etcd_paused(world: &World) -> Outcome {
    world.plane.etcd.pause()?;
    tokio::time::sleep(Duration::from_secs(15)).await;
    world.plane.etcd.resume()
}

/// How late Vault's answers come: with it two are under way at any moment.
const LATE: Duration = Duration::from_millis(150);

/// A world under load, and what is known of it.
struct Loaded {
    world: World,
    ours: Controller,
    load: Load,
    _to_vault: Proxy,
}

impl Loaded {
    async fn start(run: Run) -> anyhow::Result<Loaded> {
        let world = World::start(run, Options { raft: true, ..bare() }).await?;
        let ours = world.controller(|_| ()).await?;
        let to_vault = Proxy::start(&world.run, world.plane.bao.address()).await?;
        to_vault.on(is_sign, Action::Late(LATE));
        let issuer = world.ready_issuer_at(to_vault.url()).await?.issuer_ref;
        let target = Target { namespace: MESH.to_owned(), issuer, root_pem: world.recipe.root_pem().to_owned() };
        let options = LoadOptions { targets: vec![target], per_second: PACE, denied_every: 0, kept_every: 1 };
        let load = Load::start(&world.plane.kube, options);
        tokio::time::sleep(BEFORE).await;
        Ok(Loaded { world, ours, load, _to_vault: to_vault })
    }

    /// Every request has ended Issued; gives what the audit logs say.
    async fn finish(&mut self, what: &str, falls: &[Fall]) -> anyhow::Result<Account> {
        tokio::time::sleep(AFTER).await;
        let tally = self.load.finish(ENDS).await?;
        ensure!(tally.wrong.is_empty(), "{} of {} requests: {:#?}", tally.wrong.len(), tally.asked, tally.wrong);
        ensure!(tally.issued == tally.asked, "{} of {} are issued", tally.issued, tally.asked);
        // The API server answers first and writes its audit line after that.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let mut ledger = Ledger::new(&self.world.plane, &self.ours);
        ledger.read()?;
        let account = ledger.account(&self.load.csrs(), falls);
        eprintln!(
            "{what}: {} requests, {} signs, waits p50 {:?} p99 {:?} longest {:?}; in flight at kills {:?}",
            tally.asked,
            account.signs,
            tally.wait(0.5),
            tally.wait(0.99),
            tally.wait(1.0),
            account.in_flight,
        );
        ensure!(account.requests == tally.asked, "{} of {} are in the audit log", account.requests, tally.asked);
        ensure!(account.unexplained.is_empty(), "signed twice for no reason: {:#?}", account.unexplained);
        ensure!(self.ours.metric("vault_mesh_issuer_panics_total", &[]).await? == 0.0, "an attempt panicked");
        Ok(account)
    }
}

/// One of the peers falls and stands up again. `most` signs may be lost on their way.
async fn fallen(run: Run, what: &str, most: usize, fall: Fallen) -> Outcome {
    let mut loaded = Loaded::start(run).await?;
    let begun = Timestamp::now();
    fall(&loaded.world).await?;
    let falls = if most > 0 { vec![Fall::Vault(begun, Timestamp::now())] } else { Vec::new() };
    let account = loaded.finish(what, &falls).await?;
    ensure!(account.after_outages <= most, "{} answers were lost", account.after_outages);
    ensure!(account.logins == 1, "its token outlives the outage: {} logins", account.logins);
    Ok(())
}

async fn killed(run: Run) -> Outcome {
    let seed = Random::any_seed();
    let mut random = Random::new(seed);
    let mut loaded = Loaded::start(run).await?;
    let mut falls = Vec::new();
    for _ in 0..3 {
        tokio::time::sleep(random.between(Duration::from_secs(1), Duration::from_secs(4))).await;
        loaded.ours.kill().await?;
        falls.push(Fall::Ours(Timestamp::now()));
        loaded.ours.start_again().await?;
    }
    let account =
        loaded.finish("our process killed three times", &falls).await.with_context(|| format!("seed {seed}"))?;
    let more = account.more_in_flight_than(AT_A_TIME);
    ensure!(more.is_none(), "seed {seed}: {more:?}");
    Ok(())
}
