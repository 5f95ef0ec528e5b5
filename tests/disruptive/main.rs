//! The disruptive suite: what happens when Vault, the API server, the network or we ourselves fail in the middle of something.
//! Each trial has a control plane, an OpenBao and a controller of its own, so that it may break them; three trials run at a time.

#![allow(clippy::print_stderr, clippy::print_stdout, reason = "a suite talks to the person who runs it")]
#![allow(clippy::indexing_slicing, reason = "an index into a JSON value that is not there gives null")]
#![allow(clippy::disallowed_methods, reason = "a trial measures how long things take")]

use std::process::ExitCode;

use libtest_mimic::Arguments;
use testenv::{Outcome, Run, Suite, exit_code};

mod afterwards;
mod disturbances;
mod late_writes;
mod outages;
mod pace;
mod patience;
mod peers;
mod permissions;
mod replicas;
mod restart;
mod roots;
mod settings;
mod support;
mod tokens;
mod under_load;

/// How many trials run side by side: each starts four processes and more.
const AT_ONCE: usize = 3;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    exit_code("the environment", run(arguments))
}

fn run(mut arguments: Arguments) -> Outcome {
    let run = Run::start("disruptive")?;
    let mut suite = Suite::new(&run)?;
    // The longest first, so that the others run beside them; this one mostly sleeps.
    patience::add(&mut suite);
    tokens::add(&mut suite);
    under_load::add(&mut suite);
    late_writes::add(&mut suite);
    outages::add(&mut suite);
    pace::add(&mut suite);
    peers::add(&mut suite);
    permissions::add(&mut suite);
    replicas::add(&mut suite);
    restart::add(&mut suite);
    roots::add(&mut suite);
    settings::add(&mut suite);
    disturbances::add(&mut suite);
    let during = suite.play(&arguments);
    afterwards::add(&mut suite, during.num_passed + during.num_failed > 0);
    // It has something to say about any part of the suite.
    arguments.filter = None;
    arguments.skip.clear();
    let afterwards = suite.play(&arguments);
    let failed = during.has_failed() || afterwards.has_failed();
    drop(suite);
    run.finish(!failed);
    anyhow::ensure!(!failed, "{} trials failed", during.num_failed + afterwards.num_failed);
    Ok(())
}
