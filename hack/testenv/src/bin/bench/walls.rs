//! What no issuer passes: Vault's signature, and the API server's status write, each asked for by a plain client over as many
//! connections as help it most; and both by one, which shows what they cost each other on shared cores.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use testenv::{Bao, Csr, Kube, Peer, in_parallel};

use crate::arena::{Arena, Contender, NAMESPACE, REQUESTS, Signing};
use crate::gauge::Figures;

/// The walls' names in the record.
pub const SIGN: &str = "raw sign";
pub const WRITE: &str = "raw status write";
pub const BOTH: &str = "raw sign and write";
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
            writing.push((walls.write(arena, Signing::USUAL, SAMPLE).await?.per_second, connections));
        }
        let best = |mut tried: Vec<(f64, usize)>| {
            tried.sort_by(|a, b| a.0.total_cmp(&b.0));
            tried.last().map(|best| best.1).context("nothing was tried")
        };
        Ok(Walls { signing: best(signing)?, writing: best(writing)? })
    }

    /// Has so many CSRs signed by Vault, and nothing else.
    pub async fn sign(&self, arena: &Arena, signing: Signing, count: usize) -> Result<Figures> {
        let signer = Signer::log_in(arena, signing).await?;
        let csrs = (0..count).map(|number| Ok(Csr::workload(NAMESPACE, &format!("workload-{number}")).ec()?.csr_pem));
        let csrs = csrs.collect::<Result<Vec<_>>>()?;
        let meter = Meter::start([arena.plane.bao.peer()])?;
        in_parallel(count, self.signing, |number| {
            let (signer, csr) = (signer.clone(), csrs.get(number).cloned());
            async move { signer.sign(&csr.context("no CSR of that number")?).await.map(drop) }
        })
        .await?;
        meter.read(count)
    }

    /// Has so many statuses, of the size they have with a certificate of that CA, written by the API server, and nothing else.
    pub async fn write(&self, arena: &Arena, signing: Signing, count: usize) -> Result<Figures> {
        let signer = Signer::log_in(arena, signing).await?;
        let answer = signer.sign(&Csr::workload(NAMESPACE, "workload").ec()?.csr_pem).await?;
        arena.approved("workload", count, Contender::Ours, 1).await?;
        let statuses: Vec<_> = arena.plane.kube.list(REQUESTS).await?.iter().map(|it| issued(it, &answer)).collect();
        arena.calm().await?;
        let meter = Meter::start([arena.plane.bao.peer(), &arena.plane.apiserver])?;
        in_parallel(count, self.writing, |number| {
            let (kube, status) = (arena.plane.kube.clone(), statuses.get(number).cloned());
            async move {
                let (path, body) = status.context("no request of that number")?;
                kube.patch(&path, &body).await.map(drop)
            }
        })
        .await?;
        let figures = meter.read(count);
        arena.clear(Contender::Ours).await?;
        figures
    }

    /// Has so many requests issued by a plain client.
    pub async fn both(&self, arena: &Arena, signing: Signing, count: usize) -> Result<Figures> {
        let plain = PlainClient::log_in(arena, signing).await?;
        arena.approved("workload", count, Contender::Ours, 1).await?;
        arena.calm().await?;
        let meter = Meter::start([arena.plane.bao.peer(), &arena.plane.apiserver])?;
        in_parallel(count, self.signing + self.writing, |number| {
            let plain = plain.clone();
            async move { plain.issue(&format!("workload-{number}")).await }
        })
        .await?;
        let figures = meter.read(count);
        arena.clear(Contender::Ours).await?;
        figures
    }
}

/// Issues by itself what somebody tells it of: it has no watch, and does not look at what Vault has answered.
#[derive(Clone)]
pub struct PlainClient {
    signer: Signer,
    kube: Kube,
    csr: String,
    since: Value,
}

impl PlainClient {
    /// The field manager of its writes, by which the audit log shows them.
    pub const NAME: &str = "plain-client";

    pub async fn log_in(arena: &Arena, signing: Signing) -> Result<PlainClient> {
        let csr = Csr::workload(NAMESPACE, "workload").ec()?.csr_pem;
        let since = jiff::Timestamp::now().round(jiff::Unit::Second)?.to_string().into();
        Ok(PlainClient { signer: Signer::log_in(arena, signing).await?, kube: arena.plane.kube.clone(), csr, since })
    }

    /// A sign and a server-side apply, the calls that ours makes.
    pub async fn issue(&self, name: &str) -> Result<()> {
        let answer = self.signer.sign(&self.csr).await?;
        let object = json!({
            "apiVersion": "cert-manager.io/v1", "kind": "CertificateRequest",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "status": status(&answer, &[ready(&self.since)]),
        });
        self.kube.apply_object(&format!("{REQUESTS}/{name}/status"), PlainClient::NAME, &object).await.map(drop)
    }
}

/// A plain client of Vault's with a token.
#[derive(Clone)]
struct Signer {
    bao: Bao,
    path: String,
}

impl Signer {
    async fn log_in(arena: &Arena, signing: Signing) -> Result<Signer> {
        let recipe = arena.recipe(signing)?;
        let login = json!({"role_id": recipe.app_role.role_id, "secret_id": recipe.app_role.secret_id});
        let token = arena.plane.bao.write(&format!("auth/{}/login", recipe.app_role.mount), login).await?;
        let token = token["auth"]["client_token"].as_str().context("a login without a token")?;
        Ok(Signer { bao: arena.plane.bao.with_token(token), path: recipe.sign_path.clone() })
    }

    async fn sign(&self, csr: &str) -> Result<Value> {
        self.bao.sign(&self.path, csr, "1h").await
    }
}

/// Time, and CPU time of some processes.
pub struct Meter<'a> {
    begun: Instant,
    before: Vec<(&'a Peer, Duration)>,
}

impl<'a> Meter<'a> {
    pub fn start(peers: impl IntoIterator<Item = &'a Peer>) -> Result<Meter<'a>> {
        let before = peers.into_iter().map(|peer| Ok((peer, peer.cpu_time()?))).collect::<Result<_>>()?;
        Ok(Meter { begun: Instant::now(), before })
    }

    pub fn read(self, count: usize) -> Result<Figures> {
        let took = self.begun.elapsed();
        let each = |time: Duration| time.as_secs_f64() * 1_000.0 / count as f64;
        let cpu =
            self.before.iter().map(|(peer, before)| Ok((peer.name().to_owned(), each(peer.cpu_time()? - *before))));
        let cpu = cpu.collect::<Result<_>>()?;
        Ok(Figures { certificates: count, cpu, ..Figures::default() }.with_rate(count, took))
    }
}

/// Where and what to write so that a request is issued.
fn issued(request: &Value, answer: &Value) -> (String, Value) {
    let mut conditions = request["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.push(ready(&request["metadata"]["creationTimestamp"]));
    let name = request["metadata"]["name"].as_str().unwrap_or_default();
    (format!("{REQUESTS}/{name}/status"), json!({"status": status(answer, &conditions)}))
}

/// The condition of a request that is issued.
fn ready(since: &Value) -> Value {
    json!({
        "type": "Ready", "status": "True", "reason": "Issued", "message": "written by the benchmark",
        "lastTransitionTime": since,
    })
}

/// The status with Vault's answer and these conditions.
fn status(answer: &Value, conditions: &[Value]) -> Value {
    use base64::Engine as _;
    let encoded = |pem: &Value| base64::engine::general_purpose::STANDARD.encode(pem.as_str().unwrap_or_default());
    let chain = json!(format!(
        "{}\n{}\n",
        answer["certificate"].as_str().unwrap_or_default(),
        answer["issuing_ca"].as_str().unwrap_or_default()
    ));
    json!({"certificate": encoded(&chain), "ca": encoded(&answer["ca_chain"][1]), "conditions": conditions})
}
