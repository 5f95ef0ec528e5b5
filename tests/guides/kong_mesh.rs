//! docs/meshes/kong-mesh.md: requests as Kong Mesh's backend `certmanager` makes them for its proxies.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use testenv::{Created, Csr, IssuerRef, KeyAndCsr, Request, Run, eventually};

use crate::replay::{event, issued};
use crate::support::{SOON, Visit, says, told};
use crate::{Outcome, Suite};

const PAGE: &str = "docs/meshes/kong-mesh.md";
const NAMESPACE: &str = "kong-mesh-system";
const ISSUER: &str = "/apis/vaultmesh.io/v1alpha1/namespaces/kong-mesh-system/vaultmeshissuers/kong-mesh";
/// The policy of Kong's own guide.
const KONGS_POLICY: &str = r#"path "/kuma-pki-default/issue/dataplanes" { capabilities = ["create", "update"] }"#;

pub fn add(suite: &mut Suite) {
    suite.add("Kong Mesh: its proxies are served by its own role, and each wrong line is named", kong_mesh);
}

/// A name for each service of a proxy and one for each of its tags, and no subject.
fn proxy(mesh: &str) -> Csr {
    let services = ["web", "web-admin"].map(|service| format!("spiffe://{mesh}/{service}"));
    let tags = ["kuma.io/service/web", "kuma.io/service/web-admin", "kuma.io/protocol/http", "version/v1"];
    let tags = tags.map(|tag| format!("kuma://{tag}"));
    services.iter().chain(&tags).fold(Csr::new(), |csr, uri| csr.uri(uri))
}

async fn ask(visit: &Visit, name: &str, pair: &KeyAndCsr) -> Result<Created> {
    let request = Request::new(NAMESPACE, name, &IssuerRef::new("VaultMeshIssuer", "kong-mesh"), &pair.csr_pem);
    let usages = ["digital signature", "key agreement", "key encipherment", "server auth", "client auth"];
    request.duration("24h").usages(&usages).create(&visit.plane.kube).await
}

async fn kong_mesh(run: Run) -> Outcome {
    let mut visit = Visit::to(&run, PAGE).await?;
    for section in ["The CA", "The role and the policy", "The issuer"] {
        visit.guide.follow(section).await?;
    }
    let (pair, root) = (proxy("default").rsa(2048).await?, visit.guide.file("root.pem")?);
    let first = ask(&visit, "proxy", &pair).await?;
    let certificate = issued(&first, &pair.csr_pem, &root).await?;
    let names =
        ["spiffe://default/web", "spiffe://default/web-admin", "kuma://kuma.io/protocol/http", "kuma://version/v1"];
    certificate.has(&names.map(|name| format!("URI:{name}")).each_ref().map(String::as_str))?;
    certificate.has(&["TLS Web Server Authentication", "TLS Web Client Authentication", "CA:FALSE"])?;
    ensure!(!certificate.text.contains("Digital Signature"), "{}", certificate.text);
    told(PAGE, &event(&visit.plane.kube, NAMESPACE, "proxy", "UsagesMissing").await?)?;
    visit.guide.follow("How to see that it works").await?;
    client_certificate(&run, &mut visit, &pair, &root).await?;
    wrong(&mut visit, &pair, &root).await?;
    usages(&mut visit, &pair, &root).await?;
    visit.guide.finished()
}

/// A certificate of the run's CA in the place of the token.
async fn client_certificate(run: &Run, visit: &mut Visit, pair: &KeyAndCsr, root: &str) -> Outcome {
    let folder = visit.guide.folder().clone();
    run.authority().identity(&folder, "client", &[])?;
    std::fs::write(folder.join("client-ca.pem"), run.authority().pem())?;
    visit.guide.follow("A client certificate instead of the token").await?;
    let bao = visit.plane.bao.clone();
    eventually(
        "a login with the certificate",
        SOON,
        async || Ok((bao.audit().all()?.logins("cert") > 0).then_some(())),
    )
    .await?;
    issued(&ask(visit, "by-certificate", pair).await?, &pair.csr_pem, root).await.map(drop)
}

/// What the page says goes wrong, in the words that it quotes.
async fn wrong(visit: &mut Visit, pair: &KeyAndCsr, root: &str) -> Outcome {
    let kube = visit.plane.kube.clone();
    let other_mesh = ask(visit, "other-mesh", &proxy("other").rsa(2048).await?).await?;
    let other_key = ask(visit, "other-key", &proxy("default").ec()?).await?;
    for request in [&other_mesh, &other_key] {
        told(PAGE, &says(&kube, &request.path, "Failed").await?)?;
    }
    let path = json!({"spec": {"vault": {"path": "kuma-pki-default/issue/dataplanes"}}});
    let refused = kube.patch(ISSUER, &path).await.err().context("the API server takes a path on issue/")?;
    let words = "ends in issue/<role>, which makes Vault create a key of its own; write sign/<role>";
    ensure!(format!("{refused:#}").contains(words), "{refused:#}");
    told(PAGE, words)?;

    told(PAGE, r#"path "/kuma-pki-default/issue/dataplanes""#)?;
    visit.plane.bao.policy("kuma-default-dataplanes", KONGS_POLICY).await?;
    let waiting = ask(visit, "kongs-policy", pair).await?;
    told(PAGE, &says(&kube, ISSUER, "PermissionDenied").await?)?;
    says(&kube, &waiting.path, "Pending").await?;
    visit.guide.follow("The role and the policy").await?;
    issued(&waiting, &pair.csr_pem, root).await.map(drop)
}

/// The role with the names that Vault knows.
async fn usages(visit: &mut Visit, pair: &KeyAndCsr, root: &str) -> Outcome {
    visit.guide.follow("Usages").await?;
    let certificate = issued(&ask(visit, "with-usages", pair).await?, &pair.csr_pem, root).await?;
    certificate.has(&["Digital Signature, Key Encipherment, Key Agreement", "TLS Web Server Authentication"])
}
