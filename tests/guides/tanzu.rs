//! docs/meshes/tanzu.md: two clusters with a Vault each below one root, and what a change of that root leads to.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testenv::mutual_tls::{Workload, shake_hands};
use testenv::{
    Bao, BaoOptions, Chain, ControlPlane, Created, Csr, HierarchyOptions, IssuerRef, KeyAndCsr, Options, Request, Run,
    certificate_of, condition, openssl,
};

use crate::replay::issued;
use crate::support::{SOON, Visit, says, told};
use crate::{Outcome, Suite};

const PAGE: &str = "docs/meshes/tanzu.md";
const NAMESPACE: &str = "istio-system";
const ISSUER: &str = "/apis/vaultmesh.io/v1alpha1/namespaces/istio-system/vaultmeshissuers/mesh";
const BUNDLE: &str = "/api/v1/namespaces/istio-system/configmaps/mesh-trust-bundle";

pub fn add(suite: &mut Suite) {
    suite.add(
        "Tanzu Service Mesh: two clusters with a Vault each share one root, which changes only when told to",
        tanzu,
    );
}

/// A cluster as it is after the blocks that are not run: the ServiceAccount is there, and the chart names it.
async fn cluster(run: &Run, name: &str) -> Result<Visit> {
    let plane = ControlPlane::start(run, Options::default()).await?;
    plane.kube.namespace(NAMESPACE).await?;
    plane.kube.service_account(NAMESPACE, "vault-login").await?;
    let account = format!("serviceAccounts[0].namespace={NAMESPACE}");
    let mut visit = Visit::on(plane, PAGE, &[account.as_str(), "serviceAccounts[0].name=vault-login"]).await?;
    visit.guide.set("CLUSTER", name);
    Ok(visit)
}

async fn set_up(visit: &mut Visit) -> Outcome {
    for section in ["A CA in each Vault", "A login for each cluster", "The issuer", "How to see that it works"] {
        visit.guide.follow(section).await?;
    }
    Ok(())
}

/// What istio-csr asks for a workload.
async fn ask(visit: &Visit, name: &str) -> Result<(KeyAndCsr, Created)> {
    let pair = Csr::workload("shop", name).ec()?;
    let request = Request::new(NAMESPACE, name, &IssuerRef::new("VaultMeshIssuer", "mesh"), &pair.csr_pem);
    let request = request.duration("1h").usages(&["client auth", "server auth"]).create(&visit.plane.kube).await?;
    Ok((pair, request))
}

/// What a workload holds once it has its certificate; it is to trust this root alone.
async fn workload(visit: &Visit, name: &str, root: &str) -> Result<Workload> {
    let (pair, request) = ask(visit, name).await?;
    let issued = issued(&request, &pair.csr_pem, root).await?;
    Ok(Workload { key_pem: pair.key_pem, chain_pem: issued.chain, roots_pem: root.to_owned() })
}

/// The words with what differs from run to run left blank, as the page has them.
async fn blanked(visit: &Visit, words: &str, other: &str) -> Result<String> {
    let mut words = words.to_owned();
    for file in ["root.pem", other] {
        let sha256 = fingerprint(visit, file).await?;
        ensure!(words.contains(&sha256), "{words}");
        words = words.replace(&sha256, &format!("<SHA-256 of {file}>"));
    }
    let mut parts = words.split(", until ");
    let first = parts.next().unwrap_or_default().to_owned();
    Ok(parts.fold(first, |text, part| {
        let rest = part.split_once(')').map_or("", |(_, rest)| rest);
        format!("{text}, until <its end>){rest}")
    }))
}

/// As openssl has it, without its colons.
async fn fingerprint(visit: &Visit, file: &str) -> Result<String> {
    let path = visit.guide.folder().join(file).display().to_string();
    let printed = openssl::run(&["x509", "-in", &path, "-noout", "-fingerprint", "-sha256"]).await?;
    Ok(printed.trim().rsplit('=').next().unwrap_or_default().replace(':', "").to_lowercase())
}

async fn tanzu(run: Run) -> Outcome {
    let (mut east, mut west) = futures::future::try_join(cluster(&run, "east"), cluster(&run, "west")).await?;
    east.guide.follow("The root, once").await?;
    let new = east.guide.folder().join("new-root").display().to_string();
    let (new_key, new_pem) = (format!("{new}.key"), format!("{new}.pem"));
    openssl::run(&[
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=New mesh root",
        "-addext",
        "keyUsage=critical,keyCertSign,cRLSign",
        "-days",
        "3650",
        "-keyout",
        &new_key,
        "-out",
        &new_pem,
    ])
    .await?;
    for file in ["root.pem", "root.key", "new-root.pem", "new-root.key"] {
        std::fs::copy(east.guide.folder().join(file), west.guide.folder().join(file))?;
    }
    futures::future::try_join(set_up(&mut east), set_up(&mut west)).await?;

    // Each logs in at its own Vault, which has its own API server review the token.
    for (visit, mount) in [(&east, "kubernetes-east"), (&west, "kubernetes-west")] {
        ensure!(visit.plane.bao.audit().all()?.logins(mount) == 1, "one login at {mount}");
        let reviews = visit.plane.kube_audit.all()?.of(NAMESPACE, "vault-reviewer").resource("tokenreviews");
        let asked = visit.plane.kube_audit.all()?.of(&visit.ours.namespace, &visit.ours.account);
        let asked = asked.resource("serviceaccounts/token").named("vault-login").len();
        ensure!(!reviews.is_empty() && asked == 1, "{} reviews for {mount}, and {asked} tokens", reviews.len());
    }
    let root = east.guide.file("root.pem")?;
    let (in_east, in_west) = (workload(&east, "web", &root).await?, workload(&west, "web", &root).await?);
    openssl::verify(&in_east.chain_pem, &west.guide.file("bundle-west.pem")?).await?;
    openssl::verify(&in_west.chain_pem, &east.guide.file("bundle-east.pem")?).await?;
    shake_hands(&in_east, &in_west)?;
    shake_hands(&in_west, &in_east)?;

    announced(&run, &mut east).await?;
    futures::future::try_join(on_purpose(&mut east), by_surprise(&mut west)).await?;
    west.guide.follow("Accepting it").await?;
    workload(&west, "after", &west.guide.file("new-root.pem")?).await?;
    refused_login(&west).await?;
    // The two have followed different halves of what remains.
    east.guide.follow("Accepting it").await?;
    east.guide.finished()
}

/// The cluster is not moved to a Vault with another root: that is said before the manifest is applied.
async fn announced(run: &Run, visit: &mut Visit) -> Outcome {
    let (kube, bao) = (visit.plane.kube.clone(), Bao::start(run, BaoOptions::default()).await?);
    let root_name = "Other mesh root".to_owned();
    let options = HierarchyOptions { root_name, ..HierarchyOptions::new("other", Chain::WithRoot) };
    let hierarchy = bao.hierarchy("mesh", &options).await?;
    std::fs::write(visit.guide.folder().join("other-root.pem"), &hierarchy.root_pem)?;
    bao.lenient_role("mesh", "workloads").await?;
    bao.sign_policy("mesh", "mesh/sign/workloads").await?;
    let reviewer = kube.token(NAMESPACE, "vault-reviewer", &[]).await?;
    bao.kubernetes_login("kubernetes-east", kube.server(), run.authority().pem(), &reviewer).await?;
    let more = json!({"token_policies": ["mesh"], "audience": "vault://istio-system/mesh"});
    bao.kubernetes_role("kubernetes-east", "mesh", NAMESPACE, "vault-login", more).await?;
    visit.guide.program("vault-mesh-issuer", env!("CARGO_BIN_EXE_vault-mesh-issuer"))?;
    visit.guide.set("OTHER_VAULT_ADDR", bao.address());
    visit.guide.follow("Before a cluster moves to another Vault").await?;
    let findings = visit.guide.file("findings.txt")?;
    let announced =
        findings.lines().find_map(|line| line.split_once("unsuited  ")).with_context(|| findings.clone())?.1;
    ensure!(findings.contains("Vault accepts these credentials"), "{findings}");
    told(PAGE, &blanked(visit, announced, "other-root.pem").await?)?;
    ensure!(kube.get(ISSUER).await?["spec"]["vault"]["server"] == visit.plane.bao.address(), "it was applied");
    Ok(())
}

/// Both roots are trusted before Vault signs below the new one: no request waits.
async fn on_purpose(visit: &mut Visit) -> Outcome {
    visit.guide.follow("Another root of trust, on purpose").await?;
    let (old, new) = (visit.guide.file("root.pem")?, visit.guide.file("new-root.pem")?);
    let both = |object: &Value| {
        let bundle = object["data"]["ca.crt"].as_str().unwrap_or_default();
        bundle.contains(old.trim()) && bundle.contains(new.trim())
    };
    visit.plane.kube.wait(BUNDLE, SOON, both).await?;
    visit.guide.follow("Another root of trust, by surprise").await?;
    let (_, request) = ask(visit, "below-the-new-root").await?;
    let object = request.reason("Issued", SOON).await?;
    openssl::verify(&certificate_of(&object)?, &new).await?;
    let ready = visit.plane.kube.get(ISSUER).await?;
    ensure!(condition(&ready, "Ready").is_some_and(|it| it["status"] == "True"), "{ready}");
    Ok(())
}

/// Nothing is signed below a root that nobody has accepted, and the bundle stays as it is.
async fn by_surprise(visit: &mut Visit) -> Outcome {
    let before = visit.plane.kube.get(BUNDLE).await?;
    visit.guide.follow("Another root of trust, by surprise").await?;
    let (_, request) = ask(visit, "held").await?;
    let words = says(&visit.plane.kube, ISSUER, "TrustAnchorsChanged").await?;
    told(PAGE, &blanked(visit, &words, "new-root.pem").await?)?;
    says(&visit.plane.kube, &request.path, "Pending").await?;
    ensure!(visit.plane.kube.get(BUNDLE).await? == before, "the bundle has changed");
    Ok(())
}

async fn refused_login(visit: &Visit) -> Outcome {
    let auth = json!({"kubernetes": {"mountPath": "/v1/auth/kubernetes-wets"}});
    visit.plane.kube.patch(ISSUER, &json!({"spec": {"vault": {"auth": auth}}})).await.context("another mount")?;
    told(PAGE, &says(&visit.plane.kube, ISSUER, "LoginRefused").await?)
}
