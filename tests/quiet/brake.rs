//! The brake: what renews for ever costs pauses instead of signs, and what a person renews is not held up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testenv::{Created, condition, eventually};

use crate::support::{Corner, SOON, ready_of, says, text};
use crate::{Outcome, Shared, Suite};

pub fn add(suite: &mut Suite) {
    suite
        .add("a Certificate that renews for ever costs a handful of signs, waits in words and has an event", in_a_loop);
    suite.add("a Certificate that a person renews twice is not held up", by_hand);
}

const CERTIFICATE: &str = "cert-manager.io/v1";

async fn certificate(corner: &Corner, duration: &str, renew_before: &str) -> Result<String> {
    let plural = format!("/apis/{CERTIFICATE}/namespaces/{}/certificates", corner.name);
    let body = json!({
        "apiVersion": CERTIFICATE, "kind": "Certificate", "metadata": {"name": "web"},
        "spec": {
            "secretName": "web-tls", "dnsNames": ["web.example"], "duration": duration, "renewBefore": renew_before,
            "privateKey": {"algorithm": "ECDSA", "size": 256},
            "issuerRef": {"group": "vaultmesh.io", "kind": "VaultMeshIssuer", "name": "vault"},
        },
    });
    corner.kube().post(&plural, &body).await?;
    Ok(format!("{plural}/web"))
}

async fn in_a_loop(shared: Arc<Shared>) -> Outcome {
    const LISTEN: Duration = Duration::from_secs(40);
    let corner = Corner::new(&shared, "loop").await?;
    // Vault dates certificates back by 30 s: of the hour that the role gives, renewBefore leaves nothing.
    let role = json!({"allow_any_name": true, "require_cn": false, "key_type": "any", "max_ttl": "1h"});
    corner.bao().pki_role(corner.recipe.mount(), "mesh", role).await?;
    corner.ready_issuer().await?;
    certificate(&corner, "24h", "1h").await?;
    let third =
        eventually("the third request", SOON, async || Ok(Created::find(corner.kube(), "loop", "web-3").await.ok()));
    corner.pending(&third.await?, "two certificates were issued for it within a tenth").await?;
    let from = Instant::now();
    let note = corner.event("web-3", "IssuedTooOften").await?;
    says(&note["note"], &["renewBefore", "max_ttl of Vault's role"])?;
    tokio::time::sleep(LISTEN.saturating_sub(from.elapsed())).await;
    let signs = corner.sign_attempts()?;
    // At 0, 0, 5, 15 and 35 seconds.
    ensure!((3..=6).contains(&signs), "{signs} signs in {LISTEN:?}");
    let mut pending = 0;
    let path = format!("/apis/{CERTIFICATE}/namespaces/loop/certificaterequests");
    for request in corner.kube().list(&path).await? {
        let name = text(&request["metadata"]["name"]).to_owned();
        let events = corner.events(&name).await?;
        // cert-manager may delete a request and make it anew under its name, and each of the two is told.
        let of_this = |event: &&Value| event["regarding"]["uid"] == request["metadata"]["uid"];
        let told = events.iter().filter(of_this).filter(|event| event["reason"] == "IssuedTooOften").count();
        ensure!(told == usize::from(!matches!(name.as_str(), "web-1" | "web-2")), "{name} has {events:?}");
        pending += usize::from(ready_of(&request)?["reason"] == "Pending");
    }
    ensure!(pending == 1, "{pending} requests wait");
    Ok(())
}

async fn by_hand(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "by-hand").await?;
    corner.ready_issuer().await?;
    let path = certificate(&corner, "24h", "8h").await?;
    revision(&corner, &path, 1).await?;
    for next in [2, 3] {
        // As quick as a person may be who looks at the outcome in between.
        tokio::time::sleep(Duration::from_secs(6)).await;
        renew(&corner, &path).await?;
        revision(&corner, &path, next).await?;
    }
    for number in 1..=3 {
        let name = format!("web-{number}");
        ensure!(corner.events(&name).await?.is_empty(), "{name} was held up");
    }
    ensure!(corner.sign_attempts()? == 3, "{:?}", corner.calls()?);
    // A fourth at once is held up for seconds only.
    let from = Instant::now();
    renew(&corner, &path).await?;
    revision(&corner, &path, 4).await?;
    ensure!(from.elapsed() < Duration::from_secs(25), "it took {:?}", from.elapsed());
    corner.event("web-4", "IssuedTooOften").await.map(drop)
}

/// What `cmctl renew` does.
async fn renew(corner: &Corner, path: &str) -> Result<()> {
    let certificate = corner.kube().get(path).await?;
    let mut conditions = certificate["status"]["conditions"].as_array().cloned().context("it has conditions")?;
    conditions.retain(|condition| condition["type"] != "Issuing");
    conditions.push(json!({
        "type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "message": "renewed by hand",
        "lastTransitionTime": certificate["metadata"]["creationTimestamp"],
    }));
    let status = json!({"metadata": {"resourceVersion": certificate["metadata"]["resourceVersion"]}, "status": {"conditions": conditions}});
    corner.kube().patch(&format!("{path}/status"), &status).await.map(drop)
}

async fn revision(corner: &Corner, path: &str, number: u64) -> Result<()> {
    let reached = |object: &Value| {
        let ready = condition(object, "Ready").is_some_and(|ready| ready["status"] == "True");
        ready && object["status"]["revision"] == number
    };
    corner.kube().wait(path, SOON, reached).await.with_context(|| format!("waiting for revision {number}")).map(drop)
}
