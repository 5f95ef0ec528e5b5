//! docs/rotation.md: a signing CA, a root and a secret id are replaced, and no request fails.

use anyhow::ensure;
use testenv::{Guide, Run, eventually};

use crate::quick_start::followed;
use crate::support::SOON;
use crate::{Outcome, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("docs/rotation.md replaces the signing CA, the root and the secret id, and no request fails", rotation);
}

async fn rotation(run: Run) -> Outcome {
    let (visit, _) = followed(&run).await?;
    let (kube, bao) = (&visit.plane.kube, &visit.plane.bao);
    let mut issuers = Guide::open(&visit.plane, "docs/issuers.md")?;
    issuers.follow("Publishing the roots").await?;

    let mut page = Guide::open(&visit.plane, "docs/rotation.md")?;
    page.follow("The signing CA").await?;
    let said = page.follow("A root in four steps").await?;
    // Two roots were published together, and the last certificate leads to the new one alone.
    ensure!(said.lines().any(|line| line == "2") && said.contains("tls.crt: OK"), "{said}");
    page.follow("Secret ids").await?;
    page.finished()?;

    let left = bao.list("auth/approle/role/mesh-issuer/secret-id").await?;
    ensure!(left.len() == 1, "these secret ids are left: {left:?}");
    let logins = async || visit.ours.metric("vault_mesh_issuer_logins_total", &["outcome=\"accepted\""]).await;
    eventually("a login with the new secret id", SOON, async || Ok((logins().await? >= 2.0).then_some(()))).await?;
    let events = kube.get("/apis/events.k8s.io/v1/namespaces/istio-system/events").await?;
    let told = |reason: &str| {
        events["items"].as_array().into_iter().flatten().filter(|event| event["reason"] == reason).count()
    };
    // Both trusted, and the old one dropped; two CAs.
    let found = ["TrustAnchorsInForce", "SigningCertificateChanged", "Failed"].map(told);
    ensure!(found == [2, 2, 0], "{found:?} events");
    Ok(())
}
