//! The recipes that people follow, as their documents have them: what works as written, and what is refused in words.

use std::sync::Arc;

use anyhow::ensure;
use serde_json::json;
use testenv::{Chain, Csr, KeyAndCsr};

use crate::support::{Corner, SOON, is_issued, names_in, ready_of, says, text};
use crate::{Outcome, Shared, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("Tetrate's recipe works with only apiVersion, kind and issuerRef changed", tetrate);
    suite.add("Tetrate's recipe works with caBundleSecretRef added", tetrate_with_bundle);
    suite.add(
        "Tetrate's recipe whose mount lacks its root is refused in words until trust.anchors names it",
        tetrate_rootless,
    );
    suite.add(
        "OpenShift's recipe is refused in words until a policy is added, and ten-use tokens are renewed in time",
        openshift,
    );
    suite.add("Kong Mesh's recipe signs many URI names with a token", kong);
    suite.add("kubectl shows Ready, Status and Age, and with -o wide path and server", columns);
}

/// The Issuer of Tetrate's documentation but for `apiVersion` and `kind`, mounts and role id being this trial's.
fn tetrate_issuer(corner: &Corner, ca_bundle: &str) -> String {
    format!(
        "apiVersion: vaultmesh.io/v1alpha1
kind: VaultMeshIssuer
metadata:
  name: vault
  namespace: {namespace}
spec:
  vault:
    server: {server}
    path: {path}
{ca_bundle}    auth:
      appRole:
        path: approle
        roleId: {role_id}
        secretRef:
          name: cert-manager-vault-approle
          key: secretId
",
        namespace = corner.name,
        server = corner.bao().address(),
        path = corner.recipe.sign_path,
        role_id = corner.recipe.app_role.role_id,
    )
}

async fn apply_tetrate(corner: &Corner, ca_bundle: &str) -> anyhow::Result<String> {
    let secret_id = corner.recipe.app_role.secret_id.as_str();
    corner.kube().secret(&corner.name, "cert-manager-vault-approle", &[("secretId", secret_id)]).await?;
    corner.kube().apply(&tetrate_issuer(corner, ca_bundle)).await?;
    Ok(format!("/apis/vaultmesh.io/v1alpha1/namespaces/{}/vaultmeshissuers/vault", corner.name))
}

/// What istio-csr asks for; the recipe's role takes RSA keys only.
async fn workload_key(corner: &Corner) -> anyhow::Result<KeyAndCsr> {
    Csr::workload(&corner.name, "web").organization("").rsa(2048).await
}

async fn tetrate(shared: Arc<Shared>) -> Outcome {
    let recipe = shared.plane.bao.tetrate_with_root("tetrate").await?;
    let corner = Corner::around(&shared, "tetrate", recipe).await?;
    let path = apply_tetrate(&corner, "").await?;
    let issuer = corner.kube().wait_condition(&path, "Ready", "True", SOON).await?;
    says(&ready_of(&issuer)?["message"], &["Vault verified"])?;
    ensure!(ready_of(&issuer)?["reason"] == "Verified" && ready_of(&issuer)?["observedGeneration"] == 1, "{issuer}");
    let pair = workload_key(&corner).await?;
    corner.issued(&corner.request("web", &pair.csr_pem).create(corner.kube()).await?).await.map(drop)
}

async fn tetrate_with_bundle(shared: Arc<Shared>) -> Outcome {
    let recipe = shared.plane.bao.tetrate_with_root("tetrate-bundle").await?;
    let corner = Corner::around(&shared, "tetrate-bundle", recipe).await?;
    corner.kube().secret("tetrate-bundle", "vault-ca", &[("ca.crt", corner.bao().ca_pem())]).await?;
    let path = apply_tetrate(&corner, "    caBundleSecretRef:\n      name: vault-ca\n").await?;
    corner.kube().wait_condition(&path, "Ready", "True", SOON).await?;
    let pair = workload_key(&corner).await?;
    corner.issued(&corner.request("web", &pair.csr_pem).create(corner.kube()).await?).await.map(drop)
}

async fn tetrate_rootless(shared: Arc<Shared>) -> Outcome {
    let corner =
        Corner::around(&shared, "tetrate-rootless", shared.plane.bao.tetrate("tetrate-rootless").await?).await?;
    let path = apply_tetrate(&corner, "").await?;
    let issuer = corner.kube().wait_condition(&path, "Ready", "False", SOON).await?;
    let ready = ready_of(&issuer)?;
    ensure!(ready["reason"] == "TrustAnchorsUnknown", "{ready}");
    let mount = corner.recipe.mount();
    says(&ready["message"], &["no root is known", mount, "spec.trust.anchors", "Put the root certificate"])?;
    let pair = workload_key(&corner).await?;
    let request = corner.request("web", &pair.csr_pem).create(corner.kube()).await?;
    corner.pending(&request, "is not Ready").await?;
    ensure!(corner.sign_attempts()? == 0, "nothing is signed under an unknown root");
    let anchors = json!({"spec": {"trust": {"anchors": [{"pem": corner.recipe.root_pem()}]}}});
    corner.kube().patch(&path, &anchors).await?;
    corner.issued(&request).await.map(drop)
}

async fn openshift(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::around(&shared, "openshift", shared.plane.bao.openshift("openshift").await?).await?;
    let issuing = corner.issuer().create(corner.kube()).await?;
    let ready = issuing.not_ready(SOON).await?;
    ensure!(ready["reason"] == "PermissionDenied", "{ready}");
    says(&ready["message"], &[&corner.recipe.sign_path, "403", "policy", "mount", "role", "permission denied"])?;
    corner.bao().openshift_policy(&corner.recipe).await?;
    issuing.ready(SOON).await?;
    let pair = Csr::workload("openshift", "web").rsa(2048).await?;
    let mut requests = Vec::new();
    for number in 0..25 {
        let request = corner.request(&format!("web-{number}"), &pair.csr_pem);
        requests.push(request.create(corner.kube()).await?);
    }
    for request in &requests {
        corner.issued(request).await?;
    }
    // Uses are counted: a token is replaced before its tenth use is gone, so no sign is ever refused for it.
    let calls = corner.calls()?;
    let refused = calls.to(corner.recipe.mount()).refused().keep(|call| !call.probe);
    ensure!(calls.signs(corner.recipe.mount()) == 25 && refused.is_empty(), "{refused:?}");
    let logins = calls.logins_of(&corner.recipe.app_role);
    ensure!((3..=6).contains(&logins), "{logins} logins for 25 signs with tokens of ten uses");
    Ok(())
}

async fn kong(shared: Arc<Shared>) -> Outcome {
    let recipe = shared.plane.bao.kong("kong", Chain::WithRoot).await?;
    let corner = Corner::around(&shared, "kong", recipe).await?;
    crate::issuing::token_issuer(&corner).await?.ready(SOON).await?;
    let uris = ["spiffe://default/web", "spiffe://default/api", "kuma://kuma.io-service/web", "kuma://version/v1"];
    let pair = uris.iter().fold(Csr::new(), |csr, uri| csr.uri(uri)).rsa(2048).await?;
    let request = corner.request("web", &pair.csr_pem).create(corner.kube()).await?;
    let object = request.reason("Issued", SOON).await?;
    is_issued(&object, corner.recipe.root_pem()).await?;
    let names = names_in(&testenv::certificate_of(&object)?).await?;
    ensure!(uris.iter().all(|uri| names.contains(&format!("URI:{uri}"))), "{names}");
    Ok(())
}

async fn columns(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "columns").await?;
    corner.ready_issuer().await?;
    let (path, server) = (corner.recipe.sign_path.as_str(), corner.bao().address());
    let table = |printed: &str| -> Vec<Vec<String>> {
        // Columns are apart by two spaces or more, and "Vault verified" is one of them.
        let cells =
            |line: &str| line.split("  ").map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned).collect();
        printed.lines().map(cells).collect()
    };
    for name in ["vmi", "vaultmeshissuers", "cert-manager"] {
        let printed = corner.kube().kubectl(&["get", name, "-n", "columns"], None).await?;
        ensure!(printed.contains("vault") && printed.contains("Vault verified"), "kubectl get {name}: {printed}");
    }
    let printed = corner.kube().kubectl(&["get", "vmi", "-n", "columns"], None).await?;
    let narrow = table(&printed);
    let [head, row] = narrow.as_slice() else { anyhow::bail!("{printed}") };
    ensure!(head.join(" ") == "NAME READY STATUS AGE", "{printed}");
    ensure!(row.iter().take(3).map(String::as_str).eq(["vault", "True", "Vault verified"]), "{printed}");
    let printed = corner.kube().kubectl(&["get", "vmi", "-n", "columns", "-o", "wide"], None).await?;
    ensure!(printed.contains("PATH") && printed.contains("SERVER"), "{printed}");
    ensure!(printed.contains(path) && printed.contains(server), "{printed}");
    let clusterwide = corner.kube().kubectl(&["get", "vmci"], None).await;
    ensure!(clusterwide.is_ok(), "{clusterwide:?}");
    let explained = corner.kube().kubectl(&["explain", "vmi.spec.vault.path"], None).await?;
    ensure!(text(&explained.clone().into()).contains("<mount>/sign/<role>"), "{explained}");
    Ok(())
}
