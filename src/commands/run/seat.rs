//! Who acts, and until when: the place that a Lease gives, and the signals that end it.

use anyhow::Context as _;
use kube::{Client, Config};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::RunArgs;
use crate::lease::{Candidate, Leadership, Lost};

/// SIGTERM and SIGINT.
pub(in crate::commands) struct Signals(Signal, Signal);

impl Signals {
    pub(in crate::commands) fn listen() -> anyhow::Result<Self> {
        let terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        Ok(Self(terminate, signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?))
    }

    /// One of them has come.
    pub(in crate::commands) async fn come(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
    }
}

/// The place of the one who acts. Without an election it is ours from the start to the end.
pub(super) struct Seat(Option<Candidate>);

impl Seat {
    pub(super) fn new(client: &Client, args: &RunArgs, leadership: &Leadership) -> anyhow::Result<Self> {
        if !args.leader_election {
            return Ok(Self(None));
        }
        let namespace = namespace(args.leader_election_namespace.as_deref(), "--leader-election-namespace")?;
        Ok(Self(Some(Candidate::new(client.clone(), &namespace, leadership.clone()))))
    }

    pub(super) async fn taken(&mut self) {
        if let Some(candidate) = &mut self.0 {
            candidate.lead().await;
        }
    }

    pub(super) async fn lost(&mut self) -> Lost {
        match &mut self.0 {
            Some(candidate) => candidate.keep().await,
            None => futures::future::pending().await,
        }
    }

    pub(super) async fn given_up(self) {
        if let Some(candidate) = self.0 {
            candidate.release().await;
        }
    }
}

/// What a flag names, or the namespace of the pod that we run in, where every container finds it.
pub(in crate::commands) fn namespace(named: Option<&str>, flag: &str) -> anyhow::Result<String> {
    let own = || Config::incluster().ok().map(|config| config.default_namespace);
    let namespace = named.map(str::to_owned).filter(|name| !name.is_empty()).or_else(own);
    let namespace = namespace.filter(|name| !name.is_empty());
    namespace.with_context(|| format!("set {flag}: the controller's own namespace is not known"))
}
