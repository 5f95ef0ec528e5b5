//! Which roots a mesh trusts: where they come from, and that none comes into force unasked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use serde_json::{Value, json};
use testenv::{
    Action, Chain, Created, HierarchyOptions, Issuer, Issuing, ca_of, certificate_of, condition, holds_for, openssl,
};

use crate::support::{A_WHILE, AT_ONCE, Corner, SOON, is_issued, says, text};
use crate::{Outcome, Shared, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("a mount without its root is refused in words until the root is imported", imported);
    suite.add("a role with an issuer of its own corrects the first anchor before anything is published", role_issuer);
    suite.add("a default issuer switched under load stops the issuer until the annotation accepts its root", switched);
    suite.add("a root that is gone stops the issuer until trust.anchors names what is meant", gone);
    suite.add("a named issuer that leads elsewhere stops the issuer without a sign", named);
    suite.add("roots of all three kinds of source are in force together, in the same bytes each time", sources);
    suite.add("another signing CA under the same root is told and interrupts nothing", signing_ca);
    suite.add(
        "a CA whose signatures cannot be checked is refused by its algorithm when the issuer is checked",
        odd_keys,
    );
    suite.add("a mount whose issuers may not be listed serves with the chain of its default alone", unlisted);
}

/// SHA-256 of a certificate, as openssl prints it: capitals and colons.
pub async fn fingerprint(pem: &str) -> Result<String> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), pem)?;
    let path = file.path().display().to_string();
    let printed = openssl::run(&["x509", "-in", &path, "-noout", "-fingerprint", "-sha256"]).await?;
    Ok(printed.trim().rsplit('=').next().unwrap_or_default().to_owned())
}

/// The same as a status has it.
pub async fn plain_fingerprint(pem: &str) -> Result<String> {
    Ok(fingerprint(pem).await?.replace(':', "").to_lowercase())
}

/// Another root, and a CA below it in the trial's own mount, which is not the default yet. Gives both.
pub async fn second_hierarchy(corner: &Corner) -> Result<(String, String)> {
    let options = HierarchyOptions::new(&format!("{}-second", corner.name), Chain::WithRoot);
    let root = corner.bao().root(&options.root_mount, &options, "87600h").await?;
    let issuing = corner.bao().intermediate(corner.recipe.mount(), &options, &root).await?;
    Ok((root, issuing))
}

/// The id that the mount has given to the issuer with this certificate.
async fn issuer_id(corner: &Corner, pem: &str) -> Result<String> {
    let mount = corner.recipe.mount();
    for id in corner.bao().list(&format!("{mount}/issuers")).await? {
        let read = corner.bao().read(&format!("{mount}/issuer/{id}")).await?.unwrap_or_default();
        if text(&read["data"]["certificate"]).trim() == pem.trim() {
            return Ok(id);
        }
    }
    anyhow::bail!("{mount} has no such issuer")
}

/// Whether the issuer's status shows these anchors and no others, in the order of their fingerprints.
pub async fn shows_anchors(object: &Value, roots: &[&str]) -> Result<()> {
    let mut expected = try_join_all(roots.iter().map(|root| plain_fingerprint(root))).await?;
    expected.sort();
    let shown: Vec<_> = object["status"]["trustAnchors"].as_array().into_iter().flatten().collect();
    ensure!(
        shown.iter().map(|it| text(&it["sha256"])).eq(expected.iter().map(String::as_str)),
        "{shown:?}, {expected:?}"
    );
    ensure!(
        shown.iter().all(|it| text(&it["subject"]).contains(" root") && text(&it["notAfter"]).ends_with('Z')),
        "{shown:?}"
    );
    Ok(())
}

/// The events of one reason about the issuer.
pub async fn told(corner: &Corner, reason: &str) -> Result<Vec<Value>> {
    Ok(corner.events("vault").await?.into_iter().filter(|event| event["reason"] == reason).collect())
}

async fn annotate(issuing: &Issuing, accepts: &str) -> Result<()> {
    let annotations = json!({"vaultmesh.io/accept-anchors": accepts});
    issuing.patch(&json!({"metadata": {"annotations": annotations}})).await.map(drop)
}

async fn imported(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::with_chain(&shared, "root-imported", Chain::IntermediateOnly).await?;
    let issuing = corner.issuer().create(corner.kube()).await?;
    let ready = issuing.reason("TrustAnchorsUnknown", SOON).await?;
    let advice = "Put the root certificate that your mesh trusts into spec.trust.anchors, or import it into the mount";
    says(&ready["message"], &["no root is known", corner.recipe.mount(), advice])?;
    let request = corner.ask("web").await?;
    corner.pending(&request, "is not Ready").await?;
    ensure!(corner.sign_attempts()? == 0, "{:?}", corner.calls()?);
    let bundle = json!({"pem_bundle": corner.recipe.root_pem()});
    corner.bao().write(&format!("{}/issuers/import/cert", corner.recipe.mount()), bundle).await?;
    corner.issued(&request).await?;
    shows_anchors(&issuing.get().await?, &[corner.recipe.root_pem()]).await
}

async fn role_issuer(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "role-issuer").await?;
    let (root, issuing_pem) = second_hierarchy(&corner).await?;
    let role = format!("{}/roles/mesh", corner.recipe.mount());
    let mut body = corner.bao().read(&role).await?.context("the role is there")?["data"].take();
    body["issuer_ref"] = issuer_id(&corner, &issuing_pem).await?.into();
    corner.bao().write(&role, body).await?;

    let issuing = corner.ready_issuer().await?;
    let object = issuing.get().await?;
    shows_anchors(&object, &[corner.recipe.root_pem()]).await?;
    ensure!(object["status"]["trustAnchorsProvisional"] == true, "{}", object["status"]);
    let requests = try_join_all(["a", "b", "c"].map(|name| corner.ask(name))).await?;
    for request in &requests {
        is_issued(&request.ready(SOON).await?, &root).await?;
    }
    let settled = |object: &Value| {
        let status = &object["status"];
        status["trustAnchorsProvisional"].is_null()
            && text(&status["signingCertificate"]["subject"]).contains("intermediate")
    };
    let object = corner.kube().wait(&issuing.path, AT_ONCE, settled).await?;
    shows_anchors(&object, &[&root]).await?;
    ensure!(object["status"]["signingCertificate"]["sha256"] == plain_fingerprint(&issuing_pem).await?, "{object}");
    ensure!(told(&corner, "TrustAnchorsChanged").await?.is_empty(), "the first answer asks nobody");
    says(
        &corner.event("vault", "TrustAnchorsInForce").await?["note"],
        &["are now CN=role-issuer-second root", "until now CN=role-issuer root"],
    )?;
    // Once it has been handed out, it takes a person's word.
    corner.bao().pki_role(corner.recipe.mount(), "mesh", json!({"issuer_ref": "default", "allow_any_name": true, "allowed_uri_sans": "*", "require_cn": false, "key_type": "any"})).await?;
    let request = corner.ask("later").await?;
    issuing.reason("TrustAnchorsChanged", SOON).await?;
    corner.pending(&request, "").await.map(drop)
}

/// Asks for one certificate after the other until told to stop; gives all requests.
async fn load(corner: &Corner, stop: &AtomicBool, name: &str) -> Result<Vec<Created>> {
    let mut asked = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        asked.push(corner.ask(&format!("{name}-{}", asked.len())).await?);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(asked)
}

async fn switched(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "switched").await?;
    let (new_root, new_ca) = second_hierarchy(&corner).await?;
    let issuing = corner.ready_issuer().await?;
    corner.issued(&corner.ask("before").await?).await?;
    let stop = AtomicBool::new(false);
    let switch = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        corner.bao().set_default_issuer(corner.recipe.mount(), &new_ca).await?;
        let ready = issuing.reason("TrustAnchorsChanged", SOON).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        stop.store(true, Ordering::Relaxed);
        ready
    };
    let (asked, ready) = futures::future::try_join(load(&corner, &stop, "load"), switch).await?;
    let sha256 = plain_fingerprint(&new_root).await?;
    let accept = format!("vaultmesh.io/accept-anchors={sha256}");
    says(&ready["message"], &["the root changed", "switched-second root", &accept, "spec.trust.anchors"])?;
    let object = issuing.get().await?;
    shows_anchors(&object, &[corner.recipe.root_pem()]).await?;
    ensure!(object["status"]["refusedRoot"]["sha256"] == sha256, "{}", object["status"]);
    corner.event("vault", "TrustAnchorsChanged").await?;

    // What was signed before is published under the old root; of the new one nothing is, and nothing more is signed.
    let (mut issued, mut waiting) = (0, Vec::new());
    for request in &asked {
        let object = request.get().await?;
        if condition(&object, "Ready").is_some_and(|ready| ready["status"] == "True") {
            is_issued(&object, corner.recipe.root_pem()).await?;
            issued += 1;
        } else {
            ensure!(object["status"]["certificate"].is_null() && object["status"]["ca"].is_null(), "{object}");
            waiting.push(request);
        }
    }
    ensure!(issued > 0 && !waiting.is_empty(), "{issued} issued, {} wait", waiting.len());
    let signs = corner.sign_attempts()?;
    annotate(&issuing, &format!("{sha256}, {}", "ab".repeat(32))).await?;
    let complains = |object: &Value| {
        condition(object, "Ready").is_some_and(|ready| text(&ready["message"]).contains("the mount shows no such root"))
    };
    corner.kube().wait(&issuing.path, AT_ONCE, complains).await?;
    holds_for("nothing is signed", A_WHILE, async || Ok(corner.sign_attempts()? == signs)).await?;

    // As openssl prints it.
    annotate(&issuing, &format!(" {} ", fingerprint(&new_root).await?)).await?;
    let object = issuing.ready(AT_ONCE).await?;
    shows_anchors(&object, &[&new_root]).await?;
    ensure!(object["status"]["refusedRoot"].is_null(), "{}", object["status"]);
    for request in waiting {
        is_issued(&request.ready(SOON).await?, &new_root).await?;
    }
    let accepted = corner.event("vault", "TrustAnchorsInForce").await?;
    says(&accepted["note"], &[&format!("are now CN=switched-second root (sha256 {sha256}, until 20")])?;
    ensure!(accepted["type"] == "Normal", "{accepted}");
    let labels = ["namespace=\"switched\"", "of=\"anchors\""];
    ensure!(shared.ours.metric("vault_mesh_issuer_trust_changes_total", &labels).await? == 1.0, "one change");
    let anchors = shared.ours.metrics().await?;
    ensure!(anchors.contains(&format!("sha256=\"{sha256}\"")), "the metric names what is in force");
    Ok(())
}

async fn gone(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::with_chain(&shared, "root-gone", Chain::RootItself).await?;
    let issuing = corner.ready_issuer().await?;
    corner.issued(&corner.ask("before").await?).await?;
    let mount = corner.recipe.mount();
    corner.bao().delete(&format!("{mount}/root")).await?;
    let new_root =
        corner.bao().root(mount, &HierarchyOptions::new("root-gone-new", Chain::RootItself), "87600h").await?;
    let request = corner.ask("after").await?;
    let ready = issuing.reason("TrustAnchorsChanged", SOON).await?;
    says(&ready["message"], &["root-gone-new root", &plain_fingerprint(corner.recipe.root_pem()).await?])?;
    corner.pending(&request, "").await?;
    issuing.patch(&json!({"spec": {"trust": {"anchors": [{"pem": new_root}]}}})).await?;
    is_issued(&request.ready(SOON).await?, &new_root).await?;
    shows_anchors(&issuing.get().await?, &[&new_root]).await
}

async fn named(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "named-elsewhere").await?;
    let (root, ca) = second_hierarchy(&corner).await?;
    let issuing = corner.ready_issuer().await?;
    corner.issued(&corner.ask("before").await?).await?;
    let signs = corner.sign_attempts()?;
    let path = format!("{}/issuer/{}/sign/mesh", corner.recipe.mount(), issuer_id(&corner, &ca).await?);
    corner.bao().sign_policy(&corner.recipe.policy, &path).await?;
    issuing.patch(&json!({"spec": {"vault": {"path": path}}})).await?;
    issuing.reason("TrustAnchorsChanged", SOON).await?;
    let request = corner.ask("after").await?;
    corner.pending(&request, "is not Ready").await?;
    ensure!(corner.sign_attempts()? == signs, "{:?}", corner.calls()?);
    // Both are accepted: the workloads of before are to be trusted too.
    let both = format!("{},{}", fingerprint(&root).await?, fingerprint(corner.recipe.root_pem()).await?);
    annotate(&issuing, &both).await?;
    let object = request.ready(AT_ONCE).await?;
    let (chain, bundle) = (certificate_of(&object)?, ca_of(&object)?);
    openssl::verify(&chain, &root).await?;
    ensure!(bundle.contains(root.trim()) && bundle.contains(corner.recipe.root_pem().trim()), "{bundle}");
    shows_anchors(&issuing.get().await?, &[&root, corner.recipe.root_pem()]).await
}

async fn sources(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::with_chain(&shared, "sources", Chain::IntermediateOnly).await?;
    let bao = corner.bao();
    let others = try_join_all(["sources-b", "sources-c"].map(|name| async move {
        let options = HierarchyOptions::new(name, Chain::RootItself);
        bao.root(&options.root_mount, &options, "87600h").await
    }))
    .await?;
    let [b, c] = others.as_slice() else { anyhow::bail!("two roots") };
    let a = corner.recipe.root_pem();
    corner.kube().config_map("sources", "roots", &[("ca.crt", a)]).await?;
    corner.kube().secret("sources", "roots", &[("tls.crt", b)]).await?;
    let anchors = json!([
        {"pem": c}, {"configMap": {"name": "roots"}}, {"secret": {"name": "roots", "key": "tls.crt"}}, {"pem": a},
    ]);
    let issuing = corner.ready(corner.issuer().set("trust", json!({"anchors": anchors}))).await?;
    shows_anchors(&issuing.get().await?, &[a, b, c]).await?;
    let first = ca_of(&corner.ask("first").await?.reason("Issued", SOON).await?)?;
    let ends =
        [a, b, c].iter().all(|root| first.contains(root.trim())) && first.matches("BEGIN CERTIFICATE").count() == 3;
    ensure!(ends, "{first}");
    // What changes the order of the sources, or the session, does not change the bytes.
    let turned = json!([{"pem": format!("{a}{b}")}, {"pem": c}]);
    issuing.patch(&json!({"spec": {"trust": {"anchors": turned}}})).await?;
    let second = ca_of(&corner.ask("second").await?.reason("Issued", SOON).await?)?;
    ensure!(first == second, "{first}{second}");
    ensure!(told(&corner, "TrustAnchorsInForce").await?.is_empty(), "nothing has changed");

    // A pin: what leads to none of them is not handed out.
    issuing.patch(&json!({"spec": {"trust": {"anchors": [{"pem": b}]}}})).await?;
    let request = corner.ask("pinned").await?;
    let ready = issuing.reason("AnswerUntrusted", SOON).await?;
    says(&ready["message"], &["does not lead to an anchor in force", "spec.trust.anchors names the roots"])?;
    corner.pending(&request, "").await?;
    issuing.patch(&json!({"spec": {"trust": {"anchors": [{"pem": corner.recipe.hierarchy.issuing_pem}]}}})).await?;
    let ready = issuing.reason("InvalidSpec", SOON).await?;
    says(
        &ready["message"],
        &["spec.trust.anchors[0].pem", "is an intermediate", "Put the root that signed it, CN=sources root, there"],
    )
}

async fn signing_ca(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "signing-ca").await?;
    let issuing = corner.ready_issuer().await?;
    corner.issued(&corner.ask("before").await?).await?;
    let options = HierarchyOptions::new("signing-ca", Chain::WithRoot);
    let new_ca = corner.bao().intermediate(corner.recipe.mount(), &options, corner.recipe.root_pem()).await?;
    let sha256 = plain_fingerprint(&new_ca).await?;
    let stop = AtomicBool::new(false);
    let replace = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        corner.bao().set_default_issuer(corner.recipe.mount(), &new_ca).await?;
        let replaced = |object: &Value| object["status"]["signingCertificate"]["sha256"] == *sha256;
        let object = corner.kube().wait(&issuing.path, SOON, replaced).await;
        stop.store(true, Ordering::Relaxed);
        object
    };
    let (asked, object) = futures::future::try_join(load(&corner, &stop, "load"), replace).await?;
    for request in &asked {
        corner.issued(request).await?;
    }
    // One write each: none of them ever waited.
    ensure!(corner.status_writes()?.len() == asked.len() + 1, "{:?}", corner.status_writes()?);
    ensure!(corner.sign_attempts()? == asked.len() + 1, "nothing was signed twice");
    shows_anchors(&object, &[corner.recipe.root_pem()]).await?;
    let signing = &object["status"]["signingCertificate"];
    ensure!(
        text(&signing["subject"]).contains("intermediate") && text(&signing["notAfter"]).ends_with('Z'),
        "{signing}"
    );
    let note = corner.event("vault", "SigningCertificateChanged").await?;
    says(&note["note"], &[&sha256, &plain_fingerprint(&corner.recipe.hierarchy.issuing_pem).await?, "until"])?;
    let labels = ["namespace=\"signing-ca\"", "of=\"signing_ca\""];
    ensure!(shared.ours.metric("vault_mesh_issuer_trust_changes_total", &labels).await? == 1.0, "one change");
    Ok(())
}

async fn odd_keys(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "odd-keys").await?;
    let rows = [
        ("p521", json!({"key_type": "ec", "key_bits": 521}), "ECDSA by a P-521 key"),
        ("pss", json!({"key_type": "rsa", "key_bits": 2048, "use_pss": true}), "RSA-PSS"),
    ];
    for (name, mut body, words) in rows {
        let mount = format!("odd-keys-{name}");
        corner.bao().mount(&mount, "pki").await?;
        body["common_name"] = format!("{name} root").into();
        body["ttl"] = "8760h".into();
        corner.bao().write(&format!("{mount}/root/generate/internal"), body).await?;
        corner.bao().lenient_role(&mount, "mesh").await?;
        corner.bao().sign_policy(&corner.recipe.policy, &format!("{mount}/sign/mesh")).await?;
        for (kind, trust) in
            [("found", Value::Null), ("given", json!({"anchors": [{"pem": corner.recipe.root_pem()}]}))]
        {
            let issuer = Issuer::app_role("odd-keys", &format!("{name}-{kind}"), corner.bao(), &corner.recipe);
            let issuer = issuer.set("vault/path", format!("{mount}/sign/mesh").into()).set("trust", trust);
            let ready = issuer.create(corner.kube()).await?.reason("CAUnusable", SOON).await.context(mount.clone())?;
            says(
                &ready["message"],
                &[&mount, &format!("{name} root signs with {words}"), "cannot check", "Use a CA of"],
            )?;
        }
    }
    Ok(())
}

async fn unlisted(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "unlisted").await?;
    let proxy = corner.proxy().await?;
    let refusal = Action::answer(403, &json!({"errors": ["permission denied"]}));
    let rule = proxy.on(|seen| seen.path.ends_with("/issuers"), refusal);
    let issuing = corner.ready(corner.issuer_at(proxy.url())).await?;
    corner.issued(&corner.ask("web").await?).await?;
    ensure!(rule.hits() > 0, "the issuers were not asked for");
    shows_anchors(&issuing.get().await?, &[corner.recipe.root_pem()]).await
}
