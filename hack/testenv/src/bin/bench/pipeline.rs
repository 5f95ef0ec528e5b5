//! Certificates through the whole of cert-manager: key, request, approval, certificate, Secret.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use testenv::{CLIENTS, condition, in_parallel};

use crate::arena::{Arena, Contender, NAMESPACE, Signing};
use crate::gauge::{Figures, Gauge};

/// The scenario's name in the record.
pub const NAME: &str = "pipeline";
const COUNT: usize = 200;
const WITHIN: Duration = Duration::from_secs(300);
const CERTIFICATES: &str = "/apis/cert-manager.io/v1/namespaces/mesh/certificates";

/// One turn.
pub async fn certificates(arena: &Arena, contender: Contender) -> Result<Figures> {
    if contender == Contender::Ours {
        arena.go(contender).await?;
    }
    arena.issuers(contender, Signing::USUAL, 1).await?;
    arena.ready(contender, 1).await?;
    arena.calm().await?;
    let gauge = Gauge::start(arena, contender).await?;
    let begun = Instant::now();
    in_parallel(COUNT, CLIENTS, |number| {
        let (kube, issuer) = (arena.plane.kube.clone(), contender.issuer(0));
        async move {
            let name = format!("workload-{number}");
            let object = json!({
                "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": {"name": name},
                "spec": {
                    "secretName": name, "issuerRef": issuer.json(), "duration": "24h",
                    "privateKey": {"algorithm": "ECDSA", "size": 256}, "dnsNames": [format!("{name}.mesh.svc")],
                },
            });
            kube.post(CERTIFICATES, &object).await.map(drop)
        }
    })
    .await?;
    let took = loop {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let made = arena.plane.kube.list(CERTIFICATES).await?;
        let ready = |it: &&serde_json::Value| condition(it, "Ready").is_some_and(|ready| ready["status"] == "True");
        let ready = made.iter().filter(ready).count();
        if ready == COUNT {
            break begun.elapsed();
        }
        ensure!(
            begun.elapsed() < WITHIN,
            "{}",
            arena.peer(contender)?.complaint(&format!("{ready} of {COUNT} are Ready"))
        );
    };
    let (figures, moments) = gauge.read(COUNT).await?;
    let figures = figures.with_rate(COUNT, took).with_waits(moments.since_the_beginning());
    arena.delete_all(CERTIFICATES).await?;
    arena.delete_all(&format!("/api/v1/namespaces/{NAMESPACE}/secrets")).await?;
    arena.clear(contender).await?;
    if contender == Contender::Ours {
        arena.stop(contender).await?;
    }
    Ok(figures)
}
