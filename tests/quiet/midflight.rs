//! What happens to a request while Vault is being asked: it may vanish, come back under its name, or be written by others. A
//! proxy in front of OpenBao holds the answer back meanwhile.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use serde_json::{Value, json};
use testenv::{Action, Created, Csr, KeyAndCsr, Proxy, Seen, certificate_of, condition, eventually};

use crate::support::{A_WHILE, Corner, SOON, decides_alone, holds_key, is_issued, ready_of};
use crate::{Outcome, Shared, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("a request deleted while Vault signs is no error and signs nothing twice", deleted);
    suite.add("a request made anew under the same name while Vault signs gets nothing of the old one", made_anew);
    suite.add("a write of somebody else while Vault signs costs a read and no second sign", written_meanwhile);
    suite.add("a trouble that passes leaves a request Pending until the next try, and the issuer Ready", transient);
    suite.add("the pause after a trouble lasts, although our own Pending comes back as an event", pause);
    suite.add("requests that wait for their turn follow a change of their issuer", changed_meanwhile);
    suite.add("conditions of others are byte-equal after ours is written", conditions_of_others);
}

/// Whether this is a sign call with a CSR, not a probe.
pub fn is_sign(seen: &Seen) -> bool {
    seen.method != "GET"
        && seen.path.contains("/sign/")
        && seen.json()["csr"].as_str().is_some_and(|csr| !csr.is_empty())
}

/// A corner whose ready issuer speaks to OpenBao through a proxy.
async fn proxied(shared: &Arc<Shared>, name: &str) -> Result<(Corner, Proxy)> {
    let corner = Corner::new(shared, name).await?;
    let proxy = corner.proxy().await?;
    corner.ready(corner.issuer_at(proxy.url())).await?;
    Ok((corner, proxy))
}

/// Creates a request whose sign call is held back.
async fn held_back(corner: &Corner, proxy: &Proxy) -> Result<(Created, KeyAndCsr)> {
    proxy.on(is_sign, Action::Hold).times(1);
    let pair = Csr::workload(&corner.name, "web").ec()?;
    let request = corner.request("web", &pair.csr_pem).create(corner.kube()).await?;
    eventually("the sign call is held back", SOON, async || Ok((proxy.held() == 1).then_some(()))).await?;
    Ok((request, pair))
}

async fn deleted(shared: Arc<Shared>) -> Outcome {
    let (corner, proxy) = proxied(&shared, "deleted").await?;
    let (request, _) = held_back(&corner, &proxy).await?;
    request.delete().await?;
    ensure!(proxy.release().await? == [200], "Vault signs what was asked");
    tokio::time::sleep(A_WHILE).await;
    ensure!(corner.sign_attempts()? == 1, "{:?}", corner.calls()?);
    let complaints = corner.complaints()?;
    ensure!(complaints.is_empty(), "the log complains: {complaints:?}");
    // Either the watch told in time, or the write met 404; both are routine.
    ensure!(corner.status_writes()?.len() <= 1, "{:?}", corner.status_writes()?);
    Ok(())
}

async fn made_anew(shared: Arc<Shared>) -> Outcome {
    let (corner, proxy) = proxied(&shared, "made-anew").await?;
    let (old, _) = held_back(&corner, &proxy).await?;
    old.delete().await?;
    let pair = Csr::workload("made-anew", "web").ec()?;
    // The new one is held back too, so that the old answer finds it without a certificate of its own.
    proxy.on(is_sign, Action::Hold).times(1);
    let new = corner.request("web", &pair.csr_pem).create(corner.kube()).await?;
    ensure!(new.uid != old.uid, "another UID");
    eventually("the old answer is delivered", SOON, async || Ok((proxy.held() >= 1).then_some(()))).await?;
    proxy.release().await?;
    let object = eventually("the new request is answered", SOON, async || {
        proxy.release().await?;
        let object = new.get().await?;
        Ok(ready_of(&object).is_ok_and(|ready| ready["reason"] == "Issued").then_some(object))
    })
    .await?;
    is_issued(&object, corner.recipe.root_pem()).await?;
    holds_key(&certificate_of(&object)?, &pair.key_pem).await?;
    ensure!(object["metadata"]["uid"] == new.uid.as_str(), "{object}");
    ensure!(corner.sign_attempts()? == 2, "one sign for each: {:?}", corner.calls()?);
    Ok(())
}

async fn written_meanwhile(shared: Arc<Shared>) -> Outcome {
    let (corner, proxy) = proxied(&shared, "written-meanwhile").await?;
    let (request, pair) = held_back(&corner, &proxy).await?;
    corner.kube().patch(&request.path, &json!({"metadata": {"annotations": {"example.com/seen": "yes"}}})).await?;
    proxy.release().await?;
    let object = corner.issued(&request).await?;
    holds_key(&certificate_of(&object)?, &pair.key_pem).await?;
    ensure!(object["metadata"]["annotations"]["example.com/seen"] == "yes", "{object}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    ensure!(corner.sign_attempts()? == 1, "{:?}", corner.calls()?);
    let codes: Vec<_> = corner.status_writes()?.iter().map(|write| write.code).collect();
    ensure!(codes == [409, 200], "the writes were answered {codes:?}");
    let ours = shared.plane.kube_audit.all()?.of(&shared.ours.namespace, &shared.ours.account);
    let reads = ours.verb("get").resource("certificaterequests").in_namespace("written-meanwhile");
    ensure!(reads.len() == 1, "{reads:?}");
    Ok(())
}

async fn transient(shared: Arc<Shared>) -> Outcome {
    let (corner, proxy) = proxied(&shared, "transient").await?;
    // Replayed: one OpenBao that all trials share can be neither sealed nor overloaded for this one.
    let errors = |text: &str| json!({"errors": [text]});
    let rows: [(&str, Action); 6] = [
        ("sealed", Action::answer(503, &errors("Vault is sealed"))),
        ("limited", Action::answer(429, &errors("request path \"x\": rate limit quota exceeded"))),
        ("standby", Action::answer(412, &errors("required index state not present"))),
        ("storage", Action::answer(500, &errors("internal error"))),
        ("cut", Action::Cut),
        ("gateway", Action::raw(502, &[("content-type", "text/html")], "<html>Bad Gateway</html>")),
    ];
    for (name, action) in rows {
        let rule = proxy.on(is_sign, action).times(1);
        let request = corner.ask(name).await?;
        let object = corner.issued(&request).await?;
        ensure!(rule.hits() == 1, "{name}: {} hits", rule.hits());
        ensure!(object["status"]["failureTime"].is_null(), "{name}: {object}");
        let writes = corner.status_writes()?.named(name);
        // A rate limit costs nobody the turn: it is asked again in the same one.
        let expected = if name == "limited" { 1 } else { 2 };
        ensure!(writes.len() == expected, "{name}: Pending and the end, {writes:?}");
    }
    ensure!(corner.calls()?.logins_of(&corner.recipe.app_role) == 1, "a trouble of Vault's is no reason to log in");
    let issuer = corner.kube().get("/apis/vaultmesh.io/v1alpha1/namespaces/transient/vaultmeshissuers/vault").await?;
    ensure!(ready_of(&issuer)?["status"] == "True", "{issuer}");
    let events = corner.events("vault").await?;
    ensure!(events.len() == 1, "Verified, and nothing else: {events:?}");
    Ok(())
}

async fn pause(shared: Arc<Shared>) -> Outcome {
    let (corner, proxy) = proxied(&shared, "pause").await?;
    let away = proxy.on(is_sign, Action::answer(503, &json!({"errors": ["Vault is sealed"]})));
    let request = corner.ask("web").await?;
    corner.pending(&request, "could not have the request signed").await?;
    // The first pause is 2 s, or a fifth less.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    ensure!(away.hits() == 1, "{} tries within the first pause", away.hits());
    away.remove();
    corner.issued(&request).await.map(drop)
}

async fn changed_meanwhile(shared: Arc<Shared>) -> Outcome {
    let (corner, proxy) = proxied(&shared, "changed").await?;
    let mount = corner.recipe.mount().to_owned();
    corner.bao().lenient_role(&mount, "other").await?;
    corner.bao().sign_policy(&corner.recipe.policy, &format!("{mount}/sign/+")).await?;
    let slow = proxy.on(is_sign, Action::Hold);
    let requests = try_join_all((0..10).map(async |number| corner.ask(&format!("web-{number}")).await)).await?;
    eventually("eight signs are under way", SOON, async || Ok((proxy.held() == 8).then_some(()))).await?;
    let issuing = corner.issuer_at(proxy.url()).set("vault/path", json!(format!("{mount}/sign/other")));
    let issuing = issuing.create(corner.kube()).await?;
    let is_new = |object: &Value| {
        ready_of(object).is_ok_and(|ready| ready["observedGeneration"] == object["metadata"]["generation"])
    };
    corner.kube().wait(&issuing.path, SOON, is_new).await?;
    slow.remove();
    proxy.release().await?;
    for request in &requests {
        corner.issued(request).await?;
    }
    let signs = |role: &str| anyhow::Ok(corner.calls()?.signs(&format!("{mount}/sign/{role}")));
    ensure!((signs("mesh")?, signs("other")?) == (8, 2), "{:?}", corner.calls()?);
    Ok(())
}

async fn conditions_of_others(shared: Arc<Shared>) -> Outcome {
    shared.plane.kube.namespace_with("conditions", &decides_alone()).await?;
    let corner = Corner::new(&shared, "conditions").await?;
    corner.ready_issuer().await?;
    let request = corner.ask("web").await?;
    let foreign = json!({
        "type": "example.com/Reviewed", "status": "True", "reason": "Fine", "message": "ä €\n\"quoted\" \\",
        "lastTransitionTime": "2020-02-29T23:59:59Z",
    });
    let status = json!({
        "apiVersion": "cert-manager.io/v1", "kind": "CertificateRequest",
        "metadata": {"name": "web", "namespace": "conditions"}, "status": {"conditions": [foreign]},
    });
    corner.kube().apply_object(&format!("{}/status", request.path), "somebody-else", &status).await?;
    request.approve().await?;
    let approved = condition(&request.get().await?, "Approved").cloned();
    let object = request.ready(SOON).await?;
    ensure!(condition(&object, "example.com/Reviewed") == Some(&foreign), "{object}");
    ensure!(condition(&object, "Approved") == approved.as_ref() && approved.is_some(), "{object}");
    // And they stay when ours has been written for good.
    tokio::time::sleep(A_WHILE).await;
    let later: Value = request.get().await?;
    ensure!(later["metadata"]["resourceVersion"] == object["metadata"]["resourceVersion"], "nobody writes any more");
    Ok(())
}
