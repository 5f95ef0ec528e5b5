//! What is asked comes out: with sign-verbatim usages and subject as they stand in the request, elsewhere what the role gives,
//! and what is not as it was asked for is told or refused.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testenv::{Chain, Csr, HierarchyOptions, KeyAndCsr, certificate_of, condition, eventually, openssl};

use crate::support::{Corner, SOON, holds_key, is_issued, names_in, ready_of, says};
use crate::{Outcome, Shared, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("sign-verbatim gives usages, subject and names of every kind to keys of every kind", verbatim);
    suite.add("sign-verbatim gives no leaf that may sign others", no_hidden_ca);
    suite.add("usages that a role does not give are told, or refused where they are enforced", usages);
    suite.add("lifetimes cut by a role are told, and below a third the issuer says so for as long", shortened);
    suite.add("a CA that would sign after its own end is named, and not asked to", truncated);
    suite.add_for_openbao("OpenBao's CEL roles sign, refuse in their own words, and are probed", cel);
}

/// `update` on this path alone.
async fn allow(corner: &Corner, path: &str) -> Result<()> {
    let rule = format!("path \"{path}\" {{ capabilities = [\"update\"] }}");
    corner.bao().policy(&corner.recipe.policy, &rule).await
}

async fn keys() -> Result<[(&'static str, KeyAndCsr); 3]> {
    use rcgen::DnType::{CountryName, OrganizationalUnitName};
    let csr = || {
        let names = Csr::new().uri("spiffe://verbatim.example/web").dns("web.example").ip("10.0.0.7");
        let names = names.email("web@verbatim.example").organization("Literal Inc.");
        names.subject(OrganizationalUnitName, "Mesh").subject(CountryName, "CH")
    };
    Ok([("ec", csr().ec()?), ("rsa", csr().rsa(2048).await?), ("ed25519", csr().ed25519().await?)])
}

async fn verbatim(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "verbatim").await?;
    for path in ["verbatim-pki/sign-verbatim", "verbatim-pki/issuer/default/sign-verbatim/mesh"] {
        allow(&corner, path).await?;
        let issuer = corner.issuer().set("vault/path", json!(path)).set("certificates/usages", json!("Enforce"));
        let issuing = issuer.create(corner.kube()).await?;
        let observed = |object: &Value| {
            let generation = &object["metadata"]["generation"];
            ready_of(object).is_ok_and(|it| it["status"] == "True" && it["observedGeneration"] == *generation)
        };
        corner.kube().wait(&issuing.path, SOON, observed).await?;
        for (kind, pair) in keys().await? {
            let name = format!("{kind}-{}", path.len());
            let usages = ["digital signature", "key agreement", "server auth", "client auth", "ocsp signing"];
            let request = corner.request(&name, &pair.csr_pem).usages(&usages).create(corner.kube()).await?;
            let certificate = certificate_of(&corner.issued(&request).await.context(name.clone())?)?;
            holds_key(&certificate, &pair.key_pem).await?;
            let printed = openssl::text(&certificate).await?;
            for words in [
                "Subject: O = Literal Inc., OU = Mesh, C = CH\n",
                "Digital Signature, Key Agreement\n",
                "TLS Web Server Authentication, TLS Web Client Authentication, OCSP Signing\n",
            ] {
                ensure!(printed.contains(words), "{words} in {printed}");
            }
            ensure!(!printed.contains("CA:TRUE"), "{printed}");
            let names = names_in(&certificate).await?;
            let mut names: Vec<_> = names.split(", ").collect();
            names.sort_unstable();
            let expected = [
                "DNS:web.example",
                "IP Address:10.0.0.7",
                "URI:spiffe://verbatim.example/web",
                "email:web@verbatim.example",
            ];
            ensure!(names == expected, "{names:?}");
            ensure!(corner.events(&name).await?.is_empty(), "{:?}", corner.events(&name).await?);
        }
    }
    Ok(())
}

async fn no_hidden_ca(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "hidden-ca").await?;
    allow(&corner, "hidden-ca-pki/sign-verbatim").await?;
    corner.ready(corner.issuer().set("vault/path", json!("hidden-ca-pki/sign-verbatim"))).await?;
    let pair = Csr::workload("hidden-ca", "web").ec()?;
    let request = corner.request("web", &pair.csr_pem).usages(&["cert sign"]).create(corner.kube()).await?;
    corner.failed(&request, &["spec.usages asks for the usage cert sign", "only CA certificates have"]).await?;
    let request = corner.request("ca", &pair.csr_pem).ca().create(corner.kube()).await?;
    corner.failed(&request, &["spec.isCA is true", "allowCA"]).await?;
    ensure!(corner.sign_attempts()? == 0, "{:?}", corner.calls()?);
    Ok(())
}

async fn usages(shared: Arc<Shared>) -> Outcome {
    // Kong's role names its key usages in Go's words, which Vault ignores.
    let recipe = shared.plane.bao.kong("usages", Chain::WithRoot).await?;
    let corner = Corner::around(&shared, "usages", recipe).await?;
    let pair = Csr::new().uri("spiffe://default/web").rsa(2048).await?;
    let ask = async |name: &str, usages: &[&str]| {
        corner.request(name, &pair.csr_pem).usages(usages).create(corner.kube()).await
    };
    corner.ready_issuer().await?;
    let both = ["digital signature", "server auth"];
    corner.issued(&ask("warned", &both).await?).await?;
    let note = corner.event("warned", "UsagesMissing").await?["note"].clone();
    says(
        &note,
        &["without the usages digital signature.", "key_usage", "not KeyUsageDigitalSignature", "sign-verbatim"],
    )?;
    ensure!(corner.complaints()?.iter().any(|line| line.contains("UsagesMissing")), "{:?}", corner.complaints()?);

    let issuing = corner.issuer().set("certificates/usages", json!("Enforce")).create(corner.kube()).await?;
    eventually("the new spec", SOON, async || {
        let object = issuing.get().await?;
        Ok((ready_of(&object)?["observedGeneration"] == object["metadata"]["generation"]).then_some(()))
    })
    .await?;
    issuing.ready(SOON).await?;
    let words = ["missing are the usages digital signature", "spec.certificates.usages is Enforce", "key_usage"];
    corner.failed(&ask("enforced", &both).await?, &words).await?;
    corner.issued(&ask("given", &["server auth", "client auth"]).await?).await?;
    issuing.ready(SOON).await.map(drop)
}

fn shortened_of(object: &Value) -> Option<&Value> {
    condition(object, "LifetimeShortened")
}

async fn shortened(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "shortened").await?;
    let role = |max_ttl: &str| {
        let role = json!({"allow_any_name": true, "allowed_uri_sans": "*", "require_cn": false, "key_type": "any", "max_ttl": max_ttl});
        corner.bao().pki_role(corner.recipe.mount(), "mesh", role)
    };
    role("30m").await?;
    let issuing = corner.ready_issuer().await?;
    let pair = Csr::workload("shortened", "web").ec()?;
    let ask = async |name: &str, duration: &str| {
        let request = corner.request(name, &pair.csr_pem).duration(duration).create(corner.kube()).await?;
        corner.issued(&request).await
    };
    ask("half", "1h").await?;
    says(&corner.event("half", "VaultWarning").await?["note"], &["TTL", "is longer than permitted maxTTL"])?;
    ensure!(shortened_of(&issuing.get().await?).is_none(), "half a lifetime is no third");

    ask("little", "24h").await?;
    let words = ["24h were asked for at shortened-pki/sign/mesh and 30m30s given", "max_ttl", "renewed all the time"];
    says(&corner.event("little", "LifetimeShortened").await?["note"], &words)?;
    let object = corner.kube().wait(&issuing.path, SOON, |object| shortened_of(object).is_some()).await?;
    let shown = shortened_of(&object).context("the condition")?;
    ensure!(shown["status"] == "True", "{shown}");
    says(&shown["message"], &words)?;
    ensure!(ready_of(&object)?["status"] == "True", "the issuer signs on: {object}");

    ask("short", "10m").await?;
    role("48h").await?;
    ensure!(shortened_of(&issuing.get().await?).is_some(), "a short request shows nothing about long ones");
    ask("whole", "24h").await?;
    corner.kube().wait(&issuing.path, SOON, |object| shortened_of(object).is_none()).await?;
    ensure!(corner.events("whole").await?.is_empty(), "{:?}", corner.events("whole").await?);
    Ok(())
}

async fn truncated(shared: Arc<Shared>) -> Outcome {
    let options = HierarchyOptions::new("truncated", Chain::WithRoot).ttl("20s");
    let recipe = shared.plane.bao.recipe_with("truncated", &options).await?;
    let corner = Corner::around(&shared, "truncated", recipe).await?;
    let truncate = json!({"leaf_not_after_behavior": "truncate"});
    corner.bao().write("truncated-pki/issuer/default", truncate).await?;
    let issuing = corner.ready_issuer().await?;
    let ready = issuing.reason("CAExpired", SOON).await?;
    says(&ready["message"], &["CN=truncated-pki intermediate", "is past its end", "Renew it"])?;
    let request = corner.ask("web").await?;
    corner.pending(&request, "is not Ready").await?;
    ensure!(corner.sign_attempts()? == 0, "{:?}", corner.calls()?);
    Ok(())
}

async fn cel(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "cel").await?;
    let path = "cel-pki/cel/sign/mesh";
    allow(&corner, path).await?;
    let issuing = corner.issuer().set("vault/path", json!(path)).create(corner.kube()).await?;
    let refused = issuing.reason("RoleNotFound", SOON).await?;
    says(&refused["message"], &["CEL role not found", "create the role"])?;
    let expression = "size(parsed_csr.DNSNames) == 0 ? 'only names of Services, please' : ValidationOutput{template: CertTemplate{\
        DNSNames: parsed_csr.DNSNames, NotAfter: now + duration(request.ttl), KeyUsage: 1}}";
    corner.bao().write("cel-pki/cel/roles/mesh", json!({"cel_program": {"expression": expression}})).await?;
    issuing.ready(Duration::from_secs(60)).await?;
    let pair = Csr::new().dns("web.cel.svc").ec()?;
    let request = corner.request("web", &pair.csr_pem).create(corner.kube()).await?;
    let object = request.reason("Issued", SOON).await?;
    is_issued(&object, corner.recipe.root_pem()).await?;
    corner
        .failed(&corner.ask("uri").await?, &["only names of Services, please", "The CEL program of the role decides"])
        .await?;
    issuing.ready(SOON).await.map(drop)
}
