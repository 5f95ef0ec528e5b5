//! istio-csr as the API server and an issuer see it: its ServiceAccount with the rights of its chart, a certificate for itself to
//! serve with, and a CertificateRequest for each workload, waited for by a watch and deleted in the end.
//!
//! [`IstioCsr`] does what istio-csr 0.17 does, but for the gRPC server in front of it and the approval of who asks;
//! [`RealIstioCsr`] is the program itself, for those who have it.

mod grpc;
mod installed;
mod real;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::sync::RwLock;

use crate::csr::Csr;
use crate::follow::{Going, Watch};
use crate::kube::{Kube, condition};
use crate::mutual_tls;
use crate::requests::{Created, IssuerRef, Request, ca_of, certificate_of};

pub use installed::IstioCsrOptions;
pub use real::RealIstioCsr;

/// How long one try to get the certificate for itself may take.
const SERVING_TRY: Duration = Duration::from_secs(10);
/// How long after the begin of the first try the second begins at the earliest; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Neither it nor a proxy limits how long a workload's certificate may take; a trial has to.
const WORKLOAD_WAITS: Duration = Duration::from_secs(600);
const PAUSE: Duration = Duration::from_millis(300);

/// istio-csr, replayed. Everything that it asks the API server for it asks with its ServiceAccount's token.
pub struct IstioCsr {
    kube: Kube,
    options: IstioCsrOptions,
    /// Whom the next request names. A request that waits holds a change of it back, as it does there.
    issuer: Arc<RwLock<Option<IssuerRef>>>,
    /// What proxies are told to trust, PEM.
    roots: Option<String>,
    _watching: Option<Going>,
}

/// How it came by the certificate that it serves with.
#[derive(Debug)]
pub struct Serving {
    /// How many requests that took.
    pub tries: usize,
    /// How long it took.
    pub took: Duration,
}

impl IstioCsr {
    /// Installs its ServiceAccount and rights as `admin`, and waits until it could serve: at most `within`.
    pub async fn start(admin: &Kube, options: IstioCsrOptions, within: Duration) -> Result<(IstioCsr, Serving)> {
        let kube = options.install(admin).await?.patient();
        let issuer = Arc::new(RwLock::new(options.issuer.clone()));
        let watching = options.runtime_config.clone().map(|name| {
            let path =
                format!("/api/v1/namespaces/{}/configmaps?fieldSelector=metadata.name%3D{name}", options.namespace);
            let (kube, issuer, first) = (kube.clone(), Arc::clone(&issuer), options.issuer.clone());
            Going::new(async move {
                loop {
                    // A watch that has ended is opened again.
                    let _ended = follow_issuer(&kube, &path, &issuer, first.as_ref()).await;
                    tokio::time::sleep(PAUSE).await;
                }
            })
        });
        let roots = options.roots_pem.clone();
        let mut started = IstioCsr { kube, options, issuer, roots, _watching: watching };
        let serving = started.serve(within).await?;
        Ok((started, serving))
    }

    /// What it hands a proxy for this CSR: the certificate, each intermediate, and the roots as the last.
    pub async fn certificate(&self, identity: &str, csr_pem: &str, validity: Duration) -> Result<Vec<String>> {
        let validity = validity.min(self.options.longest);
        let usages = ["client auth", "server auth"];
        let object = self.sign(identity, csr_pem, validity, &usages, WORKLOAD_WAITS).await?;
        let (chain, roots) = (certificate_of(&object)?, self.roots()?);
        // istio-csr is content with one of the two usages; a workload needs both.
        mutual_tls::verify(&chain, roots).context("the certificate does not lead to the mesh's roots")?;
        let mut handed_out: Vec<_> = pem::parse_many(&chain)?.iter().map(pem::encode).collect();
        handed_out.push(roots.to_owned());
        Ok(handed_out)
    }

    /// What it tells proxies to trust: the root file that it was given, else the CA that came with its own certificate.
    pub fn roots(&self) -> Result<&str> {
        self.roots.as_deref().context("it has no roots yet")
    }

    /// As its API server sees it.
    pub fn kube(&self) -> &Kube {
        &self.kube
    }

    async fn serve(&mut self, within: Duration) -> Result<Serving> {
        let (began, mut tries, mut pause) = (Instant::now(), 0, FIRST_PAUSE);
        loop {
            tries += 1;
            let next = tokio::time::Instant::now() + pause;
            let failed = match self.serving_certificate().await {
                Ok(()) => return Ok(Serving { tries, took: began.elapsed() }),
                Err(failed) => failed,
            };
            ensure!(began.elapsed() < within, "not ready to serve after {tries} tries; the last: {failed:#}");
            tokio::time::sleep_until(next).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn serving_certificate(&mut self) -> Result<()> {
        let name = format!("{}.{}.svc", installed::ACCOUNT, self.options.namespace);
        let pair = Csr::new().organization("").dns(&name).rsa(2048).await?;
        let hour = Duration::from_secs(3_600);
        let object = self.sign("istio-csr-serving", &pair.csr_pem, hour, &["server auth"], SERVING_TRY).await?;
        if self.options.roots_pem.is_none() {
            let ca = ca_of(&object)?;
            ensure!(!ca.trim().is_empty(), "the issuer gave no CA, and there is no root file");
            self.roots = Some(ca);
        }
        certificate_of(&object).map(drop)
    }

    async fn sign(
        &self,
        identities: &str,
        csr_pem: &str,
        duration: Duration,
        usages: &[&str],
        within: Duration,
    ) -> Result<Value> {
        let issuer = self.issuer.read().await;
        let issuer = issuer.as_ref().context("no issuer is configured")?;
        let request = Request::new(&self.options.requests_in, "", issuer, csr_pem)
            .with("/metadata", json!({"generateName": "istio-csr-"}))
            .annotation("istio.cert-manager.io/identities", identities)
            .duration(&format!("{}s", duration.as_secs()))
            .with("/spec/isCA", false.into())
            .usages(usages);
        let created = request.create(&self.kube).await?;
        let signed = tokio::time::timeout(within, self.wait(&created)).await;
        created.delete().await?;
        signed.with_context(|| format!("not signed within {within:?}"))?
    }

    /// By a watch, until there is a certificate; whatever else the status says then.
    async fn wait(&self, created: &Created) -> Result<Value> {
        let requests = created.path.strip_suffix(&created.name).context("an odd path")?.trim_end_matches('/');
        let path = format!("{requests}?watch=true&fieldSelector=metadata.name%3D{}", created.name);
        let mut watch = Watch::open(&self.kube, &path).await?;
        let mut object = created.get().await?;
        loop {
            let conditions = &object["status"]["conditions"];
            if condition(&object, "Denied").is_some_and(|denied| denied["status"] == "True") {
                bail!("the request was denied: {conditions}");
            }
            if condition(&object, "Ready")
                .is_some_and(|ready| ready["status"] == "False" && ready["reason"] == "Failed")
            {
                bail!("the request has failed: {conditions}");
            }
            if object["status"]["certificate"].as_str().is_some_and(|certificate| !certificate.is_empty()) {
                return Ok(object);
            }
            object = match watch.next().await? {
                Some((kind, _)) if kind == "DELETED" => bail!("somebody has deleted the request"),
                Some((_, object)) => object,
                None => bail!("the watch has ended"),
            };
        }
    }
}

/// Names the issuer that the ConfigMap names, and the first one again when it has gone. A ConfigMap without one of its keys
/// changes nothing.
async fn follow_issuer(
    kube: &Kube,
    path: &str,
    issuer: &RwLock<Option<IssuerRef>>,
    first: Option<&IssuerRef>,
) -> Result<()> {
    let mut watch = Watch::open(kube, &format!("{path}&watch=true")).await?;
    while let Some((kind, object)) = watch.next().await? {
        let text = |key: &str| object["data"][key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let named = match (text("issuer-group"), text("issuer-kind"), text("issuer-name")) {
            (Some(group), Some(kind), Some(name)) => Some(IssuerRef { group, kind, name }),
            _ => None,
        };
        if kind == "DELETED" {
            *issuer.write().await = first.cloned();
        } else if named.is_some() {
            *issuer.write().await = named;
        }
    }
    Ok(())
}
