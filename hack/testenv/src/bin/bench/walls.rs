//! What no issuer passes: Vault's signature, and the API server's status write, each asked for by a plain client over as many
//! connections as help it most.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use testenv::{Csr, in_parallel};

use crate::arena::{Arena, Contender, NAMESPACE, REQUESTS, Signing};
use crate::gauge::Figures;

/// The names of the walls in the record.
pub const SIGN: &str = "raw sign";
pub const WRITE: &str = "raw status write";
/// The scenario of the status write, which no CA changes.
pub const EVERY_DRAIN: &str = "drain, any CA";
const TRIED: [usize; 5] = [1, 2, 4, 8, 16];
const SAMPLE: usize = 400;

/// How many connections help most.
pub struct Walls {
    signing: usize,
    writing: usize,
}

impl fmt::Display for Walls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fastest: {SIGN} over {} connections, {WRITE} over {}", self.signing, self.writing)
    }
}

impl Walls {
    /// Tries some numbers of connections.
    pub async fn find(arena: &Arena) -> Result<Walls> {
        let (mut signing, mut writing) = (Vec::new(), Vec::new());
        for connections in TRIED {
            let walls = Walls { signing: connections, writing: connections };
            signing.push((walls.sign(arena, Signing::USUAL, SAMPLE).await?.per_second, connections));
            writing.push((walls.write(arena, SAMPLE).await?.per_second, connections));
        }
        let best = |mut tried: Vec<(f64, usize)>| {
            tried.sort_by(|a, b| a.0.total_cmp(&b.0));
            tried.last().map(|best| best.1).context("nothing was tried")
        };
        Ok(Walls { signing: best(signing)?, writing: best(writing)? })
    }

    /// Has so many CSRs signed by Vault, and nothing else.
    pub async fn sign(&self, arena: &Arena, signing: Signing, count: usize) -> Result<Figures> {
        let recipe = arena.recipe(signing)?;
        let login = json!({"role_id": recipe.app_role.role_id, "secret_id": recipe.app_role.secret_id});
        let token = arena.plane.bao.write(&format!("auth/{}/login", recipe.app_role.mount), login).await?;
        let token = token["auth"]["client_token"].as_str().context("a login without a token")?;
        let bao = arena.plane.bao.with_token(token);
        let csrs = (0..count).map(|number| Ok(Csr::workload(NAMESPACE, &format!("workload-{number}")).ec()?.csr_pem));
        let csrs = csrs.collect::<Result<Vec<_>>>()?;
        let (before, begun) = (arena.plane.bao.peer().cpu_time()?, Instant::now());
        in_parallel(count, self.signing, |number| {
            let (bao, path, csr) = (bao.clone(), recipe.sign_path.clone(), csrs.get(number).cloned());
            async move { bao.sign(&path, &csr.context("no CSR of that number")?, "1h").await.map(drop) }
        })
        .await?;
        let took = begun.elapsed();
        let cpu = arena.plane.bao.peer().cpu_time()? - before;
        Ok(figures(arena.plane.bao.peer().name(), count, took, cpu))
    }

    /// Has so many statuses, of the size they have with a certificate, written by the API server, and nothing else.
    pub async fn write(&self, arena: &Arena, count: usize) -> Result<Figures> {
        let recipe = arena.recipe(Signing::USUAL)?;
        let csr = Csr::workload(NAMESPACE, "workload").ec()?.csr_pem;
        let answer = arena.plane.bao.sign(&recipe.sign_path, &csr, "1h").await?;
        arena.approved("workload", count, Contender::Ours, 1).await?;
        let statuses: Vec<_> = arena.plane.kube.list(REQUESTS).await?.iter().map(|it| issued(it, &answer)).collect();
        arena.calm().await?;
        let (before, begun) = (arena.plane.apiserver.cpu_time()?, Instant::now());
        in_parallel(count, self.writing, |number| {
            let (kube, status) = (arena.plane.kube.clone(), statuses.get(number).cloned());
            async move {
                let (path, body) = status.context("no request of that number")?;
                kube.patch(&path, &body).await.map(drop)
            }
        })
        .await?;
        let took = begun.elapsed();
        let cpu = arena.plane.apiserver.cpu_time()? - before;
        arena.clear(Contender::Ours).await?;
        Ok(figures(arena.plane.apiserver.name(), count, took, cpu))
    }
}

fn figures(peer: &str, count: usize, took: Duration, cpu: Duration) -> Figures {
    let cpu = cpu.as_secs_f64() * 1_000.0 / count as f64;
    Figures { certificates: count, cpu: [(peer.to_owned(), cpu)].into(), ..Figures::default() }.with_rate(count, took)
}

/// Where and what to write so that a request is issued.
fn issued(request: &Value, answer: &Value) -> (String, Value) {
    use base64::Engine as _;
    let encoded = |pem: &Value| base64::engine::general_purpose::STANDARD.encode(pem.as_str().unwrap_or_default());
    let mut conditions = request["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.push(json!({
        "type": "Ready", "status": "True", "reason": "Issued", "message": "written by the benchmark",
        "lastTransitionTime": request["metadata"]["creationTimestamp"],
    }));
    let chain = json!(format!(
        "{}\n{}\n",
        answer["certificate"].as_str().unwrap_or_default(),
        answer["issuing_ca"].as_str().unwrap_or_default()
    ));
    let status =
        json!({"certificate": encoded(&chain), "ca": encoded(&answer["issuing_ca"]), "conditions": conditions});
    let name = request["metadata"]["name"].as_str().unwrap_or_default();
    (format!("{REQUESTS}/{name}/status"), json!({"status": status}))
}
