//! Whose names may be asked for: `policy.spiffe` with requesters as cert-manager's webhook records them. What is refused is
//! refused before Vault is asked.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testenv::{Created, Csr, Issuer, IssuerRef, Request, eventually};

use crate::support::{Corner, SOON};
use crate::{Outcome, Shared, Suite};

pub fn add(suite: &mut Suite) {
    suite.add(
        "a ServiceAccount gets its own names, and another's are refused in words before Vault is asked",
        own_names,
    );
    suite.add("a broker gets everybody's names, and who is none does not", brokers);
    suite.add("a Certificate gets the names of its namespace, as istiod's, and no others", certificates);
    suite.add("names of another shape are refused or left to the role, as the issuer says", other_names);
    suite.add("kubectl explain says that the rules need cert-manager's webhook", explained);
}

/// An issuer `name` with these rules, which has become Ready.
async fn issuer(corner: &Corner, name: &str, rules: Value) -> Result<()> {
    let issuer = Issuer::app_role(&corner.name, name, corner.bao(), &corner.recipe);
    corner.ready(issuer.set("policy", json!({"spiffe": rules}))).await.map(drop)
}

/// Lets every ServiceAccount of the corner make requests in it.
async fn let_accounts_ask(corner: &Corner) -> Result<()> {
    let group = format!("system:serviceaccounts:{}", corner.name);
    let binding = json!({
        "metadata": {"name": "ask"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cert-manager-edit"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}],
    });
    let path = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings", corner.name);
    corner.kube().post(&path, &binding).await.map(drop)
}

/// Asks the issuer `vault` as a ServiceAccount of the corner, with a token of its own.
async fn ask_as(corner: &Corner, account: &str, name: &str, csr: Csr) -> Result<Created> {
    corner.kube().service_account(&corner.name, account).await?;
    let (as_account, _) = corner.kube().as_account(&corner.name, account).await?;
    corner.request(name, &csr.ec()?.csr_pem).create(&as_account).await?;
    Created::find(corner.kube(), &corner.name, name).await
}

async fn own_names(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "own-names").await?;
    issuer(&corner, "vault", json!({"requester": true})).await?;
    let_accounts_ask(&corner).await?;
    let own = || Csr::workload("own-names", "web");
    corner.issued(&ask_as(&corner, "web", "own", own()).await?).await?;
    corner.issued(&ask_as(&corner, "web", "service", own().dns("web.own-names.svc")).await?).await?;
    let signs = corner.sign_attempts()?;
    let who = "does not grant to system:serviceaccount:own-names:web in namespace own-names";
    let foreign = "spiffe://cluster.local/ns/bank/sa/web";
    let rows = [
        ("namespace", Csr::workload("bank", "web"), "URI:spiffe://cluster.local/ns/bank/sa/web, which"),
        ("account", Csr::workload("own-names", "db"), "URI:spiffe://cluster.local/ns/own-names/sa/db, which"),
        ("one-of-two", own().uri(foreign), "asks for URI:spiffe://cluster.local/ns/bank/sa/web, which"),
        ("host", own().dns("api.bank.svc.cluster.local"), "asks for DNS:api.bank.svc.cluster.local, which"),
        ("common-name", own().cn("api.bank.svc"), "asks for CN:api.bank.svc, which"),
    ];
    for (name, csr, named) in rows {
        let request = ask_as(&corner, "web", name, csr).await.context(name)?;
        corner.failed(&request, &[named, who, "an entry in brokers"]).await.context(name)?;
    }
    // The requester is who asks, whatever the request claims: cert-manager's webhook sees to that.
    corner.kube().service_account("own-names", "liar").await?;
    let (liar, _) = corner.kube().as_account("own-names", "liar").await?;
    let lie = corner.request("lie", &own().ec()?.csr_pem);
    lie.with("/spec/username", "system:serviceaccount:own-names:web".into()).create(&liar).await?;
    let lie = Created::find(corner.kube(), "own-names", "lie").await?;
    corner.failed(&lie, &["does not grant to system:serviceaccount:own-names:liar"]).await?;
    ensure!(corner.sign_attempts()? == signs, "something was sent to be signed: {:?}", corner.calls()?);
    Ok(())
}

async fn brokers(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "brokers").await?;
    issuer(&corner, "vault", json!({"brokers": [{"namespace": "brokers", "name": "istio-csr"}]})).await?;
    let_accounts_ask(&corner).await?;
    // As istio-csr has it: O="", no common name, one SPIFFE id of a workload that lies elsewhere.
    let workload = || Csr::workload("bank", "web").organization("");
    corner.issued(&ask_as(&corner, "istio-csr", "brokered", workload()).await?).await?;
    let signs = corner.sign_attempts()?;
    let request = ask_as(&corner, "web", "foreign", workload()).await?;
    corner.failed(&request, &["URI:spiffe://cluster.local/ns/bank/sa/web", "an entry in brokers"]).await?;
    let request = ask_as(&corner, "istio-csr", "host", Csr::new().dns("bank.example")).await?;
    corner.failed(&request, &["asks for DNS:bank.example, which", "otherNames: Allow"]).await?;
    ensure!(corner.sign_attempts()? == signs, "something was sent to be signed: {:?}", corner.calls()?);
    Ok(())
}

async fn certificates(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "istiod-names").await?;
    issuer(&corner, "vault", json!({"requestNamespace": true})).await?;
    let plural = "/apis/cert-manager.io/v1/namespaces/istiod-names/certificates";
    let certificate = |name: &str, of: &str| {
        let host = format!("istiod.{of}.svc");
        json!({
            "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": {"name": name},
            "spec": {
                "secretName": format!("{name}-tls"), "commonName": host, "dnsNames": [host],
                "uris": [format!("spiffe://cluster.local/ns/{of}/sa/istiod-service-account")],
                "duration": "2h", "renewBefore": "1h", "privateKey": {"algorithm": "ECDSA", "size": 256},
                "issuerRef": {"group": "vaultmesh.io", "kind": "VaultMeshIssuer", "name": "vault"},
            },
        })
    };
    corner.kube().post(plural, &certificate("istiod", "istiod-names")).await?;
    corner.kube().wait_condition(&format!("{plural}/istiod"), "Ready", "True", SOON).await?;
    let request = Created::find(corner.kube(), "istiod-names", "istiod-1").await?;
    let requester = request.get().await?["spec"]["username"].clone();
    ensure!(requester == "system:serviceaccount:cert-manager:cert-manager", "the requester is {requester}");
    corner.issued(&request).await?;
    let signs = corner.sign_attempts()?;
    corner.kube().post(plural, &certificate("foreign", "bank")).await?;
    corner.kube().wait_condition(&format!("{plural}/foreign"), "Issuing", "False", SOON).await?;
    let request = Created::find(corner.kube(), "istiod-names", "foreign-1").await?;
    let names = ["URI:spiffe://cluster.local/ns/bank/", "DNS:istiod.bank.svc", "CN:istiod.bank.svc"];
    corner.failed(&request, &names).await?;
    ensure!(corner.sign_attempts()? == signs, "something was sent to be signed: {:?}", corner.calls()?);
    Ok(())
}

async fn other_names(shared: Arc<Shared>) -> Outcome {
    let corner = Corner::new(&shared, "other-names").await?;
    issuer(&corner, "vault", json!({"requester": true, "requestNamespace": true})).await?;
    issuer(&corner, "open", json!({"requestNamespace": true, "otherNames": "Allow"})).await?;
    let rows = [
        ("spire", Csr::new().uri("spiffe://cluster.local"), "URI:spiffe://cluster.local"),
        ("kong", Csr::new().uri("spiffe://default/web").uri("kuma://version/v1"), "URI:kuma://version/v1, URI:spiffe:"),
        ("encoded", Csr::new().uri("spiffe://td/ns/other-names/sa/%77eb"), "URI:spiffe://td/ns/other-names/sa/%77eb"),
        ("host", Csr::new().dns("shop.example"), "DNS:shop.example"),
        ("wildcard", Csr::new().dns("*.other-names.svc"), "DNS:*.other-names.svc"),
        ("ip", Csr::new().ip("10.0.0.1"), "IP:10.0.0.1"),
        ("email", Csr::new().email("ops@shop.example"), "email:ops@shop.example"),
    ];
    let open = IssuerRef::new("VaultMeshIssuer", "open");
    for (name, csr, named) in rows {
        let csr = csr.ec()?.csr_pem;
        let refused = corner.request(name, &csr).create(corner.kube()).await.context(name)?;
        corner.failed(&refused, &[named, "otherNames: Allow leaves to Vault's role"]).await.context(name)?;
        let allowed = Request::new("other-names", &format!("{name}-allowed"), &open, &csr).duration("1h");
        corner.issued(&allowed.create(corner.kube()).await?).await.context(name)?;
    }
    ensure!(corner.sign_attempts()? == 7, "what was refused was not sent: {:?}", corner.calls()?);
    let foreign = Csr::workload("bank", "web").uri("spiffe://default/web").ec()?.csr_pem;
    let foreign = Request::new("other-names", "foreign", &open, &foreign).create(corner.kube()).await?;
    corner.failed(&foreign, &["asks for URI:spiffe://cluster.local/ns/bank/sa/web, which"]).await.map(drop)
}

async fn explained(shared: Arc<Shared>) -> Outcome {
    for field in ["vmi.spec.policy.spiffe", "vmci.spec.policy.spiffe"] {
        // The API server's list of resources follows a new CRD by a moment.
        let said = eventually(&format!("kubectl explain {field}"), SOON, async || {
            let explained = shared.plane.kube.kubectl(&["explain", field], None).await.ok();
            Ok(explained.map(|explained| explained.split_whitespace().collect::<Vec<_>>().join(" ")))
        })
        .await?;
        ensure!(said.contains("sound only where cert-manager's webhook runs"), "{said}");
    }
    Ok(())
}
