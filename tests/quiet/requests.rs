//! Bad requests: each ends Failed with its reason, without a call to Vault, and disturbs nobody else. What is not ours is not
//! touched.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use testenv::{Csr, IssuerRef, Request};

use crate::support::{A_WHILE, Corner, ready_of};
use crate::{Outcome, Shared, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("a request that can never be signed fails with its reason and without a call to Vault", never_signed);
    suite.add(
        "cert-manager's webhook itself refuses what is no CSR, is not signed by its key or has no duration",
        no_csr,
    );
    suite.add("a request of another group or kind is not touched", not_ours);
    suite.add("a finished request is never touched again", finished);
}

/// A PEM request whose signature does not fit: one bit of it is turned.
fn with_broken_signature(csr_pem: &str) -> anyhow::Result<String> {
    let body: String = csr_pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let mut der = STANDARD.decode(body)?;
    *der.last_mut().context("a request has bytes")? ^= 1;
    Ok(format!("-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n", STANDARD.encode(der)))
}

async fn never_signed(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "never-signed").await?;
    corner.ready(corner.issuer().set("certificates", json!({"maxDuration": "24h"}))).await?;
    let before = corner.calls()?.len();
    let good = Csr::workload("never-signed", "web").ec()?.csr_pem;
    let ca = Csr::workload("never-signed", "web").ca().ec()?.csr_pem;
    let rows: [(&str, Request, &[&str]); 5] = [
        ("negative", corner.request("negative", &good).duration("-1h"), &["spec.duration: -1h", "is negative"]),
        ("short", corner.request("short", &good).duration("10ms"), &["spec.duration: 10ms is below one second"]),
        (
            "long",
            corner.request("long", &good).duration("24h0m1s"),
            &["spec.duration: 24h0m1s is longer than the issuer's spec.certificates.maxDuration of 24h"],
        ),
        (
            "ca",
            corner.request("ca", &ca).ca(),
            &["spec.isCA is true, and this issuer signs end-entity certificates only"],
        ),
        ("ca-without-csr", corner.request("ca-without-csr", &good).ca(), &["spec.isCA is true"]),
    ];
    for (name, request, words) in rows {
        let request = request.create(corner.kube()).await.context(name)?;
        corner.failed(&request, words).await.context(name)?;
    }
    ensure!(corner.calls()?.len() == before, "nobody asked Vault: {:?}", corner.calls()?);
    ensure!(corner.status_writes()?.len() == 5, "one write each: {:?}", corner.status_writes()?);
    // And the next one is served.
    corner.issued(&corner.ask("next").await?).await.map(drop)
}

async fn no_csr(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "no-csr").await?;
    corner.ready_issuer().await?;
    let good = Csr::workload("no-csr", "web").ec()?.csr_pem;
    // With the webhook these never reach us; the disruptive suite sends them without it.
    let rows = [
        ("rubbish", corner.request("rubbish", "rubbish"), "no PEM data was found"),
        ("signature", corner.request("signature", &with_broken_signature(&good)?), "verification failure"),
        ("ca-in-csr", corner.request("ca-in-csr", &Csr::new().ca().ec()?.csr_pem), "IsCA true does not match"),
        ("days", corner.request("days", &good).duration("1 day"), "unknown unit"),
    ];
    for (name, request, words) in rows {
        let Err(refusal) = request.create(corner.kube()).await else { anyhow::bail!("{name} was admitted") };
        ensure!(format!("{refusal:#}").contains(words), "{name}: {refusal:#}");
    }
    tokio::time::sleep(A_WHILE).await;
    ensure!(corner.status_writes()?.is_empty() && corner.sign_attempts()? == 0, "nothing came of it");
    Ok(())
}

async fn not_ours(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "not-ours").await?;
    corner.ready_issuer().await?;
    let csr = Csr::workload("not-ours", "web").ec()?.csr_pem;
    let reference =
        |group: &str, kind: &str| IssuerRef { group: group.into(), kind: kind.into(), name: "vault".into() };
    let others = [
        ("another-group", reference("apps", "Deployment")),
        ("another-kind", reference("vaultmesh.io", "Issuer")),
        ("another-case", reference("vaultmesh.io", "vaultmeshissuer")),
    ];
    for (name, issuer) in others {
        let request = Request::new("not-ours", name, &issuer, &csr).create(corner.kube()).await?;
        // cert-manager's webhook lets even an administrator approve for signers only that exist.
        if name == "another-group" {
            request.approve().await?;
        }
    }
    tokio::time::sleep(A_WHILE).await;
    for object in corner.kube().list("/apis/cert-manager.io/v1/namespaces/not-ours/certificaterequests").await? {
        ensure!(ready_of(&object).is_err(), "{object}");
    }
    ensure!(corner.status_writes()?.is_empty() && corner.sign_attempts()? == 0, "{:?}", corner.status_writes()?);
    Ok(())
}

async fn finished(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "finished").await?;
    let issuing = corner.ready_issuer().await?;
    let request = corner.ask("web").await?;
    let object = corner.issued(&request).await?;
    // Whatever happens around it: a change of the object, of its issuer, of its issuer's Secret.
    corner.kube().patch(&request.path, &json!({"metadata": {"labels": {"touched": "yes"}}})).await?;
    issuing.patch(&json!({"spec": {"certificates": {"defaultDuration": "3h"}}})).await?;
    issuing.delete().await?;
    corner.ready_issuer().await?;
    tokio::time::sleep(A_WHILE).await;
    let later: Value = request.get().await?;
    ensure!(later["status"] == object["status"], "{later}");
    ensure!(corner.status_writes()?.len() == 1 && corner.sign_attempts()? == 1, "{:?}", corner.status_writes()?);
    Ok(())
}
