//! What is on record about roots outlives the process.

use anyhow::ensure;
use serde_json::{Value, json};
use testenv::{Chain, HierarchyOptions, Run, ca_of, condition, holds_for};

use crate::support::{SOON, World, bare};
use crate::{Outcome, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("a restart gives the same bytes, and does not forget that a root was refused", restarts);
}

async fn restarts(run: Run) -> Outcome {
    let world = World::start(run, bare()).await?;
    let (kube, bao, mount) = (&world.plane.kube, &world.plane.bao, world.recipe.mount());
    let options = HierarchyOptions::new("second", Chain::WithRoot);
    let root = bao.root(&options.root_mount, &options, "87600h").await?;
    let second_ca = bao.intermediate(mount, &options, &root).await?;
    let ours = world.controller(|_| ()).await?;
    let issuing = world.ready_issuer().await?;
    let issuer = &issuing.issuer_ref;

    // Nothing has been issued: that the first answer may correct the anchor is remembered too.
    let provisional = |object: &Value| object["status"]["trustAnchorsProvisional"] == true;
    ensure!(provisional(&issuing.get().await?), "{}", issuing.get().await?["status"]);
    ours.restart().await?;
    let first = ca_of(&world.approved("first", issuer).await?.issued(&world, SOON).await?)?;
    kube.wait(&issuing.path, SOON, |object| !provisional(object)).await?;
    ours.restart().await?;
    let second = ca_of(&world.approved("second", issuer).await?.issued(&world, SOON).await?)?;
    ensure!(first == second, "{first}{second}");

    bao.set_default_issuer(mount, &second_ca).await?;
    let waiting = world.approved("waiting", issuer).await?;
    let before = issuing.reason("TrustAnchorsChanged", SOON).await?;
    let signs = world.signs()?;
    ours.restart().await?;
    holds_for("it stays as it was", std::time::Duration::from_secs(5), async || {
        let now = condition(&issuing.get().await?, "Ready").cloned();
        Ok(now.as_ref() == Some(&before) && world.signs()? == signs)
    })
    .await?;
    let sha256 = issuing.get().await?["status"]["refusedRoot"]["sha256"].clone();
    issuing.patch(&json!({"metadata": {"annotations": {"vaultmesh.io/accept-anchors": sha256}}})).await?;
    let object = waiting.request.ready(SOON).await?;
    ensure!(ca_of(&object)?.trim() == root.trim(), "{object}");
    Ok(())
}
