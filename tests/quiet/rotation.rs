//! A root is rotated in four steps while the mesh goes on: workloads that hold nothing but what we published speak mutual TLS
//! with each other, and rustls judges.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testenv::mutual_tls::{Workload, refuse_each_other, shake_hands};
use testenv::{Chain, Csr, Issuing, ca_of, certificate_of, eventually};

use crate::roots::{plain_fingerprint, second_hierarchy, shows_anchors, told};
use crate::support::{AT_ONCE, Corner, SOON};
use crate::{Outcome, Shared, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("a root is rotated in four steps, and neighbouring steps always understand each other", four_steps);
}

async fn four_steps(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::with_chain(&shared, "rotation", Chain::IntermediateOnly).await?;
    let old = corner.recipe.root_pem();
    let (new, new_ca) = second_hierarchy(&corner).await?;
    let publish = json!({"configMap": {"name": "mesh-bundle"}});
    let trust = json!({"anchors": [{"configMap": {"name": "mesh-root"}}], "publish": publish});
    let trusted = async |pem: &str| corner.kube().config_map("rotation", "mesh-root", &[("ca.crt", pem)]).await;

    trusted(old).await?;
    let issuing = corner.ready(corner.issuer().set("trust", trust)).await?;
    let only_old = workload(&corner, "only-old").await?;

    trusted(&format!("{old}{new}")).await?;
    in_force(&corner, &issuing, &[old, &new]).await?;
    let both_trusted = workload(&corner, "both-trusted").await?;

    corner.bao().set_default_issuer(corner.recipe.mount(), &new_ca).await?;
    let new_signs = workload(&corner, "new-signs").await?;
    let signing = plain_fingerprint(&new_ca).await?;
    let replaced = |object: &Value| object["status"]["signingCertificate"]["sha256"] == *signing;
    corner.kube().wait(&issuing.path, AT_ONCE, replaced).await?;

    trusted(&new).await?;
    in_force(&corner, &issuing, &[&new]).await?;
    let old_dropped = workload(&corner, "old-dropped").await?;

    for (holds_less, newer) in [(&only_old, &both_trusted), (&both_trusted, &new_signs), (&new_signs, &old_dropped)] {
        shake_hands(holds_less, newer)?;
        shake_hands(newer, holds_less)?;
    }
    // Without the steps between, either side refuses the other: the judge does tell roots apart.
    for (one, other) in [(&only_old, &new_signs), (&only_old, &old_dropped), (&both_trusted, &old_dropped)] {
        refuse_each_other(one, other)?;
        refuse_each_other(other, one)?;
    }
    for (reason, expected) in [("TrustAnchorsInForce", 2), ("SigningCertificateChanged", 1)] {
        eventually(reason, SOON, async || Ok((told(&corner, reason).await?.len() == expected).then_some(()))).await?;
    }
    ensure!(corner.status_writes()?.len() == 4, "no request ever waited: {:?}", corner.status_writes()?);
    Ok(())
}

/// Waits until the issuer is Ready with these anchors.
async fn in_force(corner: &Corner, issuing: &Issuing, roots: &[&str]) -> Result<()> {
    let count = |object: &Value| object["status"]["trustAnchors"].as_array().is_some_and(|it| it.len() == roots.len());
    let object = corner.kube().wait(&issuing.path, AT_ONCE, count).await?;
    issuing.ready(AT_ONCE).await?;
    shows_anchors(&object, roots).await
}

/// A workload that asks now. What was published for the mesh to read is what it is told to trust.
async fn workload(corner: &Corner, name: &str) -> Result<Workload> {
    let pair = Csr::workload("rotation", name).ec()?;
    let request = corner.request(name, &pair.csr_pem).create(corner.kube()).await?;
    let object = request.reason("Issued", SOON).await?;
    let ca = ca_of(&object)?;
    let bundle = "/api/v1/namespaces/rotation/configmaps/mesh-bundle";
    corner
        .kube()
        .wait(bundle, AT_ONCE, |bundle| bundle["data"]["ca.crt"] == ca.as_str())
        .await
        .context(name.to_owned())?;
    Ok(Workload { key_pem: pair.key_pem, chain_pem: certificate_of(&object)?, roots_pem: ca })
}
