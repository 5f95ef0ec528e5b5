//! One process as a candidate: reads and writes the Lease, each call with a time limit of its own, and tells [`Leadership`].

use std::hash::{BuildHasher as _, Hasher as _};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use super::election::{Election, Step};
use super::{Leadership, RENEW_DEADLINE};
use crate::clock;
use crate::cluster::status::WriteError;

/// The name of the Lease; the chart grants rights to this one.
pub const LEASE: &str = "vault-mesh-issuer";

/// The pause between two renewals, and between two looks at another's lease.
const RETRY: Duration = Duration::from_secs(2);
/// How long one call may take: two fit into the time after which the holder gives up.
const CALL: Duration = Duration::from_secs(5);
/// How often giving back is tried: only our own last renewal, under way still, could come in between.
const RELEASES: usize = 3;

/// A candidate, and while elected the holder.
pub struct Candidate {
    api: Api<Lease>,
    namespace: String,
    election: Election,
    leadership: Leadership,
    /// What was seen last is what we wrote last: the next renewal needs no reading.
    is_fresh: bool,
}

/// Why this process leads no longer. It has to end: what it began may be another's by now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// No renewal got through; or this process, or its machine, was asleep.
    #[error(
        "the Lease {namespace}/{LEASE} could not be renewed for {} s, so another replica may lead; a restart begins anew",
        RENEW_DEADLINE.as_secs()
    )]
    TooLate {
        /// Where it lies.
        namespace: String,
    },
    /// Somebody else's name stands there, or none.
    #[error(
        "the Lease {namespace}/{LEASE} was taken from this replica; its holder is {holder:?}. A restart begins anew"
    )]
    Taken {
        /// Where it lies.
        namespace: String,
        /// Whose name stands there.
        holder: Option<String>,
    },
}

/// What one look at the Lease came to.
enum Standing {
    /// It is ours, as of now.
    Leads,
    /// It is another's for at least so long.
    Follows(Duration),
}

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("the API server did not answer within {} s", CALL.as_secs())]
    Timeout,
    #[error("somebody else wrote it at the same moment")]
    Conflict,
    #[error(transparent)]
    Refused(WriteError),
}

impl From<kube::Error> for Problem {
    fn from(error: kube::Error) -> Self {
        match WriteError::from(error) {
            WriteError::Refused { code: 409, .. } => Self::Conflict,
            other => Self::Refused(other),
        }
    }
}

impl Candidate {
    /// Stands for election on the Lease in `namespace`. `leadership` is told of the outcome.
    pub fn new(client: Client, namespace: &str, leadership: Leadership) -> Self {
        let election = Election::new(identity());
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            election,
            leadership,
            is_fresh: false,
        }
    }

    /// Waits until this process leads, for as long as it takes.
    pub async fn lead(&mut self) {
        let mut changes = self.changes();
        loop {
            let follows = self.election.holder().map(str::to_owned);
            let pause = match self.attempt().await {
                Ok(Standing::Leads) => break,
                Ok(Standing::Follows(left)) => left.min(RETRY),
                Err(problem) => {
                    warn!("the Lease {}/{LEASE}: {problem}", self.namespace);
                    RETRY
                }
            };
            if let Some(holder) = self.election.holder().filter(|holder| follows.as_deref() != Some(holder)) {
                info!(holder, "another replica leads; standing by");
            }
            // Whatever the watch shows, or that it is broken, is a reason to look, and no more than that.
            let _news = timeout(pause, changes.next()).await;
        }
        info!("this replica leads");
    }

    /// Renews until that is no longer possible. May be dropped and called again.
    pub async fn keep(&mut self) -> Lost {
        // By the clock: a slow renewal does not put off the next one.
        let mut ticks = interval(RETRY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let left = self.leadership.left(clock::monotonic()).unwrap_or_default();
            let attempted = if left.is_zero() { None } else { timeout(left, self.attempt()).await.ok() };
            match attempted {
                None => return Lost::TooLate { namespace: self.namespace.clone() },
                Some(Ok(Standing::Leads)) => {}
                Some(Ok(Standing::Follows(_))) => {
                    self.leadership.ended();
                    let holder = self.election.holder().map(str::to_owned);
                    return Lost::Taken { namespace: self.namespace.clone(), holder };
                }
                Some(Err(problem)) => warn!("the Lease {}/{LEASE} was not renewed: {problem}", self.namespace),
            }
        }
    }

    /// Gives the Lease back if it is ours, so that another need not wait for its end. Nothing may be under way any more.
    pub async fn release(mut self) {
        self.leadership.ended();
        for _ in 0..RELEASES {
            match self.give_back().await {
                Ok(false) => return,
                Ok(true) => return info!("this replica leads no longer; the Lease is free"),
                Err(Problem::Conflict) => {}
                Err(problem) => return warn!("the Lease {}/{LEASE} was not given back: {problem}", self.namespace),
            }
        }
    }

    /// Returns whether it was ours.
    async fn give_back(&mut self) -> Result<bool, Problem> {
        self.look().await?;
        let Some(free) = self.election.release(clock::now()) else { return Ok(false) };
        limited(self.api.replace(LEASE, &PostParams::default(), &free)).await?;
        Ok(true)
    }

    /// Looks, and takes or renews what is ours to take.
    async fn attempt(&mut self) -> Result<Standing, Problem> {
        let led = self.leadership.holds();
        if !std::mem::take(&mut self.is_fresh) {
            self.look().await?;
        }
        // What was ours and is not must not be taken again without a new start: others may have led in between.
        if led && !self.election.is_mine() {
            return Ok(Standing::Follows(Duration::ZERO));
        }
        let (how, asked) = (PostParams::default(), clock::monotonic());
        let written = match self.election.step(LEASE, asked, clock::now()) {
            Step::Create(lease) => limited(self.api.create(&how, &lease)).await?,
            Step::Replace(lease) => limited(self.api.replace(LEASE, &how, &lease)).await?,
            Step::Wait(left) => return Ok(Standing::Follows(left)),
        };
        self.election.observe(Some(written), clock::monotonic());
        self.leadership.renewed(asked);
        self.is_fresh = true;
        Ok(Standing::Leads)
    }

    async fn look(&mut self) -> Result<(), Problem> {
        let lease = limited(self.api.get_opt(LEASE)).await?;
        // The time after the answer: a sign of life is never taken for older than it is.
        self.election.observe(lease, clock::monotonic());
        Ok(())
    }

    /// An item whenever the Lease has changed.
    fn changes(&self) -> BoxStream<'static, ()> {
        let this_one = watcher::Config::default().fields(&format!("metadata.name={LEASE}"));
        watcher(self.api.clone(), this_one).default_backoff().map(|_| ()).boxed()
    }
}

async fn limited<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, Problem> {
    Ok(timeout(CALL, call).await.map_err(|_| Problem::Timeout)??)
}

/// The pod's name, which is its host's name, and something that no other process has: a container that was restarted in the same
/// pod is another candidate. The standard library's hash keys are random.
fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let random = || std::hash::RandomState::new().build_hasher().finish();
    format!("{}_{:016x}{:016x}", host.trim(), random(), random())
}
