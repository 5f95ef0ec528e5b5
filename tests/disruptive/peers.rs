//! Peers that are older, or set up in another way, than the usual ones.

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use testenv::{Csr, IssuerRef, Options, Request, Run, condition};

use crate::support::{SOON, World, bare};
use crate::{Outcome, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("CRDs without selectable fields, as before cert-manager 1.20, are served as well", no_selectable_fields);
    suite.add("malformed neighbours end Failed in words and hold nobody up, without cert-manager's webhook", malformed);
}

async fn no_selectable_fields(run: Run) -> Outcome {
    let world = World::start(run, Options { selectable_fields: false, ..Options::default() }).await?;
    let foreign = IssuerRef { group: "example.com".into(), kind: "VaultMeshIssuer".into(), name: "vault".into() };
    let early = world.ask("mesh", "early", &IssuerRef::new("VaultMeshIssuer", "vault")).await?;
    let ours = world.controller(|_| ()).await?;
    let issuer = world.ready_issuer().await?.issuer_ref;
    early.issued(&world, SOON).await?;
    let others = world.ask("mesh", "others", &foreign).await?;
    world.ask("mesh", "late", &issuer).await?.issued(&world, SOON).await?;
    ensure!(world.status_writes(&ours, "others")?.is_empty(), "another group's request is not ours to write");
    ensure!(condition(&others.request.get().await?, "Ready").is_none());
    ensure!(ours.log()?.contains("no selectable fields"), "the log says why all requests are watched");
    Ok(())
}

/// A CSR whose signature is not its key's: the last byte of the DER is another.
fn with_wrong_signature(csr_pem: &str) -> anyhow::Result<String> {
    let mut block = pem::parse(csr_pem)?.into_contents();
    let last = block.last_mut().context("an empty CSR")?;
    *last ^= 1;
    Ok(pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", block)))
}

async fn malformed(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let issuer = IssuerRef::new("VaultMeshIssuer", "vault");
    let pair = Csr::workload("mesh", "web").ec()?;
    let plain = |name: &str| Request::new("mesh", name, &issuer, &pair.csr_pem).duration("1h");
    let bad = |prefix: &str| -> anyhow::Result<Vec<(Request, &'static str)>> {
        let name = |name: &str| format!("{prefix}-{name}");
        Ok(vec![
            (plain(&name("one-day")).duration("1 day"), "spec.duration"),
            (plain(&name("negative")).duration("-1h"), "spec.duration"),
            (plain(&name("garbage")).with("/spec/request", json!(STANDARD.encode("garbage"))), "spec.request"),
            (Request::new("mesh", &name("signature"), &issuer, &with_wrong_signature(&pair.csr_pem)?), "spec.request"),
            (plain(&name("ca")).ca(), "isCA"),
            (Request::new("mesh", &name("ca-csr"), &issuer, &Csr::new().cn("ca").ca().ec()?.csr_pem), "CA:TRUE"),
        ])
    };
    let mut asked = Vec::new();
    // Some are there before us, and so part of the first list; the others come while we watch.
    for (request, words) in bad("early")? {
        asked.push((request.create(&world.plane.kube).await?, words));
    }
    let early = world.approved("early-neighbour", &issuer).await?;
    let ours = world.controller(|_| ()).await?;
    world.ready_issuer().await?;
    for (request, words) in bad("late")? {
        asked.push((request.create(&world.plane.kube).await?, words));
    }
    for (request, _) in &asked {
        request.approve().await?;
    }
    let late = world.approved("late-neighbour", &issuer).await?;
    early.issued(&world, SOON).await?;
    late.issued(&world, SOON).await?;
    for (request, words) in &asked {
        let object = request.reason("Failed", SOON).await?;
        let message = condition(&object, "Ready").map(|ready| ready["message"].to_string()).unwrap_or_default();
        ensure!(message.contains(words), "{}: {message}", request.name);
        ensure!(object["status"]["failureTime"].is_string(), "{}: {}", request.name, object["status"]);
        ensure!(object["status"]["certificate"].is_null());
        ensure!(world.status_writes(&ours, &request.name)? == [200], "{}: one write", request.name);
    }
    let attempts = world.plane.bao.audit().all()?.sign_attempts(&world.recipe.sign_path);
    ensure!(attempts == 2, "Vault is asked for the two neighbours and nothing else, not {attempts} times");
    ensure!(ours.metric("vault_mesh_issuer_ready", &[]).await? == 1.0, "the issuer stays ready");
    ensure!(ours.peer().is_running());
    Ok(())
}
