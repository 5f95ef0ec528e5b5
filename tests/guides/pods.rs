//! docs/meshes/csi-driver.md and docs/meshes/csi-driver-spiffe.md: requests as cert-manager's drivers make them for a pod, and as
//! they look at them: the reason has to be exactly `Issued`.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testenv::{Created, Csr, IssuerRef, Kube, Options, Request, Run, condition};

use crate::replay::{event, issued};
use crate::support::{Visit, says, text, told};
use crate::{Outcome, Suite};

const NAMESPACE: &str = "sandbox";

pub fn add(suite: &mut Suite) {
    suite.add("csi-driver: what a pod's attributes ask for comes out", csi_driver);
    suite.add(
        "csi-driver-spiffe: a pod's own name comes out once its approver has approved it, and no other",
        csi_driver_spiffe,
    );
}

const CSI_DRIVER: &str = "docs/meshes/csi-driver.md";

/// The attributes of the pod's volume, as the driver is handed them.
fn attributes(pod: &Value) -> Result<BTreeMap<String, String>> {
    let attributes = &pod["spec"]["volumes"][0]["csi"]["volumeAttributes"];
    let attributes = attributes.as_object().context("the pod's volume has no attributes")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let name = |key: &str| key.trim_start_matches("csi.cert-manager.io/").to_owned();
    let expand = |value: String| value.replace("${POD_NAME}", "web").replace("${POD_NAMESPACE}", NAMESPACE);
    Ok(attributes.iter().map(|(key, value)| (name(key), expand(text(value)))).collect())
}

/// Asks for what the attributes say; the request belongs to the pod.
async fn mount(kube: &Kube, name: &str, pod: &Value, of: &BTreeMap<String, String>) -> Result<(String, Created)> {
    let get = |key: &str| of.get(key).map(String::as_str).unwrap_or_default();
    let listed = |key: &str| get(key).split(',').map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned);
    let csr = listed("dns-names").fold(Csr::new(), |csr, name| csr.dns(&name));
    let pair = listed("uri-sans").fold(csr, |csr, uri| csr.uri(&uri)).rsa(2048).await?;
    let issuer = IssuerRef {
        group: get("issuer-group").to_owned(),
        kind: get("issuer-kind").to_owned(),
        name: get("issuer-name").to_owned(),
    };
    let usages: Vec<_> = listed("key-usages").collect();
    let usages: Vec<_> = usages.iter().map(String::as_str).collect();
    let uid = pod["metadata"]["uid"].as_str().context("a UID")?;
    let request = Request::new(NAMESPACE, name, &issuer, &pair.csr_pem).owner("Pod", "web", uid);
    let request = request.duration(get("duration")).usages(&usages).create(kube).await?;
    Ok((pair.csr_pem, request))
}

/// A request for another issuer, which stands before all others in a list.
async fn neighbour(kube: &Kube) -> Outcome {
    let pair = Csr::new().dns("neighbour.sandbox.svc").ec()?;
    let issuer = IssuerRef::new("VaultMeshIssuer", "elsewhere");
    Request::new(NAMESPACE, "0", &issuer, &pair.csr_pem).create(kube).await.map(drop)
}

async fn csi_driver(run: Run) -> Outcome {
    let mut visit = Visit::to(&run, CSI_DRIVER).await?;
    for section in ["Vault", "The issuer", "A pod"] {
        visit.guide.follow(section).await?;
    }
    let (kube, root) = (visit.plane.kube.clone(), visit.guide.file("root.pem")?);
    let pod = kube.get("/api/v1/namespaces/sandbox/pods/web").await?;
    let mut asked = attributes(&pod)?;
    let name = "0d9b1c3e-52a7-4a8e-8f3f-6f1d1c0e7a55";
    let (csr_pem, request) = mount(&kube, name, &pod, &asked).await?;
    let certificate = issued(&request, &csr_pem, &root).await?;
    let names = ["DNS:web.sandbox.svc", "URI:spiffe://cluster.local/ns/sandbox/pod/web"];
    certificate.has(&names)?;
    certificate.has(&["Digital Signature", "Key Encipherment", "TLS Web Server Authentication, TLS Web Client"])?;
    neighbour(&kube).await?;
    visit.guide.follow("How to see that it works").await?;

    asked.insert("dns-names".to_owned(), "web.example".to_owned());
    let (_, refused) = mount(&kube, "refused", &pod, &asked).await?;
    told(CSI_DRIVER, &says(&kube, &refused.path, "Failed").await?)?;
    asked.insert("issuer-kind".to_owned(), "VaultMeshIssuer".to_owned());
    let (_, waiting) = mount(&kube, "waiting", &pod, &asked).await?;
    told(CSI_DRIVER, &says(&kube, &waiting.path, "Pending").await?)?;
    visit.guide.finished()
}

const SPIFFE: &str = "docs/meshes/csi-driver-spiffe.md";

/// A value of the chart's, as the page sets it.
fn value(name: &str) -> Result<String> {
    let values = text("deploy/csi-driver-spiffe/values.yaml")?;
    let found = values.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "));
    found.map(str::to_owned).with_context(|| name.to_owned())
}

/// Asks with the pod's own ServiceAccount, as the driver does.
async fn svid(pods: &Kube, name: &str, account: &str) -> Result<(String, Created)> {
    let id = format!("spiffe://{}/ns/{NAMESPACE}/sa/{account}", value("trustDomain")?);
    let pair = Csr::new().uri(&id).ec()?;
    let issuer = IssuerRef { group: value("group")?, kind: value("kind")?, name: value("name")? };
    let request = Request::new(NAMESPACE, name, &issuer, &pair.csr_pem);
    let request = request.annotation("spiffe.csi.cert-manager.io/identity", &id);
    let request = request.duration(&value("certificateRequestDuration")?);
    let request = request.usages(&["digital signature", "key encipherment", "server auth", "client auth"]);
    Ok((pair.csr_pem, request.create(pods).await?))
}

/// The driver's approver, with the rights that its chart gives it for the signer name in the values.
async fn approver(kube: &Kube) -> Result<Kube> {
    let (namespace, name) = ("cert-manager", "cert-manager-csi-driver-spiffe-approver");
    kube.service_account(namespace, name).await?;
    let rbac = |kind: &str, more: Value| {
        let mut object =
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name}});
        object.as_object_mut().into_iter().for_each(|it| it.extend(more.as_object().cloned().unwrap_or_default()));
        object
    };
    let rules = json!({"rules": [
        {"apiGroups": ["cert-manager.io"], "resources": ["certificaterequests"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["cert-manager.io"], "resources": ["certificaterequests/status"], "verbs": ["update", "patch"]},
        {"apiGroups": ["cert-manager.io"], "resources": ["signers"], "verbs": ["approve"], "resourceNames": [value("signerName")?]},
    ]});
    let binding = json!({
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
    });
    kube.apply_all(&[rbac("ClusterRole", rules), rbac("ClusterRoleBinding", binding)]).await?;
    Ok(kube.as_service_account(namespace, name))
}

async fn csi_driver_spiffe(run: Run) -> Outcome {
    let mut visit = Visit::with(&run, SPIFFE, Options::default(), &["approver.clusterIssuers=false"]).await?;
    for section in ["Vault", "The issuer", "The pods' rights"] {
        visit.guide.follow(section).await?;
    }
    let (kube, root) = (visit.plane.kube.clone(), visit.guide.file("root.pem")?);
    let (approver, pods) = (approver(&kube).await?, kube.as_service_account(NAMESPACE, "web"));
    let (csr_pem, request) = svid(&pods, "3f0c7f0e-0b7b-4d39-9a55-0f6a2f1f2b10", "web").await?;
    told(SPIFFE, &event(&kube, NAMESPACE, &request.name, "NotApproved").await?)?;
    let waiting = kube.get(&request.path).await?;
    ensure!(condition(&waiting, "Approved").is_none() && waiting["status"]["certificate"].is_null(), "{waiting}");
    ensure!(waiting["spec"]["username"] == "system:serviceaccount:sandbox:web", "{waiting}");
    request.seen_by(&approver).approve().await?;
    let certificate = issued(&request.seen_by(&kube), &csr_pem, &root).await?;
    certificate
        .has(&["URI:spiffe://cluster.local/ns/sandbox/sa/web", "TLS Web Server Authentication, TLS Web Client"])?;
    neighbour(&kube).await?;
    visit.guide.follow("How to see that it works").await?;

    let signs = visit.plane.bao.audit().all()?.sign_attempts("spiffe");
    let (_, foreign) = svid(&pods, "foreign", "admin").await?;
    foreign.seen_by(&approver).approve().await?;
    told(SPIFFE, &says(&kube, &foreign.path, "Failed").await?)?;
    ensure!(visit.plane.bao.audit().all()?.sign_attempts("spiffe") == signs, "Vault was asked for a foreign name");
    visit.guide.finished()
}
