//! What is under way when a request changes its identity, when an answer is lost, or when a write arrives too late.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use testenv::{Action, Issuer, Proxy, Run, SIGNS_PER_ISSUER, certificate_of, condition, eventually, holds_for};

use crate::support::{LATER, MESH, SOON, World, all_issued, bare, is_sign, until, writes_any_status, writes_status};
use crate::{Outcome, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("a request that is denied after it was signed gets no certificate", denied_meanwhile);
    suite.add(
        "a request deleted and made anew under the same name in mid-flight gets nothing of the old one",
        made_anew,
    );
    suite.add("a request deleted in mid-flight is no error, and is not signed again", deleted);
    suite.add("a late Pending is answered 409 and does not undo the certificate", late_pending);
    suite.add("a Pending that waits to be written is not written once its issuer is there", overtaken);
    suite.add("certificates of many issuers are written over 64 connections at most", crowded_writes);
    suite.add("a lost answer to the status write costs no second sign", lost_answer);
    suite.add("a refusal that cannot be written costs no second sign, and a wait no quicker ones", unwritten);
}

async fn made_anew(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let vault = Proxy::start(&world.run, world.plane.bao.address()).await?;
    let ours = world.controller(|_| ()).await?;
    let issuer = world.ready_issuer_at(vault.url()).await?.issuer_ref;

    let slow = vault.on(is_sign, Action::Hold);
    let old = world.approved("web", &issuer).await?;
    until("the old request is with Vault", 1, || Ok(vault.held())).await?;
    slow.remove();
    old.request.delete().await?;
    // Nobody has approved the new one: whatever it gets now was the old one's.
    let new = world.ask("mesh", "web", &issuer).await?;
    ensure!(vault.release().await? == [200], "the old one is signed at last");

    until("the old answer is written", 1, || Ok(world.status_writes(&ours, "web")?.len())).await?;
    ensure!(world.status_writes(&ours, "web")? == [409], "the write meant for the old one is refused");
    holds_for("the new request has no status of ours", Duration::from_secs(3), async || {
        let object = new.request.get().await?;
        Ok(object["status"]["certificate"].is_null() && condition(&object, "Ready").is_none())
    })
    .await?;
    new.request.approve().await?;
    new.issued(&world, SOON).await?;
    ensure!(world.signs()? == 2, "one sign each, not {}", world.signs()?);
    ensure!(world.status_writes(&ours, "web")? == [409, 200]);
    Ok(())
}

async fn deleted(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let vault = Proxy::start(&world.run, world.plane.bao.address()).await?;
    let ours = world.controller(|_| ()).await?;
    let issuer = world.ready_issuer_at(vault.url()).await?.issuer_ref;

    let slow = vault.on(is_sign, Action::Hold);
    let gone = world.approved("gone", &issuer).await?;
    until("the request is with Vault", 1, || Ok(vault.held())).await?;
    gone.request.delete().await?;
    slow.remove();
    vault.release().await?;
    until("its answer is written", 1, || Ok(world.status_writes(&ours, "gone")?.len())).await?;
    world.approved("next", &issuer).await?.issued(&world, SOON).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    ensure!(world.status_writes(&ours, "gone")? == [404], "one write, answered 404");
    ensure!(world.signs()? == 2, "one sign each, not {}", world.signs()?);
    ensure!(world.events("mesh", "gone").await?.is_empty(), "nobody is bothered with it");
    ensure!(ours.metric("vault_mesh_issuer_requests_pending", &[]).await? == 0.0, "nothing is left pending");
    Ok(())
}

async fn denied_meanwhile(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let api = Proxy::start(&world.run, world.plane.kube.server()).await?;
    let _ours = world.controller(|options| options.via = Some(api.url().to_owned())).await?;
    let issuer = world.ready_issuer().await?.issuer_ref;
    let held = api.on(writes_status("web"), Action::Hold).times(1);
    let web = world.approved("web", &issuer).await?;
    until("the answer is on its way", 1, || Ok(api.held())).await?;
    web.request.deny().await?;
    ensure!(api.release().await? == [409] && held.hits() == 1, "the denial came first");
    let object = web.request.reason("Denied", SOON).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let later = web.request.get().await?;
    ensure!(later["status"] == object["status"] && later["status"]["certificate"].is_null(), "{}", later["status"]);
    ensure!(world.signs()? == 1, "{} signs", world.signs()?);
    Ok(())
}

async fn late_pending(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let api = Proxy::start(&world.run, world.plane.kube.server()).await?;
    let ours = world.controller(|options| options.via = Some(api.url().to_owned())).await?;

    // The issuer is missing, so that the first status is Pending, and it does not get through.
    let way = api.on(writes_status("web"), Action::Hold);
    let issuer = world.issuer_at(world.plane.bao.address());
    let reference = testenv::IssuerRef::new("VaultMeshIssuer", "vault");
    let web = world.approved("web", &reference).await?;
    until("the Pending is held back", 1, || Ok(api.held())).await?;
    way.remove();
    issuer.create(&world.plane.kube).await?.ready(SOON).await?;
    // Our client gives up after 15 s, looks again and finds the issuer ready.
    let issued = web.issued(&world, LATER).await?;

    let answers = api.release().await?;
    let after = web.request.get().await?;
    ensure!(answers == [409], "the late Pending is answered {answers:?} and the status is {}", after["status"]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let now = web.request.get().await?;
    ensure!(now["status"] == issued["status"], "the status is as it was: {}", now["status"]);
    ensure!(world.status_writes(&ours, "web")? == [200, 409], "{:?}", world.status_writes(&ours, "web")?);
    ensure!(world.signs()? == 1, "one sign, not {}", world.signs()?);
    Ok(())
}

async fn overtaken(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let api = Proxy::start(&world.run, world.plane.kube.server()).await?;
    let ours = world.controller(|options| options.via = Some(api.url().to_owned())).await?;
    let missing = testenv::IssuerRef::new("VaultMeshIssuer", "vault");
    let way = api.on(writes_any_status, Action::Hold);
    let asked = world.many("web", 40, &missing).await?;
    until("as many as may be are on their way", 16, || Ok(api.held())).await?;
    let pending = async || ours.metric("vault_mesh_issuer_requests_pending", &[]).await;
    eventually("all of them wait", SOON, async || Ok((pending().await? == 40.0).then_some(()))).await?;

    world.issuer_at(world.plane.bao.address()).create(&world.plane.kube).await?.ready(SOON).await?;
    way.remove();
    let held = api.release().await?.len();
    all_issued(&world, &asked, LATER).await?;
    let mut at_once = 0;
    for one in &asked {
        at_once += usize::from(world.status_writes(&ours, &one.request.name)? == [200]);
    }
    ensure!(held == 16 && at_once == 40 - held, "{at_once} were not Pending first, and {held} were on their way");
    Ok(())
}

async fn crowded_writes(run: Run) -> Outcome {
    const ISSUERS: usize = 9;
    let world = World::start(run, bare()).await?;
    let api = Proxy::start(&world.run, world.plane.kube.server()).await?;
    let _ours = world.controller(|options| options.via = Some(api.url().to_owned())).await?;
    let mut references = Vec::new();
    for number in 0..ISSUERS {
        let issuer = Issuer::app_role(MESH, &format!("vault-{number}"), &world.plane.bao, &world.recipe);
        let issuer = issuer.create(&world.plane.kube).await?;
        issuer.ready(SOON).await?;
        references.push(issuer.issuer_ref);
    }
    let way = api.on(writes_any_status, Action::Hold);
    let mut asked = Vec::new();
    for (number, reference) in references.iter().enumerate() {
        asked.extend(world.many(&format!("web-{number}"), SIGNS_PER_ISSUER, reference).await?);
    }
    until("all of them are signed", ISSUERS * SIGNS_PER_ISSUER, || world.signs()).await?;
    until("as many as may be are on their way", 64, || Ok(api.held())).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let held = api.held();
    way.remove();
    api.release().await?;
    all_issued(&world, &asked, LATER).await?;
    ensure!(held == 64, "{held} certificates of {} were on their way at a time", asked.len());
    ensure!(world.signs()? == asked.len(), "one sign each, not {}", world.signs()?);
    Ok(())
}

async fn lost_answer(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let api = Proxy::start(&world.run, world.plane.kube.server()).await?;
    let vault = Proxy::start(&world.run, world.plane.bao.address()).await?;
    let ours = world.controller(|options| options.via = Some(api.url().to_owned())).await?;
    let issuer = world.ready_issuer_at(vault.url()).await?.issuer_ref;

    let slow = vault.on(is_sign, Action::Hold);
    let web = world.approved("web", &issuer).await?;
    until("the request is with Vault", 1, || Ok(vault.held())).await?;
    slow.remove();
    // The watch is kept away as well, so that nothing but the memory of the answer keeps us from asking again.
    let blind = api.on(|seen| seen.is("GET", "/certificaterequests?"), Action::Hold);
    api.cut_all();
    let lossy = api.on(writes_status("web"), Action::DeliverThenCut).times(1);
    vault.release().await?;
    let first = web.issued(&world, SOON).await?;
    ensure!(lossy.hits() == 1, "the answer was dropped");
    until("the write is repeated", 2, || Ok(world.status_writes(&ours, "web")?.len())).await?;
    ensure!(world.status_writes(&ours, "web")? == [200, 409], "{:?}", world.status_writes(&ours, "web")?);
    blind.remove();
    api.discard();

    // A write that never arrives at all is repeated with the answer that is kept.
    let cut = api.on(writes_status("cut"), Action::Cut).times(1);
    world.approved("cut", &issuer).await?.issued(&world, LATER).await?;
    ensure!(cut.hits() == 1, "the write was cut");

    tokio::time::sleep(Duration::from_secs(3)).await;
    let now = web.request.get().await?;
    ensure!(certificate_of(&now)? == certificate_of(&first)?, "the same certificate stands there");
    ensure!(now["status"] == first["status"], "{} became {}", first["status"], now["status"]);
    ensure!(world.signs()? == 2, "one sign each, not {}", world.signs()?);
    ensure!(world.status_writes(&ours, "web")?.len() == 2, "it is left in peace then");
    ensure!(ours.metric("vault_mesh_issuer_requests_pending", &[]).await? == 0.0, "nothing is left pending");
    Ok(())
}

async fn unwritten(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let api = Proxy::start(&world.run, world.plane.kube.server()).await?;
    let vault = Proxy::start(&world.run, world.plane.bao.address()).await?;
    let _ours = world.controller(|options| options.via = Some(api.url().to_owned())).await?;
    let issuer = world.ready_issuer_at(vault.url()).await?.issuer_ref;

    let errors = json!({"errors": ["common name refused.example not allowed by this role"]});
    let refusals = vault.on(is_sign, Action::answer(400, &errors));
    let lost = api.on(writes_status("refused"), Action::answer(500, &json!({}))).times(2);
    world.approved("refused", &issuer).await?.request.reason("Failed", LATER).await?;
    ensure!(lost.hits() == 2, "{} writes were lost", lost.hits());
    ensure!(refusals.hits() == 1, "one sign, not {}", refusals.hits());
    refusals.remove();

    let troubles = vault.on(is_sign, Action::answer(500, &json!({"errors": ["internal error"]})));
    let lost = api.on(writes_status("waits"), Action::answer(500, &json!({})));
    let waits = world.approved("waits", &issuer).await?;
    // Pauses double from 2 s, less a fifth: the fifth sign is not due before 24 s have passed.
    tokio::time::sleep(Duration::from_secs(15)).await;
    ensure!(lost.hits() > 0, "no write was lost");
    ensure!((2..=4).contains(&troubles.hits()), "{} signs", troubles.hits());
    waits.is_not_failed().await
}
