//! docs/meshes/certificates.md: cert-manager's own clients, for real: its Certificates, and its ingress-shim.

use anyhow::ensure;
use testenv::{Run, eventually};

use crate::replay::event;
use crate::support::{SOON, Visit, says, text, told};
use crate::{Outcome, Suite};

const PAGE: &str = "docs/meshes/certificates.md";

pub fn add(suite: &mut Suite) {
    suite.add("Certificates and ingresses name a cluster issuer by group, kind and name", certificates);
}

async fn certificates(run: Run) -> Outcome {
    let mut visit = Visit::to(&run, PAGE).await?;
    for section in ["Vault", "The issuer", "A Certificate", "An Ingress", "How to see that it works"] {
        visit.guide.follow(section).await?;
    }
    let root = visit.guide.file("root.pem")?;
    for secret in ["web-tls", "shop-tls"] {
        ensure!(visit.guide.file(&format!("{secret}.ca.pem"))?.trim() == root.trim(), "{secret} has another root");
    }

    // The Ingress of the page, with cert-manager's annotation for a kind of its own.
    let ours = text("deploy/certificates/ingress.yaml")?;
    let kind = "    cert-manager.io/issuer-kind: VaultMeshClusterIssuer\n";
    let group = "    cert-manager.io/issuer-group: vaultmesh.io\n";
    let named = |name: &str, without: &[&str]| {
        let text = ours.replace("name: shop\n", &format!("name: {name}\n")).replace("shop-tls", &format!("{name}-tls"));
        let text = text.replace("cert-manager.io/issuer: vault", "cert-manager.io/cluster-issuer: vault");
        without.iter().fold(text, |text, line| text.replace(line, ""))
    };
    let kube = &visit.plane.kube;
    kube.apply(&named("both", &[kind])).await?;
    told(PAGE, &event(kube, "shop", "both", "BadConfig").await?)?;
    kube.apply(&named("alone", &[kind, group])).await?;
    let request = "/apis/cert-manager.io/v1/namespaces/shop/certificaterequests/alone-tls-1";
    let made = eventually("a request for the ingress", SOON, async || kube.find(request).await).await?;
    ensure!(made["spec"]["issuerRef"]["kind"] == "ClusterIssuer", "{made}");
    told(PAGE, &says(kube, request, "Pending").await?)?;
    visit.guide.finished()
}
