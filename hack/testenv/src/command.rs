//! What the commands of this environment have in common: they end with their peers, and Ctrl-C ends both.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::{Run, interrupted};

/// What `main` returns for the outcome of the command `name`; a failure is printed.
pub fn exit_code(name: &str, outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Does `work` in a run of its own. Call it from `main` before any other thread is started.
///
/// # Errors
/// Those of `work`, or the command was interrupted.
pub fn in_a_run<T>(name: &str, work: impl AsyncFnOnce(&Run) -> Result<T>) -> Result<T> {
    let interrupted = interrupted()?;
    let run = Run::start(name)?;
    let outcome = tokio::runtime::Runtime::new()?.block_on(async {
        tokio::select! {
            outcome = work(&run) => outcome,
            () = interrupted => bail!("interrupted"),
        }
    });
    run.finish(outcome.is_ok());
    outcome
}
