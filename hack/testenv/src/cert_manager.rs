//! cert-manager: its CRDs and RBAC out of its own chart, its webhook and its
//! controllers as processes, each with a token of its own ServiceAccount.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::authority::Identity;
use crate::kube::Kube;
use crate::kubectl::helm_template;
use crate::peer::{Peer, Ready, Recipe};
use crate::run::Run;
use crate::wait::eventually;

const NAMESPACE: &str = "cert-manager";
const WEBHOOKS: [&str; 2] = ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];

/// cert-manager's objects, rendered; the webhook's port is part of them.
pub(crate) struct Rendered {
    objects: Vec<Value>,
    webhooks: Vec<Value>,
    webhook_port: u16,
}

pub(crate) async fn render(run: &Run, selectable_fields: bool) -> Result<Rendered> {
    let webhook_port = run.port()?;
    let args: Vec<String> = [
        "crds.enabled=true",
        "startupapicheck.enabled=false",
        "prometheus.enabled=false",
        "global.leaderElection.namespace=cert-manager",
        &format!("webhook.url.host=127.0.0.1:{webhook_port}"),
        "approveSignerNames={issuers.cert-manager.io/*,clusterissuers.cert-manager.io/*}",
    ]
    .iter()
    .flat_map(|value| ["--set".to_owned(), value.to_string()])
    .collect();
    let chart = run.programs().cert_manager_chart();
    let rendered = helm_template(run.programs(), "cert-manager", NAMESPACE, &chart, &args).await?;
    let (mut webhooks, mut objects) = (Vec::new(), Vec::new());
    for mut object in rendered {
        match object["kind"].as_str().unwrap_or_default() {
            "Deployment" | "Service" => {}
            kind if WEBHOOKS.contains(&kind) => {
                trust(&mut object, run.authority().pem());
                webhooks.push(object);
            }
            "CustomResourceDefinition" if !selectable_fields => {
                drop_selectable_fields(&mut object);
                objects.push(object);
            }
            _ => objects.push(object),
        }
    }
    Ok(Rendered { objects, webhooks, webhook_port })
}

/// What cert-manager before 1.20 had.
fn drop_selectable_fields(crd: &mut Value) {
    for version in crd["spec"]["versions"].as_array_mut().into_iter().flatten() {
        if let Some(version) = version.as_object_mut() {
            version.remove("selectableFields");
        }
    }
}

fn trust(configuration: &mut Value, ca_pem: &str) {
    for webhook in configuration["webhooks"].as_array_mut().into_iter().flatten() {
        webhook["clientConfig"]["caBundle"] = STANDARD.encode(ca_pem).into();
    }
}

impl Rendered {
    /// Namespace, CRDs and RBAC; returns when the CRDs are served.
    pub(crate) async fn install(&self, kube: &Kube) -> Result<()> {
        kube.namespace(NAMESPACE).await?;
        kube.apply_all(&self.objects).await.context("applying cert-manager's CRDs and RBAC")?;
        eventually("cert-manager's CRDs are served", Duration::from_secs(20), async || {
            let found = kube.find("/apis/cert-manager.io/v1/certificaterequests?limit=1").await?;
            let issuers = kube.find("/apis/cert-manager.io/v1/clusterissuers?limit=1").await?;
            Ok(found.and(issuers))
        })
        .await
        .map(drop)
    }

    /// Starts the webhook and has the API server ask it.
    pub(crate) async fn start_webhook(&self, kube: &Kube, folder: &Path, server: &Identity) -> Result<Peer> {
        let run = &kube.run;
        let (_, config) = kube.as_account(NAMESPACE, "cert-manager-webhook").await?;
        let health = run.port()?;
        let args = vec![
            "webhook".into(),
            format!("--kubeconfig={}", config.display()),
            format!("--secure-port={}", self.webhook_port),
            format!("--healthz-port={health}"),
            format!("--tls-cert-file={}", server.certificate_path.display()),
            format!("--tls-private-key-file={}", server.key_path.display()),
        ];
        let recipe = recipe(run, "cert-manager-webhook", folder, args, format!("http://127.0.0.1:{health}/livez"));
        let peer = Peer::start(run, recipe).await?;
        kube.apply_all(&self.webhooks).await.context("applying cert-manager's webhook configurations")?;
        Ok(peer)
    }
}

/// Starts cert-manager's controllers.
pub(crate) async fn start_controller(kube: &Kube, folder: &Path, extra: &[String]) -> Result<Peer> {
    let run = &kube.run;
    let (_, config) = kube.as_account(NAMESPACE, "cert-manager").await?;
    let health = run.port()?;
    let mut args = vec![
        "controller".into(),
        format!("--kubeconfig={}", config.display()),
        format!("--health-address=127.0.0.1:{health}"),
        "--minimum-backoff=5s".into(),
        "--maximum-backoff=30s".into(),
        "-v=2".into(),
    ];
    args.extend_from_slice(extra);
    Peer::start(run, recipe(run, "cert-manager-controller", folder, args, format!("http://127.0.0.1:{health}/livez")))
        .await
}

fn recipe(run: &Run, name: &str, folder: &Path, args: Vec<String>, ready: String) -> Recipe {
    Recipe {
        name: name.into(),
        program: run.programs().path("cert-manager"),
        args,
        env: Vec::new(),
        folder: folder.to_owned(),
        ready: Ready::at(ready),
    }
}
