//! What waits goes on by itself, and at once, when its cause is gone: an issuer, a Secret, a bundle, a label, an approval.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use testenv::{Chain, Csr, Issuer, Request, ca_of, eventually};

use crate::support::{AT_ONCE, Corner, SOON, decides_alone, is_final, is_issued, ready_of, says, text};
use crate::{Outcome, Shared, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("a request that comes before its issuer waits for it and goes on when it is created", issuer_later);
    suite.add("a request waits for a missing Secret and goes on at once when it is created", secret_missing);
    suite.add("a wrong secret id is corrected in its Secret and signing goes on at once", secret_corrected);
    suite.add("a ConfigMap with another CA's bundle is corrected and signing goes on at once", bundle_corrected);
    suite.add("a changed ConfigMap of trust anchors takes effect at once", anchors_changed);
    suite.add(
        "a cluster issuer's namespaceSelector keeps a request waiting until its namespace has the label",
        selector,
    );
    suite.add("a denied request ends Denied with its time, without a call to Vault", denied);
    suite.add("a request that nobody approves costs one event after 30 seconds and nothing else", unapproved);
    suite.add("an issuer that is deleted leaves its requests waiting, and its session with Vault ends", issuer_deleted);
}

async fn issuer_later(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "issuer-later").await?;
    let request = corner.ask("web").await?;
    let waiting = corner.pending(&request, "does not exist").await?;
    ensure!(
        ready_of(&waiting)?["message"]
            == "VaultMeshIssuer issuer-later/vault does not exist; the request goes on when it is created",
        "{waiting}"
    );
    ensure!(corner.calls()?.is_empty(), "nobody asked Vault");
    corner.ready_issuer().await?;
    corner.issued(&request).await?;
    // Pending once for each cause (missing; perhaps seen before its first check), and the end.
    let writes = corner.status_writes()?.len();
    ensure!((2..=3).contains(&writes), "{writes} status writes");
    Ok(())
}

async fn secret_missing(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "secret-missing").await?;
    let issuing = corner.issuer_without_secret().create(corner.kube()).await?;
    let ready = issuing.reason("InvalidReference", SOON).await?;
    ensure!(
        ready["message"]
            == "spec.vault.auth.appRole.secretRef names Secret secret-missing/late, key secretId: it does not exist; \
                create it, and signing goes on by itself",
        "{ready}"
    );
    let request = corner.ask("web").await?;
    corner.pending(&request, "is not Ready").await?;
    corner.kube().secret("secret-missing", "late", &[("other", "value-of-no-use")]).await?;
    let told = |object: &Value| {
        ready_of(object).is_ok_and(|it| text(&it["message"]).ends_with("it has no such key (its keys: other)"))
    };
    corner.kube().wait(&issuing.path, AT_ONCE, told).await?;
    ensure!(corner.calls()?.is_empty(), "nobody asked Vault");
    let secret_id = corner.recipe.app_role.secret_id.as_str();
    corner.kube().secret("secret-missing", "late", &[("secretId", &format!("{secret_id}\n"))]).await?;
    request.ready(AT_ONCE).await?;
    corner.issued(&request).await.map(drop)
}

async fn secret_corrected(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "secret-corrected").await?;
    corner.kube().secret("secret-corrected", "late", &[("secretId", "00000000-0000-0000-0000-000000000000")]).await?;
    let issuing = corner.issuer_without_secret().create(corner.kube()).await?;
    let ready = issuing.reason("LoginRefused", SOON).await?;
    let words = if corner.bao().is_vault() { "400: invalid secret id" } else { "400: invalid role or secret ID" };
    says(&ready["message"], &["auth/approle/login", words, "secretRef"])?;
    let event = corner.event("vault", "LoginRefused").await?;
    ensure!(event["type"] == "Warning" && event["note"] == ready["message"], "{event}");
    let request = corner.ask("web").await?;
    corner.pending(&request, "is not Ready").await?;
    ensure!(corner.sign_attempts()? == 0 && corner.calls()?.probes(corner.recipe.mount()) == 0, "no token, no call");
    let secret_id = corner.recipe.app_role.secret_id.as_str();
    corner.kube().secret("secret-corrected", "late", &[("secretId", secret_id)]).await?;
    request.ready(AT_ONCE).await?;
    corner.issued(&request).await?;
    corner.event("vault", "Verified").await?;
    Ok(())
}

async fn bundle_corrected(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "bundle-corrected").await?;
    // A CA, but not that of OpenBao's certificate.
    corner.kube().config_map("bundle-corrected", "vault-ca", &[("ca.crt", corner.recipe.root_pem())]).await?;
    let issuer = corner.issuer().set("vault/caBundle", Value::Null);
    let issuing = issuer.set("vault/caBundleConfigMapRef", json!({"name": "vault-ca"})).create(corner.kube()).await?;
    let ready = issuing.reason("VaultTLSFailed", SOON).await?;
    says(&ready["message"], &["no TLS with 127.0.0.1", "spec.vault.caBundleConfigMapRef must hold the CA"])?;
    let request = corner.ask("web").await?;
    corner.pending(&request, "is not Ready").await?;
    corner.kube().config_map("bundle-corrected", "vault-ca", &[("ca.crt", "no PEM at all")]).await?;
    let rubbish = |object: &Value| {
        ready_of(object)
            .is_ok_and(|it| text(&it["message"]).contains("caBundleConfigMapRef") && it["reason"] != "VaultTLSFailed")
    };
    corner.kube().wait(&issuing.path, AT_ONCE, rubbish).await?;
    corner.kube().config_map("bundle-corrected", "vault-ca", &[("ca.crt", corner.bao().ca_pem())]).await?;
    request.ready(AT_ONCE).await?;
    corner.issued(&request).await.map(drop)
}

async fn anchors_changed(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::with_chain(&shared, "anchors-changed", Chain::IntermediateOnly).await?;
    let other = corner.bao().plain_recipe("anchors-changed-next", Chain::RootItself).await?;
    let (old, new) = (corner.recipe.root_pem(), other.root_pem());
    let put = async |pem: &str| corner.kube().config_map("anchors-changed", "mesh-root", &[("ca.crt", pem)]).await;
    put(old).await?;
    let anchors = json!({"anchors": [{"configMap": {"name": "mesh-root"}}]});
    let issuing = corner.ready(corner.issuer().set("trust", anchors)).await?;
    corner.issued(&corner.ask("one-root").await?).await?;

    // Both roots while they overlap; the order is not that of the file.
    put(&format!("{new}{old}")).await?;
    let both = |object: &Value| object["status"]["trustAnchors"].as_array().is_some_and(|it| it.len() == 2);
    corner.kube().wait(&issuing.path, AT_ONCE, both).await?;
    let bundle = ca_of(&corner.ask("two-roots").await?.reason("Issued", SOON).await?)?;
    ensure!(bundle.contains(old.trim()) && bundle.contains(new.trim()), "{bundle}");
    put(&format!("{old}{new}")).await?;
    let again = ca_of(&corner.ask("two-roots-again").await?.reason("Issued", SOON).await?)?;
    ensure!(again == bundle, "the same anchors in another order are the same bytes");

    // The anchors are a pin: what does not lead to them is not handed out.
    put(new).await?;
    let only_new = |object: &Value| object["status"]["trustAnchors"].as_array().is_some_and(|it| it.len() == 1);
    corner.kube().wait(&issuing.path, AT_ONCE, only_new).await?;
    let request = corner.ask("pinned").await?;
    corner.pending(&request, "could not have the request signed").await?;
    let ready = issuing.reason("AnswerUntrusted", SOON).await?;
    says(&ready["message"], &[corner.recipe.sign_path.as_str(), "does not lead to an anchor in force"])?;
    put(old).await?;
    corner.issued(&request).await.map(drop)
}

async fn selector(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "selector").await?;
    let issuer = Issuer::app_role(&shared.ours.namespace, "selector", corner.bao(), &corner.recipe).cluster();
    let chosen = json!({"namespaceSelector": {
        "matchLabels": {"mesh": "on"}, "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["test"]}],
    }});
    let issuing = corner.ready(issuer.set("policy", chosen)).await?;
    let pair = Csr::workload("selector", "web").ec()?;
    let request = Request::new("selector", "web", &issuing.issuer_ref, &pair.csr_pem).create(corner.kube()).await?;
    let object = corner.pending(&request, "does not serve this namespace").await?;
    let event = corner.event("web", "NamespaceNotSelected").await?;
    ensure!(event["note"] == ready_of(&object)?["message"], "{event}");
    ensure!(corner.sign_attempts()? == 0, "{:?}", corner.calls()?);
    let label = async |labels: Value| {
        corner.kube().patch("/api/v1/namespaces/selector", &json!({"metadata": {"labels": labels}})).await
    };
    // Half of what is asked for changes nothing.
    label(json!({"mesh": "on", "tier": "test"})).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    corner.pending(&request, "does not serve this namespace").await?;
    label(json!({"tier": null})).await?;
    request.ready(AT_ONCE).await?;
    corner.issued(&request).await.map(drop)
}

async fn denied(shared: Arc<Shared>) -> Outcome {
    shared.plane.kube.namespace_with("denied", &decides_alone()).await?;
    let corner = Corner::new(&shared, "denied").await?;
    corner.ready_issuer().await?;
    let before = corner.calls()?.len();
    let request = corner.ask("web").await?;
    request.deny().await?;
    let object = request.reason("Denied", SOON).await?;
    is_final(&object)?;
    ensure!(ready_of(&object)?["message"] == "the request was denied by its approver", "{object}");
    let event = corner.event("web", "Denied").await?;
    ensure!(event["type"] == "Warning", "{event}");
    ensure!(corner.calls()?.len() == before && corner.status_writes()?.len() == 1, "{:?}", corner.calls()?);
    Ok(())
}

async fn unapproved(shared: Arc<Shared>) -> Outcome {
    shared.plane.kube.namespace_with("unapproved", &decides_alone()).await?;
    let corner = Corner::new(&shared, "unapproved").await?;
    corner.ready_issuer().await?;
    let before = corner.calls()?.len();
    let request = corner.ask("web").await?;
    tokio::time::sleep(Duration::from_secs(20)).await;
    ensure!(corner.events("web").await?.is_empty(), "patience of 30 s");
    let event = corner.event("web", "NotApproved").await?;
    says(&event["note"], &["`approve`", "signers.cert-manager.io", "vaultmeshissuers.vaultmesh.io/*"])?;
    ensure!(request.get().await?["status"].is_null(), "{}", request.get().await?);
    ensure!(corner.calls()?.len() == before && corner.status_writes()?.is_empty(), "{:?}", corner.calls()?);
    request.approve().await?;
    let approved = testenv::condition(&request.get().await?, "Approved").cloned().context("it is approved")?;
    let object = request.ready(AT_ONCE).await?;
    is_issued(&object, corner.recipe.root_pem()).await?;
    // Server-side apply of ours alone: what the approver wrote is untouched, to the byte.
    ensure!(testenv::condition(&object, "Approved") == Some(&approved), "{object}");
    let events = corner.events("web").await?;
    ensure!(events.len() == 1, "{events:?}");
    Ok(())
}

async fn issuer_deleted(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "issuer-deleted").await?;
    let issuing = corner.ready_issuer().await?;
    corner.issued(&corner.ask("before").await?).await?;
    let series = ["namespace=\"issuer-deleted\""];
    ensure!(shared.ours.metric("vault_mesh_issuer_ready", &series).await? == 1.0, "the issuer is counted as ready");
    issuing.delete().await?;
    eventually("the issuer's metrics are gone", SOON, async || {
        let text = shared.ours.metrics().await?;
        Ok((!text.contains("namespace=\"issuer-deleted\"")).then_some(()))
    })
    .await?;
    let request = corner.ask("after").await?;
    corner.pending(&request, "does not exist").await?;
    corner.ready_issuer().await?;
    corner.issued(&request).await?;
    // A session belongs to an issuer's UID: the one of the same name logs in for itself.
    ensure!(corner.calls()?.logins_of(&corner.recipe.app_role) == 2, "{:?}", corner.calls()?);
    Ok(())
}
