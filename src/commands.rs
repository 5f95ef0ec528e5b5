//! What the program can do, one file a command. From here up errors are `anyhow`: they end the command and are shown to a person.

pub mod crds;
pub mod manifests;
pub mod migrate;
pub mod run;

use anyhow::Context as _;

use crate::cli::{Cli, Command, RunArgs};
use crate::telemetry;

/// More threads than this only cost memory: the work is waiting for Vault and for the API server.
const MOST_THREADS: usize = 4;

/// Carries out what the command line asks for.
///
/// # Errors
/// What ends the command, for a person to read.
pub fn dispatch(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Run(args) => controller(args),
        Command::Crds(args) => crds::crds(&args),
        Command::Migrate(args) => migrate::migrate(&args),
    }
}

fn controller(args: RunArgs) -> anyhow::Result<()> {
    telemetry::init(args.log_format)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    runtime.context("cannot start the threads that do the work")?.block_on(run::run(args))
}
