//! What our process holds while it works, and whether a secret stands in what it prints: looked at every few seconds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use testenv::follow::Going;
use testenv::{Ledger, Peer, Secrets, Tail};

use crate::world::World;

const PACE: Duration = Duration::from_secs(2);
/// A process that has just begun still grows into its work.
const WARM_UP: Duration = Duration::from_secs(10);
/// A burst leaves idle connections behind, which are closed a minute and a half later.
const SETTLES: Duration = Duration::from_secs(120);
/// A few connections more or less are no growth.
const MORE_DESCRIPTORS: usize = 10;
/// Samples are compared third by third; fewer say nothing.
const FEWEST: usize = 6;

/// The looking.
pub struct Vitals {
    shared: Arc<Shared>,
    going: Going,
}

struct Shared {
    calm: AtomicBool,
    seen: Mutex<Seen>,
}

/// What was seen.
pub struct Seen {
    /// Both audit logs.
    pub ledger: Ledger,
    /// In order.
    pub samples: Samples,
    /// Secrets in our log, in words.
    pub leaks: Vec<String>,
    /// Lines of our log that tell a defect.
    pub errors: Vec<String>,
    /// Bytes of our log.
    pub logged: usize,
    log: Tail,
    secrets: Secrets,
    begun: Instant,
}

/// What was seen of the process.
#[derive(Default)]
pub struct Samples {
    /// In the order of time.
    pub taken: Vec<Sample>,
    /// How many there were when nobody asked any more. What is early is among these, however long connections take to close.
    at_work: Option<usize>,
}

/// One look at the process.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Since the soak began.
    pub at: Duration,
    /// Whose it is.
    pub pid: u32,
    /// Resident memory in bytes.
    pub memory: u64,
    /// Open file descriptors.
    pub descriptors: usize,
    /// Whether nothing was away and hardly a request waited.
    pub calm: bool,
}

impl Vitals {
    /// Begins.
    pub fn start(world: &World) -> Result<Vitals> {
        let seen = Seen {
            ledger: Ledger::new(&world.plane, &world.ours),
            samples: Samples::default(),
            leaks: Vec::new(),
            errors: Vec::new(),
            logged: 0,
            log: Tail::new(world.ours.peer().log_path()),
            secrets: world.plane.run.secrets().clone(),
            begun: Instant::now(),
        };
        let shared = Arc::new(Shared { calm: AtomicBool::new(true), seen: Mutex::new(seen) });
        let (looking, peer) = (Arc::clone(&shared), world.ours.peer().clone());
        let going = Going::new(async move {
            loop {
                tokio::time::sleep(PACE).await;
                let (looking, peer) = (Arc::clone(&looking), peer.clone());
                let calm = looking.calm.load(Ordering::Relaxed);
                let look = move || {
                    let mut seen = lock(&looking.seen);
                    // A process that is just being killed has nothing to show.
                    let sample = sample(&peer, seen.begun, calm);
                    seen.samples.taken.extend(sample);
                    if let Err(error) = seen.read() {
                        seen.errors.push(format!("{error:#}"));
                    }
                };
                // Searching takes time, of which the runtime's own threads have little.
                if tokio::task::spawn_blocking(look).await.is_err() {
                    return;
                }
            }
        });
        Ok(Vitals { shared, going })
    }

    /// Whether samples from now on may be compared.
    pub fn calm(&self, calm: bool) {
        self.shared.calm.store(calm, Ordering::Relaxed);
    }

    /// A last look, some time after the last request.
    pub async fn finish(self, world: &World) -> Result<Seen> {
        tokio::time::sleep(3 * PACE).await;
        lock(&self.shared.seen).samples.rest();
        let deadline = Instant::now() + SETTLES;
        while lock(&self.shared.seen).samples.more_descriptors().is_some() && Instant::now() < deadline {
            tokio::time::sleep(PACE).await;
        }
        ensure!(world.ours.peer().is_running(), "our process has ended");
        let Vitals { mut shared, going } = self;
        drop(going);
        // A look that is under way ends by itself.
        let seen = loop {
            match Arc::try_unwrap(shared) {
                Ok(only) => break only.seen,
                Err(other) => shared = other,
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let mut seen = seen.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        seen.read()?;
        Ok(seen)
    }
}

impl Seen {
    /// Reads what is new in our log and in the audit logs. The order matters: a token is in OpenBao's log before ours.
    fn read(&mut self) -> Result<()> {
        let text = self.log.read()?;
        self.ledger.read()?;
        self.logged += text.len();
        self.leaks.extend(self.secrets.found_in(&text).into_iter().map(|leak| format!("our log: {leak}")));
        self.errors.extend(text.lines().filter(|line| line.contains(" ERROR ")).map(str::to_owned));
        Ok(())
    }
}

impl Samples {
    /// From here on nobody asks.
    fn rest(&mut self) {
        self.at_work = Some(self.taken.len());
    }

    /// Early and late medians of what the process that ran last held while it was calm; none if that was for too short a time.
    pub fn thirds(&self) -> Option<[Sample; 2]> {
        let (at_work, all) = (self.comparable(self.at_work), self.comparable(None));
        if at_work.len() < FEWEST {
            return None;
        }
        Some([median(at_work.get(..at_work.len() / 3)?)?, median(all.get(all.len() - all.len() / 3..)?)?])
    }

    /// How many descriptors were open early and are at the last look, if that is a growth.
    pub fn more_descriptors(&self) -> Option<[usize; 2]> {
        let ([early, _], last) = (self.thirds()?, self.taken.last()?);
        (last.descriptors > early.descriptors + MORE_DESCRIPTORS).then_some([early.descriptors, last.descriptors])
    }

    /// Calm samples among the first so many, of the process that ran last, from when it was warm.
    fn comparable(&self, first: Option<usize>) -> Vec<Sample> {
        let Some(last) = self.taken.last() else { return Vec::new() };
        let lived = self.taken.iter().take(first.unwrap_or(usize::MAX)).filter(|sample| sample.pid == last.pid);
        let begun = lived.clone().next().map_or(last.at, |first| first.at);
        lived.filter(|sample| sample.calm && sample.at >= begun + WARM_UP).copied().collect()
    }
}

/// Each figure's own median.
fn median(samples: &[Sample]) -> Option<Sample> {
    let mut memory: Vec<_> = samples.iter().map(|sample| sample.memory).collect();
    let mut descriptors: Vec<_> = samples.iter().map(|sample| sample.descriptors).collect();
    memory.sort_unstable();
    descriptors.sort_unstable();
    let middle = samples.len() / 2;
    Some(Sample { memory: *memory.get(middle)?, descriptors: *descriptors.get(middle)?, ..*samples.get(middle)? })
}

fn sample(peer: &Peer, begun: Instant, calm: bool) -> Option<Sample> {
    let pid = peer.pid()?;
    let memory = peer.memory().ok()?;
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
    Some(Sample { at: begun.elapsed(), pid, memory, descriptors, calm })
}

fn lock(mutex: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(descriptors: &[usize]) -> Samples {
        let sample = |(number, descriptors): (usize, &usize)| {
            let at = WARM_UP * u32::from(number > 0) + PACE * number as u32;
            Sample { at, pid: 7, memory: 0, descriptors: *descriptors, calm: true }
        };
        Samples { taken: descriptors.iter().enumerate().map(sample).collect(), at_work: None }
    }

    #[test]
    fn the_last_look_is_held_against_the_early_median() {
        // The first is from before the process was warm; the second alone would let 41 pass.
        let grown = |last| samples(&[5, 32, 29, 29, 68, 68, 68, 68, 68, 41, last]).more_descriptors();
        assert_eq!((grown(41), grown(39)), (Some([29, 41]), None));
        assert_eq!(samples(&[5, 29, 29, 29, 29, 90]).more_descriptors(), None, "five samples say nothing");
    }

    #[test]
    fn waiting_makes_no_growth_an_early_state() {
        let mut samples = samples(&[5, 29, 29, 29, 68, 68, 68, 41]);
        samples.rest();
        let last = samples.taken[7];
        for number in 1..60 {
            samples.taken.push(Sample { at: last.at + PACE * number, ..last });
        }
        assert_eq!(samples.more_descriptors(), Some([29, 41]));
    }
}
