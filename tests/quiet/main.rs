//! The quiet suite: one control plane with cert-manager, one OpenBao and one controller of ours, shared by trials that run side
//! by side, each with a namespace, a mount and a role of its own. What the whole run produced is judged at the end.

#![allow(clippy::print_stderr, reason = "a suite talks to the person who runs it")]

use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};
use testenv::{ControlPlane, Controller, ControllerOptions, Options, Run};
use tokio::runtime::Runtime;

mod issuing;

/// What every trial shares.
struct Shared {
    plane: ControlPlane,
    ours: Controller,
}

/// A trial's outcome; the text says what was expected and what was found.
type Outcome = anyhow::Result<()>;

/// Collects trials, so that a file of trials is a list of sentences and functions.
struct Suite {
    runtime: Arc<Runtime>,
    shared: Arc<Shared>,
    trials: Vec<Trial>,
}

impl Suite {
    fn add<F>(&mut self, sentence: &str, trial: impl FnOnce(Arc<Shared>) -> F + Send + 'static)
    where
        F: Future<Output = Outcome> + 'static,
    {
        let (runtime, shared) = (Arc::clone(&self.runtime), Arc::clone(&self.shared));
        let trial = move || runtime.block_on(trial(shared)).map_err(|error| format!("{error:#}").into());
        self.trials.push(Trial::test(sentence, trial));
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("the environment: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let run = Run::start("quiet")?;
    let runtime = Arc::new(tokio::runtime::Builder::new_multi_thread().enable_all().build()?);
    let shared = runtime.block_on(async {
        let plane = ControlPlane::start(&run, Options::default()).await?;
        let options = ControllerOptions {
            rust_log: Some("trace".to_owned()),
            ..ControllerOptions::new(env!("CARGO_BIN_EXE_vault-mesh-issuer"))
        };
        let ours = Controller::start(&plane, options).await?;
        anyhow::Ok(Arc::new(Shared { plane, ours }))
    })?;
    let mut suite = Suite { runtime, shared, trials: Vec::new() };
    issuing::add(&mut suite);
    let conclusion = libtest_mimic::run(arguments, suite.trials);
    let failed = conclusion.has_failed();
    drop(suite.shared);
    run.finish(!failed);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
