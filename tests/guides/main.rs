//! The guides suite: the pages of the documentation are followed, each on an empty cluster of its own with an empty OpenBao, and
//! what they promise is looked at. Meshes themselves do not run here: what is shown is what their certificate clients send and
//! accept.

#![allow(clippy::print_stderr, clippy::print_stdout, reason = "a suite talks to the person who runs it")]
#![allow(clippy::indexing_slicing, reason = "an index into a JSON value that is not there gives null")]
#![allow(clippy::disallowed_methods, reason = "a trial measures how long things take")]

use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};
use testenv::{Run, exit_code};
use tokio::runtime::Runtime;

mod check;
mod pages;
mod support;

/// How many guides are followed side by side: each starts a control plane.
const AT_ONCE: usize = 3;

/// A trial's outcome; the text says what was expected and what was found.
type Outcome = anyhow::Result<()>;

/// Collects trials, so that a file of trials is a list of sentences and functions.
struct Suite {
    runtime: Arc<Runtime>,
    run: Run,
    trials: Vec<Trial>,
}

impl Suite {
    fn add<F>(&mut self, sentence: &str, trial: impl FnOnce(Run) -> F + Send + 'static)
    where
        F: Future<Output = Outcome> + 'static,
    {
        let (runtime, run) = (Arc::clone(&self.runtime), self.run.clone());
        let trial = move || runtime.block_on(trial(run)).map_err(|error| format!("{error:#}").into());
        self.trials.push(Trial::test(sentence, trial));
    }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    exit_code("the environment", run(&arguments))
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let run = Run::start("guides")?;
    let runtime = Arc::new(tokio::runtime::Builder::new_multi_thread().enable_all().build()?);
    let mut suite = Suite { runtime, run: run.clone(), trials: Vec::new() };
    pages::add(&mut suite);
    check::add(&mut suite);
    let done = libtest_mimic::run(arguments, std::mem::take(&mut suite.trials));
    drop(suite);
    run.finish(!done.has_failed());
    anyhow::ensure!(!done.has_failed(), "{} trials failed", done.num_failed);
    Ok(())
}
