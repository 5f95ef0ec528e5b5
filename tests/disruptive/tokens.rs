//! Tokens under load and at the end of the process: what OpenBao's audit log says of two minutes with leases of ten seconds, and of
//! what we leave behind.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use serde_json::{Value, json};
use testenv::{Action, AppRole, AppRoleOptions, Calls, Issuer, IssuerRef, Proxy, Recipe, Run, eventually, openssl};

use crate::support::{Asked, MESH, SOON, World, bare};
use crate::{Outcome, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("tokens of ten seconds, twenty at most, carry two minutes of load, and idle ones live on", short_leases);
    suite.add("SIGTERM revokes the tokens of all logins but those that certificates hang on", revoked_at_the_end);
    suite.add("a Vault that does not answer holds the revocations up for three seconds", unrevoked_at_the_end);
}

/// How long the load lasts, and how many ask at a time.
const LOAD: (Duration, usize) = (Duration::from_secs(120), 3);

/// A role of its own for the recipe's policy.
async fn app_role(world: &World, name: &str, ttl: &str, max_ttl: &str) -> Result<AppRole> {
    let (token_ttl, token_max_ttl) = (ttl.to_owned(), max_ttl.to_owned());
    let options = AppRoleOptions { token_ttl, token_max_ttl, ..AppRoleOptions::new(&[&world.recipe.policy]) };
    world.plane.bao.app_role(name, &options).await
}

/// An issuer of this name that logs in with this role.
async fn issuer(world: &World, name: &str, app_role: &AppRole, server: &str) -> Result<IssuerRef> {
    let recipe = Recipe { app_role: app_role.clone(), ..world.recipe.clone() };
    let issuer = Issuer::app_role(MESH, name, &world.plane.bao.with_address(server), &recipe);
    let issuing = issuer.create(&world.plane.kube).await?;
    issuing.ready(SOON).await?;
    Ok(issuing.issuer_ref)
}

/// What the tokens of this login mount have asked for about themselves (`renew-self`, `revoke-self`), as far as it was granted.
fn about_themselves(world: &World, what: &str, login_mount: &str) -> Result<Calls> {
    let calls = world.plane.bao.audit().all()?.to(&format!("auth/token/{what}"));
    Ok(calls.keep(|call| {
        call.error.is_none() && call.display_name.as_deref().is_some_and(|name| name.starts_with(login_mount))
    }))
}

async fn short_leases(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let bao = &world.plane.bao;
    let ours = world.controller(|_| ()).await?;
    let short = app_role(&world, "short", "10s", "20s").await?;
    bao.mount_login("idle", "approle").await?;
    let options = AppRoleOptions {
        mount: "idle".into(),
        token_ttl: "180s".into(),
        ..AppRoleOptions::new(&[&world.recipe.policy])
    };
    let idle = bao.app_role("idle", &options).await?;
    issuer(&world, "idle", &idle, bao.address()).await?;
    let reference = issuer(&world, "vault", &short, bao.address()).await?;

    let began = Instant::now();
    let workers = (0..LOAD.1).map(async |worker| {
        let mut number = 0;
        while began.elapsed() < LOAD.0 {
            let asked = world.approved(&format!("web-{worker}-{number}"), &reference).await?;
            asked.issued(&world, SOON).await?;
            ensure!(world.status_writes(&ours, &asked.request.name)?.len() <= 1, "{} had to wait", asked.request.name);
            number += 1;
        }
        anyhow::Ok(number)
    });
    let issued: usize = try_join_all(workers).await?.into_iter().sum();
    let calls = bao.audit().all()?;
    let (logins, refused) = (
        calls.logins_of(&short),
        // That the role may not be looked at is no refusal that matters.
        calls
            .refused()
            .keep(|call| !call.probe && !call.path.contains("/roles/") && call.display_name.as_deref() != Some("root")),
    );
    let renewals = about_themselves(&world, "renew-self", "approle")?.len();
    eprintln!("{issued} requests in {:?}: {logins} logins, {renewals} renewals", LOAD.0);
    ensure!(issued >= 100 && refused.is_empty(), "{issued} issued, refused: {refused:?}");
    // A token lives for 17.3 s: renewed at 6.7 s and at 13.3 s, the second time to less than ten.
    ensure!((5..=10).contains(&logins) && (8..=20).contains(&renewals), "{logins} logins, {renewals} renewals");

    let kept = async || Ok((!about_themselves(&world, "renew-self", "idle")?.is_empty()).then_some(()));
    eventually("the token that nobody asks for is renewed", Duration::from_secs(70), kept).await?;
    ensure!(bao.audit().all()?.logins_of(&idle) == 1, "the idle issuer has logged in again");
    world.keeps_secrets(&ours)
}

/// Whether Vault holds the certificate of this request for revoked.
async fn is_revoked(world: &World, object: &Value) -> Result<bool> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("certificate");
    std::fs::write(&path, testenv::certificate_of(object)?)?;
    let serial = openssl::run(&["x509", "-in", &path.display().to_string(), "-noout", "-serial"]).await?;
    let digits: Vec<char> = serial.trim().trim_start_matches("serial=").to_ascii_lowercase().chars().collect();
    let pairs: Vec<String> = digits.chunks(2).map(|pair| pair.iter().collect()).collect();
    let path = format!("{}/cert/{}", world.recipe.mount(), pairs.join(":"));
    let told = world.plane.bao.read(&path).await?.with_context(|| format!("nothing at {path}"))?;
    Ok(told["data"]["revocation_time"] != 0)
}

async fn revoked_at_the_end(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let bao = &world.plane.bao;
    let ours = world.controller(|_| ()).await?;
    let leased_role = json!({
        "allow_any_name": true, "allowed_uri_sans": "*", "require_cn": false, "key_type": "any", "max_ttl": "8760h",
        "enforce_hostnames": false, "no_store": false, "generate_lease": true,
    });
    let mut references = Vec::new();
    for name in ["plain", "leased", "unused"] {
        bao.mount_login(name, "approle").await?;
        let options = AppRoleOptions { mount: name.into(), ..AppRoleOptions::new(&[&world.recipe.policy]) };
        references.push(issuer(&world, name, &bao.app_role(name, &options).await?, bao.address()).await?);
    }
    // From here on the one role makes leases; what "plain" signed before hangs on nothing.
    let [plain, leased, _] = references.as_slice() else { anyhow::bail!("three issuers") };
    world.approved("plain", plain).await?.issued(&world, SOON).await?;
    bao.pki_role(world.recipe.mount(), &world.recipe.role, leased_role).await?;
    let with_lease = world.approved("leased", leased).await?.issued(&world, SOON).await?;
    ensure!(!is_revoked(&world, &with_lease).await?, "it is revoked from the first");

    let status = ours.terminate(Duration::from_secs(20)).await?;
    ensure!(status.code() == Some(0), "the exit code is not 0: {status}");
    let revoked = |mount: &str| anyhow::Ok(about_themselves(&world, "revoke-self", mount)?.len());
    let all = bao.audit().all()?.to("auth/token/revoke-self");
    ensure!(revoked("plain")? == 1 && revoked("unused")? == 1 && revoked("leased")? == 0, "{all:?}");
    ensure!(!is_revoked(&world, &with_lease).await?, "its certificate has been revoked with the token");
    let warnings = ours.log()?.lines().filter(|line| line.contains("generate_lease=true")).count();
    ensure!(warnings == 1, "{warnings} warnings");
    world.keeps_secrets(&ours)
}

async fn unrevoked_at_the_end(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let vault = Proxy::start(&world.run, world.plane.bao.address()).await?;
    let ours = world.controller(|_| ()).await?;
    for name in ["one", "two", "three"] {
        issuer(&world, name, &world.recipe.app_role, vault.url()).await?;
    }
    let asked: Asked = world.approved("web", &IssuerRef::new("VaultMeshIssuer", "one")).await?;
    asked.issued(&world, SOON).await?;
    vault.on(|seen| seen.path.contains("revoke-self"), Action::Hold);
    let began = Instant::now();
    let status = ours.terminate(Duration::from_secs(20)).await?;
    ensure!(status.code() == Some(0), "the exit code is not 0: {status}");
    ensure!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
    ensure!(vault.count("POST", "revoke-self") == 3, "all of them are revoked side by side");
    Ok(())
}
