//! OpenShift Service Mesh: the page is followed with the admission plugin of OpenShift on, first as far as the article gets, and
//! then to certificates of five minutes, which openssl and rustls judge.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use serde_json::{Value, json};
use testenv::mutual_tls::{Workload, refuse_each_other, shake_hands};
use testenv::{
    Csr, HierarchyOptions, IssuerRef, IstioCsr, IstioCsrOptions, KeyAndCsr, Options, Request, Run, certificate_of,
    openssl,
};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::support::{SOON, Visit, says, text, told};
use crate::{Outcome, Suite};

const PAGE: &str = "docs/meshes/openshift.md";
const ISSUER: &str = "/apis/vaultmesh.io/v1alpha1/namespaces/istio-system/vaultmeshissuers/istio-ca";
const VALUES: &str = include_str!("../../deploy/openshift-service-mesh/istio-csr-values.yaml");
/// How many certificates are asked for, and how many of them at a time.
const CERTIFICATES: usize = 200;
const AT_A_TIME: usize = 20;

pub fn add(suite: &mut Suite) {
    suite.add("OpenShift Service Mesh: the article is refused in words, and corrected it serves a mesh", openshift);
}

async fn openshift(run: Run) -> Outcome {
    let plugin = "--enable-admission-plugins=OwnerReferencesPermissionEnforcement".to_owned();
    let options = Options { apiserver_flags: vec![plugin], ..Options::default() };
    let mut visit = Visit::with(&run, PAGE, options, &[]).await?;
    as_the_article_has_it(&mut visit).await?;
    visit.guide.follow("See that it works").await?;
    intermediate_for_a_root(&visit).await?;
    let root = visit.guide.file("RH_Custom_CA.crt")?;
    let kube = &visit.plane.kube;
    let (csr, _) = IstioCsr::start(kube, IstioCsrOptions::of_values(kube, "istio-system", VALUES).await?, SOON).await?;
    plugin_is_on(&csr).await?;
    istiod(&visit, &root).await?;
    let workloads = two_hundred(&visit, &csr, &root).await?;
    let [httpbin, sleep] = &workloads;
    shake_hands(httpbin, sleep)?;
    let foreign =
        visit.plane.bao.root("foreign", &HierarchyOptions::new("foreign", testenv::Chain::RootItself), "1h").await?;
    let stranger = Workload { roots_pem: foreign, ..sleep.clone() };
    refuse_each_other(httpbin, &stranger)?;
    refuse_each_other(&stranger, httpbin)?;
    shown_by_openssl(&visit, httpbin, sleep).await?;
    // Without a root file istio-csr takes the CA of its own certificate, which is the same root.
    let trusting =
        IstioCsrOptions { roots_pem: None, ..IstioCsrOptions::of_values(kube, "istio-system", VALUES).await? };
    let (trusting, _) = IstioCsr::start(kube, trusting, SOON).await?;
    ensure!(trusting.roots()?.trim() == root.trim(), "the roots are {}", trusting.roots()?);
    elliptic_curve(&csr).await?;
    visit.finished()
}

/// The right path without a policy, the article's path without and with one, and then both right.
async fn as_the_article_has_it(visit: &mut Visit) -> Outcome {
    for section in ["Set up Vault", "Hand over the secrets", "Create the issuer"] {
        visit.guide.follow(section).await?;
    }
    forbidden(visit, "pki_int_ca/sign/rh-custom-issuer").await?;
    change(visit, json!({"vault": {"path": "pki_int/sign/cluster-dot-local"}})).await?;
    let words = forbidden(visit, "pki_int/sign/cluster-dot-local").await?;
    told(PAGE, &words)?;
    visit.guide.follow("Let the login sign").await?;
    // Any change has it looked at again.
    change(visit, json!({"certificates": {"defaultDuration": "1h"}})).await?;
    forbidden(visit, "pki_int/sign/cluster-dot-local").await?;
    change(visit, json!({"vault": {"path": "pki_int_ca/sign/rh-custom-issuer"}, "certificates": null})).await?;
    let words = says(&visit.plane.kube, ISSUER, "Verified").await?;
    ensure!(words == "Vault verified", "{words}");
    Ok(())
}

async fn change(visit: &Visit, spec: Value) -> Outcome {
    visit.plane.kube.patch(ISSUER, &json!({"spec": spec})).await.map(drop)
}

/// The condition names path, policy, mount and role; gives its words.
async fn forbidden(visit: &Visit, path: &str) -> Result<String> {
    let words = says(&visit.plane.kube, ISSUER, "PermissionDenied").await?;
    let expected = format!(
        "Vault answered 403 at {path}: 1 error occurred: * permission denied. One of three: the policy of this login has no \
         `update` on this path, or the mount in spec.vault.path is misspelt, or the role in it is"
    );
    ensure!(words == expected, "{words}");
    Ok(words)
}

/// The article has the mesh trust the intermediate; then the root takes its place.
async fn intermediate_for_a_root(visit: &Visit) -> Outcome {
    let kube = &visit.plane.kube;
    let put =
        async |name: &str| kube.secret("istio-system", "istio-root-ca", &[("ca.pem", &visit.guide.file(name)?)]).await;
    put("RH_Custom_Intermediate_CA.pem").await?;
    told(PAGE, &says(kube, ISSUER, "InvalidReference").await?)?;
    put("RH_Custom_CA.crt").await?;
    says(kube, ISSUER, "Verified").await.map(drop)
}

/// Who may not finalize an owner may not let it be blocked either: the API server of OpenShift says so, and this one.
async fn plugin_is_on(csr: &IstioCsr) -> Outcome {
    let owner = json!([{
        "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "name": "istiod", "uid": "1", "blockOwnerDeletion": true,
    }]);
    let pair = Csr::workload("httpbin", "httpbin").ec()?;
    let request =
        Request::new("istio-system", "blocking", &IssuerRef::new("VaultMeshIssuer", "istio-ca"), &pair.csr_pem);
    let refused = request.with("/metadata/ownerReferences", owner).create(csr.kube()).await;
    let refused = format!("{:#}", refused.err().context("OwnerReferencesPermissionEnforcement is off")?);
    ensure!(refused.contains("cannot set blockOwnerDeletion"), "{refused}");
    Ok(())
}

/// The Certificate that the chart of istio-csr makes for the control plane `basic`; its request is owned.
async fn istiod(visit: &Visit, root: &str) -> Outcome {
    let kube = &visit.plane.kube;
    let path = "/apis/cert-manager.io/v1/namespaces/istio-system/certificates";
    let body = json!({
        "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": {"name": "istiod"},
        "spec": {
            "commonName": "istiod.istio-system.svc", "dnsNames": ["istiod-basic.istio-system.svc"],
            "uris": ["spiffe://cluster.local/ns/istio-system/sa/istiod-service-account"], "secretName": "istiod-tls",
            "duration": "1h", "renewBefore": "30m", "revisionHistoryLimit": 1,
            "privateKey": {"rotationPolicy": "Always", "algorithm": "RSA", "size": 2048},
            "issuerRef": {"group": "vaultmesh.io", "kind": "VaultMeshIssuer", "name": "istio-ca"},
        },
    });
    kube.post(path, &body).await?;
    kube.wait_condition(&format!("{path}/istiod"), "Ready", "True", SOON).await?;
    let requests = kube.list("/apis/cert-manager.io/v1/namespaces/istio-system/certificaterequests").await?;
    let of_istiod = |request: &&Value| request["metadata"]["ownerReferences"][0]["name"] == "istiod";
    let chain = certificate_of(requests.iter().find(of_istiod).context("istiod's request")?)?;
    openssl::verify(&chain, root).await
}

/// Certificates of five minutes for workloads of two namespaces, by tokens of ten uses; gives the last of each.
async fn two_hundred(visit: &Visit, csr: &IstioCsr, root: &str) -> Result<[Workload; 2]> {
    let mark = visit.plane.bao.audit().mark()?;
    let identity = |name: &str| format!("spiffe://cluster.local/ns/{name}/sa/{name}");
    let pairs =
        [Csr::workload("httpbin", "httpbin").rsa(2048).await?, Csr::workload("sleep", "sleep").rsa(2048).await?];
    let (names, mut last) = (["httpbin", "sleep"], Vec::new());
    for _ in 0..CERTIFICATES / AT_A_TIME {
        let asked = (0..AT_A_TIME).map(|number| {
            let (name, pair) = if number % 2 == 0 { (names[0], &pairs[0]) } else { (names[1], &pairs[1]) };
            // Istio asks for a day; the chart's value cuts it.
            async move { csr.certificate(&identity(name), &pair.csr_pem, Duration::from_secs(86_400)).await }
        });
        last = try_join_all(asked).await?;
    }
    let calls = visit.plane.bao.audit().since(mark)?;
    let signs = calls.to("pki_int_ca/sign/").keep(|call| !call.probe);
    ensure!(signs.refused().is_empty(), "{:?}", signs.refused());
    let of_five_minutes = signs.keep(|call| call.data["ttl"] == "300s").len();
    ensure!(of_five_minutes == CERTIFICATES, "{of_five_minutes} of {} signs are for five minutes", signs.len());
    // A token signs ten times, or nine times after a probe; the first may have been there already.
    let logins = calls.logins("approle");
    ensure!((CERTIFICATES / 10 - 1..=CERTIFICATES / 5).contains(&logins), "{logins} logins");
    let [.., httpbin, sleep] = last.as_slice() else { anyhow::bail!("{} certificates", last.len()) };
    Ok([workload(&pairs[0], httpbin, root)?, workload(&pairs[1], sleep, root)?])
}

/// What istio-csr handed out, whose last part is what the proxy is to trust.
fn workload(pair: &KeyAndCsr, handed_out: &[String], root: &str) -> Result<Workload> {
    let (roots, chain) = handed_out.split_last().context("nothing was handed out")?;
    ensure!(roots.trim() == root.trim(), "the proxy is told to trust {roots}");
    ensure!(chain.len() == 2, "leaf and intermediate, and not {} certificates", chain.len());
    Ok(Workload { key_pem: pair.key_pem.clone(), chain_pem: chain.concat(), roots_pem: roots.clone() })
}

/// What `openssl s_client -showcerts` says of the one workload to the other, which shows its own certificate too.
async fn shown_by_openssl(visit: &Visit, server: &Workload, client: &Workload) -> Outcome {
    let folder = visit.plane.run.new_folder("s_client")?;
    let port = visit.plane.run.port()?.to_string();
    let mut listening = Command::new("openssl")
        .args(["s_server", "-accept", &port, "-naccept", "1", "-Verify", "3", "-verify_return_error"])
        .args(held(&folder, "server", server)?)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(listening.stdout.take().context("its output")?).lines();
    while lines.next_line().await?.context("openssl does not listen")? != "ACCEPT" {}
    let at = format!("127.0.0.1:{port}");
    let client = Command::new("openssl")
        .args(["s_client", "-showcerts", "-connect", &at, "-verify_return_error"])
        .args(held(&folder, "client", client)?)
        .stdin(Stdio::null())
        .output();
    let output = tokio::time::timeout(SOON, client).await.context("openssl's client does not end")??;
    let shown = [output.stderr, output.stdout].concat();
    let shown = openssl::without_blanks(&String::from_utf8_lossy(&shown));
    let page = text(PAGE)?;
    let promised =
        page.split("```text\ndepth=").nth(1).and_then(|rest| rest.split("```").next()).context("the page's block")?;
    let promised = format!("depth={}", openssl::without_blanks(promised));
    ensure!(output.status.success() && shown.contains(&promised), "expected:\n{promised}\nfound:\n{shown}");
    ensure!(shown.matches("BEGIN CERTIFICATE").count() == 2, "leaf and intermediate are sent: {shown}");
    Ok(())
}

/// The arguments that have openssl hold what a proxy holds.
fn held(folder: &Path, name: &str, workload: &Workload) -> Result<Vec<String>> {
    let chain = pem::parse_many(&workload.chain_pem)?;
    let (leaf, above) = chain.split_first().context("the chain is empty")?;
    let (leaf, above) = (pem::encode(leaf), pem::encode_many(above));
    let parts =
        [("-key", &workload.key_pem), ("-cert", &leaf), ("-cert_chain", &above), ("-CAfile", &workload.roots_pem)];
    let mut arguments = Vec::new();
    for (option, pem) in parts {
        let path = folder.join(format!("{name}{option}.pem"));
        std::fs::write(&path, pem)?;
        arguments.extend([option.to_owned(), path.display().to_string()]);
    }
    Ok(arguments)
}

/// The article's role takes RSA keys only.
async fn elliptic_curve(csr: &IstioCsr) -> Outcome {
    let pair = Csr::workload("httpbin", "httpbin").ec()?;
    let asked =
        csr.certificate("spiffe://cluster.local/ns/httpbin/sa/httpbin", &pair.csr_pem, Duration::from_secs(300));
    let refused = format!("{:#}", asked.await.err().context("the role takes EC keys")?);
    let (_, words) = refused.split_once("\"message\":\"Vault refused").context(refused.clone())?;
    let words = words.split('"').next().unwrap_or_default();
    told(PAGE, &format!("Vault refused{words}"))
}
