//! `spec.trust.publish`: the anchors in force stand under one key of an object, and nothing else of it is touched, taken or fought
//! over.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testenv::{Action, Chain, Issuer, Issuing, certificate_of, condition, holds_for, openssl};

use crate::support::{A_WHILE, AT_ONCE, Corner, SOON, decoded, says, text};
use crate::{Outcome, Shared, Suite};

pub fn add(suite: &mut Suite) {
    suite.add("a ConfigMap is made, openssl verifies with it, and it outlives its issuer", made_and_kept);
    suite.add("everything else in a ConfigMap stays as it was", nothing_else);
    suite.add("the bundle follows the anchors: the old root, both, the new one", follows);
    suite.add("a key of somebody else's is left alone until it is handed over, and again afterwards", somebody_elses);
    suite.add("one object has one publisher, and the next one takes over when that is gone", one_publisher);
    suite.add("a Secret keeps its type and its other keys, and a new one is Opaque", secrets);
    suite.add("a key or an object that is deleted comes back", comes_back);
    suite.add("nothing is written while the anchors are not known", anchors_unknown);
    suite.add("an issuer that turns to another key, or to none, leaves the former one where it is", turned_away);
    suite.add("a cluster issuer publishes into the cluster resource namespace", cluster_issuer);
}

/// `spec.trust.publish` of a ConfigMap `bundle`.
fn to_config_map() -> Value {
    json!({"publish": {"configMap": {"name": "bundle"}}})
}

fn config_map(corner: &Corner) -> String {
    format!("/api/v1/namespaces/{}/configmaps/bundle", corner.name)
}

/// Waits for a Published condition with this reason about the spec as it is; gives it.
async fn says_published(issuing: &Issuing, corner: &Corner, reason: &str, within: Duration) -> Result<Value> {
    let done = |object: &Value| {
        let current = |it: &Value| it["observedGeneration"] == object["metadata"]["generation"];
        condition(object, "Published").is_some_and(|it| it["reason"] == reason && current(it))
    };
    let object = corner.kube().wait(&issuing.path, within, done).await?;
    let found = condition(&object, "Published").context("the condition has gone")?;
    ensure!(found["status"] == if reason == "Published" { "True" } else { "False" }, "{found}");
    Ok(found.clone())
}

/// Waits until a key of the ConfigMap `bundle` holds this.
async fn holds(corner: &Corner, key: &str, value: &str) -> Result<Value> {
    let done = |object: &Value| object["data"][key] == value;
    eventually_there(corner, &config_map(corner), done).await
}

/// Waits for an object that may not be there yet.
async fn eventually_there(corner: &Corner, path: &str, done: impl Fn(&Value) -> bool) -> Result<Value> {
    testenv::eventually(path, AT_ONCE, async || Ok(corner.kube().find(path).await?.filter(|found| done(found)))).await
}

async fn made_and_kept(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::with_chain(&shared, "publish-made", Chain::WithRoot).await?;
    let issuing = corner.ready(corner.issuer().set("trust", to_config_map())).await?;
    let told = says_published(&issuing, &corner, "Published", SOON).await?;
    ensure!(
        told["message"] == "the trust anchors in force stand in ConfigMap publish-made/bundle, key ca.crt",
        "{told}"
    );
    corner.event("vault", "Published").await?;
    let made = corner.kube().get(&config_map(&corner)).await?;
    let bundle = text(&made["data"]["ca.crt"]);
    ensure!(bundle == corner.recipe.root_pem().trim().to_owned() + "\n", "{made}");
    let (meta, issuer) = (&made["metadata"], issuing.get().await?);
    let uid = text(&issuer["metadata"]["uid"]);
    let mark = format!("VaultMeshIssuer/publish-made/vault/{uid}");
    ensure!(meta["annotations"] == json!({"vaultmesh.io/published-by": mark}), "{meta}");
    ensure!(meta["ownerReferences"].is_null() && meta["labels"].is_null() && meta["finalizers"].is_null(), "{meta}");
    let managers: Vec<_> =
        meta["managedFields"].as_array().into_iter().flatten().map(|it| text(&it["manager"])).collect();
    ensure!(managers == [format!("vault-mesh-issuer/{uid}/ca.crt")], "{managers:?}");
    let issued = corner.issued(&corner.ask("web").await?).await?;
    openssl::verify(&certificate_of(&issued)?, bundle).await?;

    // The roots are on record before anybody reads them from the object.
    let ours = shared.plane.kube_audit.all()?.of(&shared.ours.namespace, &shared.ours.account);
    let writes = ours.writes().in_namespace(&corner.name).keep(|call| call.group != "events.k8s.io");
    let order: Vec<_> = writes.iter().map(|call| call.resource.as_str()).collect();
    ensure!(order.first() == Some(&"vaultmeshissuers/status") && order.contains(&"configmaps"), "{order:?}");

    // Deleted, and made anew under the same name, as GitOps does: not a moment without the root.
    issuing.delete().await?;
    holds_for("the object stays", A_WHILE, async || Ok(corner.kube().get(&config_map(&corner)).await? == made)).await?;
    let again = corner.ready(corner.issuer().set("trust", to_config_map())).await?;
    says_published(&again, &corner, "Published", SOON).await?;
    let taken = corner.kube().get(&config_map(&corner)).await?;
    ensure!(taken["metadata"]["uid"] == meta["uid"] && taken["data"] == made["data"], "{taken}");
    let new_uid = again.get().await?["metadata"]["uid"].clone();
    ensure!(text(&taken["metadata"]["annotations"]["vaultmesh.io/published-by"]).ends_with(text(&new_uid)), "{taken}");
    Ok(())
}

async fn nothing_else(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "publish-else").await?;
    let before = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "bundle", "namespace": "publish-else",
            "labels": {"team": "mesh"}, "annotations": {"example.com/note": "kept"}, "finalizers": ["example.com/kept"]},
        "data": {"mesh.yaml": "a: 1\n# ca.crt: no\n", "empty": ""}, "binaryData": {"bytes": "AAEC"},
    });
    corner.kube().post("/api/v1/namespaces/publish-else/configmaps", &before).await?;
    let issuing = corner.ready(corner.issuer().set("trust", to_config_map())).await?;
    says_published(&issuing, &corner, "Published", SOON).await?;
    let mut after = corner.kube().get(&config_map(&corner)).await?;
    let bundle = after["data"].as_object_mut().and_then(|data| data.remove("ca.crt")).context("the key")?;
    ensure!(text(&bundle).trim() == corner.recipe.root_pem().trim(), "{bundle}");
    let annotations = after["metadata"]["annotations"].as_object_mut().context("annotations")?;
    annotations.remove("vaultmesh.io/published-by").context("the mark")?;
    for part in ["labels", "annotations", "finalizers"] {
        ensure!(after["metadata"][part] == before["metadata"][part], "{part}: {after}");
    }
    ensure!(after["data"] == before["data"] && after["binaryData"] == before["binaryData"], "{after}");
    corner.kube().patch(&config_map(&corner), &json!({"metadata": {"finalizers": null}})).await.map(drop)
}

async fn follows(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::with_chain(&shared, "publish-follows", Chain::IntermediateOnly).await?;
    let other = corner.bao().plain_recipe("publish-follows-next", Chain::RootItself).await?;
    let (old, new) = (corner.recipe.root_pem().trim(), other.root_pem().trim());
    let put = async |pem: &str| corner.kube().config_map("publish-follows", "mesh-root", &[("ca.crt", pem)]).await;
    put(old).await?;
    let mut trust = to_config_map();
    trust["anchors"] = json!([{"configMap": {"name": "mesh-root"}}]);
    let issuing = corner.ready(corner.issuer().set("trust", trust)).await?;
    holds(&corner, "ca.crt", &format!("{old}\n")).await?;
    put(&format!("{new}\n{old}")).await?;
    let both = |object: &Value| {
        let bundle = text(&object["data"]["ca.crt"]);
        bundle.contains(old) && bundle.contains(new) && bundle.matches("BEGIN CERTIFICATE").count() == 2
    };
    eventually_there(&corner, &config_map(&corner), both).await?;
    let recorded = issuing.get().await?["status"]["trustAnchors"].as_array().map_or(0, Vec::len);
    ensure!(recorded == 2, "what is published is on record");
    put(new).await?;
    holds(&corner, "ca.crt", &format!("{new}\n")).await?;
    says_published(&issuing, &corner, "Published", SOON).await.map(drop)
}

async fn somebody_elses(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "publish-owned").await?;
    let (path, root) = (config_map(&corner), format!("{}\n", corner.recipe.root_pem().trim()));
    let made = json!({"metadata": {"name": "bundle"}, "data": {"ca.crt": "theirs", "other": "x"}});
    let create = "/api/v1/namespaces/publish-owned/configmaps?fieldManager=kubectl-create";
    corner.kube().post(create, &made).await?;
    let issuing = corner.ready(corner.issuer().set("trust", to_config_map())).await?;
    let told = says_published(&issuing, &corner, "OwnedBySomebodyElse", SOON).await?;
    let words = [
        "ConfigMap publish-owned/bundle, key ca.crt holds something else",
        "belongs to kubectl-create",
        "kubectl annotate configmap -n publish-owned bundle vaultmesh.io/publish=allow",
    ];
    says(&told["message"], &words)?;
    let event = corner.event("vault", "OwnedBySomebodyElse").await?;
    ensure!(event["type"] == "Warning" && event["note"] == told["message"], "{event}");
    corner.issued(&corner.ask("signing-goes-on").await?).await?;
    let untouched = corner.kube().get(&path).await?;
    ensure!(untouched["data"] == made["data"] && untouched["metadata"]["annotations"].is_null(), "{untouched}");

    let word = |word: Value| json!({"metadata": {"annotations": {"vaultmesh.io/publish": word}}});
    corner.kube().patch(&path, &word("allow".into())).await?;
    let taken = holds(&corner, "ca.crt", &root).await?;
    ensure!(taken["data"]["other"] == "x", "{taken}");
    says_published(&issuing, &corner, "Published", SOON).await?;

    // Without the word an edit is the editor's, and is reported instead of fought over.
    corner.kube().patch(&path, &word(Value::Null)).await?;
    let edit = format!("{path}?fieldManager=kubectl-edit");
    corner.kube().patch(&edit, &json!({"data": {"ca.crt": "edited"}})).await?;
    let told = says_published(&issuing, &corner, "OwnedBySomebodyElse", AT_ONCE).await?;
    says(&told["message"], &["belongs to kubectl-edit"])?;
    let edited = async || Ok(corner.kube().get(&path).await?["data"]["ca.crt"] == "edited");
    holds_for("the edit stays", A_WHILE, edited).await?;
    // Removing the key is the other way out.
    corner.kube().patch(&edit, &json!({"data": {"ca.crt": null}})).await?;
    holds(&corner, "ca.crt", &root).await?;
    says_published(&issuing, &corner, "Published", SOON).await.map(drop)
}

async fn one_publisher(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "publish-two").await?;
    let other = corner.bao().plain_recipe("publish-two-next", Chain::WithRoot).await?;
    let root = |pem: &str| format!("{}\n", pem.trim());
    let first = corner.ready(corner.issuer().set("trust", to_config_map())).await?;
    says_published(&first, &corner, "Published", SOON).await?;
    let second = Issuer::app_role("publish-two", "second", corner.bao(), &other);
    let second = corner.ready(second.set("trust", to_config_map())).await?;
    let third = Issuer::app_role("publish-two", "third", corner.bao(), &other);
    let another_key = json!({"publish": {"configMap": {"name": "bundle", "key": "other.crt"}}});
    let third = corner.ready(third.set("trust", another_key)).await?;
    for refused in [&second, &third] {
        let told = says_published(refused, &corner, "PublishedByAnotherIssuer", SOON).await?;
        ensure!(
            told["message"]
                == "VaultMeshIssuer publish-two/vault publishes to ConfigMap publish-two/bundle, and one object has one \
                    publisher. Name another object in spec.trust.publish",
            "{told}"
        );
    }
    // The word that hands a key over is for those who are no issuers.
    let word = json!({"metadata": {"annotations": {"vaultmesh.io/publish": "allow"}}});
    corner.kube().patch(&config_map(&corner), &word).await?;
    let firsts = async || {
        let data = corner.kube().get(&config_map(&corner)).await?["data"].clone();
        Ok(data == json!({"ca.crt": root(corner.recipe.root_pem())}))
    };
    holds_for("the first one's roots stay", A_WHILE, firsts).await?;
    corner.kube().delete(&third.path).await?;
    // Not usable for now is not gone.
    first.patch(&json!({"spec": {"vault": {"caBundle": null, "caBundleSecretRef": {"name": "nowhere"}}}})).await?;
    first.reason("InvalidReference", SOON).await?;
    says_published(&first, &corner, "AnchorsUnknown", SOON).await?;
    second.patch(&json!({"spec": {"certificates": {"maxDuration": "1h"}}})).await?;
    says_published(&second, &corner, "PublishedByAnotherIssuer", SOON).await?;
    first.delete().await?;
    holds(&corner, "ca.crt", &root(other.root_pem())).await?;
    says_published(&second, &corner, "Published", SOON).await.map(drop)
}

async fn secrets(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "publish-secret").await?;
    let path = |name: &str| format!("/api/v1/namespaces/publish-secret/secrets/{name}");
    let before = json!({
        "metadata": {"name": "typed"}, "type": "example.com/ca", "data": {"tls.key": "a2V5", "empty": ""},
    });
    corner.kube().post("/api/v1/namespaces/publish-secret/secrets", &before).await?;
    for (name, type_) in [("typed", "example.com/ca"), ("osm-ca-bundle", "Opaque")] {
        let trust = json!({"publish": {"secret": {"name": name}}});
        corner.issuer().set("trust", trust).create(corner.kube()).await?;
        let filled = |object: &Value| object["data"]["ca.crt"].is_string();
        let object = eventually_there(&corner, &path(name), filled).await?;
        let bundle = decoded(&object["data"]["ca.crt"])?;
        ensure!(bundle.trim() == corner.recipe.root_pem().trim() && object["type"] == type_, "{name}: {bundle}");
        let issued = corner.issued(&corner.ask(name).await?).await?;
        openssl::verify(&certificate_of(&issued)?, &bundle).await?;
    }
    let mut typed = corner.kube().get(&path("typed")).await?;
    typed["data"].as_object_mut().context("data")?.remove("ca.crt");
    ensure!(typed["data"] == before["data"], "the other keys stay");
    Ok(())
}

async fn comes_back(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "publish-back").await?;
    let root = format!("{}\n", corner.recipe.root_pem().trim());
    let issuing = corner.ready(corner.issuer().set("trust", to_config_map())).await?;
    holds(&corner, "ca.crt", &root).await?;
    corner.kube().patch(&config_map(&corner), &json!({"data": {"ca.crt": null, "theirs": "x"}})).await?;
    let back = holds(&corner, "ca.crt", &root).await?;
    ensure!(back["data"]["theirs"] == "x", "{back}");
    let mark = json!({"metadata": {"annotations": {"vaultmesh.io/published-by": null}}});
    corner.kube().patch(&config_map(&corner), &mark).await?;
    let marked = |object: &Value| object["metadata"]["annotations"]["vaultmesh.io/published-by"].is_string();
    eventually_there(&corner, &config_map(&corner), marked).await?;
    corner.kube().delete(&config_map(&corner)).await?;
    let back = holds(&corner, "ca.crt", &root).await?;
    ensure!(back["data"]["theirs"].is_null(), "{back}");
    says_published(&issuing, &corner, "Published", SOON).await?;
    // What stands there is not written again.
    let version = back["metadata"]["resourceVersion"].clone();
    let same = async || Ok(corner.kube().get(&config_map(&corner)).await?["metadata"]["resourceVersion"] == version);
    holds_for("nothing is written", A_WHILE, same).await
}

async fn anchors_unknown(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::with_chain(&shared, "publish-unknown", Chain::WithRoot).await?;
    let proxy = corner.proxy().await?;
    let root = corner.recipe.root_pem();
    corner.kube().config_map("publish-unknown", "mesh-root", &[("ca.crt", root)]).await?;
    let mut trust = to_config_map();
    trust["anchors"] = json!([{"configMap": {"name": "mesh-root"}}]);
    let issuing = corner.ready(corner.issuer_at(proxy.url()).set("trust", trust)).await?;
    says_published(&issuing, &corner, "Published", SOON).await?;
    let published = corner.kube().get(&config_map(&corner)).await?;
    let untouched = async || Ok(corner.kube().get(&config_map(&corner)).await? == published);

    let source = "/api/v1/namespaces/publish-unknown/configmaps/mesh-root";
    for nothing in [json!({"data": null}), json!({"data": {"ca.crt": "no root"}})] {
        corner.kube().patch(source, &nothing).await?;
        issuing.reason("InvalidReference", AT_ONCE).await?;
        let told = says_published(&issuing, &corner, "AnchorsUnknown", SOON).await?;
        says(&told["message"], &["what was published before stays as it is"])?;
    }
    corner.kube().delete(source).await?;
    holds_for("nothing shrinks without the anchors' source", A_WHILE, untouched).await?;

    // A Vault that is away, and nothing that says what the anchors are but the mount.
    proxy.on(|_| true, Action::answer(503, &json!({"errors": ["Vault is sealed"]})));
    issuing.patch(&json!({"spec": {"trust": {"anchors": null}}})).await?;
    issuing.reason("VaultSealed", SOON).await?;
    says_published(&issuing, &corner, "AnchorsUnknown", SOON).await?;
    holds_for("nothing shrinks without Vault", A_WHILE, untouched).await?;
    proxy.pass_all();
    issuing.patch(&json!({"spec": {"certificates": {"maxDuration": "1h"}}})).await?;
    says_published(&issuing, &corner, "Published", SOON).await?;
    ensure!(untouched().await?, "the same anchors are the same bytes");
    Ok(())
}

async fn turned_away(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "publish-turned").await?;
    let root = format!("{}\n", corner.recipe.root_pem().trim());
    let issuing = corner.ready(corner.issuer().set("trust", to_config_map())).await?;
    holds(&corner, "ca.crt", &root).await?;
    issuing.patch(&json!({"spec": {"trust": {"publish": {"configMap": {"key": "root-cert.pem"}}}}})).await?;
    let both = holds(&corner, "root-cert.pem", &root).await?;
    ensure!(both["data"]["ca.crt"] == root.as_str(), "{both}");
    says_published(&issuing, &corner, "Published", SOON).await?;
    issuing.patch(&json!({"spec": {"trust": null}})).await?;
    let unsaid = |object: &Value| condition(object, "Published").is_none();
    corner.kube().wait(&issuing.path, SOON, unsaid).await?;
    let kept = corner.kube().get(&config_map(&corner)).await?;
    ensure!(kept["data"] == both["data"], "{kept}");
    Ok(())
}

async fn cluster_issuer(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "publish-cluster").await?;
    let namespace = &shared.ours.namespace;
    let trust = json!({"publish": {"configMap": {"name": "publish-cluster"}}});
    let issuer = Issuer::app_role(namespace, "publish-cluster", corner.bao(), &corner.recipe).cluster();
    let issuing = corner.ready(issuer.set("trust", trust)).await?;
    says_published(&issuing, &corner, "Published", SOON).await?;
    let path = format!("/api/v1/namespaces/{namespace}/configmaps/publish-cluster");
    let object = corner.kube().get(&path).await?;
    ensure!(text(&object["data"]["ca.crt"]).trim() == corner.recipe.root_pem().trim(), "{object}");
    let mark = text(&object["metadata"]["annotations"]["vaultmesh.io/published-by"]);
    ensure!(mark.starts_with("VaultMeshClusterIssuer/publish-cluster/"), "{mark}");
    Ok(())
}
