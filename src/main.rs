//! The program: reads the command line, runs the command, turns its error into words and an exit code.

#![expect(clippy::print_stderr, reason = "the one place whose words go to a person at a terminal")]

use std::process::ExitCode;

use clap::Parser as _;
use vault_mesh_issuer::{cli::Cli, commands};

/// It gives back what a crowd of requests has needed, which the C library's own keeps; `.cargo/config.toml` has its settings.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // First of all, and ring for everybody: two TLS providers in one process panic at the first https client.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("error: another TLS provider is installed already");
        return ExitCode::FAILURE;
    }
    let cli = Cli::parse();
    let failure = commands::failure(&cli.command);
    commands::dispatch(cli).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        failure
    })
}
