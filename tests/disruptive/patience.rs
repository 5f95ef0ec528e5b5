//! How long requests wait that cannot be signed: for ever with an owner, five minutes without.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use testenv::{Created, Csr, Issuer, IssuerRef, Options, Request, Run, condition};

use crate::support::{LATER, MESH, SOON, World, bare};
use crate::{Outcome, Suite};

/// How long a request without an owner waits, and how much later its end may be seen on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);
const SLACK: Duration = Duration::from_secs(60);

pub fn add(suite: &mut Suite) {
    suite.add(
        "a request without an owner waits five minutes for Vault or its issuer, one with an owner until it is back",
        patience,
    );
}

async fn patience(run: Run) -> Outcome {
    let world = World::start(run, Options { raft: true, ..bare() }).await?;
    let ours = world.controller(|_| ()).await?;
    let issuer = world.ready_issuer().await?.issuer_ref;
    world.approved("before", &issuer).await?.issued(&world, SOON).await?;
    let missing = IssuerRef::new("VaultMeshIssuer", "missing");

    world.plane.bao.peer().kill().await?;
    let asked = [("vault-away", &issuer, "cannot connect"), ("issuer-missing", &missing, "missing does not exist")];
    let (mut ownerless, mut owned) = (Vec::new(), Vec::new());
    for (name, issuer, words) in asked {
        ownerless.push((approved(&world, name, issuer, false).await?, words));
        owned.push(approved(&world, &format!("owned-{name}"), issuer, true).await?);
    }
    for (request, _) in &ownerless {
        request.reason("Pending", SOON).await?;
    }
    // It is the process that counts: what waited while nobody was there is not punished.
    ours.kill().await?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let began = Instant::now();
    ours.start_again().await?;

    for (request, words) in &ownerless {
        let object = request.reason("Failed", PATIENCE + SLACK).await?;
        let waited = began.elapsed();
        ensure!(waited > PATIENCE - Duration::from_secs(5), "{} was given up after {waited:?}", request.name);
        let ready = condition(&object, "Ready").context("Ready")?;
        let message = ready["message"].as_str().unwrap_or_default();
        ensure!(message.contains(words) && message.contains("without an owner"), "{message}");
        ensure!(object["status"]["failureTime"].is_string(), "{}", object["status"]);
        println!("{}: Failed {:.1} s after our start: {message}", request.name, waited.as_secs_f64());
    }
    for request in &owned {
        let object = request.get().await?;
        let ready = condition(&object, "Ready").context("Ready")?;
        ensure!(ready["reason"] == "Pending", "{}: {ready}", request.name);
    }
    world.plane.bao.restart().await?;
    Issuer::app_role(MESH, "missing", &world.plane.bao, &world.recipe).create(&world.plane.kube).await?;
    for request in &owned {
        // The issuer is looked at every five minutes by now, at the slowest.
        request.ready(PATIENCE + LATER).await?;
    }
    Ok(())
}

async fn approved(world: &World, name: &str, issuer: &IssuerRef, owned: bool) -> anyhow::Result<Created> {
    let pair = Csr::workload(MESH, name).ec()?;
    let request = Request::new(MESH, name, issuer, &pair.csr_pem).duration("1h");
    let request = if owned { request.owner("Pod", "web", "0b8e3f9a-5b3b-4c69-8f0f-a5b6a2a7f6d1") } else { request };
    let request = request.create(&world.plane.kube).await?;
    request.approve().await?;
    Ok(request)
}
