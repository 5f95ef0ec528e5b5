//! Options of a role that refuse a mesh are told where the login may read the role, and only there.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testenv::{Issuer, Issuing, condition};

use crate::support::{Corner, SOON, ready_of, says};
use crate::{Outcome, Shared, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("a role that the login may not read is unknown, and asked for once", unreadable);
    suite.add("options that refuse a mesh are told until they are mended, and the issuer is Ready all the while", told);
    suite.add("a path whose role is no matter has nothing to tell of it", no_role);
}

fn suits(object: &Value) -> Option<&Value> {
    condition(object, "RoleSuitsMesh")
}

/// Waits for the condition with this status.
async fn says_suits(corner: &Corner, issuing: &Issuing, status: &str) -> Result<Value> {
    let object =
        corner.kube().wait(&issuing.path, SOON, |object| suits(object).is_some_and(|it| it["status"] == status));
    let object = object.await.with_context(|| format!("waiting for RoleSuitsMesh {status}"))?;
    ensure!(ready_of(&object)?["status"] == "True", "{object}");
    suits(&object).cloned().context("the condition has gone")
}

/// How often the role was asked for.
fn reads(corner: &Corner) -> Result<usize> {
    let path = format!("{}/roles/mesh", corner.recipe.mount());
    Ok(corner.calls()?.iter().filter(|call| call.path == path).count())
}

async fn unreadable(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "role-closed").await?;
    let issuing = corner.ready_issuer().await?;
    let shown = says_suits(&corner, &issuing, "Unknown").await?;
    ensure!(shown["reason"] == "NotReadable", "{shown}");
    says(&shown["message"], &["may not read role-closed-pki/roles/mesh, and need not", "`read` on it"])?;
    ensure!(reads(&corner)? == 1, "{:?}", corner.calls()?);
    corner.event("vault", "Verified").await?;
    let reasons: Vec<_> = corner.events("vault").await?.iter().map(|event| event["reason"].clone()).collect();
    ensure!(reasons == ["Verified"], "{reasons:?}");
    corner.issued(&corner.ask("web").await?).await.map(drop)
}

async fn told(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "role-told").await?;
    let mount = corner.recipe.mount();
    let read = format!("path \"{mount}/roles/+\" {{ capabilities = [\"read\"] }}");
    let sign = format!("path \"{mount}/sign/+\" {{ capabilities = [\"update\"] }}");
    corner.bao().policy(&corner.recipe.policy, &format!("{read}\n{sign}")).await?;
    let good = corner.ready_issuer().await?;
    let shown = says_suits(&corner, &good, "True").await?;
    says(&shown["message"], &["nothing in role-told-pki/roles/mesh refuses what a mesh asks for"])?;

    // Vault's own defaults, and what two recipes add.
    let role = json!({
        "allow_any_name": true, "generate_lease": true, "max_ttl": "24h", "key_usage": ["KeyUsageDigitalSignature"],
        "use_csr_sans": false,
    });
    corner.bao().pki_role(mount, "odd", role).await?;
    let issuer = Issuer::app_role(&corner.name, "odd", corner.bao(), &corner.recipe);
    let odd = issuer.set("vault/path", format!("{mount}/sign/odd").into()).create(corner.kube()).await?;
    let shown = says_suits(&corner, &odd, "False").await?;
    ensure!(shown["reason"] == "OptionsRefuse", "{shown}");
    let words = [
        "role-told-pki/roles/odd: require_cn=true",
        "key_type=rsa refuses all other keys",
        "allowed_uri_sans is empty",
        "set use_csr_sans=true",
        "key_usage holds KeyUsageDigitalSignature",
        "max_ttl=24h cuts the 2160h",
        "set generate_lease=false",
        "Worth a thought: no_store=false",
    ];
    says(&shown["message"], &words)?;
    let event = corner.event("odd", "OptionsRefuse").await?;
    ensure!(event["type"] == "Warning" && event["note"] == shown["message"], "{event}");

    corner.bao().lenient_role(mount, "odd").await?;
    // A change of the spec is looked at at once; the schedule would see it within minutes.
    odd.patch(&json!({"spec": {"certificates": {"maxDuration": "24h"}}})).await?;
    says_suits(&corner, &odd, "True").await?;
    let event = corner.event("odd", "NothingRefused").await?;
    ensure!(event["type"] == "Normal", "{event}");
    Ok(())
}

async fn no_role(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "role-none").await?;
    let path = "role-none-pki/sign-verbatim";
    corner.bao().sign_policy(&corner.recipe.policy, path).await?;
    let issuing = corner.ready(corner.issuer().set("vault/path", json!(path))).await?;
    ensure!(suits(&issuing.get().await?).is_none(), "{}", issuing.get().await?);
    ensure!(reads(&corner)? == 0, "{:?}", corner.calls()?);
    Ok(())
}
