//! The cut-over from cert-manager's built-in issuer to ours and back, as docs/cut-over.md has it: the built-in issuer is the real one,
//! and the Certificate's Secret is watched all the while.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use testenv::{Chain, Kube, Run, openssl};
use tokio::sync::oneshot::{self, error::TryRecvError};

use crate::support::{SOON, Visit, text};
use crate::{Outcome, Suite};

const PAGE: &str = "docs/cut-over.md";
const CERTIFICATE: &str = "/apis/cert-manager.io/v1/namespaces/shop/certificates/web";
const SECRET: &str = "/api/v1/namespaces/shop/secrets/web-tls";

pub fn add(suite: &mut Suite) {
    suite.add("a Certificate moves from the built-in issuer to ours and back without a gap", there_and_back);
}

async fn there_and_back(run: Run) -> Outcome {
    let mut visit = Visit::to(&run, PAGE).await?;
    visit.guide.program("vault-mesh-issuer", env!("CARGO_BIN_EXE_vault-mesh-issuer"))?;
    let kube = visit.plane.kube.clone();
    built_in(&visit).await?;
    let (end, ended) = oneshot::channel();
    let versions = tokio::spawn(versions(kube.clone(), ended));

    visit.guide.follow("Convert the issuers").await?;
    says_what_the_page_shows(visit.guide.folder())?;
    visit.guide.follow("Run both side by side").await?;
    let said = visit.guide.follow("Compare the roots").await?;
    let fingerprints: Vec<_> = said.lines().collect();
    ensure!(fingerprints.len() == 2 && fingerprints.first() == fingerprints.last(), "{said}");
    let said = visit.guide.follow("Try it beside").await?;
    ensure!(said.contains("beside.crt: OK"), "{said}");

    misspelt(&kube).await?;
    visit.guide.follow("Move a Certificate").await?;
    let said = visit.guide.follow("Find what still names the built-in issuers").await?;
    ensure!(said.contains("vaultmesh.io"), "{said}");
    visit.guide.follow("Go back").await?;

    drop(end);
    without_a_gap(&versions.await?).await?;
    ensure!(!visit.ours.log()?.contains(" ERROR "), "the controller complains");
    visit.guide.finished()
}

/// What goes to the terminal, as the page has it.
fn says_what_the_page_shows(folder: &Path) -> Outcome {
    let page = text(PAGE)?;
    let (_, shown) = page.split_once("```text\n").context("the page shows what is said")?;
    let (shown, _) = shown.split_once("```").context("the end of the block")?;
    let binary = env!("CARGO_BIN_EXE_vault-mesh-issuer");
    let output = Command::new(binary).args(["migrate", "built-in.yaml"]).current_dir(folder).output()?;
    let said = String::from_utf8(output.stderr)?;
    for line in shown.lines() {
        ensure!(said.contains(line.trim_end_matches("...")), "the page has {line:?}, said was {said}");
    }
    Ok(())
}

/// The built-in issuer `vault` and the Certificate `web` that it has signed.
async fn built_in(visit: &Visit) -> Outcome {
    let (kube, bao) = (&visit.plane.kube, &visit.plane.bao);
    kube.namespace("shop").await?;
    let recipe = bao.plain_recipe("shop", Chain::WithRoot).await?;
    kube.secret("shop", "vault-approle", &[("secretId", &recipe.app_role.secret_id)]).await?;
    kube.secret("shop", "vault-ca", &[("ca.crt", bao.ca_pem())]).await?;
    let login = json!({
        "path": recipe.app_role.mount, "roleId": recipe.app_role.role_id,
        "secretRef": {"name": "vault-approle", "key": "secretId"},
    });
    let vault = json!({
        "server": bao.address(), "path": recipe.sign_path, "caBundleSecretRef": {"name": "vault-ca", "key": "ca.crt"},
        "auth": {"appRole": login},
    });
    let issuer = object("Issuer", "vault", json!({"vault": vault}));
    kube.post("/apis/cert-manager.io/v1/namespaces/shop/issuers", &issuer).await?;
    let certificate = object(
        "Certificate",
        "web",
        json!({
            "secretName": "web-tls", "dnsNames": ["web.shop.svc"], "privateKey": {"algorithm": "ECDSA", "size": 256},
            "issuerRef": {"name": "vault"},
        }),
    );
    kube.post("/apis/cert-manager.io/v1/namespaces/shop/certificates", &certificate).await?;
    kube.wait_condition(CERTIFICATE, "Ready", "True", SOON).await.map(drop)
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "cert-manager.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// An issuer that is not there costs nothing but waiting: the page's words, and the Secret as it was.
async fn misspelt(kube: &Kube) -> Outcome {
    let before = kube.get(SECRET).await?;
    let named = json!({"group": "vaultmesh.io", "kind": "VaultMeshIssuer", "name": "vualt"});
    kube.patch(CERTIFICATE, &json!({"spec": {"issuerRef": named}})).await?;
    let waits = "VaultMeshIssuer shop/vualt does not exist; the request goes on when it is created";
    testenv::eventually("the request says that its issuer is missing", SOON, async || {
        let requests = kube.list("/apis/cert-manager.io/v1/namespaces/shop/certificaterequests").await?;
        let says = |it: &Value| testenv::condition(it, "Ready").is_some_and(|ready| ready["message"] == waits);
        Ok(requests.iter().any(says).then_some(()))
    })
    .await?;
    let ready = kube.wait_condition(CERTIFICATE, "Ready", "False", SOON).await?;
    let ready = testenv::condition(&ready, "Ready").context("a condition")?;
    ensure!(ready["reason"] == "IncorrectIssuer", "{ready}");
    let after = kube.get(SECRET).await?;
    ensure!(after["data"] == before["data"], "the Secret has changed");
    Ok(())
}

/// Each version of the Secret that it meets until the end; one that is missing for a moment is a version too.
async fn versions(kube: Kube, mut ended: oneshot::Receiver<()>) -> Vec<Value> {
    let mut seen: Vec<Value> = Vec::new();
    while ended.try_recv() == Err(TryRecvError::Empty) {
        let now = kube.find(SECRET).await.ok().flatten().unwrap_or_default();
        if seen.last().is_none_or(|last| last["data"] != now["data"]) {
            seen.push(now);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    seen
}

/// Whoever read the Secret at any time, and trusted the `ca.crt` of the beginning, had a certificate with its key.
async fn without_a_gap(seen: &[Value]) -> Outcome {
    let part = |secret: &Value, key: &str| -> Result<String> {
        let encoded = secret["data"][key].as_str().with_context(|| format!("a Secret without {key}"))?;
        Ok(String::from_utf8(STANDARD.decode(encoded)?)?)
    };
    ensure!(seen.len() == 3, "the Secret had {} versions: issued, moved and moved back make three", seen.len());
    let first = part(seen.first().context("a Secret")?, "ca.crt")?;
    let mut keys = BTreeSet::new();
    for secret in seen {
        let (chain, key, ca) = (part(secret, "tls.crt")?, part(secret, "tls.key")?, part(secret, "ca.crt")?);
        ensure!(ca == first, "ca.crt has changed");
        openssl::verify(&chain, &first).await?;
        let folder = tempfile::tempdir()?;
        let (certificate, private) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        std::fs::write(&certificate, &chain)?;
        std::fs::write(&private, &key)?;
        let of = async |args: [&str; 2], path: &Path| {
            openssl::run(&[args[0], "-in", &path.display().to_string(), args[1]]).await
        };
        let pair = (of(["x509", "-pubkey"], &certificate).await?, of(["pkey", "-pubout"], &private).await?);
        ensure!(pair.0.starts_with(pair.1.trim()), "the certificate holds another key");
        keys.insert(key);
    }
    ensure!(keys.len() == seen.len(), "a key was kept, and the page says that each is new");
    Ok(())
}
