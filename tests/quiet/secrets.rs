//! Servers that repeat our own secrets in their errors: what is shown of their words holds none of them. The search through
//! everything that the whole run printed is in `afterwards.rs`.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use testenv::{Action, Issuer, Proxy};

use crate::midflight::is_sign;
use crate::support::{Corner, SOON, says};
use crate::{Outcome, Shared, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("a server that echoes the token of a login in its errors is shown without it", echoed_token);
    suite.add("a server that echoes the secret id at the login is shown without it", echoed_secret_id);
    suite.add("a token with characters that are escaped is replaced in every form", echoed_forms);
}

/// An error that repeats a secret in every form in which a server may hold it.
fn echo(status: u16, words: &str, secret: &str) -> Action {
    let escaped: String = secret.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let url =
        secret.replace('%', "%25").replace('/', "%2F").replace('+', "%2B").replace('"', "%22").replace('=', "%3D");
    let quoted = Value::from(secret).to_string();
    let forms =
        [STANDARD.encode(secret), STANDARD_NO_PAD.encode(secret), URL_SAFE_NO_PAD.encode(secret), url, quoted, escaped];
    let text = format!("{words} {secret} {}", forms[..5].join(" "));
    Action::answer(status, &json!({"errors": [text]}))
}

/// The token that the controller has used with this proxy.
fn token_in_use(proxy: &Proxy) -> Result<String> {
    let recorded = proxy.recorded();
    let token = recorded.iter().rev().find_map(|record| record.header("x-vault-token"));
    token.map(str::to_owned).context("a call with a token")
}

fn hides(shown: &Value, secret: &str) -> Result<()> {
    ensure!(!shown.to_string().contains(secret), "the secret is shown in {shown}");
    says(shown, &["[redacted]"])
}

async fn echoed_token(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "echoed-token").await?;
    let proxy = corner.proxy().await?;
    let issuing = corner.ready(corner.issuer_at(proxy.url())).await?;
    let token = shared.run.secrets().add("the token of a login that was echoed", token_in_use(&proxy)?);
    // Failed, with an event: the words stand on the request.
    let rule = proxy.on(is_sign, echo(400, "you said", &token)).times(1);
    let request = corner.ask("refused").await?;
    let object = corner.failed(&request, &["Vault refused to sign", "you said"]).await?;
    hides(&testenv::condition(&object, "Ready").context("a condition")?["message"], &token)?;
    ensure!(rule.hits() == 1, "{}", rule.hits());
    // A fault of the issuer, with an event: the words stand in its condition.
    proxy.on(|seen| seen.path.contains("/sign/"), echo(404, "no handler for route", &token));
    let request = corner.ask("waiting").await?;
    corner.pending(&request, "could not have the request signed").await?;
    let ready = issuing.reason("MountNotFound", SOON).await?;
    hides(&ready["message"], &token)
}

async fn echoed_secret_id(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "echoed-secret-id").await?;
    let proxy = corner.proxy().await?;
    let secret_id = corner.recipe.app_role.secret_id.as_str();
    proxy.on(|seen| seen.path.contains("/login"), echo(400, "invalid secret id", secret_id));
    let ready = corner.issuer_at(proxy.url()).create(corner.kube()).await?.reason("LoginRefused", SOON).await?;
    hides(&ready["message"], secret_id)?;
    corner.event("vault", "LoginRefused").await.map(drop)
}

async fn echoed_forms(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "echoed-forms").await?;
    let proxy = corner.proxy().await?;
    // No server makes such a token; a Secret may hold one all the same.
    let token = "hvs.odd/token+with\"quotes\\and=signs";
    corner.kube().secret("echoed-forms", "odd", &[("token", token)]).await?;
    proxy.on(|seen| seen.path.contains("/sign/"), echo(403, "2 errors occurred: invalid token", token));
    let bao = corner.bao().with_address(proxy.url());
    let auth = json!({"tokenSecretRef": {"name": "odd"}});
    let issuer = Issuer::with_auth("echoed-forms", "vault", &bao, &corner.recipe.sign_path, auth);
    let ready = issuer.create(corner.kube()).await?.reason("LoginRefused", SOON).await?;
    let leaks = shared.run.secrets().found_in(&ready.to_string());
    ensure!(leaks.is_empty(), "{leaks:?} in {ready}");
    hides(&ready["message"], token)
}
