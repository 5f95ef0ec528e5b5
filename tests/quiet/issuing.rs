//! The main job: an approved request becomes a certificate that somebody else's code accepts.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testenv::{
    Chain, Csr, HierarchyOptions, Issuer, Issuing, Osm, OsmCertificate, Request, certificate_of, eventually, openssl,
};

use crate::support::{Corner, SOON, decoded, holds_key, is_issued, names_in, text};
use crate::{Outcome, Shared, Suite};

pub fn add(suite: &mut Suite) {
    suite
        .add("a mesh-shaped request without a duration gets the issuer's default and a chain to the root", mesh_shaped);
    suite.add(
        "a cluster issuer with its Secret in the cluster resource namespace serves another namespace",
        cluster_kind,
    );
    suite.add("a static token signs", static_token);
    suite.add("a Certificate of cert-manager becomes Ready with exactly the bytes of the status", certificate);
    suite.add("a chain without its root is completed by anchors from a ConfigMap, a Secret or the spec", given_anchors);
    suite.add("a mount that signs with the root itself gives a chain of one", root_itself);
    suite.add("a path that names an issuer of the mount gets that issuer's chain and root", named_issuer);
    suite.add("an RSA request with a common name, DNS and IP names is signed", rsa);
    suite.add("serverName is the name that the server's certificate must hold", server_name);
    suite.add("a leading slash and v1 in the path are dropped", leading_v1);
    suite.add_for_openbao("a Vault namespace is used for login and signing", vault_namespace);
    suite.add("Open Service Mesh's provider gets twenty one-second certificates in a row and one of 24 hours", osm);
}

async fn mesh_shaped(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "mesh-shaped").await?;
    corner.ready(corner.issuer().set("certificates", json!({"defaultDuration": "2h"}))).await?;
    // istio-csr: O="", no common name, one SPIFFE URI, "0s" where the workload names no duration.
    let pair = Csr::workload("mesh-shaped", "web").organization("").ec()?;
    let request = corner.request("web", &pair.csr_pem).duration("0s").usages(&["client auth", "server auth"]);
    let object = corner.issued(&request.create(corner.kube()).await?).await?;
    let certificate = certificate_of(&object)?;
    holds_key(&certificate, &pair.key_pem).await?;
    let names = names_in(&certificate).await?;
    ensure!(names == "URI:spiffe://cluster.local/ns/mesh-shaped/sa/web", "the names are {names}");
    let calls = corner.calls()?;
    let ttls: Vec<_> = calls.iter().filter(|call| call.path == corner.recipe.sign_path && !call.probe).collect();
    ensure!(ttls.len() == 1 && ttls.iter().all(|call| call.data["ttl"] == "7200s"), "{ttls:?}");
    ensure!(corner.events("web").await?.is_empty(), "an issued certificate is no event");
    Ok(())
}

async fn cluster_kind(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "cluster-kind").await?;
    let home = &shared.ours.namespace;
    let issuer = Issuer::app_role(home, "cluster-kind", corner.bao(), &corner.recipe).cluster();
    let issuing = corner.ready(issuer).await?;
    let pair = Csr::workload("cluster-kind", "web").ec()?;
    let request = Request::new("cluster-kind", "web", &issuing.issuer_ref, &pair.csr_pem).create(corner.kube()).await?;
    corner.issued(&request).await?;
    // Its Secret lies at home; one of the same name here is not looked at.
    let secrets = corner.kube().list("/api/v1/namespaces/cluster-kind/secrets").await?;
    ensure!(secrets.is_empty(), "{secrets:?}");
    Ok(())
}

async fn static_token(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "static-token").await?;
    token_issuer(&corner).await?.ready(SOON).await?;
    corner.issued(&corner.ask("web").await?).await?;
    ensure!(corner.calls()?.logins_of(&corner.recipe.app_role) == 0, "a token needs no login");
    Ok(())
}

/// The issuer `vault` with a token of nothing but the recipe's policy.
pub async fn token_issuer(corner: &Corner) -> Result<Issuing> {
    let options = json!({"policies": [corner.recipe.policy], "ttl": "1h", "no_default_policy": true});
    let token = corner.bao().make_token(options).await?;
    corner.kube().secret(&corner.name, "vault-token", &[("token", &token)]).await?;
    let auth = json!({"tokenSecretRef": {"name": "vault-token"}});
    let issuer = Issuer::with_auth(&corner.name, "vault", corner.bao(), &corner.recipe.sign_path, auth);
    issuer.create(corner.kube()).await
}

async fn certificate(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "certificate").await?;
    corner.ready_issuer().await?;
    let path = "/apis/cert-manager.io/v1/namespaces/certificate/certificates";
    let body = json!({
        "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": {"name": "web"},
        "spec": {
            "secretName": "web-tls", "dnsNames": ["web.certificate.svc"], "duration": "2h", "renewBefore": "1h",
            "privateKey": {"algorithm": "ECDSA", "size": 256},
            "issuerRef": {"group": "vaultmesh.io", "kind": "VaultMeshIssuer", "name": "vault"},
        },
    });
    corner.kube().post(path, &body).await?;
    corner.kube().wait_condition(&format!("{path}/web"), "Ready", "True", SOON).await?;
    let requests = corner.kube().list("/apis/cert-manager.io/v1/namespaces/certificate/certificaterequests").await?;
    let [request] = requests.as_slice() else { anyhow::bail!("{} requests were made", requests.len()) };
    is_issued(request, corner.recipe.root_pem()).await?;
    let secret = corner.kube().get("/api/v1/namespaces/certificate/secrets/web-tls").await?;
    for (key, field) in [("tls.crt", "certificate"), ("ca.crt", "ca")] {
        ensure!(secret["data"][key] == request["status"][field], "{key} is not status.{field}");
    }
    let (certificate, key) = (decoded(&secret["data"]["tls.crt"])?, decoded(&secret["data"]["tls.key"])?);
    shared.run.secrets().add("a workload's key", key.as_str());
    holds_key(&certificate, &key).await
}

async fn given_anchors(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::with_chain(&shared, "given-anchors", Chain::IntermediateOnly).await?;
    let root = corner.recipe.root_pem();
    corner.kube().config_map("given-anchors", "mesh-root", &[("ca.crt", root)]).await?;
    corner.kube().secret("given-anchors", "mesh-root", &[("root.pem", root)]).await?;
    let sources = [
        json!({"configMap": {"name": "mesh-root"}}),
        json!({"secret": {"name": "mesh-root", "key": "root.pem"}}),
        json!({"pem": format!("# the root of the mesh\n{root}")}),
    ];
    for source in sources {
        let issuing = corner.issuer().set("trust", json!({"anchors": [source]})).create(corner.kube()).await?;
        let observed = |object: &Value| {
            let (generation, ready) = (&object["metadata"]["generation"], &object["status"]["conditions"][0]);
            ready["observedGeneration"] == *generation && ready["status"] == "True"
        };
        corner.kube().wait(&issuing.path, SOON, observed).await.with_context(|| source.to_string())?;
        let name = source.as_object().and_then(|source| source.keys().next()).context("a source")?.to_lowercase();
        let object = corner.issued(&corner.ask(&name).await?).await?;
        // The intermediate is published and the root is not: what the peer does not send, openssl has from status.ca alone.
        ensure!(certificate_of(&object)?.matches("BEGIN CERTIFICATE").count() == 2, "leaf and intermediate");
    }
    Ok(())
}

async fn root_itself(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::with_chain(&shared, "root-itself", Chain::RootItself).await?;
    corner.ready_issuer().await?;
    let object = corner.issued(&corner.ask("web").await?).await?;
    ensure!(certificate_of(&object)?.matches("BEGIN CERTIFICATE").count() == 1, "the leaf alone");
    Ok(())
}

async fn named_issuer(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::with_chain(&shared, "named-issuer", Chain::RootItself).await?;
    let (bao, mount) = (corner.bao(), corner.recipe.mount());
    let options = HierarchyOptions::new("named-issuer-other", Chain::WithRoot);
    let other_root = bao.root(&options.root_mount, &options, "87600h").await?;
    let other = bao.intermediate(mount, &options, &other_root).await?;
    let mut id = None;
    for candidate in bao.list(&format!("{mount}/issuers")).await? {
        let read = bao.read(&format!("{mount}/issuer/{candidate}")).await?.unwrap_or_default();
        if text(&read["data"]["certificate"]).trim() == other.trim() {
            id = Some(candidate);
        }
    }
    let path = format!("{mount}/issuer/{}/sign/mesh", id.context("the second issuer has an id")?);
    bao.sign_policy(&corner.recipe.policy, &path).await?;
    let issuing = corner.ready(corner.issuer().set("vault/path", path.into())).await?;
    let object = corner.ask("web").await?.reason("Issued", SOON).await?;
    is_issued(&object, &other_root).await?;
    let status = &issuing.get().await?["status"];
    ensure!(text(&status["signingCertificate"]["subject"]).contains("intermediate"), "{status}");
    ensure!(text(&status["trustAnchors"][0]["subject"]).contains("named-issuer-other root"), "{status}");
    Ok(())
}

async fn rsa(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "rsa").await?;
    corner.ready_issuer().await?;
    let csr = Csr::new().cn("istiod.rsa.svc").dns("istiod.rsa.svc").dns("*.rsa.svc").ip("10.0.0.1").ip("fd00::1");
    let pair = csr.email("ops@rsa.svc").uri("spiffe://cluster.local/ns/rsa/sa/istiod").rsa(2048).await?;
    let object = corner.issued(&corner.request("istiod", &pair.csr_pem).create(corner.kube()).await?).await?;
    let certificate = certificate_of(&object)?;
    holds_key(&certificate, &pair.key_pem).await?;
    let names = names_in(&certificate).await?;
    for name in ["DNS:istiod.rsa.svc", "DNS:*.rsa.svc", "IP Address:10.0.0.1", "email:ops@rsa.svc", "URI:spiffe://"] {
        ensure!(names.contains(name), "{name} is missing in {names}");
    }
    Ok(())
}

async fn leading_v1(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "leading-v1").await?;
    corner.ready(corner.issuer().set("vault/path", format!("/v1/{}", corner.recipe.sign_path).into())).await?;
    corner.issued(&corner.ask("web").await?).await.map(drop)
}

async fn server_name(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "server-name").await?;
    corner.ready(corner.issuer().set("vault/serverName", "localhost".into())).await?;
    corner.issued(&corner.ask("web").await?).await.map(drop)
}

async fn vault_namespace(shared: Arc<Shared>) -> Outcome {
    shared.plane.bao.write("sys/namespaces/team-a", json!({})).await?;
    let bao = shared.plane.bao.with_namespace("team-a");
    let recipe = bao.plain_recipe("vault-namespace", Chain::WithRoot).await?;
    let corner = Corner::around(&shared, "vault-namespace", recipe).await?;
    corner.ready(corner.issuer().set("vault/namespace", "team-a".into())).await?;
    corner.issued(&corner.ask("web").await?).await.map(drop)
}

async fn osm(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::around(&shared, "osm-system", shared.plane.bao.osm("osm").await?).await?;
    let issuing = corner.ready_issuer().await?;
    let (osm, name) = (Osm::new(corner.kube(), "osm-system", &issuing.issuer_ref), "bookstore.default.cluster.local");
    osm.ask(name, "1s", 20).await?;
    let made = osm.ask(name, "24h", 1).await?;
    let [OsmCertificate { chain, trusted, .. }] = made.as_slice() else { anyhow::bail!("{made:?}") };
    ensure!(trusted.trim() == corner.recipe.root_pem().trim(), "OSM trusts {trusted}");
    openssl::verify(chain, trusted).await?;
    // Two runs begin with a certificate of one second each.
    eventually("every certificate is in the audit log", SOON, async || {
        Ok((corner.calls()?.signs(corner.recipe.mount()) == 23).then_some(()))
    })
    .await
}
