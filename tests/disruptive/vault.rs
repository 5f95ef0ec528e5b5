//! HashiCorp Vault in OpenBao's place. Both answer in words of their own; where they differ, ours must mean the same.

use anyhow::{Context as _, ensure};
use serde_json::json;
use testenv::{Bao, Chain, Csr, Request, Run, condition};

use crate::both::{self, Peers};
use crate::support::{LATER, MESH, SOON, World, all_issued, bare};
use crate::{Outcome, Suite};

pub fn add(suite: &mut Suite) {
    let unwanted = std::env::var_os("VMI_TEST_VAULT").is_none();
    suite.skipped = unwanted.then_some("HashiCorp Vault takes six minutes to build; hack/test --vault runs this");
    suite.add("HashiCorp Vault signs, and one login serves everybody", signs);
    suite.add("HashiCorp Vault's words about login, path and request are understood", refuses);
    suite.add("HashiCorp Vault's chains with branches, and keys and names of every kind, are published alike", chains);
    suite.skipped = None;
}

/// The usual world, in which `plane.bao` is HashiCorp Vault.
async fn world(run: Run) -> anyhow::Result<World> {
    let vault = Bao::start_vault(&run).await?;
    let mut world = World::start(run, bare()).await?;
    world.recipe = vault.plain_recipe("mesh", Chain::WithRoot).await?;
    world.plane.bao = vault;
    Ok(world)
}

async fn signs(run: Run) -> Outcome {
    let world = world(run).await?;
    let ours = world.controller(|_| ()).await?;
    let issuer = world.ready_issuer().await?.issuer_ref;
    all_issued(&world, &world.many("web", 30, &issuer).await?, SOON).await?;
    let signs = world.plane.bao.audit().all()?.to(&world.recipe.sign_path);
    let accessor = signs.iter().find_map(|call| call.accessor.clone());
    let revoked = json!({"accessor": accessor.context("an accessor")?});
    world.plane.bao.write("auth/token/revoke-accessor", revoked).await?;
    world.approved("after", &issuer).await?.issued(&world, SOON).await?;
    let calls = world.plane.bao.audit().all()?;
    ensure!(calls.logins_of(&world.recipe.app_role) == 2, "one more after the revocation: {calls:?}");
    ensure!(world.signs()? == 31, "{} signs", world.signs()?);
    ensure!(world.status_writes(&ours, "after")? == [200], "the dead token cost no attempt");
    Ok(())
}

async fn refuses(run: Run) -> Outcome {
    let world = world(run).await?;
    let (kube, vault, recipe) = (&world.plane.kube, &world.plane.bao, &world.recipe);
    let _ours = world.controller(|_| ()).await?;
    let issuer = world.issuer_at(vault.address()).create(kube).await?;
    issuer.ready(SOON).await?;

    // The role refuses this request, and no other.
    vault
        .pki_role(recipe.mount(), "mesh", json!({"allow_any_name": true, "require_cn": false, "key_type": "any"}))
        .await?;
    let refused = world.approved("refused", &issuer.issuer_ref).await?.request.reason("Failed", SOON).await?;
    let message = condition(&refused, "Ready").map(|ready| ready["message"].to_string()).unwrap_or_default();
    ensure!(message.contains("allowed_uri_sans"), "{message}");
    let plain = Csr::new().dns("web.mesh.svc").ec()?;
    let plain = Request::new(MESH, "plain", &issuer.issuer_ref, &plain.csr_pem).duration("1h").create(kube).await?;
    plain.approve().await?;
    plain.ready(SOON).await?;

    // The role is gone: that is the issuer's trouble.
    vault.delete(&format!("{}/roles/mesh", recipe.mount())).await?;
    let waits = world.approved("waits", &issuer.issuer_ref).await?;
    let ready = issuer.reason("SigningRefused", SOON).await?;
    ensure!(ready["message"].to_string().contains("unknown role"), "{ready}");
    waits.is_not_failed().await?;
    vault.lenient_role(recipe.mount(), "mesh").await?;
    waits.issued(&world, LATER).await?;

    // The secret id is wrong.
    kube.secret(MESH, "vault-approle", &[("secretId", "00000000-0000-0000-0000-000000000000")]).await?;
    let ready = issuer.reason("LoginRefused", SOON).await?;
    ensure!(ready["message"].to_string().contains("secret id"), "{ready}");
    kube.secret(MESH, "vault-approle", &[("secretId", &recipe.app_role.secret_id)]).await?;
    issuer.ready(SOON).await?;

    // The policy lacks the path.
    vault.sign_policy(&recipe.policy, "elsewhere/sign/mesh").await?;
    let waits = world.approved("forbidden", &issuer.issuer_ref).await?;
    let ready = issuer.reason("SigningRefused", SOON).await?;
    ensure!(ready["message"].to_string().contains("permission denied"), "{ready}");
    vault.sign_policy(&recipe.policy, &recipe.sign_path).await?;
    waits.issued(&world, LATER).await.map(drop)
}

async fn chains(run: Run) -> Outcome {
    let world = world(run).await?;
    let _ours = world.controller(|_| ()).await?;
    let namespaces = ["cross-signed", "reissued", "issuer-by-name", "keys-and-names"];
    for namespace in namespaces {
        world.plane.kube.namespace(namespace).await?;
    }
    let [crossed, reissued, by_name, keys] =
        namespaces.map(|namespace| Peers { kube: &world.plane.kube, bao: &world.plane.bao, namespace, approves: true });
    both::cross_signed(crossed).await.context("cross-signed")?;
    both::reissued(reissued).await.context("reissued")?;
    both::issuer_by_name(by_name).await.context("issuer by name")?;
    both::keys_and_names(keys).await.context("keys and names")
}
