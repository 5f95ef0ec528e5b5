//! docs/meshes/tetrate.md: Tetrate's guide, step by step, and what its istio-csr would hand to the proxies.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use testenv::mutual_tls::{Workload, refuse_each_other, shake_hands};
use testenv::{Chain, Csr, HierarchyOptions, IstioCsr, IstioCsrOptions, KeyAndCsr, Run, openssl};

use crate::support::{SOON, Visit, says, told};
use crate::{Outcome, Suite};

const PAGE: &str = "docs/meshes/tetrate.md";
const ISSUER: &str = "/apis/vaultmesh.io/v1alpha1/namespaces/istio-system/vaultmeshissuers/vault-issuer";
const HOUR: Duration = Duration::from_secs(3_600);

pub fn add(suite: &mut Suite) {
    suite.add("Tetrate: after its guide's steps istio-csr hands out the operator's root, and workloads meet", meet);
    suite.add("Tetrate: what goes wrong is told in the words of the page", goes_wrong);
    suite.add("Tetrate: an intermediate as root file works, until there is a second intermediate", intermediate);
}

async fn meet(run: Run) -> Outcome {
    let mut visit = installed(&run).await?;
    visit.guide.follow("How to see that it works").await?;
    let told = visit.guide.follow("If the intermediate is the root file").await?;
    ensure!(told.contains("handed-out.pem: OK"), "{told}");
    visit.finished()?;

    let root = visit.guide.file("ca.crt")?;
    let istio_csr = start(&visit, options(&visit).await?).await?;
    ensure!(istio_csr.roots()?.trim() == root.trim(), "istio-csr was given another root");
    let (shop, data) = (workload(&istio_csr, "shop", "web").await?, workload(&istio_csr, "data", "store").await?);
    for workload in [&shop, &data] {
        ensure!(workload.roots_pem.trim() == root.trim(), "a proxy is told another root: {}", workload.roots_pem);
        openssl::verify(&workload.chain_pem, &root).await?;
    }
    let log = visit.ours.log()?;
    for identity in ["ns/shop/sa/web", "ns/data/sa/store"] {
        let lines = log.lines().filter(|line| line.contains(identity)).count();
        ensure!(lines == 1, "{lines} lines about {identity}: {log}");
    }
    shake_hands(&shop, &data)?;
    shake_hands(&data, &shop)?;
    let stranger = Workload { roots_pem: visit.plane.bao.root("foreign", &elsewhere(), "24h").await?, ..data };
    refuse_each_other(&shop, &stranger)?;
    refuse_each_other(&stranger, &shop)
}

async fn goes_wrong(run: Run) -> Outcome {
    let visit = installed(&run).await?;
    let kube = &visit.plane.kube;
    let istio_csr = start(&visit, options(&visit).await?).await?;
    let refused = ask(&istio_csr, "shop", "web", &Csr::workload("shop", "web").organization("").ec()?).await;
    let refused = format!("{:#}", refused.err().context("the role takes EC keys")?);
    quoted(
        &refused,
        "Vault refused to sign at istioca/sign/cluster-local: role requires keys of type rsa. The role's key_type and \
         key_bits decide; key_type=any accepts all",
    )?;

    let foreign = visit.plane.bao.root("foreign", &elsewhere(), "24h").await?;
    let beside = IstioCsrOptions { roots_pem: Some(foreign.clone()), ..options(&visit).await? };
    let beside = start(&visit, beside).await?;
    let refused = workload(&beside, "shop", "web").await.err().context("a foreign root file does")?;
    ensure!(format!("{refused:#}").contains("UnknownIssuer"), "{refused:#}");

    let issuing = visit.plane.bao.read("istioca/cert/ca").await?.unwrap_or_default();
    let issuing = issuing["data"]["certificate"].as_str().context("istioca has no CA")?;
    kube.config_map("istio-system", "mesh-root", &[("ca.crt", issuing)]).await?;
    told(PAGE, &says(kube, ISSUER, "InvalidReference").await?)?;

    kube.config_map("istio-system", "mesh-root", &[("ca.crt", &foreign)]).await?;
    let known = |object: &Value| object["status"]["trustAnchors"].to_string().contains("CN=foreign");
    kube.wait(ISSUER, SOON, known).await.context("the issuer knows the new anchor")?;
    // The first request shows that nothing leads there.
    let ready = tokio::select! {
        ready = says(kube, ISSUER, "AnswerUntrusted") => ready?,
        answered = workload(&istio_csr, "shop", "web") => bail!("an answer under another root: {answered:?}"),
    };
    quoted(
        &ready,
        "the certificate returned at istioca/sign/cluster-local does not lead to an anchor in force: the chain ends at the \
         self-signed O=Tetrate, CN=Root CA",
    )
}

async fn intermediate(run: Run) -> Outcome {
    let mut visit = installed(&run).await?;
    let root = visit.guide.file("ca.crt")?;
    let issuing = visit.plane.bao.read("istioca/cert/ca").await?.unwrap_or_default();
    let issuing = format!("{}\n", issuing["data"]["certificate"].as_str().context("istioca has no CA")?.trim());
    let given = |roots: &str| Some(roots.to_owned());
    let as_guided = IstioCsrOptions { roots_pem: given(&issuing), ..options(&visit).await? };
    let as_guided = workload(&start(&visit, as_guided).await?, "shop", "web").await?;
    ensure!(as_guided.roots_pem == issuing, "{}", as_guided.roots_pem);
    let refused = openssl::verify(&as_guided.chain_pem, &issuing).await.err().context("OpenSSL takes it for a root")?;
    ensure!(format!("{refused:#}").contains("unable to get issuer certificate"), "{refused:#}");
    looked_at(&mut visit, &issuing, &root).await?;

    // The neighbour's intermediate is of the same root, and its proxies are told to trust that.
    let neighbour = neighbour(&visit, &root).await?;
    ensure!(shake_hands(&neighbour, &as_guided).is_err(), "they meet, and should not");
    let both = IstioCsrOptions { roots_pem: given(&format!("{issuing}{root}")), ..options(&visit).await? };
    let both = workload(&start(&visit, both).await?, "shop", "web").await?;
    let right = workload(&start(&visit, options(&visit).await?).await?, "shop", "web").await?;
    for (one, other) in [(&neighbour, &both), (&neighbour, &right), (&as_guided, &both), (&both, &right)] {
        shake_hands(one, other)?;
        shake_hands(other, one)?;
    }
    Ok(())
}

/// What the page's commands show where the intermediate is the root file; the root is put back.
async fn looked_at(visit: &mut Visit, issuing: &str, root: &str) -> Outcome {
    let kube = visit.plane.kube.clone();
    kube.secret("cert-manager", "istio-root-ca", &[("ca.cert.pem", issuing)]).await?;
    let shown =
        visit.guide.follow("If the intermediate is the root file").await.err().context("it passes for a root")?;
    kube.secret("cert-manager", "istio-root-ca", &[("ca.cert.pem", root)]).await?;
    quoted(&format!("{shown:#}"), "error 20 at 0 depth lookup: unable to get local issuer certificate")
}

/// All of the page up to istio-csr itself.
async fn installed(run: &Run) -> Result<Visit> {
    let mut visit = Visit::to(run, PAGE).await?;
    visit.guide.follow("What is needed").await?;
    visit.guide.follow("Vault").await?;
    let shown = visit.guide.follow("Secret, roots and issuer").await?;
    ensure!(shown.contains("Vault verified"), "{shown}");
    visit.guide.follow("istiod's certificate").await?;
    visit.guide.follow("The root that istio-csr hands out").await?;
    Ok(visit)
}

/// What the reader's values say.
async fn options(visit: &Visit) -> Result<IstioCsrOptions> {
    let values = visit.guide.file("deploy/istio-csr/values.yaml")?;
    IstioCsrOptions::of_values(&visit.plane.kube, "cert-manager", &values).await
}

async fn start(visit: &Visit, options: IstioCsrOptions) -> Result<IstioCsr> {
    let (istio_csr, serving) = IstioCsr::start(&visit.plane.kube, options, SOON).await?;
    ensure!(serving.tries == 1, "{serving:?}");
    Ok(istio_csr)
}

async fn ask(istio_csr: &IstioCsr, namespace: &str, account: &str, pair: &KeyAndCsr) -> Result<Workload> {
    let identity = format!("spiffe://cluster.local/ns/{namespace}/sa/{account}");
    let mut chain = istio_csr.certificate(&identity, &pair.csr_pem, HOUR).await?;
    let roots_pem = chain.pop().context("no roots")?;
    Ok(Workload { key_pem: pair.key_pem.clone(), chain_pem: chain.concat(), roots_pem })
}

async fn workload(istio_csr: &IstioCsr, namespace: &str, account: &str) -> Result<Workload> {
    let pair = Csr::workload(namespace, account).organization("").rsa(2048).await?;
    ask(istio_csr, namespace, account, &pair).await
}

/// The words are said, and the page has them.
fn quoted(said: &str, words: &str) -> Outcome {
    ensure!(said.contains(words), "{words:?} is not in: {said}");
    told(PAGE, words)
}

/// A root that has nothing to do with the mesh.
fn elsewhere() -> HierarchyOptions {
    HierarchyOptions { root_name: "foreign".into(), ..HierarchyOptions::new("foreign", Chain::RootItself) }
}

/// A workload of another cluster, with an intermediate of its own below the same root.
async fn neighbour(visit: &Visit, root: &str) -> Result<Workload> {
    let bao = &visit.plane.bao;
    let below =
        HierarchyOptions { root_mount: "pki".into(), ..HierarchyOptions::new("neighbour", Chain::IntermediateOnly) };
    let issuing = bao.intermediate("neighbour", &below, root).await?;
    bao.lenient_role("neighbour", "mesh").await?;
    let pair = Csr::workload("shop", "till").ec()?;
    let signed = bao.sign("neighbour/sign/mesh", &pair.csr_pem, "1h").await?;
    let leaf = signed["certificate"].as_str().context("no certificate")?;
    let chain_pem = format!("{}\n{issuing}", leaf.trim());
    Ok(Workload { key_pem: pair.key_pem, chain_pem, roots_pem: root.to_owned() })
}
