//! Starts everything and our controller, given as the first argument, and has one
//! request signed: `cargo run -p testenv --example ours -- target/debug/vault-mesh-issuer`.

#![allow(clippy::disallowed_methods, reason = "the clock and the arguments are what an example is about")]

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use testenv::{
    Action, Chain, ControlPlane, Controller, ControllerOptions, Csr, Issuer, Options, Proxy, Request, Run, ca_of,
    certificate_of, openssl, rbac,
};

const SOON: Duration = Duration::from_secs(20);

fn main() -> Result<()> {
    let binary = std::env::args_os().nth(1).context("the first argument is the program to start")?;
    let binary = std::path::absolute(binary)?;
    let run = Run::start("ours")?;
    let outcome = tokio::runtime::Runtime::new()?.block_on(ours(&run, ControllerOptions::new(binary)));
    run.finish(outcome.is_ok());
    outcome
}

async fn ours(run: &Run, options: ControllerOptions) -> Result<()> {
    let mut clock = Instant::now();
    let mut lap = |what: &str| {
        println!("{:>7.2} s  {what}", clock.elapsed().as_secs_f64());
        clock = Instant::now();
    };
    let plane = ControlPlane::start(run, Options::default()).await?;
    lap("the control plane is up");
    let in_front = Proxy::start(run, plane.kube.server()).await?;
    let options = ControllerOptions { via: Some(in_front.url().into()), ..options };
    let controller = Controller::start(&plane, options).await?;
    lap("our controller is ready");

    plane.kube.namespace("mesh").await?;
    let recipe = plane.bao.plain_recipe("mesh", Chain::WithRoot).await?;
    let issuer = Issuer::app_role("mesh", "vmi", &plane.bao, &recipe).create(&plane.kube).await?;
    let outcome = issuer.ready(SOON).await;
    outcome.with_context(|| controller.peer().complaint("does not make the issuer Ready"))?;
    lap("the issuer is Ready");

    let cut = in_front.on(|seen| seen.is("PATCH", "certificaterequests"), Action::DeliverThenCut).times(1);
    let csr = Csr::workload("mesh", "default").ec()?;
    let request = Request::new("mesh", "one", &issuer.issuer_ref, &csr.csr_pem).duration("1h");
    let request = request.create(&plane.kube).await?;
    let signed = request.ready(SOON).await;
    let signed = signed.with_context(|| controller.peer().complaint("does not sign"))?;
    openssl::verify(&certificate_of(&signed)?, &ca_of(&signed)?).await?;
    lap("a request is signed");

    let signs = plane.bao.audit().all()?.signs(recipe.mount());
    println!("{signs} sign, {} answer cut, {} requests through the proxy", cut.hits(), in_front.recorded().len());
    let calls = plane.kube_audit.all()?.of(&controller.namespace, &controller.account);
    println!("{} calls, {} writes, {} forbidden", calls.len(), calls.writes().len(), calls.forbidden().len());
    let granted = rbac::granted(&plane.kube, &controller.namespace, &controller.account).await?;
    for right in rbac::unused(&granted, &rbac::used(&calls)) {
        println!("unused: {} {} {}", right.verb, right.group, right.resource);
    }
    println!("{} lines of metrics", controller.metrics().await?.lines().count());
    println!("leaks: {:?}", run.secrets().found_in(&controller.log()?));
    println!("ended: {}", controller.terminate(SOON).await?);
    Ok(())
}
