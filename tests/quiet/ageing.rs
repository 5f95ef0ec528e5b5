//! A CA that runs out, for real: it is told with both dates, what outlives it waits, its end stops the issuer, and its successor
//! goes on where it stopped.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testenv::{Chain, Created, Csr, HierarchyOptions, condition, openssl};

use crate::support::{Corner, SOON, ready_of, says, text};
use crate::{Outcome, Shared, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("a CA that ends too soon is told with both dates, stops at its end, and its successor goes on", ageing);
    suite.add("a CA that cuts what outlives it is told as well, and a longer-lived one takes that back", cutting);
}

/// How long the CA of a trial lives. Vault dates it back by half a minute.
const LIFE: u64 = 90;
/// The CA's end and the next check after its renewal are waited for.
const ITS_END: Duration = Duration::from_secs(LIFE + 60);

/// A request that waits as long as it takes, because somebody owns it.
async fn ask(corner: &Corner, name: &str, duration: &str) -> Result<Created> {
    let pair = Csr::workload(&corner.name, name).ec()?;
    let request = corner.request(name, &pair.csr_pem).duration(duration).owner("Pod", "web", "a-uid");
    request.create(corner.kube()).await
}

/// The end of a certificate as openssl sees it, in the form of our messages.
async fn end_of(certificate_pem: &str) -> Result<String> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), certificate_pem)?;
    let path = file.path().display().to_string();
    let printed = openssl::run(&["x509", "-in", &path, "-noout", "-enddate", "-dateopt", "iso_8601"]).await?;
    Ok(printed.trim().trim_start_matches("notAfter=").replace(' ', "T"))
}

fn expiring(object: &Value) -> Option<&Value> {
    condition(object, "CAExpiring")
}

async fn ageing(shared: Arc<Shared>) -> Outcome {
    let options = HierarchyOptions::new("ageing", Chain::WithRoot).ttl(&format!("{LIFE}s"));
    let recipe = shared.plane.bao.recipe_with("ageing", &options).await?;
    let corner = Corner::around(&shared, "ageing", recipe).await?;
    let issuing = corner.ready_issuer().await?;
    ensure!(expiring(&issuing.get().await?).is_none(), "nobody has asked for more than it has");

    // Less than its whole life, more than what is left.
    let long = ask(&corner, "long", &format!("{}s", LIFE + 10)).await?;
    corner.pending(&long, "could not have the request signed").await?;
    let told = corner.kube().wait(&issuing.path, SOON, |object| expiring(object).is_some()).await?;
    let shown = expiring(&told).context("the condition")?;
    let end = end_of(&corner.recipe.hierarchy.issuing_pem).await?;
    says(&shown["message"], &[&format!("ends at {end}"), "would last until 20", "Renew the CA", "shorter duration"])?;
    ensure!(shown["status"] == "True" && ready_of(&told)?["status"] == "True", "{told}");
    let event = corner.event("vault", "LifetimesBeyondCA").await?;
    ensure!(event["type"] == "Warning" && event["note"] == shown["message"], "{event}");

    let never = ask(&corner, "never", "10h").await?;
    corner.failed(&never, &["would last until 20", "the whole life of the CA there is shorter", &end]).await?;
    ensure!(expiring(&issuing.get().await?) == Some(shown), "one condition for all of it");

    let over = issuing.reason("CAExpired", ITS_END).await?;
    says(&over["message"], &["ageing-pki", &format!("until {end}"), "Renew it in the mount"])?;
    corner.pending(&ask(&corner, "late", "20s").await?, "is not Ready").await?;
    corner.pending(&long, "is not Ready").await?;

    let renewed = HierarchyOptions::new("ageing", Chain::WithRoot);
    let renewed = corner.bao().intermediate("ageing-pki", &renewed, corner.recipe.root_pem()).await?;
    corner.bao().set_default_issuer("ageing-pki", &renewed).await?;
    let object = issuing.ready(ITS_END).await?;
    ensure!(expiring(&object).is_none(), "{object}");
    ensure!(text(&object["status"]["signingCertificate"]["notAfter"]) == end_of(&renewed).await?, "{object}");
    corner.issued(&long).await.map(drop)
}

async fn cutting(shared: Arc<Shared>) -> Outcome {
    let options = HierarchyOptions::new("cutting", Chain::WithRoot).ttl("2h");
    let recipe = shared.plane.bao.recipe_with("cutting", &options).await?;
    let corner = Corner::around(&shared, "cutting", recipe).await?;
    let id = corner.bao().issuer_of("cutting-pki", &corner.recipe.hierarchy.issuing_pem).await?;
    let truncate =
        json!({"issuer_name": "old", "leaf_not_after_behavior": "truncate", "usage": "issuing-certificates"});
    corner.bao().write(&format!("cutting-pki/issuer/{id}"), truncate).await?;
    let issuing = corner.ready_issuer().await?;
    corner.issued(&ask(&corner, "whole", "1h").await?).await?;
    ensure!(expiring(&issuing.get().await?).is_none(), "an hour of two");
    corner.issued(&ask(&corner, "cut", "4h").await?).await?;
    let told = corner.kube().wait(&issuing.path, SOON, |object| expiring(object).is_some()).await?;
    let shown = expiring(&told).context("the condition")?;
    let end = end_of(&corner.recipe.hierarchy.issuing_pem).await?;
    says(&shown["message"], &[&format!("ends at {end}"), "leaf_not_after_behavior"])?;

    let renewed = HierarchyOptions::new("cutting", Chain::WithRoot);
    let renewed = corner.bao().intermediate("cutting-pki", &renewed, corner.recipe.root_pem()).await?;
    corner.bao().set_default_issuer("cutting-pki", &renewed).await?;
    corner.issued(&ask(&corner, "again", "4h").await?).await?;
    corner.kube().wait(&issuing.path, SOON, |object| expiring(object).is_none()).await.map(drop)
}
