//! docs/check.md: an issuer that is looked at before it is applied, in the cluster, in a pipeline, and before its root changes.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use testenv::{Chain, HierarchyOptions, Issuer, Run};

use crate::support::{SOON, Visit};
use crate::{Outcome, Suite};

const NAMESPACE: &str = "istio-system";

pub fn add(suite: &mut Suite) {
    suite.add("issuers are looked at before and after they are applied, and before their root changes", check);
}

async fn check(run: Run) -> Outcome {
    let mut visit = Visit::to(&run, "docs/check.md").await?;
    visit.guide.program("vault-mesh-issuer", env!("CARGO_BIN_EXE_vault-mesh-issuer"))?;
    let (kube, bao) = (visit.plane.kube.clone(), visit.plane.bao.clone());
    kube.namespace(NAMESPACE).await?;
    let mut recipe = bao.plain_recipe("guide", Chain::WithRoot).await?;
    for (mount, root) in [("istioca", "old"), ("newca", "new")] {
        bao.hierarchy(mount, &HierarchyOptions::new(root, Chain::WithRoot)).await?;
        bao.lenient_role(mount, "cluster-local").await?;
    }
    bao.policy(&recipe.policy, "path \"+/sign/cluster-local\" { capabilities = [\"update\"] }").await?;
    recipe.sign_path = "istioca/sign/cluster-local".to_owned();
    let issuer = Issuer::app_role(NAMESPACE, "istio-ca", &bao, &recipe);
    let write =
        |name: &str, text: &str| std::fs::write(visit.guide.folder().join(name), text).with_context(|| name.to_owned());
    write("issuer.yaml", &serde_yaml_ng::to_string(issuer.object())?)?;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "istio-ca-approle", "namespace": NAMESPACE},
        "stringData": {"secretId": recipe.app_role.secret_id},
    });
    write("vault-approle.yaml", &secret.to_string())?;
    let issuing = issuer.create(&kube).await?;
    issuing.ready(SOON).await?;

    let said = visit.guide.follow("Before an issuer is applied").await?;
    ensure!(said.starts_with("VaultMeshIssuer istio-system/istio-ca (issuer.yaml)\n"), "{said}");
    ensure!(said.ends_with("1 issuer checked, nothing wrong\n"), "{said}");
    let said = visit.guide.follow("What is in the cluster").await?;
    ensure!(said.matches("1 issuer checked, nothing wrong\n").count() == 3, "{said}");
    visit.guide.follow("In a pipeline").await?;
    let findings = visit.guide.file("findings.json")?;
    let findings: Value = serde_json::from_str(&findings)?;
    ensure!(findings["ok"] == true && findings["issuers"][0]["file"] == "issuer.yaml", "{findings}");

    visit.guide.follow("Before the root of trust changes").await?;
    let findings = visit.guide.file("findings.txt")?;
    ensure!(findings.contains("unsuited  trust anchors would change: from CN=old root"), "{findings}");
    ensure!(issuing.get().await?["spec"]["vault"]["path"] == "istioca/sign/cluster-local", "it was applied");

    visit.guide.follow("Rights").await?;
    ensure!(!visit.ours.log()?.contains(" ERROR "), "the controller complains");
    visit.guide.finished()
}
