//! The brake: what renews for ever costs pauses instead of signs, and what a person renews is not held up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
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
/// The reason of the events.
const BRAKE: &str = "IssuedTooOften";
/// Words of the message of a request that is held.
const HELD: &str = "two certificates were issued for it within a tenth";

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
    let held = eventually("a request that its brake holds", SOON, async || first_held(&corner).await).await?;
    let from = Instant::now();
    ensure!(corner.sign_attempts()? >= 2, "it holds a request before two were issued");
    corner.pending(&held, HELD).await?;
    let note = corner.event(&held.name, BRAKE).await?;
    says(&note["note"], &["renewBefore", "max_ttl of Vault's role"])?;
    tokio::time::sleep(LISTEN.saturating_sub(from.elapsed())).await;
    let signs = corner.sign_attempts()?;
    // At 0, 0, 5, 15 and 35 seconds; later where an approval takes its time.
    ensure!((3..=6).contains(&signs), "{signs} signs in {LISTEN:?}");
    eventually("a request waits again", SOON, async || Ok(pending(&corner).await?.pop())).await?;
    let of_held = told(&corner, &held.name).await?.iter().filter(|event| event["regarding"]["uid"] == held.uid).count();
    ensure!(of_held == 1, "{} was told {of_held} times", held.name);
    Ok(())
}

/// The third request, or a later one if the third was approved after the first pause was over. cert-manager may delete a request and
/// make it anew under its name, so the name alone does not tell which it is.
async fn first_held(corner: &Corner) -> Result<Option<Created>> {
    for request in pending(corner).await? {
        if text(&ready_of(&request)?["message"]).contains(HELD) {
            let held = Created::find(corner.kube(), &corner.name, text(&request["metadata"]["name"])).await?;
            return Ok((held.uid == text(&request["metadata"]["uid"])).then_some(held));
        }
    }
    Ok(None)
}

/// The requests that wait: one at most, since cert-manager asks for one after the other.
async fn pending(corner: &Corner) -> Result<Vec<Value>> {
    let path = format!("/apis/{CERTIFICATE}/namespaces/{}/certificaterequests", corner.name);
    let mut requests = corner.kube().list(&path).await?;
    requests.retain(|request| ready_of(request).is_ok_and(|ready| ready["reason"] == "Pending"));
    ensure!(requests.len() <= 1, "{} requests wait", requests.len());
    Ok(requests)
}

/// The events about requests of this name that tell of its brake.
async fn told(corner: &Corner, name: &str) -> Result<Vec<Value>> {
    let mut events = corner.events(name).await?;
    events.retain(|event| event["reason"] == BRAKE);
    Ok(events)
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
    // Who comes back at once is held for ten seconds, and if the approval took longer than that, the next time for twenty.
    for next in [4, 5] {
        renew(&corner, &path).await?;
        revision(&corner, &path, next).await?;
        if !told(&corner, &format!("web-{next}")).await?.is_empty() {
            return Ok(());
        }
    }
    bail!("neither the fourth nor the fifth was held")
}

/// What `cmctl renew` does; again where cert-manager writes the status at the same time.
async fn renew(corner: &Corner, path: &str) -> Result<()> {
    eventually("it is to be renewed", SOON, async || {
        let certificate = corner.kube().get(path).await?;
        let mut conditions = certificate["status"]["conditions"].as_array().cloned().context("it has conditions")?;
        conditions.retain(|condition| condition["type"] != "Issuing");
        conditions.push(json!({
            "type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "message": "renewed by hand",
            "lastTransitionTime": certificate["metadata"]["creationTimestamp"],
        }));
        let version = &certificate["metadata"]["resourceVersion"];
        let status = json!({"metadata": {"resourceVersion": version}, "status": {"conditions": conditions}});
        corner.kube().patch(&format!("{path}/status"), &status).await.map(Some)
    })
    .await
    .map(drop)
}

async fn revision(corner: &Corner, path: &str, number: u64) -> Result<()> {
    let reached = |object: &Value| {
        let ready = condition(object, "Ready").is_some_and(|ready| ready["status"] == "True");
        ready && object["status"]["revision"] == number
    };
    corner.kube().wait(path, SOON, reached).await.with_context(|| format!("waiting for revision {number}")).map(drop)
}
