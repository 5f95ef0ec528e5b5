//! Vault, the API server and we ourselves go away and come back.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::json;
use testenv::{Action, Chain, Issuer, Options, Proxy, Run, eventually};

use crate::support::{LATER, MESH, SOON, World, all_issued, bare, controller_options, is_sign, until, writes_status};
use crate::{Outcome, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("requests wait while Vault is sealed and are issued when it is unsealed", sealed);
    suite.add("requests wait while OpenBao is dead and are issued when it is back", vault_dies);
    suite.add("a standby without an active node is told by name and waited for", standby);
    suite.add("requests are issued after the API server died and came back", api_server_dies);
    suite.add("a controller killed with answers in flight issues everything after its restart", killed);
    suite.add("SIGTERM lets the signs under way finish, begins no others and exits 0", terminated);
    suite.add("SIGTERM waits for an answer to be written that the API server does not take", terminated_unwritten);
    suite.add("a Vault that never answers does not hold the end up beyond 30 s", terminated_in_a_black_hole);
    suite.add("/readyz answers 200 only once the watches have synced", ready_after_sync);
    suite.add("a revoked static token makes the issuer not Ready until its Secret changes", static_token);
    suite.add("an AppRole token revoked under load costs one login and no request", revoked_under_load);
    suite.add("a Vault that swallows everything holds no other issuer up", black_hole);
}

async fn sealed(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let _ours = world.controller(|_| ()).await?;
    let issuer = world.ready_issuer().await?;
    world.approved("before", &issuer.issuer_ref).await?.issued(&world, SOON).await?;

    world.plane.bao.seal().await?;
    let waiting = world.many("sealed", 10, &issuer.issuer_ref).await?;
    for one in &waiting {
        one.request.reason("Pending", SOON).await?;
    }
    let condition = issuer.not_ready(LATER).await?;
    ensure!(condition["reason"] == "VaultSealed", "{condition}");
    ensure!(condition["message"].as_str().is_some_and(|words| words.contains("sealed")), "{condition}");
    // Still there after another while, and one that comes now waits as well.
    let late = world.approved("late", &issuer.issuer_ref).await?;
    late.request.reason("Pending", SOON).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    for one in &waiting {
        one.is_not_failed().await?;
    }
    ensure!(world.signs()? == 1);

    world.plane.bao.unseal().await?;
    issuer.ready(LATER).await?;
    for one in waiting.iter().chain([&late]) {
        one.issued(&world, SOON).await?;
    }
    ensure!(world.signs()? == 12, "one sign each, not {}", world.signs()?);
    let changes: Vec<_> = world.events(MESH, "vault").await?.iter().map(|event| event["reason"].clone()).collect();
    ensure!(changes.iter().filter(|reason| **reason == "VaultSealed").count() == 1, "{changes:?}");
    Ok(())
}

async fn vault_dies(run: Run) -> Outcome {
    let world = World::start(run, Options { raft: true, ..bare() }).await?;
    let ours = world.controller(|_| ()).await?;
    let issuer = world.ready_issuer().await?.issuer_ref;
    world.approved("before", &issuer).await?.issued(&world, SOON).await?;

    world.plane.bao.peer().kill().await?;
    let waiting = world.many("dead", 10, &issuer).await?;
    for one in &waiting {
        one.request.reason("Pending", SOON).await?;
    }
    // An issuer that comes now has nothing to lose: it says at its first check what an older one says at its second.
    let late = Issuer::app_role(MESH, "late", &world.plane.bao, &world.recipe).create(&world.plane.kube).await?;
    let condition = late.reason("VaultUnreachable", SOON).await?;
    ensure!(condition["message"].to_string().contains("(refused)"), "{condition}");
    world.plane.bao.restart().await?;
    all_issued(&world, &waiting, LATER).await?;
    for one in &waiting {
        let writes = world.status_writes(&ours, &one.request.name)?;
        ensure!(writes == [200, 200], "{} is written as Pending and as Issued: {writes:?}", one.request.name);
    }
    ensure!(world.signs()? == 11, "one sign each, not {}", world.signs()?);
    late.ready(LATER).await?;
    // Its token has survived with the storage; the other issuer has one of its own.
    ensure!(world.plane.bao.audit().all()?.logins_of(&world.recipe.app_role) == 2, "no login more than the first");
    Ok(())
}

/// An active node that steps down tries again after ten seconds; alone in its cluster it is a standby until then.
async fn standby(run: Run) -> Outcome {
    let world = World::start(run, Options { raft: true, ..bare() }).await?;
    let _ours = world.controller(|_| ()).await?;
    world.plane.bao.write("sys/step-down", json!({})).await?;
    let issuer = Issuer::app_role(MESH, "vault", &world.plane.bao, &world.recipe).create(&world.plane.kube).await?;
    let condition = issuer.reason("VaultStandby", SOON).await?;
    let words = condition["message"].to_string();
    ensure!(words.contains("is a standby that knows no active node"), "{condition}");
    let waiting = world.approved("waiting", &issuer.issuer_ref).await?;
    issuer.ready(LATER).await?;
    waiting.issued(&world, SOON).await.map(drop)
}

async fn api_server_dies(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let vault = Proxy::start(&world.run, world.plane.bao.address()).await?;
    let ours = world.controller(|_| ()).await?;
    let issuer = world.ready_issuer_at(vault.url()).await?.issuer_ref;

    // Eight answers arrive while nobody can take them.
    let slow = vault.on(is_sign, Action::Hold);
    let asked = world.many("web", 12, &issuer).await?;
    until("the signs are with Vault", 8, || Ok(vault.held())).await?;
    world.plane.apiserver.kill().await?;
    slow.remove();
    vault.release().await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.plane.apiserver.start_again().await?;
    all_issued(&world, &asked, LATER).await?;
    ensure!(world.signs()? == 12, "the answers are kept: one sign each, not {}", world.signs()?);
    world.approved("after", &issuer).await?.issued(&world, SOON).await?;
    ensure!(ours.peer().is_running());
    Ok(())
}

async fn killed(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let vault = Proxy::start(&world.run, world.plane.bao.address()).await?;
    let ours = world.controller(|_| ()).await?;
    let issuer = world.ready_issuer_at(vault.url()).await?.issuer_ref;

    let slow = vault.on(is_sign, Action::Hold);
    let asked = world.many("web", 20, &issuer).await?;
    until("the signs are with Vault", 8, || Ok(vault.held())).await?;
    ours.kill().await?;
    slow.remove();
    // Vault signs for a caller who is gone; only a status tells what was issued.
    vault.release().await?;
    ours.start_again().await?;
    all_issued(&world, &asked, LATER).await?;
    for one in &asked {
        let writes = world.status_writes(&ours, &one.request.name)?;
        ensure!(writes == [200], "{} is written once: {writes:?}", one.request.name);
    }
    ensure!(world.signs()? == 28, "only what was lost is signed again, not {}", world.signs()?);
    Ok(())
}

async fn terminated(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let vault = Proxy::start(&world.run, world.plane.bao.address()).await?;
    let ours = world.controller(|_| ()).await?;
    let issuer = world.ready_issuer_at(vault.url()).await?.issuer_ref;

    let slow = vault.on(is_sign, Action::Hold);
    let asked = world.many("web", 20, &issuer).await?;
    until("the signs are with Vault", 8, || Ok(vault.held())).await?;
    let answers = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        ensure!(ours.peer().is_running(), "it does not wait for the signs under way");
        slow.remove();
        vault.release().await
    };
    let (status, answers) = tokio::join!(ours.terminate(Duration::from_secs(30)), answers);
    answers?;
    ensure!(status?.code() == Some(0), "the exit code is not 0");
    ensure!(world.signs()? == 8, "no sign is begun after SIGTERM, yet there are {}", world.signs()?);
    let mut issued = 0;
    for one in &asked {
        let object = one.request.get().await?;
        issued += usize::from(!object["status"]["certificate"].is_null());
        one.is_not_failed().await?;
    }
    ensure!(issued == 8, "what was under way is written, not {issued} of 8");
    ours.start_again().await?;
    all_issued(&world, &asked, LATER).await?;
    ensure!(world.signs()? == 20, "one sign each, not {}", world.signs()?);
    Ok(())
}

async fn terminated_unwritten(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let api = Proxy::start(&world.run, world.plane.kube.server()).await?;
    let vault = Proxy::start(&world.run, world.plane.bao.address()).await?;
    let ours = world.controller(|options| options.via = Some(api.url().to_owned())).await?;
    let issuer = world.ready_issuer_at(vault.url()).await?.issuer_ref;

    let refused = api.on(writes_status("web"), Action::answer(500, &json!({})));
    let web = world.approved("web", &issuer).await?;
    until("the answer is not taken", 1, || Ok(refused.hits())).await?;
    vault.on(is_sign, Action::Hold);
    world.approved("late", &issuer).await?;
    until("another sign is under way", 1, || Ok(vault.held())).await?;
    let outage = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        // A sign that fails meanwhile says something of its issuer, which nobody looks at any more.
        vault.cut_all();
        tokio::time::sleep(Duration::from_secs(4)).await;
        refused.remove();
    };
    let (status, ()) = tokio::join!(ours.terminate(Duration::from_secs(30)), outage);
    ensure!(status?.code() == Some(0), "the exit code is not 0");
    web.issued(&world, SOON).await?;
    ensure!(refused.hits() > 1, "it was not tried again");
    ensure!(world.signs()? == 1, "one sign, not {}", world.signs()?);
    let log = ours.log()?;
    ensure!(log.contains("not signed") && !log.contains("needs to be looked at"), "{log}");
    Ok(())
}

async fn terminated_in_a_black_hole(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let vault = Proxy::start(&world.run, world.plane.bao.address()).await?;
    let ours = world.controller(|_| ()).await?;
    let issuer = world.ready_issuer_at(vault.url()).await?.issuer_ref;
    vault.on(is_sign, Action::Hold);
    let asked = world.many("web", 10, &issuer).await?;
    until("the signs are with Vault", 8, || Ok(vault.held())).await?;
    let began = Instant::now();
    let status = ours.terminate(Duration::from_secs(34)).await?;
    ensure!(status.code() == Some(0), "the exit code is not 0: {status}");
    ensure!(began.elapsed() < Duration::from_secs(32), "it took {:?}", began.elapsed());
    for one in &asked {
        one.is_not_failed().await?;
    }
    Ok(())
}

async fn ready_after_sync(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let api = Proxy::start(&world.run, world.plane.kube.server()).await?;
    let options = controller_options(|options| options.via = Some(api.url().to_owned()));
    let ours = world.prepared(options).await?;
    let slow = api.on(|seen| seen.is("GET", "/certificaterequests"), Action::Hold);
    let watched = async {
        eventually("it serves", SOON, async || Ok((ours.get("/livez").await?.status == 200).then_some(()))).await?;
        until("the first list is held back", 1, || Ok(api.held())).await?;
        for _ in 0..20 {
            let answer = ours.get("/readyz").await?;
            ensure!(answer.status == 503, "/readyz answers {} before the watches have synced", answer.status);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        slow.remove();
        api.release().await
    };
    let (started, watched) = tokio::join!(ours.start_again(), watched);
    watched?;
    started?;
    ensure!(ours.get("/readyz").await?.status == 200);
    Ok(())
}

async fn static_token(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let kube = &world.plane.kube;
    let bao = &world.plane.bao;
    let ours = world.controller(|_| ()).await?;
    let token = json!({"policies": [world.recipe.policy], "ttl": "1h", "no_default_policy": true});
    let first = bao.make_token(token.clone()).await?;
    kube.secret(MESH, "vault-token", &[("token", &first)]).await?;
    let auth = json!({"tokenSecretRef": {"name": "vault-token", "key": "token"}});
    let issuer = Issuer::with_auth(MESH, "vault", bao, &world.recipe.sign_path, auth).create(kube).await?;
    issuer.ready(SOON).await?;
    world.approved("before", &issuer.issuer_ref).await?.issued(&world, SOON).await?;

    bao.revoke(&first).await?;
    let waits = world.approved("revoked", &issuer.issuer_ref).await?;
    let refused = issuer.reason("LoginRefused", LATER).await?;
    ensure!(refused["message"].to_string().contains("token"), "{refused}");
    waits.request.reason("Pending", SOON).await?;
    let second = bao.make_token(token).await?;
    let asked = bao.audit().during(Duration::from_secs(3)).await?.to(world.recipe.mount());
    ensure!(asked.keep(|call| call.operation == "update").is_empty(), "a dead token is shown to Vault again and again");
    kube.secret(MESH, "vault-token", &[("token", &second)]).await?;
    issuer.ready(SOON).await?;
    waits.issued(&world, SOON).await?;
    ensure!(world.signs()? == 2);
    ensure!(!ours.log()?.contains(&first) && !ours.log()?.contains(&second), "a token is in the log");
    Ok(())
}

async fn revoked_under_load(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let vault = Proxy::start(&world.run, world.plane.bao.address()).await?;
    let ours = world.controller(|_| ()).await?;
    let issuer = world.ready_issuer_at(vault.url()).await?.issuer_ref;
    // 8 at a time, so that 100 take a second and a half and the revocation meets many of them.
    vault.on(is_sign, Action::Delay(Duration::from_millis(100)));
    let asking = world.many("web", 100, &issuer);
    let revoking = async {
        until("some are signed", 10, || world.signs()).await?;
        world.plane.bao.revoke_logins("approle").await
    };
    let (asked, revoked) = tokio::join!(asking, revoking);
    revoked?;
    let asked = asked?;
    all_issued(&world, &asked, LATER).await?;
    let calls = world.plane.bao.audit().all()?;
    ensure!(calls.logins_of(&world.recipe.app_role) == 2, "{} logins", calls.logins_of(&world.recipe.app_role));
    ensure!(world.signs()? == 100, "one sign each, not {}", world.signs()?);
    for one in &asked {
        let writes = world.status_writes(&ours, &one.request.name)?;
        ensure!(writes == [200], "{} never was Pending: {writes:?}", one.request.name);
    }
    Ok(())
}

async fn black_hole(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let kube = &world.plane.kube;
    let hole = Proxy::start(&world.run, world.plane.bao.address()).await?;
    let other = world.plane.bao.plain_recipe("other", Chain::WithRoot).await?;
    let ours = world.controller(|_| ()).await?;
    let swallowed = world.ready_issuer_at(hole.url()).await?.issuer_ref;
    hole.on(|_| true, Action::Hold);
    let never = Issuer::app_role(MESH, "never", &world.plane.bao.with_address(hole.url()), &other).create(kube).await?;
    let waiting = world.many("swallowed", 40, &swallowed).await?;
    until("as many as may are in the hole", 8, || Ok(hole.held())).await?;

    let began = Instant::now();
    let good = Issuer::app_role(MESH, "good", &world.plane.bao, &other).create(kube).await?;
    good.ready(SOON).await?;
    let pair = testenv::Csr::workload(MESH, "good").ec()?;
    let request = testenv::Request::new(MESH, "good", &good.issuer_ref, &pair.csr_pem).duration("1h");
    let request = request.create(kube).await?;
    request.approve().await?;
    let issued = request.ready(SOON).await?;
    ensure!(began.elapsed() < Duration::from_secs(10), "it took {:?} beside the hole", began.elapsed());
    testenv::openssl::verify(&testenv::certificate_of(&issued)?, other.root_pem()).await?;
    ensure!(ours.metric("vault_mesh_issuer_ready", &["name=\"good\""]).await? == 1.0);
    let status = never.get().await?["status"].clone();
    ensure!(!status.to_string().contains("\"True\""), "an issuer that was never answered is Ready: {status}");

    hole.pass_all();
    hole.discard();
    all_issued(&world, &waiting, LATER).await
}
