//! What the program can do, one file a command. From here up errors are `anyhow`: they end the command and are shown to a person.

pub mod check;
pub mod crds;
pub mod manifests;
pub mod migrate;
pub mod run;

use std::process::ExitCode;

use anyhow::Context as _;

use crate::cli::{CheckArgs, Cli, Command, RunArgs};
use crate::telemetry;

/// Carries out what the command line asks for.
///
/// # Errors
/// What ends the command, for a person to read.
pub fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Run(args) => controller(args)?,
        Command::Check(args) => return check(args),
        Command::Crds(args) => crds::crds(&args)?,
        Command::Migrate(args) => migrate::migrate(&args)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The exit code of a command that ends with an error. That of `check` is not the one that tells of something wrong.
pub fn failure(command: &Command) -> ExitCode {
    match command {
        Command::Check(_) => ExitCode::from(2),
        Command::Run(_) | Command::Crds(_) | Command::Migrate(_) => ExitCode::FAILURE,
    }
}

fn controller(args: RunArgs) -> anyhow::Result<()> {
    telemetry::init(args.log_format)?;
    runtime()?.block_on(run::run(args))
}

fn check(args: CheckArgs) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(check::check(args))
}

/// One thread: a certificate is half a millisecond of work and then waiting, for Vault and for the API server. Threads that wake
/// each other for it cost a seventh more and gain nothing.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start what does the work")
}
