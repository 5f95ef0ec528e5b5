//! The program itself, with the rights that its chart gives it, and the call of a proxy's agent.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::Serving;
use super::grpc::{Server, create_certificate};
use super::installed::{ACCOUNT, IstioCsrOptions};
use crate::kube::Kube;
use crate::peer::{Peer, Ready, Recipe};

/// What an agent's token is made for.
const AUDIENCE: &str = "istio-ca";

/// A running istio-csr.
pub struct RealIstioCsr {
    peer: Peer,
    admin: Kube,
    address: String,
    name: String,
    roots_pem: String,
}

impl RealIstioCsr {
    /// Installs its ServiceAccount and rights, starts `program` and waits until it says that it is ready. Its namespace's
    /// `istio-ca-root-cert` is then what it tells proxies to trust.
    pub async fn start(admin: &Kube, options: &IstioCsrOptions, program: &Path) -> Result<(RealIstioCsr, Serving)> {
        let run = &admin.run;
        let kube = options.install(admin).await?;
        let folder = run.new_folder(ACCOUNT)?;
        let config = kube.kubeconfig(&format!("{ACCOUNT}-{}", run.port()?), &options.namespace)?;
        let (serving, health, metrics) = (run.port()?, run.port()?, run.port()?);
        let name = format!("{ACCOUNT}.{}.svc", options.namespace);
        let mut args = vec![
            format!("--kubeconfig={}", config.display()),
            format!("--serving-address=127.0.0.1:{serving}"),
            format!("--readiness-probe-port={health}"),
            format!("--metrics-port={metrics}"),
            format!("--certificate-namespace={}", options.requests_in),
            format!("--leader-election-namespace={}", options.requests_in),
            format!("--serving-certificate-dns-names={name}"),
            format!("--max-client-certificate-duration={}s", options.longest.as_secs()),
            // As deploy/istio-csr/values.yaml has it.
            "--disable-kubernetes-client-rate-limiter=true".to_owned(),
        ];
        match &options.issuer {
            Some(issuer) => args.extend([
                format!("--issuer-group={}", issuer.group),
                format!("--issuer-kind={}", issuer.kind),
                format!("--issuer-name={}", issuer.name),
            ]),
            None => args.push("--issuer-enabled=false".to_owned()),
        }
        if let Some(config_map) = &options.runtime_config {
            args.push(format!("--runtime-issuance-config-map-name={config_map}"));
            args.push(format!("--runtime-issuance-config-map-namespace={}", options.namespace));
        }
        if let Some(roots) = &options.roots_pem {
            let file = folder.join("roots.pem");
            std::fs::write(&file, roots).context("writing the root file")?;
            args.push(format!("--root-ca-file={}", file.display()));
        }
        let recipe = Recipe {
            name: ACCOUNT.into(),
            program: program.to_owned(),
            args,
            env: Vec::new(),
            folder,
            ready: Ready::at(format!("http://127.0.0.1:{health}/readyz")),
        };
        let began = Instant::now();
        let peer = Peer::start(run, recipe).await?;
        let took = began.elapsed();
        let tries = 1 + peer.log()?.matches("will retry").count();
        let published = format!("/api/v1/namespaces/{}/configmaps/istio-ca-root-cert", options.namespace);
        let has_root = |object: &serde_json::Value| object["data"]["root-cert.pem"].is_string();
        let published = admin.wait(&published, Duration::from_secs(60), has_root).await?;
        let roots_pem = published["data"]["root-cert.pem"].as_str().unwrap_or_default().to_owned();
        let address = format!("127.0.0.1:{serving}");
        Ok((RealIstioCsr { peer, admin: admin.clone(), address, name, roots_pem }, Serving { tries, took }))
    }

    /// A token as the kubelet gives it to a proxy.
    pub async fn token(&self, namespace: &str, account: &str) -> Result<String> {
        self.admin.token(namespace, account, &[AUDIENCE]).await
    }

    /// What it hands a proxy that shows this token.
    pub async fn certificate(&self, token: &str, csr_pem: &str, validity: Duration) -> Result<Vec<String>> {
        let server = Server { address: &self.address, name: &self.name, roots_pem: &self.roots_pem };
        create_certificate(&server, token, csr_pem, validity.as_secs()).await
    }

    /// What it tells proxies to trust.
    pub fn roots(&self) -> &str {
        &self.roots_pem
    }

    /// The process.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }
}
