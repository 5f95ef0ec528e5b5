//! What a scenario cost: CPU time by process, calls by audit log, bytes by the API server's own metrics.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use testenv::{KubeAudit, KubeCalls, Peer};

use crate::arena::{Arena, Contender};

const MB: f64 = 1e6;
/// How long a contender has to give memory back before it is looked at.
const SETTLES: Duration = Duration::from_secs(3);

/// What one turn of one contender cost. Per certificate, unless it says otherwise.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Figures {
    pub certificates: usize,
    pub per_second: f64,
    /// Milliseconds.
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    /// Milliseconds of CPU time by process.
    pub cpu: BTreeMap<String, f64>,
    /// MB of resident memory of the issuer before and after, in all.
    pub memory: [f64; 2],
    pub signs: f64,
    /// Logins, checks and the like, in all.
    pub other_vault_calls: usize,
    pub status_writes: f64,
    /// Reads, leases and issuers' status, in all, by what they were.
    pub other_api_calls: BTreeMap<String, usize>,
    /// Bytes of bodies that the API server was sent.
    pub bytes_received: f64,
    /// Bytes of answers and watch events that the API server sent.
    pub bytes_sent: f64,
}

/// The state before a scenario.
pub struct Gauge<'a> {
    arena: &'a Arena,
    contender: Contender,
    memory: f64,
    bytes: [f64; 2],
    cpu: Vec<(&'a Peer, Duration)>,
    vault: testenv::Mark,
    kube: testenv::KubeMark,
    begun: Timestamp,
}

/// When a request was approved and issued, by name: when the API server had answered the write. Of several writes it is the last.
pub struct Moments {
    begun: Timestamp,
    approved: HashMap<String, Timestamp>,
    issued: HashMap<String, Timestamp>,
}

impl<'a> Gauge<'a> {
    /// Begins.
    pub async fn start(arena: &'a Arena, contender: Contender) -> Result<Gauge<'a>> {
        let bytes = bytes(arena).await?;
        let memory = arena.peer(contender)?.memory()? as f64 / MB;
        let cpu = arena.running().map(|peer| Ok((peer, peer.cpu_time()?))).collect::<Result<_>>()?;
        let (vault, kube) = (arena.plane.bao.audit().mark()?, arena.plane.kube_audit.mark()?);
        Ok(Gauge { arena, contender, memory, bytes, cpu, vault, kube, begun: Timestamp::now() })
    }

    /// Ends: what it cost for so many certificates, and when they came.
    pub async fn read(self, certificates: usize) -> Result<(Figures, Moments)> {
        let n = certificates as f64;
        let cpu = self.cpu.iter().map(|(peer, before)| {
            Ok((peer.name().to_owned(), (peer.cpu_time()? - *before).as_secs_f64() * 1_000.0 / n))
        });
        let cpu = cpu.collect::<Result<_>>()?;
        let bytes = bytes(self.arena).await?;
        let vault = self.arena.plane.bao.audit().since(self.vault)?;
        let calls = self.arena.plane.kube_audit.since(self.kube)?;
        tokio::time::sleep(SETTLES).await;
        let memory = [self.memory, self.arena.peer(self.contender)?.memory()? as f64 / MB];
        let (namespace, account) = self.arena.account(self.contender);
        let mut other_api_calls = BTreeMap::new();
        let own = calls.of(namespace, account);
        let writes = own.writes().resource(STATUS);
        let moments = Moments::of(self.begun, &calls, &writes)?;
        for call in own.iter().filter(|call| !(call.is_write() && call.resource == STATUS)) {
            *other_api_calls.entry(format!("{} {}", call.verb, call.resource)).or_default() += 1;
        }
        let signs = vault.iter().filter(|call| call.path.contains("/sign/") && !call.probe).count();
        let figures = Figures {
            certificates,
            cpu,
            memory,
            signs: signs as f64 / n,
            other_vault_calls: vault.len() - signs,
            status_writes: writes.len() as f64 / n,
            other_api_calls,
            bytes_received: (bytes[0] - self.bytes[0]) / n,
            bytes_sent: (bytes[1] - self.bytes[1]) / n,
            ..Figures::default()
        };
        Ok((figures, moments))
    }
}

/// The resource that requests' status is written to.
const STATUS: &str = "certificaterequests/status";

impl Figures {
    /// With these waits.
    pub fn with_waits(mut self, mut waits: Vec<Duration>) -> Figures {
        waits.sort();
        let at = |share: f64| {
            let last = waits.len().saturating_sub(1);
            // A share below one of an index.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is small and positive")]
            let index = (last as f64 * share).round() as usize;
            waits.get(index).copied().unwrap_or_default().as_secs_f64() * 1_000.0
        };
        (self.p50, self.p90, self.p99) = (at(0.5), at(0.9), at(0.99));
        self
    }

    /// This and what was measured later as one: certificates, their rate and CPU time, which is all that there is of a wall.
    pub fn and(self, later: Figures) -> Figures {
        let parts = [self, later];
        let certificates = parts.iter().map(|part| part.certificates).sum();
        let seconds: f64 = parts.iter().map(|part| part.certificates as f64 / part.per_second).sum();
        let mut cpu = BTreeMap::new();
        for part in parts {
            let share = part.certificates as f64 / certificates as f64;
            for (peer, time) in part.cpu {
                *cpu.entry(peer).or_default() += time * share;
            }
        }
        let per_second = certificates as f64 / seconds;
        Figures { certificates, per_second, cpu, ..Figures::default() }
    }

    /// With so many certificates between two moments.
    pub fn with_rate(mut self, certificates: usize, took: Duration) -> Figures {
        self.per_second = certificates as f64 / took.as_secs_f64();
        self
    }
}

impl Moments {
    /// Of the approvals among these calls, and of the writes that issue.
    pub fn of(begun: Timestamp, calls: &KubeCalls, writes: &KubeCalls) -> Result<Moments> {
        let approvals = calls.resource(STATUS).keep(|call| call.uri.contains("testenv-approver"));
        Ok(Moments { begun, approved: last_answers(&approvals)?, issued: last_answers(writes)? })
    }

    /// From the first that was issued to the last.
    pub fn span(&self) -> Result<Duration> {
        let first = self.issued.values().min().context("nothing was issued")?;
        let last = self.issued.values().max().context("nothing was issued")?;
        Ok(Duration::try_from(last.duration_since(*first))?)
    }

    /// From the beginning to each that was issued.
    pub fn since_the_beginning(&self) -> Vec<Duration> {
        self.issued.values().map(|issued| from(self.begun, *issued)).collect()
    }

    /// From its approval to each that was issued.
    pub fn since_approval(&self) -> Vec<Duration> {
        let both = self.issued.iter().filter_map(|(name, issued)| Some((*self.approved.get(name)?, *issued)));
        both.map(|(approved, issued)| from(approved, issued)).collect()
    }
}

fn from(start: Timestamp, end: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(start)).unwrap_or_default()
}

fn last_answers(calls: &KubeCalls) -> Result<HashMap<String, Timestamp>> {
    let taken = calls.keep(|call| call.code == 200);
    taken
        .iter()
        .map(|call| Ok((call.name.clone(), call.answered.parse().context("a time in the audit log")?)))
        .collect()
}

/// Bytes of bodies received, and of answers and watch events sent, since the API server started.
async fn bytes(arena: &Arena) -> Result<[f64; 2]> {
    let answer = arena.plane.kube.get("/metrics").await?;
    let text = answer.as_str().context("the API server's metrics are no text")?;
    // Some series name the resource, and those of watches the kind.
    let ours = |line: &&str| line.contains("certificaterequests") || line.contains("CertificateRequest");
    let sum = |name: &str| -> f64 {
        let samples = text.lines().filter(|line| line.starts_with(name)).filter(ours);
        samples.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    };
    Ok([
        sum("apiserver_request_body_size_bytes_sum"),
        sum("apiserver_response_sizes_sum") + sum("apiserver_watch_events_sizes_sum"),
    ])
}

/// How often a log has grown by a status write of this account.
pub struct Finish {
    log: testenv::Tail,
    needle: String,
    seen: usize,
}

impl Finish {
    /// Counts from here on.
    pub fn watch(audit: &KubeAudit, account: (&str, &str)) -> Result<Finish> {
        let mut log = testenv::Tail::new(audit.path());
        log.read()?;
        Ok(Finish { log, needle: format!("system:serviceaccount:{}:{}\"", account.0, account.1), seen: 0 })
    }

    /// How many there are by now.
    pub fn count(&mut self) -> Result<usize> {
        let text = self.log.read()?;
        let write = |line: &&str| {
            line.contains("\"subresource\":\"status\"")
                && line.contains("\"certificaterequests\"")
                && line.contains(&self.needle)
        };
        self.seen += text.lines().filter(write).count();
        Ok(self.seen)
    }
}
