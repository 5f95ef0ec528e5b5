//! What the whole run produced, judged when every other trial is over.

use std::sync::Arc;

use anyhow::ensure;
use serde_json::Value;
use testenv::rbac;

use crate::{Outcome, Shared, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("no request of ours was forbidden", nothing_forbidden);
    suite.add("every permission of our ServiceAccount was used", every_permission);
    suite.add("no secret stands in a log, an event, a status or a metric", no_secret);
    suite.add("nothing panicked, and the log holds no error", nothing_broke);
    suite.add("every certificate and every refusal has its line for the auditor", auditors_lines);
}

async fn nothing_forbidden(shared: Arc<Shared>) -> Outcome {
    let ours = shared.plane.kube_audit.all()?.of(&shared.ours.namespace, &shared.ours.account);
    let forbidden = ours.forbidden();
    ensure!(!ours.is_empty() && forbidden.is_empty(), "{} calls, forbidden: {forbidden:?}", ours.len());
    Ok(())
}

async fn every_permission(shared: Arc<Shared>) -> Outcome {
    let (namespace, account) = (&shared.ours.namespace, &shared.ours.account);
    let granted = rbac::granted(&shared.plane.kube, namespace, account).await?;
    let used = rbac::used(&shared.plane.kube_audit.all()?.of(namespace, account));
    let unused = rbac::unused(&granted, &used);
    ensure!(!granted.is_empty() && unused.is_empty(), "granted and never used: {unused:#?}");
    Ok(())
}

async fn no_secret(shared: Arc<Shared>) -> Outcome {
    let tokens = shared.plane.bao.audit().tokens()?;
    ensure!(tokens.len() > 20, "the audit log shows {} tokens only", tokens.len());
    for token in tokens {
        shared.run.secrets().add("a token in OpenBao's audit log", token);
    }
    let kube = &shared.plane.kube;
    let mut produced = vec![("the log", shared.ours.log()?), ("the metrics", shared.ours.metrics().await?)];
    for (what, path) in [
        ("events", "/apis/events.k8s.io/v1/events"),
        ("CertificateRequests", "/apis/cert-manager.io/v1/certificaterequests"),
        ("VaultMeshIssuers", "/apis/vaultmesh.io/v1alpha1/vaultmeshissuers"),
        ("VaultMeshClusterIssuers", "/apis/vaultmesh.io/v1alpha1/vaultmeshclusterissuers"),
    ] {
        let objects = kube.list(path).await?;
        ensure!(!objects.is_empty(), "there are no {what}");
        produced.push((what, Value::from(objects).to_string()));
    }
    for (what, text) in produced {
        let found = shared.run.secrets().found_in(&text);
        ensure!(found.is_empty(), "in {what}: {found:?}");
        // A ServiceAccount's token of which nobody knows: how each of them begins.
        ensure!(!text.contains("eyJhbGciOi"), "in {what}: a token of the cluster");
    }
    Ok(())
}

async fn nothing_broke(shared: Arc<Shared>) -> Outcome {
    ensure!(shared.ours.metric("vault_mesh_issuer_panics_total", &[]).await? == 0.0, "an attempt panicked");
    ensure!(shared.ours.peer().is_running(), "the controller has ended");
    let log = shared.ours.log()?;
    let errors: Vec<_> = log.lines().filter(|line| line.contains(" ERROR ")).collect();
    ensure!(errors.is_empty(), "{errors:?}");
    Ok(())
}

async fn auditors_lines(shared: Arc<Shared>) -> Outcome {
    let log = shared.ours.log()?;
    for object in shared.plane.kube.list("/apis/cert-manager.io/v1/certificaterequests").await? {
        let ready = testenv::condition(&object, "Ready").cloned().unwrap_or_default();
        let ours = object["spec"]["issuerRef"]["group"] == "vaultmesh.io";
        let end = ready["reason"].as_str().unwrap_or_default();
        if !ours || !["Issued", "Failed", "Denied"].contains(&end) {
            continue;
        }
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
        let mark = format!("request_uid=\"{uid}\"");
        // What is not as it was asked for is warned of in lines of its own.
        let lines: Vec<_> = log.lines().filter(|line| line.contains(&mark) && line.contains(" INFO ")).collect();
        let [line] = lines.as_slice() else { anyhow::bail!("{end} {uid} has {} lines: {lines:?}", lines.len()) };
        let fields: &[&str] = match end {
            "Issued" => &["requester=", "issuer=", "sans=", "serial=", "not_after=", "vault_request_id="],
            _ => &["requester=", "issuer=", "outcome=", "cause="],
        };
        ensure!(fields.iter().all(|field| line.contains(field)), "{line}");
    }
    Ok(())
}
