//! What the chart of istio-csr sets up: options, ServiceAccount and rights. The rights are those of its release 0.17.

use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::kube::Kube;
use crate::requests::IssuerRef;

/// The name of its ServiceAccount, of its Service and of everything else that its chart makes.
pub(super) const ACCOUNT: &str = "cert-manager-istio-csr";
const RBAC: &str = "rbac.authorization.k8s.io/v1";

/// How it is installed.
#[derive(Clone, Debug)]
pub struct IstioCsrOptions {
    /// Where it runs: the release's namespace.
    pub namespace: String,
    /// Where it makes its requests: `app.certmanager.namespace`.
    pub requests_in: String,
    /// Whom they name at first: `app.certmanager.issuer`, unless that is not enabled.
    pub issuer: Option<IssuerRef>,
    /// The ConfigMap in its namespace that names the issuer at run time: `app.runtimeConfiguration.name`.
    pub runtime_config: Option<String>,
    /// What lies in `app.tls.rootCAFile`, PEM.
    pub roots_pem: Option<String>,
    /// The longest life of a workload's certificate: `app.server.maxCertificateDuration`.
    pub longest: Duration,
}

impl IstioCsrOptions {
    /// As its chart has them, in `cert-manager` and with requests in `istio-system`; no root file.
    pub fn new(issuer: &IssuerRef) -> IstioCsrOptions {
        IstioCsrOptions {
            namespace: "cert-manager".into(),
            requests_in: "istio-system".into(),
            issuer: Some(issuer.clone()),
            runtime_config: None,
            roots_pem: None,
            longest: Duration::from_secs(3_600),
        }
    }

    /// As a file of values for its chart has them in this namespace: what such a file says about the issuer, about where requests
    /// are made and how long certificates may live, and which key of which Secret or ConfigMap there is the root file.
    pub async fn of_values(admin: &Kube, namespace: &str, values: &str) -> Result<IstioCsrOptions> {
        let values: Value = serde_yaml_ng::from_str(values).context("reading the values")?;
        let issuer = &values["app"]["certmanager"]["issuer"];
        let text = |key: &str| issuer[key].as_str().map(str::to_owned).with_context(|| format!("no issuer.{key}"));
        let issuer = IssuerRef { group: text("group")?, kind: text("kind")?, name: text("name")? };
        let mut options = IstioCsrOptions { namespace: namespace.into(), ..IstioCsrOptions::new(&issuer) };
        if let Some(longest) = values["app"]["server"]["maxCertificateDuration"].as_str() {
            options.longest = longest.parse::<jiff::SignedDuration>().context("maxCertificateDuration")?.unsigned_abs();
        }
        if let Some(namespace) = values["app"]["certmanager"]["namespace"].as_str() {
            namespace.clone_into(&mut options.requests_in);
        }
        if let Some(file) = values["app"]["tls"]["rootCAFile"].as_str() {
            options.roots_pem = Some(mounted(admin, &options.namespace, &values, file).await?);
        }
        Ok(options)
    }

    /// Its ServiceAccount and its rights; gives the API server as that account.
    pub(super) async fn install(&self, admin: &Kube) -> Result<Kube> {
        admin.service_account(&self.namespace, ACCOUNT).await?;
        let rule = |group: &str, resources: &[&str], verbs: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
        let events = rule("", &["events"], &["create"]);
        let requests = ["get", "list", "create", "update", "delete", "watch"];
        let requests = json!([rule("cert-manager.io", &["certificaterequests"], &requests), events]);
        let leases = ["get", "create", "update", "watch", "list"];
        let leases = json!([rule("coordination.k8s.io", &["leases"], &leases), events]);
        let everywhere = json!([
            rule("", &["configmaps"], &["get", "list", "create", "update", "watch"]),
            rule("", &["namespaces"], &["get", "list", "watch"]),
            rule("authentication.k8s.io", &["tokenreviews"], &["create"]),
        ]);
        let objects = [
            self.granted(Some(&self.requests_in), ACCOUNT, requests),
            // Its leader election has its own namespace, which is the same unless told otherwise.
            self.granted(Some(&self.requests_in), &format!("{ACCOUNT}-leases"), leases),
            self.granted(None, ACCOUNT, everywhere),
        ];
        admin.apply_all(&objects.concat()).await.context("applying the rights of istio-csr")?;
        Ok(admin.with_token(&admin.token(&self.namespace, ACCOUNT, &[]).await?))
    }

    /// A role of one namespace, or of all, and its binding.
    fn granted(&self, namespace: Option<&str>, name: &str, rules: Value) -> [Value; 2] {
        let kind = if namespace.is_some() { "Role" } else { "ClusterRole" };
        let mut metadata = json!({"name": name});
        if let Some(namespace) = namespace {
            metadata["namespace"] = namespace.into();
        }
        let subject = json!({"kind": "ServiceAccount", "name": ACCOUNT, "namespace": self.namespace});
        [
            json!({"apiVersion": RBAC, "kind": kind, "metadata": metadata, "rules": rules}),
            json!({
                "apiVersion": RBAC, "kind": format!("{kind}Binding"), "metadata": metadata, "subjects": [subject],
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
            }),
        ]
    }
}

/// The content of a file of the pod, out of the Secret or ConfigMap that the values mount there.
async fn mounted(admin: &Kube, namespace: &str, values: &Value, file: &str) -> Result<String> {
    let (folder, key) = file.rsplit_once('/').context("rootCAFile is no path")?;
    let listed = |field: &str| values[field].as_array().cloned().unwrap_or_default();
    let mount = listed("volumeMounts").into_iter().find(|mount| mount["mountPath"] == folder);
    let mount = mount.with_context(|| format!("nothing is mounted at {folder}"))?;
    let volume = listed("volumes").into_iter().find(|volume| volume["name"] == mount["name"]);
    let volume = volume.with_context(|| format!("no volume {}", mount["name"]))?;
    if let Some(name) = volume["configMap"]["name"].as_str() {
        let object = admin.get(&format!("/api/v1/namespaces/{namespace}/configmaps/{name}")).await?;
        return Ok(object["data"][key].as_str().with_context(|| format!("ConfigMap {name} has no {key}"))?.to_owned());
    }
    let name = volume["secret"]["secretName"].as_str().context("neither a Secret nor a ConfigMap")?;
    let object = admin.get(&format!("/api/v1/namespaces/{namespace}/secrets/{name}")).await?;
    let encoded = object["data"][key].as_str().with_context(|| format!("Secret {name} has no {key}"))?;
    Ok(String::from_utf8(STANDARD.decode(encoded)?)?)
}
