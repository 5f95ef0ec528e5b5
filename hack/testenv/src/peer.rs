//! One process beside us: its log, its readiness, and the ways to disturb it.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::run::Run;
use crate::wait::eventually;

const STARTS_WITHIN: Duration = Duration::from_secs(60);
const LINES_SHOWN: usize = 25;

/// When a peer counts as ready: an address that answers with one of these statuses.
#[derive(Clone)]
pub(crate) struct Ready {
    pub(crate) url: String,
    pub(crate) statuses: Vec<u16>,
}

impl Ready {
    pub(crate) fn at(url: impl Into<String>) -> Ready {
        Ready { url: url.into(), statuses: vec![200] }
    }
}

/// What to start: everything a restart needs as well.
pub(crate) struct Recipe {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) folder: PathBuf,
    pub(crate) ready: Ready,
}

/// A process of the run. Clones are handles of the same process, which is killed
/// when the last of them goes.
#[derive(Clone)]
pub struct Peer(Arc<Inner>);

struct Inner {
    run: Run,
    recipe: Recipe,
    log: PathBuf,
    client: reqwest::Client,
    child: Mutex<Option<Child>>,
}

impl Peer {
    /// Starts it and waits until it is ready.
    pub(crate) async fn start(run: &Run, recipe: Recipe) -> Result<Peer> {
        let peer = Peer::prepare(run, recipe)?;
        peer.start_again().await?;
        Ok(peer)
    }

    /// Everything but the start.
    pub(crate) fn prepare(run: &Run, recipe: Recipe) -> Result<Peer> {
        let log = recipe.folder.join(format!("{}.log", recipe.name));
        let client = run.authority().prober()?;
        Ok(Peer(Arc::new(Inner { run: run.clone(), recipe, log, client, child: Mutex::new(None) })))
    }

    /// Its name, as in the log's file name.
    pub fn name(&self) -> &str {
        &self.0.recipe.name
    }

    /// Where its stdout and stderr go; a restart appends.
    pub fn log_path(&self) -> &Path {
        &self.0.log
    }

    /// All it has written.
    pub fn log(&self) -> Result<String> {
        let bytes = std::fs::read(&self.0.log).with_context(|| format!("reading {}", self.0.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The last lines it has written.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log().unwrap_or_else(|error| format!("{error:#}"));
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Its process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child().as_ref().map(Child::id)
    }

    /// Whether it runs (or is paused).
    pub fn is_running(&self) -> bool {
        matches!(self.try_wait(), Ok(None)) && self.pid().is_some()
    }

    /// SIGSTOP: it keeps its connections and answers nobody.
    pub fn pause(&self) -> Result<()> {
        self.signal(libc::SIGSTOP)
    }

    /// SIGCONT after [`Peer::pause`].
    pub fn resume(&self) -> Result<()> {
        self.signal(libc::SIGCONT)
    }

    /// SIGKILL, and waits until it is gone. A peer that is gone already is fine.
    pub async fn kill(&self) -> Result<()> {
        if self.pid().is_some() {
            self.signal(libc::SIGKILL)?;
            self.exit(Duration::from_secs(10)).await?;
        }
        Ok(())
    }

    /// SIGTERM, and waits for its exit status.
    pub async fn terminate(&self, within: Duration) -> Result<ExitStatus> {
        self.signal(libc::SIGTERM)?;
        self.exit(within).await
    }

    /// Waits until it ends by itself.
    pub async fn exit(&self, within: Duration) -> Result<ExitStatus> {
        let name = self.name();
        let status = eventually(&format!("the end of {name}"), within, async || self.try_wait()).await?;
        self.child().take();
        Ok(status)
    }

    /// Starts it again on the same ports and data after [`Peer::kill`] or
    /// [`Peer::terminate`], and waits until it is ready.
    pub async fn start_again(&self) -> Result<()> {
        self.spawn()?;
        let ready = &self.0.recipe.ready;
        let deadline = Instant::now() + STARTS_WITHIN;
        loop {
            if let Some(status) = self.try_wait()? {
                self.child().take();
                bail!("{}", self.complaint(&format!("ended while starting: {status}")));
            }
            let answer = self.0.client.get(&ready.url).timeout(Duration::from_secs(2)).send().await;
            let news = match answer {
                Ok(answer) if ready.statuses.contains(&answer.status().as_u16()) => return Ok(()),
                Ok(answer) => format!("{} answers {}", ready.url, answer.status()),
                Err(error) => format!("{:#}", anyhow!(error)),
            };
            if Instant::now() >= deadline {
                bail!("{}", self.complaint(&format!("not ready within {STARTS_WITHIN:?} ({news})")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// [`Peer::kill`] and [`Peer::start_again`].
    pub async fn restart(&self) -> Result<()> {
        self.kill().await?;
        self.start_again().await
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> Result<u64> {
        let status = self.proc_file("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS in /proc")?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().context("VmRSS is no number")?;
        Ok(kib * 1024)
    }

    /// CPU time used so far, of all its threads.
    pub fn cpu_time(&self) -> Result<Duration> {
        let stat = self.proc_file("stat")?;
        let after_name = stat.rsplit_once(')').context("/proc stat has no name")?.1;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
        let used = ticks(11).zip(ticks(12)).map(|(user, system)| user + system).context("/proc stat is short")?;
        Ok(Duration::from_millis(used * 10)) // USER_HZ is 100 on Linux
    }

    /// An error text that carries the last lines of its log.
    pub fn complaint(&self, what: &str) -> String {
        format!("{} {what}\n--- last lines of {}\n{}", self.name(), self.0.log.display(), self.log_tail(LINES_SHOWN))
    }

    fn spawn(&self) -> Result<()> {
        let recipe = &self.0.recipe;
        if self.is_running() {
            bail!("{} runs already", recipe.name);
        }
        let log = OpenOptions::new().create(true).append(true).open(&self.0.log).context("opening a log")?;
        let mut command = Command::new(&recipe.program);
        command
            .args(&recipe.args)
            .env_clear() // nothing of the developer's shell: no VAULT_*, no proxies, no KUBECONFIG
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &recipe.folder)
            .envs(recipe.env.iter().cloned())
            .current_dir(&recipe.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("opening a log")?)
            .stderr(log);
        let child =
            self.0.run.spawner().spawn(command).with_context(|| format!("starting {}", recipe.program.display()))?;
        *self.child() = Some(child);
        Ok(())
    }

    fn signal(&self, signal: i32) -> Result<()> {
        let pid = self.pid().with_context(|| format!("{} does not run", self.name()))?;
        let group = i32::try_from(pid).context("a process id")?;
        // SAFETY: killpg takes two numbers; the group is our child's own, not reaped yet.
        match unsafe { libc::killpg(group, signal) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()).with_context(|| format!("signal {signal} to {}", self.name())),
        }
    }

    fn try_wait(&self) -> Result<Option<ExitStatus>> {
        match self.child().as_mut() {
            Some(child) => child.try_wait().with_context(|| format!("waiting for {}", self.name())),
            None => Ok(None),
        }
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.0.child.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn proc_file(&self, name: &str) -> Result<String> {
        let pid = self.pid().with_context(|| format!("{} does not run", self.name()))?;
        std::fs::read_to_string(format!("/proc/{pid}/{name}")).with_context(|| format!("/proc of {}", self.name()))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(mut child) = child.take() {
            // It may have ended by itself; either way it is reaped here.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
