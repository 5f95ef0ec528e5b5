//! What becomes of tokens, as OpenBao's audit log tells it: counted uses, renewals, replacements, revocations.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use serde_json::{Value, json};
use testenv::{AppRole, AppRoleOptions, Calls, Chain, Issuer, Issuing, condition, eventually};

use crate::support::{AT_ONCE, Corner, SOON, says, text};
use crate::{Outcome, Shared, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("a token of ten uses serves nine requests at least, 50 at once and 200 in a row", counted_uses);
    suite.add("a replaced secret id has the old token revoked, and so has the issuer's end", replaced);
    suite.add("an AppRole that is deleted and made anew stops the issuer until its ids are put in place", role_remade);
    suite.add("batch tokens are replaced in time, and neither renewed nor revoked", batch);
    suite.add("a static token is renewed before its end", static_renewed);
    suite.add("the end of a static token is announced a day ahead", static_announced);
}

/// A corner whose AppRole has other options.
async fn corner_with(shared: &Arc<Shared>, name: &str, change: impl FnOnce(&mut AppRoleOptions)) -> Result<Corner> {
    let mut recipe = shared.plane.bao.plain_recipe(name, Chain::WithRoot).await?;
    let mut options = AppRoleOptions::new(&[&recipe.policy]);
    change(&mut options);
    recipe.app_role = shared.plane.bao.app_role(&recipe.app_role.name, &options).await?;
    Corner::around(shared, name, recipe).await
}

/// What the corner's mount refused; that the role may not be looked at is no refusal that matters.
fn refused(corner: &Corner) -> Result<Calls> {
    Ok(corner.calls()?.refused().keep(|call| !call.probe && !call.path.contains("/roles/")))
}

/// The accessors of the tokens that have signed here, in the order of their first sign.
fn accessors(corner: &Corner) -> Result<Vec<String>> {
    let mut seen = Vec::new();
    for call in corner.calls()?.to(corner.recipe.mount()).iter() {
        if let Some(accessor) = call.accessor.clone().filter(|accessor| !seen.contains(accessor)) {
            seen.push(accessor);
        }
    }
    Ok(seen)
}

/// How often the token of this accessor has successfully asked for something about itself (`renew-self`, `revoke-self`).
fn asked(corner: &Corner, what: &str, accessor: &str) -> Result<usize> {
    let calls = corner.bao().audit().all()?.to(&format!("auth/token/{what}"));
    Ok(calls.keep(|call| call.error.is_none() && call.accessor.as_deref() == Some(accessor)).len())
}

async fn is_revoked(corner: &Corner, accessor: &str) -> Result<()> {
    let revoked = async || Ok((asked(corner, "revoke-self", accessor)? == 1).then_some(()));
    eventually("the token is revoked by itself", AT_ONCE, revoked).await
}

async fn counted_uses(shared: Arc<Shared>) -> Outcome {
    let corner = corner_with(&shared, "counted-uses", |role| role.token_num_uses = 10).await?;
    corner.ready_issuer().await?;
    let names: Vec<_> = (0..50).map(|number| format!("at-once-{number}")).collect();
    for request in try_join_all(names.iter().map(|name| corner.ask(name))).await? {
        corner.issued(&request).await?;
    }
    for number in 0..200 {
        corner.ask(&format!("in-a-row-{number}")).await?.reason("Issued", SOON).await?;
    }
    let (calls, refused) = (corner.calls()?, refused(&corner)?);
    let (logins, signs) = (calls.logins_of(&corner.recipe.app_role), calls.sign_attempts(corner.recipe.mount()));
    ensure!(signs == 250 && refused.is_empty(), "{signs} signs were asked for; refused: {refused:?}");
    ensure!((25..=signs.div_ceil(9)).contains(&logins), "{logins} logins");
    let writes = corner.status_writes()?.len();
    ensure!(writes == 250, "none of them was ever Pending, yet there are {writes} writes");
    Ok(())
}

async fn put_secret_id(corner: &Corner, role: &AppRole) -> Result<()> {
    corner.kube().secret(&corner.name, "vault-approle", &[("secretId", &role.secret_id)]).await
}

async fn replaced(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "secret-replaced").await?;
    let issuing = corner.ready_issuer().await?;
    corner.issued(&corner.ask("before").await?).await?;
    let role = &corner.recipe.app_role;
    let next = AppRole { secret_id: corner.bao().secret_id(role).await?, ..role.clone() };
    let during = async {
        let asked = (0..20).map(async |number| corner.ask(&format!("during-{number}")).await);
        try_join_all(asked).await
    };
    let (asked, put) = tokio::join!(during, put_secret_id(&corner, &next));
    put?;
    for request in asked? {
        corner.issued(&request).await?;
    }
    corner.bao().destroy_secret_id(role, &role.secret_id).await?;
    eventually("another token signs", SOON, async || Ok((accessors(&corner)?.len() == 2).then_some(()))).await?;
    corner.issued(&corner.ask("after").await?).await?;
    let tokens = accessors(&corner)?;
    let [first, second] = tokens.as_slice() else { anyhow::bail!("{} tokens", tokens.len()) };
    is_revoked(&corner, first).await?;
    let (calls, refused) = (corner.calls()?, refused(&corner)?);
    ensure!(calls.logins_of(role) == 2 && refused.is_empty(), "{} logins, {refused:?}", calls.logins_of(role));
    let count = shared.ours.metric("vault_mesh_issuer_token_revocations_total", &["\"secret-replaced\"", "accepted"]);
    ensure!(count.await? == 1.0, "the metric does not tell");

    issuing.delete().await?;
    is_revoked(&corner, second).await
}

async fn role_remade(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "role-remade").await?;
    let (bao, role) = (corner.bao(), &corner.recipe.app_role);
    let issuing = corner.ready_issuer().await?;
    corner.issued(&corner.ask("before").await?).await?;
    bao.delete(&format!("auth/{}/role/{}", role.mount, role.name)).await?;
    // Vault leaves the tokens of a deleted role alive.
    corner.issued(&corner.ask("with-the-old-token").await?).await?;
    let tokens = accessors(&corner)?;
    let [accessor] = tokens.as_slice() else { anyhow::bail!("{} tokens", tokens.len()) };
    bao.write("auth/token/revoke-accessor", json!({"accessor": accessor})).await?;
    let waiting = corner.ask("waiting").await?;
    let ready = issuing.reason("LoginRefused", SOON).await?;
    says(&ready["message"], &["auth/approle/login", "spec.vault.auth.appRole.roleId"])?;
    corner.pending(&waiting, "is not Ready").await?;

    let made = bao.app_role(&role.name, &AppRoleOptions::new(&[&corner.recipe.policy])).await?;
    put_secret_id(&corner, &made).await?;
    let role_id = json!({"spec": {"vault": {"auth": {"appRole": {"roleId": made.role_id}}}}});
    issuing.patch(&role_id).await?;
    waiting.ready(AT_ONCE).await?;
    corner.issued(&waiting).await.map(drop)
}

async fn batch(shared: Arc<Shared>) -> Outcome {
    let corner = corner_with(&shared, "batch-tokens", |role| {
        role.token_ttl = "15s".to_owned();
        role.more = json!({"token_type": "batch"});
    })
    .await?;
    let issuing = corner.ready_issuer().await?;
    for number in 0..25 {
        corner.issued(&corner.ask(&format!("web-{number}")).await?).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let (logins, refused) = (corner.calls()?.logins_of(&corner.recipe.app_role), refused(&corner)?);
    ensure!((3..=6).contains(&logins) && refused.is_empty(), "{logins} logins, {refused:?}");
    issuing.delete().await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let about_batch = corner.bao().audit().all()?.to("auth/token/").refused();
    let about_batch =
        about_batch.keep(|call| call.error.as_deref().is_some_and(|error| error.contains("batch tokens cannot")));
    ensure!(about_batch.is_empty(), "{about_batch:?}");
    Ok(())
}

/// The issuer `vault` with a token that a person has made; a token's accessor beside it.
async fn with_token(corner: &Corner, options: Value) -> Result<(Issuing, String)> {
    let bao = corner.bao();
    let token = bao.make_token(options).await?;
    let told = bao.write("auth/token/lookup", json!({"token": token})).await?;
    corner.kube().secret(&corner.name, "vault-token", &[("token", &token)]).await?;
    let auth = json!({"tokenSecretRef": {"name": "vault-token"}});
    let issuer = Issuer::with_auth(&corner.name, "vault", bao, &corner.recipe.sign_path, auth);
    Ok((corner.ready(issuer).await?, text(&told["data"]["accessor"]).to_owned()))
}

async fn static_renewed(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "static-renewed").await?;
    let token = json!({"policies": [corner.recipe.policy], "ttl": "36s", "renewable": true});
    let (issuing, accessor) = with_token(&corner, token).await?;
    for number in 0..9 {
        corner.issued(&corner.ask(&format!("web-{number}")).await?).await?;
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    corner.issued(&corner.ask("beyond-its-first-end").await?).await?;
    let renewals = asked(&corner, "renew-self", &accessor)?;
    ensure!((1..=3).contains(&renewals), "{renewals} renewals");
    let object = issuing.get().await?;
    ensure!(condition(&object, "TokenExpiring").is_none(), "a renewal still prolongs it: {}", object["status"]);
    let count = shared.ours.metric("vault_mesh_issuer_token_renewals_total", &["\"static-renewed\"", "accepted"]);
    ensure!(count.await? == renewals as f64, "the metric does not tell");
    issuing.delete().await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    ensure!(asked(&corner, "revoke-self", &accessor)? == 0, "a static token is not ours to revoke");
    Ok(())
}

async fn static_announced(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "static-announced").await?;
    let policies = json!([corner.recipe.policy, "default"]);
    let token = json!({"policies": policies, "ttl": "30m", "renewable": true, "explicit_max_ttl": "2h"});
    let (issuing, accessor) = with_token(&corner, token).await?;
    let announced = |object: &Value| condition(object, "TokenExpiring").is_some();
    let object = corner.kube().wait(&issuing.path, SOON, announced).await?;
    let expiring = condition(&object, "TokenExpiring").context("it is announced")?;
    let told = corner.bao().write("auth/token/lookup-accessor", json!({"accessor": accessor})).await?;
    let ends = told["data"]["creation_time"].as_i64().context("a creation time")? + 7_200;
    let date = jiff::Timestamp::from_second(ends)?.to_string();
    says(&expiring["message"], &["spec.vault.auth.tokenSecretRef", &date, "Put a new one into the Secret"])?;
    ensure!(expiring["status"] == "True", "{expiring}");
    let event = corner.event("vault", "TokenExpiring").await?;
    ensure!(event["type"] == "Warning" && event["note"] == expiring["message"], "{event}");
    let metric = shared.ours.metric("vault_mesh_issuer_token_not_after_seconds", &["\"static-announced\""]).await?;
    ensure!(metric == ends as f64, "the metric says {metric}, and the end is {ends}");
    corner.issued(&corner.ask("web").await?).await?;

    // One that lives longer takes its place.
    let next = json!({"policies": policies, "ttl": "48h", "renewable": false});
    let next = corner.bao().make_token(next).await?;
    corner.kube().secret("static-announced", "vault-token", &[("token", &next)]).await?;
    corner.kube().wait(&issuing.path, SOON, |object| !announced(object)).await?;
    corner.issued(&corner.ask("with-another").await?).await.map(drop)
}
