//! What the trials share: a corner of one's own in the control plane and in OpenBao, and the questions asked of what stands there.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use testenv::{
    Bao, Calls, Chain, Created, Csr, Issuer, IssuerRef, Issuing, Kube, KubeCalls, Proxy, Recipe, Request, ca_of,
    certificate_of, condition, eventually, openssl,
};

use crate::Shared;

/// How long a thing may take that ought to happen at once; generous, because a dozen trials share two cores.
pub const SOON: Duration = Duration::from_secs(40);
/// What needs no pause must not take one: the shortest pace of looking again is 12 s.
pub const AT_ONCE: Duration = Duration::from_secs(9);
/// How long is listened for silence.
pub const A_WHILE: Duration = Duration::from_secs(3);
/// The message of every certificate that is written.
pub const ISSUED: &str = "the certificate was signed by Vault and verified";

/// A trial's own corner: a namespace, and at OpenBao a mount, a policy and an AppRole, all named after it.
pub struct Corner {
    pub shared: Arc<Shared>,
    pub name: String,
    pub recipe: Recipe,
}

impl Corner {
    /// An EC hierarchy whose mount knows its root, and a role that allows everything.
    pub async fn new(shared: &Arc<Shared>, name: &str) -> Result<Self> {
        Self::with_chain(shared, name, Chain::WithRoot).await
    }

    /// The same with another shape of hierarchy.
    pub async fn with_chain(shared: &Arc<Shared>, name: &str, chain: Chain) -> Result<Self> {
        let recipe = shared.plane.bao.plain_recipe(name, chain).await?;
        Self::around(shared, name, recipe).await
    }

    /// A namespace for a recipe that is there already.
    pub async fn around(shared: &Arc<Shared>, name: &str, recipe: Recipe) -> Result<Self> {
        shared.plane.kube.namespace(name).await?;
        shared.namespaces().push(name.to_owned());
        Ok(Self { shared: Arc::clone(shared), name: name.to_owned(), recipe })
    }

    pub fn kube(&self) -> &Kube {
        &self.shared.plane.kube
    }

    pub fn bao(&self) -> &Bao {
        &self.shared.plane.bao
    }

    /// A proxy in front of OpenBao that misbehaves for this trial only.
    pub async fn proxy(&self) -> Result<Proxy> {
        Proxy::start(&self.shared.run, self.bao().address()).await
    }

    /// The VaultMeshIssuer `vault`, not yet created.
    pub fn issuer(&self) -> Issuer {
        self.issuer_at(self.bao().address())
    }

    /// The same at another server.
    pub fn issuer_at(&self, server: &str) -> Issuer {
        Issuer::app_role(&self.name, "vault", &self.bao().with_address(server), &self.recipe)
    }

    /// The issuer `vault` whose secret id is expected in a Secret `late`, which is not created here.
    pub fn issuer_without_secret(&self) -> Issuer {
        let role = &self.recipe.app_role;
        let auth = json!({"appRole": {"roleId": role.role_id, "secretRef": {"name": "late"}}});
        Issuer::with_auth(&self.name, "vault", self.bao(), &self.recipe.sign_path, auth)
    }

    /// The VaultMeshIssuer `vault`, which has become Ready.
    pub async fn ready_issuer(&self) -> Result<Issuing> {
        self.ready(self.issuer()).await
    }

    /// Creates an issuer and waits until it is Ready.
    pub async fn ready(&self, issuer: Issuer) -> Result<Issuing> {
        let issuing = issuer.create(self.kube()).await?;
        issuing.ready(SOON).await?;
        Ok(issuing)
    }

    /// A request of this namespace to `vault`.
    pub fn request(&self, name: &str, csr_pem: &str) -> Request {
        Request::new(&self.name, name, &IssuerRef::new("VaultMeshIssuer", "vault"), csr_pem).duration("1h")
    }

    /// Creates what an Istio workload asks of `vault`.
    pub async fn ask(&self, name: &str) -> Result<Created> {
        let pair = Csr::workload(&self.name, name).ec()?;
        self.request(name, &pair.csr_pem).create(self.kube()).await
    }

    /// Waits for the certificate and looks at the whole status: nothing is there that should not be, `status.ca` is the original
    /// root, and openssl verifies with nothing but what was published.
    pub async fn issued(&self, request: &Created) -> Result<Value> {
        let object = request.reason("Issued", SOON).await?;
        is_issued(&object, self.recipe.root_pem()).await?;
        Ok(object)
    }

    /// Waits until the request is Pending with these words, and looks at the whole status.
    pub async fn pending(&self, request: &Created, words: &str) -> Result<Value> {
        let waits = |object: &Value| condition(object, "Ready").is_some_and(|it| text(&it["message"]).contains(words));
        let object =
            self.kube().wait(&request.path, SOON, waits).await.with_context(|| format!("waiting for {words}"))?;
        has_status(&object, &["conditions"])?;
        let ready = ready_of(&object)?;
        ensure!(ready["status"] == "False" && ready["reason"] == "Pending", "{ready}");
        Ok(object)
    }

    /// Waits until the request has failed for good with these words, and looks at the whole status and at the event.
    pub async fn failed(&self, request: &Created, words: &[&str]) -> Result<Value> {
        let object = request.reason("Failed", SOON).await?;
        is_final(&object)?;
        let ready = ready_of(&object)?;
        says(&ready["message"], words)?;
        let note = self.event(&request.name, "Failed").await?;
        ensure!(text(&note["note"]) == text(&ready["message"]), "the event says {note}, the condition {ready}");
        Ok(object)
    }

    /// The events about an object of this name, as events.k8s.io has them.
    pub async fn events(&self, name: &str) -> Result<Vec<Value>> {
        let all = self.kube().list(&format!("/apis/events.k8s.io/v1/namespaces/{}/events", self.name)).await?;
        let ours =
            |event: &Value| event["regarding"]["name"] == name && event["reportingController"] == "vault-mesh-issuer";
        Ok(all.into_iter().filter(ours).collect())
    }

    /// Waits for one event.
    pub async fn event(&self, name: &str, reason: &str) -> Result<Value> {
        eventually(&format!("an event {reason} about {name}"), SOON, async || {
            Ok(self.events(name).await?.into_iter().find(|event| event["reason"] == reason))
        })
        .await
    }

    /// What was called at OpenBao with this corner's mount or AppRole, from the start.
    pub fn calls(&self) -> Result<Calls> {
        let (mount, role_id) = (format!("{}/", self.recipe.mount()), self.recipe.app_role.role_id.as_str());
        let login = format!("auth/{}/login", self.recipe.app_role.mount);
        let all = self.bao().audit().all()?;
        let ours = all.keep(|call| call.display_name.as_deref() != Some("root"));
        Ok(ours.keep(|call| call.path.starts_with(&mount) || call.path == login && call.data["role_id"] == role_id))
    }

    /// How often a CSR was sent to the signing path, refused ones included.
    pub fn sign_attempts(&self) -> Result<usize> {
        Ok(self.calls()?.sign_attempts(self.recipe.mount()))
    }

    /// What our log says about this namespace above the level of information.
    pub fn complaints(&self) -> Result<Vec<String>> {
        let about = |line: &&str| line.contains(&self.name) && (line.contains(" WARN ") || line.contains(" ERROR "));
        Ok(self.shared.ours.log()?.lines().filter(about).map(str::to_owned).collect())
    }

    /// Our writes to the status of requests in this namespace.
    pub fn status_writes(&self) -> Result<KubeCalls> {
        let (namespace, account) = (&self.shared.ours.namespace, &self.shared.ours.account);
        let mut seen = usize::MAX;
        // The API server answers first and writes its audit line after that: read until nothing more comes.
        loop {
            std::thread::sleep(Duration::from_millis(200));
            let calls = self.shared.plane.kube_audit.all()?.of(namespace, account);
            let writes = calls.writes().resource("certificaterequests/status").in_namespace(&self.name);
            if writes.len() == seen {
                return Ok(writes);
            }
            seen = writes.len();
        }
    }
}

/// In namespaces with this label nobody approves by himself: there the trial decides.
const ALONE: &str = "trial-decides";

/// Labels of a namespace in which cert-manager's approver does nothing.
pub fn decides_alone() -> Value {
    json!({ALONE: "true"})
}

/// Keeps cert-manager's own approver, which is done within milliseconds, from the requests of labelled namespaces.
pub async fn let_namespaces_decide_alone(kube: &Kube) -> Result<()> {
    let approver = "system:serviceaccount:cert-manager:cert-manager";
    let metadata = json!({"name": ALONE});
    let kind = |kind: &str, spec: Value| json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": metadata, "spec": spec});
    let rule = json!({
        "apiGroups": ["cert-manager.io"], "apiVersions": ["v1"], "operations": ["UPDATE"],
        "resources": ["certificaterequests/status"],
    });
    let policy = json!({
        "failurePolicy": "Fail",
        "matchConstraints": {
            "resourceRules": [rule], "namespaceSelector": {"matchLabels": {ALONE: "true"}},
        },
        "validations": [{"expression": format!("request.userInfo.username != '{approver}'"), "message": "the trial decides"}],
    });
    let binding = json!({"policyName": ALONE, "validationActions": ["Deny"]});
    let objects = [kind("ValidatingAdmissionPolicy", policy), kind("ValidatingAdmissionPolicyBinding", binding)];
    kube.apply_all(&objects).await.map(drop)
}

/// The text behind base64, as a Secret holds it.
pub fn decoded(value: &Value) -> Result<String> {
    Ok(String::from_utf8(STANDARD.decode(text(value))?)?)
}

/// A string of JSON, empty where there is none.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Whether a message holds all these words.
pub fn says(message: &Value, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(text(message).contains(word), "expected {word:?} in {message}");
    }
    Ok(())
}

/// The Ready condition.
pub fn ready_of(object: &Value) -> Result<&Value> {
    condition(object, "Ready").context("there is no Ready condition")
}

/// Whether the status has these fields and no other, and the conditions Approved (or Denied) and Ready and no other.
fn has_status(object: &Value, fields: &[&str]) -> Result<()> {
    let status = object["status"].as_object().context("there is no status")?;
    let found: Vec<_> = status.keys().map(String::as_str).collect();
    ensure!(
        found.len() == fields.len() && fields.iter().all(|field| found.contains(field)),
        "the status has {found:?}"
    );
    let conditions = object["status"]["conditions"].as_array().context("there are no conditions")?;
    let types: Vec<_> = conditions.iter().map(|it| text(&it["type"])).collect();
    let decided = types.contains(&"Approved") || types.contains(&"Denied");
    ensure!(types.len() == 2 && decided && types.contains(&"Ready"), "the conditions are {types:?}");
    let ready = ready_of(object)?;
    ensure!(text(&ready["lastTransitionTime"]).ends_with('Z'), "{ready}");
    ensure!(ready.as_object().is_some_and(|ready| ready.len() == 5), "{ready}");
    Ok(())
}

/// Whether the request ended without a certificate, with a failureTime that is not before its creation.
pub fn is_final(object: &Value) -> Result<()> {
    has_status(object, &["conditions", "failureTime"])?;
    let (failed, created) = (text(&object["status"]["failureTime"]), text(&object["metadata"]["creationTimestamp"]));
    // Both are UTC to the second, so the order of the texts is that of the times.
    ensure!(failed.len() == created.len() && failed >= created, "failureTime {failed}, created {created}");
    ensure!(ready_of(object)?["status"] == "False", "{object}");
    Ok(())
}

/// Whether the request ended with a certificate under this root, judged by openssl with nothing but what was published.
pub async fn is_issued(object: &Value, root_pem: &str) -> Result<()> {
    has_status(object, &["conditions", "certificate", "ca"])?;
    let ready = ready_of(object)?;
    ensure!(ready["status"] == "True" && ready["reason"] == "Issued" && ready["message"] == ISSUED, "{ready}");
    let (chain, ca) = (certificate_of(object)?, ca_of(object)?);
    ensure!(ca.trim() == root_pem.trim() && ca.ends_with("-----\n"), "status.ca is not the original root:\n{ca}");
    ensure!(chain.ends_with("-----END CERTIFICATE-----\n"), "the chain does not end with a newline");
    ensure!(!chain.contains(ca.trim()), "the chain holds the root");
    let ends = chain.matches("-----END CERTIFICATE-----").count();
    ensure!(chain.matches("-----END CERTIFICATE-----\n").count() == ends, "a block does not end with a newline");
    openssl::verify(&chain, &ca).await
}

/// Whether the certificate holds this private key's public key, as openssl sees it.
pub async fn holds_key(certificate_pem: &str, key_pem: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let write = |name: &str, text: &str| -> Result<String> {
        let path = folder.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    };
    let (certificate, key) = (write("certificate", certificate_pem)?, write("key", key_pem)?);
    let published = openssl::run(&["x509", "-in", &certificate, "-noout", "-pubkey"]).await?;
    let ours = openssl::run(&["pkey", "-in", &key, "-pubout"]).await?;
    ensure!(published == ours, "the certificate holds another key");
    Ok(())
}

/// The subject alternative names of a certificate, as openssl prints them.
pub async fn names_in(certificate_pem: &str) -> Result<String> {
    let printed = openssl::text(certificate_pem).await?;
    let line = printed.lines().skip_while(|line| !line.contains("Subject Alternative Name")).nth(1);
    Ok(line.unwrap_or_default().trim().to_owned())
}
