//! docs/meshes/linkerd.md and docs/meshes/spire.md: meshes that sign for themselves, with an intermediate CA that Vault has made.

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::DnType::{CountryName, CustomDnType, OrganizationName};
use serde_json::json;
use testenv::{Created, Csr, IssuerRef, KeyAndCsr, Kube, Request, Run, openssl};

use crate::replay::issued;
use crate::support::{SOON, Visit, says, text, told};
use crate::{Outcome, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("Linkerd: its identity issuer's Secret is a CA below the published trust anchor", linkerd);
    suite.add(
        "SPIRE: its UpstreamAuthority gets a CA with its name and subject, with the rights that it is given",
        spire,
    );
}

const LINKERD: &str = "docs/meshes/linkerd.md";

async fn linkerd(run: Run) -> Outcome {
    let mut visit = Visit::to(&run, LINKERD).await?;
    for section in ["Vault", "The issuer and the identity issuer's certificate"] {
        visit.guide.follow(section).await?;
    }
    let printed = openssl::without_blanks(&visit.guide.follow("How to see that it works").await?);
    for words in ["CN=identity.linkerd.cluster.local", "CA:TRUE, pathlen:0"] {
        ensure!(printed.contains(words), "{words} is not in {printed}");
    }
    let kube = &visit.plane.kube;
    let secret = kube.get("/api/v1/namespaces/linkerd/secrets/linkerd-identity-issuer").await?;
    let key = STANDARD.decode(secret["data"]["tls.key"].as_str().context("a key")?)?;
    let anchors = visit.guide.file("trust-anchors.pem")?;
    ensure!(anchors.trim() == visit.guide.file("root.pem")?.trim(), "{anchors}");
    openssl::signs_a_leaf(&visit.guide.file("tls.crt")?, &anchors, &String::from_utf8(key)?).await?;

    // The usages of Linkerd's own guide.
    let ours = text("deploy/linkerd/identity-issuer.yaml")?;
    let guides = ours.replace("[cert sign, crl sign]", "[cert sign, crl sign, server auth, client auth]");
    let guides = guides.replace("linkerd-identity-issuer", "guides-usages");
    ensure!(guides != ours, "the usages of the Certificate are written differently now");
    kube.apply(&guides).await?;
    let requests = "/apis/cert-manager.io/v1/namespaces/linkerd/certificaterequests";
    told(LINKERD, &says_soon(kube, &format!("{requests}/guides-usages-1"), "Failed").await?)?;
    let leaf = Csr::workload("shop", "web").ec()?;
    let leaf = Request::new("linkerd", "leaf", &IssuerRef::new("VaultMeshIssuer", "linkerd"), &leaf.csr_pem);
    told(LINKERD, &says(kube, &leaf.create(kube).await?.path, "Failed").await?)?;
    visit.guide.finished()
}

/// [`says`] of an object that may not be there yet.
async fn says_soon(kube: &Kube, path: &str, reason: &str) -> Result<String> {
    testenv::eventually(path, SOON, async || kube.find(path).await).await?;
    says(kube, path, reason).await
}

const SPIRE: &str = "docs/meshes/spire.md";
const SPIRES_REQUESTS: &str = "/apis/cert-manager.io/v1/namespaces/spire/certificaterequests";

/// The subject of a CA of SPIRE's, and its trust domain.
fn spires() -> Result<KeyAndCsr> {
    let csr = Csr::new().subject(CountryName, "US").subject(OrganizationName, "SPIFFE");
    csr.subject(CustomDnType(vec![2, 5, 4, 5]), "309613570").uri("spiffe://example.org").ec()
}

/// Makes the request as the plugin does, as SPIRE server's ServiceAccount, for the issuer that its configuration names.
async fn mint(server: &Kube, pair: &KeyAndCsr) -> Result<Created> {
    let configuration = text("deploy/spire/server.conf")?;
    let option = |name: &str| {
        let value = configuration.lines().find_map(|line| line.trim().strip_prefix(name)?.trim().strip_prefix('='));
        value.map(|value| value.trim().trim_matches('"').to_owned()).with_context(|| name.to_owned())
    };
    let issuer =
        IssuerRef { group: option("issuer_group")?, kind: option("issuer_kind")?, name: option("issuer_name")? };
    let metadata = json!({
        "generateName": "spiffe-ca-", "namespace": option("namespace")?,
        "labels": {"cert-manager.spiffe.io/trust-domain": "example.org"},
    });
    let request = Request::new("spire", "", &issuer, &pair.csr_pem).with("/metadata", metadata);
    request.ca().duration("24h0m0s").usages(&["cert sign", "crl sign"]).create(server).await
}

async fn spire(run: Run) -> Outcome {
    let mut visit = Visit::to(&run, SPIRE).await?;
    visit.guide.follow("Vault").await?;
    visit.guide.follow("The issuer").await?;
    let kube = visit.plane.kube.clone();
    kube.service_account("spire", "spire-server").await?;
    let server = kube.as_service_account("spire", "spire-server");
    let (pair, root) = (spires()?, visit.guide.file("root.pem")?);
    let request = mint(&server, &pair).await?;
    let certificate = issued(&request, &pair.csr_pem, &root).await?;
    certificate.has(&["C=US, O=SPIFFE, serialNumber=309613570", "URI:spiffe://example.org", "CA:TRUE, pathlen:0"])?;
    openssl::signs_a_leaf(&certificate.chain, &root, &pair.key_pem).await?;
    visit.guide.follow("How to see that it works").await?;

    // Before the next one it deletes those that are done.
    let selected = "?labelSelector=cert-manager.spiffe.io/trust-domain%3Dexample.org";
    let done = server.list(&format!("{SPIRES_REQUESTS}{selected}")).await?;
    ensure!(done.len() == 1, "{} requests of this trust domain", done.len());
    request.delete().await?;
    visit.plane.bao.policy("spire", r#"path "spire/roles/other" { capabilities = ["read"] }"#).await?;
    let waiting = mint(&server, &pair).await?;
    let issuer = "/apis/vaultmesh.io/v1alpha1/namespaces/spire/vaultmeshissuers/spire";
    told(SPIRE, &says(&kube, issuer, "PermissionDenied").await?)?;
    says(&server, &waiting.path, "Pending").await?;
    visit.guide.finished()
}
