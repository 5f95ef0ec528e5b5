//! The guides suite: the pages of the documentation are followed, each on an empty cluster of its own with an empty OpenBao, and
//! what they promise is looked at. Meshes themselves do not run here: what is shown is what their certificate clients send and
//! accept.

#![allow(clippy::print_stderr, clippy::print_stdout, reason = "a suite talks to the person who runs it")]
#![allow(clippy::indexing_slicing, reason = "an index into a JSON value that is not there gives null")]
#![allow(clippy::disallowed_methods, reason = "a trial measures how long things take")]

use std::process::ExitCode;

use libtest_mimic::Arguments;
use testenv::{Outcome, Run, Suite, exit_code};

mod authorities;
mod certificates;
mod check;
mod cut_over;
mod istio_csr;
mod kong_mesh;
mod open_service_mesh;
mod openshift;
mod pages;
mod pods;
mod quick_start;
mod replay;
mod rotation;
mod support;
mod tables;
mod tanzu;
mod tetrate;

/// How many guides are followed side by side: each starts a control plane.
const AT_ONCE: usize = 3;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    exit_code("the environment", run(&arguments))
}

fn run(arguments: &Arguments) -> Outcome {
    let run = Run::start("guides")?;
    let mut suite = Suite::new(&run)?;
    open_service_mesh::add(&mut suite);
    openshift::add(&mut suite);
    cut_over::add(&mut suite);
    pages::add(&mut suite);
    istio_csr::add(&mut suite);
    tetrate::add(&mut suite);
    authorities::add(&mut suite);
    certificates::add(&mut suite);
    kong_mesh::add(&mut suite);
    pods::add(&mut suite);
    tanzu::add(&mut suite);
    quick_start::add(&mut suite);
    rotation::add(&mut suite);
    tables::add(&mut suite);
    check::add(&mut suite);
    let done = suite.play(arguments);
    drop(suite);
    run.finish(!done.has_failed());
    anyhow::ensure!(!done.has_failed(), "{} trials failed", done.num_failed);
    Ok(())
}
