//! Intermediate CAs for meshes that sign for themselves: what comes out works as they need it, what goes beyond is refused, and
//! nothing of it touches leaves.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testenv::{Chain, Csr, HierarchyOptions, KeyAndCsr, ca_of, certificate_of, openssl};

use crate::support::{Corner, SOON, decoded, names_in, ready_of, says, text};
use crate::{Outcome, Shared, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("Linkerd's Certificate becomes an intermediate whose leaves lead to the root", linkerd);
    suite.add("SPIRE's request becomes an intermediate with its URI and subject", spire);
    suite.add("a CA request that asks for more than it may is refused in words and nothing is signed", beyond);
    suite.add("a CA path that the policy forbids concerns CA requests only", forbidden);
    suite.add("a CA that must not have CAs below it says so, and one that lives shorter warns", of_the_ca);
}

/// `update` on the recipe's own path and on the one that makes CA certificates.
async fn allow(corner: &Corner, ca_path: &str) -> Result<()> {
    let rules = [corner.recipe.sign_path.as_str(), ca_path]
        .map(|path| format!("path \"{path}\" {{ capabilities = [\"update\"] }}\n"));
    corner.bao().policy(&corner.recipe.policy, &rules.concat()).await
}

async fn linkerd(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "linkerd").await?;
    allow(&corner, "linkerd-pki/root/sign-intermediate").await?;
    corner.ready(corner.issuer().set("certificates/allowCA", json!({}))).await?;
    let certificates = "/apis/cert-manager.io/v1/namespaces/linkerd/certificates";
    let body = |name: &str| {
        json!({
            "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": {"name": name},
            "spec": {
                "secretName": name, "duration": "48h", "renewBefore": "25h", "isCA": true,
                "commonName": "identity.linkerd.cluster.local", "dnsNames": ["identity.linkerd.cluster.local"],
                "privateKey": {"algorithm": "ECDSA", "size": 256},
                "issuerRef": {"group": "vaultmesh.io", "kind": "VaultMeshIssuer", "name": "vault"},
            },
        })
    };
    // As in Linkerd's guide but for server auth and client auth; and without any usages.
    let mut with_usages = body("linkerd-identity-issuer");
    with_usages["spec"]["usages"] = json!(["cert sign", "crl sign"]);
    for (certificate, usages) in [
        (with_usages, "Certificate Sign, CRL Sign"),
        (body("plain"), "Digital Signature, Key Encipherment, Certificate Sign"),
    ] {
        let name = text(&certificate["metadata"]["name"]).to_owned();
        corner.kube().post(certificates, &certificate).await?;
        corner.kube().wait_condition(&format!("{certificates}/{name}"), "Ready", "True", SOON).await?;
        let secret = corner.kube().get(&format!("/api/v1/namespaces/linkerd/secrets/{name}")).await?;
        let part = |key: &str| decoded(&secret["data"][key]);
        let (chain, root, key) = (part("tls.crt")?, part("ca.crt")?, part("tls.key")?);
        shared.run.secrets().add("a CA's key", key.as_str());
        ensure!(root.trim() == corner.recipe.root_pem().trim(), "ca.crt is the root:\n{root}");
        let printed = openssl::text(&chain).await?;
        for words in ["Subject: CN = identity.linkerd.cluster.local", "CA:TRUE, pathlen:0", usages] {
            ensure!(printed.contains(words), "{words} in {printed}");
        }
        ensure!(!printed.contains("Extended Key Usage"), "{printed}");
        ensure!(names_in(&chain).await? == "DNS:identity.linkerd.cluster.local", "{printed}");
        openssl::signs_a_leaf(&chain, &root, &key).await?;
    }
    // The leaf path is as it was.
    corner.issued(&corner.ask("web").await?).await.map(drop)
}

fn spires(domain: &str) -> Result<KeyAndCsr> {
    use rcgen::DnType::{CountryName, CustomDnType};
    let serial_number = CustomDnType(vec![2, 5, 4, 5]);
    Csr::new().subject(CountryName, "US").organization("SPIFFE").subject(serial_number, "4711").uri(domain).ec()
}

async fn spire(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "spire").await?;
    let path = "spire-pki/issuer/default/sign-intermediate";
    allow(&corner, path).await?;
    // A path that makes CA certificates needs no allowCA.
    corner.ready(corner.issuer().set("vault/path", json!(path))).await?;
    let pair = spires("spiffe://spire.example")?;
    let request = corner.request("upstream", &pair.csr_pem).ca().usages(&["cert sign", "crl sign"]);
    let object = corner.issued(&request.create(corner.kube()).await?).await?;
    let (chain, root) = (certificate_of(&object)?, ca_of(&object)?);
    let printed = openssl::text(&chain).await?;
    for words in ["Subject: C = US, O = SPIFFE, serialNumber = 4711", "CA:TRUE, pathlen:0"] {
        ensure!(printed.contains(words), "{words} in {printed}");
    }
    ensure!(names_in(&chain).await? == "URI:spiffe://spire.example", "{printed}");
    openssl::signs_a_leaf(&chain, &root, &pair.key_pem).await?;
    ensure!(corner.events("upstream").await?.is_empty(), "{:?}", corner.events("upstream").await?);
    // And it serves nobody else: what a leaf asks for would come back as a CA.
    let attempts = corner.sign_attempts()?;
    let leaf = corner.ask("leaf").await?;
    corner.failed(&leaf, &["spec.isCA is not true", path, "makes CA certificates only", "sign/<role>"]).await?;
    ensure!(corner.sign_attempts()? == attempts, "{:?}", corner.calls()?);
    Ok(())
}

async fn beyond(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "beyond").await?;
    allow(&corner, "beyond-pki/root/sign-intermediate").await?;
    let limits = json!({"allowCA": {"maxPathLength": 1, "maxDuration": "48h"}});
    corner.ready(corner.issuer().set("certificates", limits)).await?;
    let plain = || Csr::new().cn("ca.example").uri("spiffe://beyond.example");
    let one = plain().ec()?.csr_pem;
    let (longer, odd) = (plain().ca_with_path_length(2).ec()?, plain().extension(&[1, 2, 3, 4], vec![5, 0]).ec()?);
    let rows: [(&str, &str, &[&str], &[&str]); 4] = [
        ("longer", &longer.csr_pem, &[], &["a path length of 2, and this issuer permits 1", "allowCA.maxPathLength"]),
        (
            "extended",
            &one,
            &["cert sign", "server auth", "client auth"],
            &["the usages server auth, client auth", "Leave the others out"],
        ),
        ("usage", &one, &["cert sign", "data encipherment"], &["spec.usages asks for the usages data encipherment"]),
        ("extension", &odd.csr_pem, &[], &["asks for the extensions 1.2.3.4", "no others than names"]),
    ];
    for (name, csr, usages, words) in rows {
        let request = corner.request(name, csr).ca().usages(usages).create(corner.kube()).await.context(name)?;
        corner.failed(&request, words).await.context(name)?;
    }
    let long = corner.request("long", &one).ca().duration("49h").create(corner.kube()).await?;
    corner.failed(&long, &["spec.duration: 49h is longer", "allowCA.maxDuration"]).await?;
    ensure!(corner.sign_attempts()? == 0, "{:?}", corner.calls()?);
    // Within the limits it is signed, and a shorter path than is allowed stays as short as it was asked for.
    for (name, csr, length) in [("at-most", one, 1), ("shorter", plain().ca_with_path_length(0).ec()?.csr_pem, 0)] {
        let request = corner.request(name, &csr).ca().usages(&["cert sign"]).create(corner.kube()).await?;
        let object = corner.issued(&request).await.context(name)?;
        let printed = openssl::text(&certificate_of(&object)?).await?;
        ensure!(printed.contains(&format!("CA:TRUE, pathlen:{length}")), "{printed}");
    }
    Ok(())
}

async fn forbidden(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "ca-forbidden").await?;
    let issuing = corner.ready(corner.issuer().set("certificates/allowCA", json!({}))).await?;
    let before = ready_of(&issuing.get().await?)?.clone();
    let request = corner.request("ca", &spires("spiffe://forbidden.example")?.csr_pem).ca();
    let words =
        ["403", "ca-forbidden-pki/root/sign-intermediate", "the policy of the issuer's login needs `update` on it too"];
    let request = request.usages(&["cert sign"]).create(corner.kube()).await?;
    let (refused, leaf) =
        futures::join!(corner.failed(&request, &words), async { corner.issued(&corner.ask("web").await?).await });
    refused.and(leaf)?;
    corner.issued(&corner.ask("after").await?).await?;
    let after = ready_of(&issuing.get().await?)?.clone();
    ensure!(before == after, "the issuer is as it was: {before} {after}");
    ensure!(corner.calls()?.logins_of(&corner.recipe.app_role) == 1, "{:?}", corner.calls()?);
    Ok(())
}

async fn of_the_ca(shared: Arc<Shared>) -> Outcome {
    let bao = &shared.plane.bao;
    let short = HierarchyOptions { max_path_length: 0, ..HierarchyOptions::new("ca-short", Chain::WithRoot) };
    let corner = Corner::around(&shared, "ca-short", bao.recipe_with("ca-short", &short).await?).await?;
    let ask = async |corner: &Corner| -> Result<_> {
        allow(corner, &format!("{}/root/sign-intermediate", corner.recipe.mount())).await?;
        corner.ready(corner.issuer().set("certificates/allowCA", json!({}))).await?;
        let pair = spires("spiffe://short.example")?;
        corner.request("ca", &pair.csr_pem).ca().duration("24h").usages(&["cert sign"]).create(corner.kube()).await
    };
    corner.failed(&ask(&corner).await?, &["max path length of zero", "max_path_length forbids it"]).await?;
    corner.issued(&corner.ask("web").await?).await?;

    let old = HierarchyOptions::new("ca-old", Chain::WithRoot).ttl("2h");
    let corner = Corner::around(&shared, "ca-old", bao.recipe_with("ca-old", &old).await?).await?;
    let object: Value = corner.issued(&ask(&corner).await?).await?;
    let event = corner.event("ca", "VaultWarning").await?;
    says(&event["note"], &["expiration time for the signed certificate is after the CA's"])?;
    ensure!(ready_of(&object)?["reason"] == "Issued", "{object}");
    Ok(())
}
