//! The main job: an approved request becomes a certificate that somebody else's code accepts.

use std::time::Duration;

use serde_json::json;
use testenv::{Chain, Csr, IssuerRef, Request, ca_of, certificate_of, openssl};

use crate::{Outcome, Shared, Suite};
use std::sync::Arc;

const SOON: Duration = Duration::from_secs(20);

pub fn add(suite: &mut Suite) {
    suite.add("a mesh-shaped request gets a chain that openssl verifies to the original root", mesh_shaped);
}

async fn mesh_shaped(shared: Arc<Shared>) -> Outcome {
    let plane = &shared.plane;
    plane.kube.namespace("mesh-shaped").await?;
    let recipe = plane.bao.plain_recipe("mesh-shaped", Chain::WithRoot).await?;
    plane.kube.secret("mesh-shaped", "approle", &[("secretId", &recipe.app_role.secret_id)]).await?;
    plane.kube.config_map("mesh-shaped", "vault-ca", &[("ca.crt", plane.bao.ca_pem())]).await?;
    let issuer = json!({
        "apiVersion": "vaultmesh.io/v1alpha1", "kind": "VaultMeshIssuer",
        "metadata": {"name": "vault", "namespace": "mesh-shaped"},
        "spec": {"vault": {
            "server": plane.bao.address(), "path": recipe.sign_path,
            "caBundleConfigMapRef": {"name": "vault-ca"},
            "auth": {"appRole": {"path": recipe.app_role.mount, "roleId": recipe.app_role.role_id, "secretRef": {"name": "approle"}}},
        }},
    });
    plane.kube.apply(&issuer.to_string()).await?;
    let path = "/apis/vaultmesh.io/v1alpha1/namespaces/mesh-shaped/vaultmeshissuers/vault";
    plane.kube.wait_condition(path, "Ready", "True", SOON).await?;
    let pair = Csr::new().uri("spiffe://cluster.local/ns/mesh-shaped/sa/web").ec()?;
    let request = Request::new("mesh-shaped", "web", &IssuerRef::new("VaultMeshIssuer", "vault"), &pair.csr_pem);
    let ready = request.duration("1h").create(&plane.kube).await?.ready(SOON).await?;
    anyhow::ensure!(ca_of(&ready)?.trim() == recipe.root_pem().trim(), "status.ca is the original root");
    openssl::verify(&certificate_of(&ready)?, recipe.root_pem()).await?;
    let signed = shared
        .ours
        .metric("vault_mesh_issuer_signs_total", &["namespace=\"mesh-shaped\"", "outcome=\"issued\""])
        .await?;
    anyhow::ensure!(signed == 1.0, "one sign was counted, found {signed}");
    Ok(())
}
