//! Open Service Mesh's own cert-manager provider, which asks for certificates as OSM's programs do.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tokio::process::Command;

use crate::kube::Kube;
use crate::requests::IssuerRef;

/// OSM with the settings of its chart.
pub struct Osm {
    kube: Kube,
    namespace: String,
    issuer: IssuerRef,
}

/// What the provider hands to OSM.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OsmCertificate {
    /// The certificate's common name.
    pub common_name: String,
    /// Its end, RFC 3339.
    pub expiration: String,
    /// The certificate and the intermediates above it, PEM.
    pub chain: String,
    /// What the mesh is told to trust, PEM.
    #[serde(rename = "trustedCAs")]
    pub trusted: String,
}

impl Osm {
    /// In this namespace, with the issuer of `osm.certmanager`. It asks as whoever `kube` is.
    pub fn new(kube: &Kube, namespace: &str, issuer: &IssuerRef) -> Osm {
        Osm { kube: kube.clone(), namespace: namespace.into(), issuer: issuer.clone() }
    }

    /// A start of OSM: a certificate of one second named `init-cert`, and then `count` times this one. A request that does not
    /// become Ready takes a minute; the program ends when nobody waits for it any more.
    pub async fn ask(&self, name: &str, validity: &str, count: usize) -> Result<Vec<OsmCertificate>> {
        let config = self.kube.kubeconfig(&format!("osm-{}", self.namespace), &self.namespace)?;
        let output = Command::new(self.kube.run.programs().path("osm-driver"))
            .arg("-kubeconfig")
            .arg(config)
            .args(["-namespace", &self.namespace, "-issuer-name", &self.issuer.name])
            .args(["-issuer-kind", &self.issuer.kind, "-issuer-group", &self.issuer.group])
            .args(["-common-name", name, "-validity", validity, "-count", &count.to_string()])
            .kill_on_drop(true)
            .output()
            .await
            .context("running osm-driver")?;
        ensure!(output.status.success(), "osm-driver: {}", String::from_utf8_lossy(&output.stderr));
        let printed = String::from_utf8(output.stdout)?;
        printed.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }
}
