//! What came of it: a table for people, and whether all is as it should be.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use testenv::{Account, Tally};

use crate::certificates::Issued;
use crate::vitals::Seen;
use crate::world::World;

/// What may come on top of the early median: a backlog that the process has not met before leaves some MB behind.
const MORE_MEMORY: (f64, f64) = (1.15, 4e6);
/// A soak of so long has met its backlogs early, and is to be flat: five minutes of a debug build went from 41.4 to 43.3 MB.
const LONG: Duration = Duration::from_secs(600);
const MORE_MEMORY_OF_LONG: (f64, f64) = (1.05, 2e6);
const MB: f64 = 1e6;

/// The end of a soak.
#[derive(Default)]
pub struct Report {
    pub seed: u64,
    pub faults: usize,
    /// How many answers can be under way when our process is killed; none where something else falls as well, because what lay
    /// in sockets then is signed late.
    pub at_once: Option<usize>,
    pub length: Duration,
    pub tally: Tally,
    pub certificates: Issued,
    pub account: Account,
    pub vitals: Option<Seen>,
    pub secrets: usize,
    pub wrong: Vec<String>,
}

impl Report {
    /// All that is not as it should be, in words.
    pub fn wrong(&self) -> &[String] {
        &self.wrong
    }

    /// Compares, and searches what is left in the cluster.
    pub async fn judge(&mut self, world: &World) -> Result<()> {
        let mut wrong = std::mem::take(&mut self.tally.wrong);
        wrong.extend(self.certificates.unready.iter().map(|name| format!("Certificate {name} never got Ready")));
        wrong.extend(self.account.unexplained.iter().map(|twice| format!("signed twice for no reason: {twice}")));
        wrong.extend(self.account.more_in_flight_than(self.at_once.unwrap_or(usize::MAX)));
        if let Some(seen) = &mut self.vitals {
            wrong.append(&mut seen.leaks);
            wrong.append(&mut seen.errors);
        }
        let panics = world.ours.metric("vault_mesh_issuer_panics_total", &[]).await?;
        if panics > 0.0 {
            wrong.push(format!("{panics} attempts panicked"));
        }
        wrong.extend(leaks(world).await?);
        wrong.extend(self.growth());
        self.secrets = world.plane.run.secrets().count();
        self.wrong.append(&mut wrong);
        Ok(())
    }

    fn growth(&self) -> Vec<String> {
        let Some(seen) = &self.vitals else { return Vec::new() };
        let mut grown = Vec::new();
        if let Some([early, late]) = seen.samples.thirds()
            && late.memory as f64 > most_memory(early.memory as f64, self.length)
        {
            grown.push(format!("memory has grown from {} to {} bytes", early.memory, late.memory));
        }
        if let Some([early, last]) = seen.samples.more_descriptors() {
            grown.push(format!("file descriptors have grown from {early} to {last}"));
        }
        grown
    }
}

/// The late median that still counts as flat.
fn most_memory(early: f64, length: Duration) -> f64 {
    let (factor, more) = if length < LONG { MORE_MEMORY } else { MORE_MEMORY_OF_LONG };
    early * factor + more
}

/// Secrets in what the cluster shows to who may read it.
async fn leaks(world: &World) -> Result<Vec<String>> {
    let mut shown = vec![("the metrics", world.ours.metrics().await?)];
    for (what, path) in [
        ("events", "/apis/events.k8s.io/v1/events"),
        ("CertificateRequests", "/apis/cert-manager.io/v1/certificaterequests"),
        ("VaultMeshIssuers", "/apis/vaultmesh.io/v1alpha1/vaultmeshissuers"),
        ("VaultMeshClusterIssuers", "/apis/vaultmesh.io/v1alpha1/vaultmeshclusterissuers"),
    ] {
        shown.push((what, Value::from(world.plane.kube.list(path).await?).to_string()));
    }
    let secrets = world.plane.run.secrets();
    let leaks = shown
        .iter()
        .flat_map(|(what, text)| secrets.found_in(text).into_iter().map(move |leak| format!("{what} show {leak}")));
    Ok(leaks.collect())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { tally, account, certificates, .. } = self;
        let mut line = |what: &str, text: String| writeln!(f, "  {what:<18} {text}");
        line("length", format!("{} s, {} faults, seed {}", self.length.as_secs(), self.faults, self.seed))?;
        line("requests", format!("{} asked, {} issued, {} denied", tally.asked, tally.issued, tally.denied))?;
        line("Certificates", format!("{} through cert-manager", certificates.asked))?;
        let [half, most, all] = [0.5, 0.99, 1.0].map(|share| tally.wait(share).as_secs_f64());
        line("approved → issued", format!("p50 {half:.3} s, p99 {most:.1} s, longest {all:.1} s"))?;
        line("signs", format!("{} for {} requests", account.signs, account.requests))?;
        let at_kills =
            format!("{} after kills of ours, with {:?} answers in flight", account.after_kills, account.in_flight);
        line("signed twice", format!("{at_kills}; {} after outages of OpenBao", account.after_outages))?;
        line("logins", account.logins.to_string())?;
        if let Some(seen) = &self.vitals {
            for sample in seen.samples.taken.iter().step_by((seen.samples.taken.len() / 20).max(1)) {
                let calm = if sample.calm { "" } else { ", during a fault" };
                let held = format!("{:.1} MB, {} descriptors{calm}", sample.memory as f64 / MB, sample.descriptors);
                line(&format!("{:>6} s", sample.at.as_secs()), held)?;
            }
            let log = format!("{} values, none of them in {:.1} MB of log", self.secrets, seen.logged as f64 / MB);
            line("secrets", format!("{log}, events, statuses and metrics (unless told below)"))?;
        }
        match self.vitals.as_ref().and_then(|seen| seen.samples.thirds()) {
            Some([early, late]) => {
                line(
                    "memory",
                    format!("{:.1} MB early, {:.1} MB late", early.memory as f64 / MB, late.memory as f64 / MB),
                )?;
                let last = self.vitals.as_ref().and_then(|seen| seen.samples.taken.last()).unwrap_or(&late);
                line("descriptors", format!("{} early, {} at the end", early.descriptors, last.descriptors))?;
            }
            None => line("memory", "the last process was calm for too short a time to compare".to_owned())?,
        }
        for wrong in &self.wrong {
            writeln!(f, "WRONG: {wrong}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_soak_may_grow_less_than_a_short_one() {
        let most = |minutes: u64| most_memory(40.0 * MB, Duration::from_secs(60 * minutes)) / MB;
        assert!((most(9) - 50.0).abs() < 0.01 && (most(10) - 44.0).abs() < 0.01, "{} and {}", most(9), most(10));
    }
}
