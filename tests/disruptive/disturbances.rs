//! Watches that end, calls that are refused for a while, and 100 requests in the middle of it.

use std::time::Duration;

use anyhow::ensure;
use testenv::{Action, Options, Proxy, Run};

use crate::support::{LATER, SOON, World, all_issued, bare, writes_any_status};
use crate::{Outcome, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("100 requests are signed once each while watches end every few seconds", short_watches);
    suite.add("100 requests are signed once each while the API server drops connections and answers 429", busy_server);
}

/// Four batches of 25, some seconds apart, so that each meets other watches.
async fn a_hundred(world: &World, between: impl AsyncFn()) -> Outcome {
    let issuer = world.ready_issuer().await?.issuer_ref;
    let mut asked = Vec::new();
    for batch in 0..4 {
        asked.extend(world.many(&format!("batch-{batch}"), 25, &issuer).await?);
        between().await;
    }
    all_issued(world, &asked, LATER).await?;
    ensure!(world.signs()? == 100, "one sign each, not {}", world.signs()?);
    Ok(())
}

async fn short_watches(run: Run) -> Outcome {
    let flags = ["--min-request-timeout=5", "--goaway-chance=0.02", "--feature-gates=WatchList=false"];
    let apiserver_flags = flags.map(str::to_owned).to_vec();
    let world = World::start(run, Options { apiserver_flags, ..bare() }).await?;
    let ours = world.controller(|_| ()).await?;
    a_hundred(&world, async || tokio::time::sleep(Duration::from_secs(4)).await).await?;
    // It still hears of everything after all that.
    world.approved("after", &testenv::IssuerRef::new("VaultMeshIssuer", "vault")).await?.issued(&world, SOON).await?;
    ensure!(ours.metric("vault_mesh_issuer_panics_total", &[]).await? == 0.0);
    Ok(())
}

async fn busy_server(run: Run) -> Outcome {
    let apiserver_flags = vec!["--max-mutating-requests-inflight=2".to_owned()];
    let world = World::start(run, Options { apiserver_flags, ..bare() }).await?;
    let api = Proxy::start(&world.run, world.plane.kube.server()).await?;
    let ours = world.controller(|options| options.via = Some(api.url().to_owned())).await?;
    // Every connection of ours is cut between the batches, and now and then a write is refused for a second.
    let busy = serde_json::json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 429, "reason": "TooManyRequests",
        "message": "the server has received too many requests"});
    let number = std::sync::atomic::AtomicUsize::new(0);
    let fifth = move || number.fetch_add(1, std::sync::atomic::Ordering::Relaxed).is_multiple_of(5);
    api.on(move |seen| writes_any_status(seen) && fifth(), Action::answer(429, &busy));
    a_hundred(&world, async || {
        api.cut_all();
        tokio::time::sleep(Duration::from_secs(1)).await;
    })
    .await?;
    ensure!(ours.metric("vault_mesh_issuer_panics_total", &[]).await? == 0.0);
    Ok(())
}
