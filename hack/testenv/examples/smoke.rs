//! Starts everything but our controller, has cert-manager issue a self-signed
//! certificate, and prints how long each step took.

#![allow(clippy::disallowed_methods, reason = "the clock is what it shows")]

use std::time::{Duration, Instant};

use anyhow::Result;
use testenv::{Chain, ControlPlane, Csr, Options, Proxy, Run, openssl};

const SELF_SIGNED: &str = "
apiVersion: cert-manager.io/v1
kind: Issuer
metadata: {name: self, namespace: smoke}
spec: {selfSigned: {}}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: hello, namespace: smoke}
spec:
  secretName: hello-tls
  dnsNames: [hello.smoke.svc]
  issuerRef: {name: self, kind: Issuer, group: cert-manager.io}
";

fn main() -> Result<()> {
    let run = Run::start("smoke")?;
    let outcome = tokio::runtime::Runtime::new()?.block_on(smoke(&run));
    run.finish(outcome.is_ok());
    outcome
}

async fn smoke(run: &Run) -> Result<()> {
    let mut clock = Instant::now();
    let mut lap = |what: &str| {
        println!("{:>7.2} s  {what}", clock.elapsed().as_secs_f64());
        clock = Instant::now();
    };
    let plane = ControlPlane::start(run, Options { raft: true, ..Options::default() }).await?;
    lap("the control plane is up");

    plane.kube.namespace("smoke").await?;
    plane.kube.apply(SELF_SIGNED).await?;
    let path = "/apis/cert-manager.io/v1/namespaces/smoke/certificates/hello";
    plane.kube.wait_condition(path, "Ready", "True", Duration::from_secs(20)).await?;
    lap("cert-manager has issued a certificate");

    let proxy = Proxy::start(run, plane.bao.address()).await?;
    let bao = plane.bao.with_address(proxy.url());
    let mark = bao.audit().mark()?;
    let mesh = bao.plain_recipe("smoke", Chain::IntermediateOnly).await?;
    let login = bao.log_in(&mesh.app_role).await?;
    let as_mesh = bao.with_token(login["client_token"].as_str().unwrap_or_default());
    let probe = as_mesh.call("POST", &mesh.sign_path, Some(&serde_json::json!({"csr": ""}))).await?;
    let signed = as_mesh.sign(&mesh.sign_path, &Csr::workload("a", "b").ec()?.csr_pem, "1h").await?;
    let pem = |name: &str| signed[name].as_str().unwrap_or_default().to_owned();
    openssl::verify(&format!("{}\n{}", pem("certificate"), pem("issuing_ca")), mesh.root_pem()).await?;
    let calls = bao.audit().since(mark)?;
    let counted = (calls.logins_of(&mesh.app_role), calls.signs(mesh.mount()), calls.probes(mesh.mount()));
    println!("           probe answers {} {}; logins, signs, probes: {counted:?}", probe.status, probe.words());
    anyhow::ensure!(counted == (1, 1, 1), "the audit log was expected to show one login, one sign, one probe");
    lap("OpenBao has signed through the proxy");

    plane.bao.restart().await?;
    lap("OpenBao was killed and restarted");
    plane.apiserver.restart().await?;
    plane.kube.get("/api/v1/namespaces/smoke").await?;
    lap("the API server was killed and restarted");

    for peer in plane.peers() {
        println!("{:>5} MB  {}", peer.memory()? >> 20, peer.name());
    }
    Ok(())
}
