//! `hack/soak`: a mixed load and faults in an order that a seed decides, and at the end the question whether anything was lost,
//! signed twice, leaked, or grew. `soak PROGRAM (--minutes N | --kills N) [--seed S]`.

#![allow(
    clippy::disallowed_methods,
    reason = "the environment of tests reads the clock, the environment and starts tasks"
)]

mod certificates;
mod faults;
mod report;
mod vitals;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use testenv::{Fall, Random, Run, SIGNS_PER_ISSUER, exit_code, in_a_run};

use crate::faults::{Deck, Kind};
use crate::report::Report;
use crate::vitals::Vitals;
use crate::world::World;

/// What the longest pause between two checks of an issuer, and the requests that waited meanwhile, may take at the end.
const ENDS: Duration = Duration::from_secs(420);
/// When a peer came back, its issuers are looked at again after this long at most: faults here last 20 s or less.
const RECOVERS: Duration = Duration::from_secs(180);

/// How long, and from where.
struct Settings {
    program: PathBuf,
    length: Length,
    seed: u64,
}

#[derive(Clone, Copy)]
enum Length {
    /// All faults, for so long.
    Minutes(f64),
    /// Our process is killed so often, and nothing else happens.
    Kills(usize),
}

fn main() -> ExitCode {
    exit_code("soak", soaked())
}

fn soaked() -> Result<()> {
    let settings = settings(std::env::args().skip(1))?;
    in_a_run("soak", async |run| {
        let report = soak(run, &settings).await?;
        print!("\n{report}");
        ensure!(report.wrong().is_empty(), "{} things are not as they should be", report.wrong().len());
        Ok(())
    })
}

fn settings(mut arguments: impl Iterator<Item = String>) -> Result<Settings> {
    const USAGE: &str = "usage: soak PROGRAM (--minutes N | --kills N) [--seed S]";
    let program = std::path::absolute(arguments.next().context(USAGE)?).context("the program's path")?;
    let (mut length, mut seed) = (None, None);
    while let Some(flag) = arguments.next() {
        let value = arguments.next().context(USAGE)?;
        match flag.as_str() {
            "--minutes" => length = Some(Length::Minutes(value.parse().context("--minutes takes a number")?)),
            "--kills" => length = Some(Length::Kills(value.parse().context("--kills takes a whole number")?)),
            "--seed" => seed = Some(value.parse().context("--seed takes a whole number")?),
            _ => bail!(USAGE),
        }
    }
    Ok(Settings { program, length: length.context(USAGE)?, seed: seed.unwrap_or_else(Random::any_seed) })
}

async fn soak(run: &Run, settings: &Settings) -> Result<Report> {
    let seed = settings.seed;
    println!("seed {seed}: the same faults in the same order come with --seed {seed}");
    let mut world = World::start(run, settings.program.clone()).await?;
    let vitals = Vitals::start(&world)?;
    let begun = Instant::now();
    let mut story = Story { begun, falls: Vec::new(), faults: 0, wrong: Vec::new() };
    match settings.length {
        Length::Kills(kills) => {
            let mut random = Random::new(seed);
            for _ in 0..kills {
                story.play(&world, &vitals, faults::kill(&mut random)).await?;
            }
        }
        Length::Minutes(minutes) => {
            // In the last three quarters our process lives on, so that what it holds can be compared.
            let end = Duration::from_secs_f64(minutes * 60.0);
            for (own, until) in [(true, end / 4), (false, end)] {
                let mut deck = Deck::new(Random::new(seed + u64::from(own)), own);
                while begun.elapsed() < until {
                    story.play(&world, &vitals, deck.draw()).await?;
                }
            }
        }
    }
    println!("{:>5} s  no more faults, and no more requests", begun.elapsed().as_secs());
    let Story { falls, faults, wrong, .. } = story;
    let at_once = match settings.length {
        Length::Kills(_) => Some(SIGNS_PER_ISSUER * world.issuers()),
        Length::Minutes(_) => None,
    };
    let mut report = Report { seed, faults, at_once, length: begun.elapsed(), wrong, ..Report::default() };
    report.tally = world.load.finish(ENDS).await?;
    report.certificates = world.certificates.finish(ENDS).await?;
    let seen = vitals.finish(&world).await?;
    report.account = seen.ledger.account(&world.names(), &falls);
    report.vitals = Some(seen);
    report.judge(&world).await?;
    Ok(report)
}

/// What has happened so far.
struct Story {
    begun: Instant,
    falls: Vec<Fall>,
    faults: usize,
    wrong: Vec<String>,
}

impl Story {
    /// One fault, and what is needed to stand up again.
    async fn play(&mut self, world: &World, vitals: &Vitals, fault: faults::Planned) -> Result<()> {
        tokio::time::sleep(fault.after).await;
        vitals.calm(false);
        let at = self.begun.elapsed().as_secs();
        println!("{at:>5} s  {} ({} requests wait)", fault, world.load.waiting());
        self.faults += 1;
        self.falls.extend(fault.strike(world).await.with_context(|| format!("{fault}"))?);
        // Only one thing at a time is away, or an issuer would rightly be looked at more and more seldom.
        if !matches!(fault.kind, Kind::Killed)
            && let Err(error) = world.recovered(RECOVERS).await
        {
            self.wrong.push(format!("after {fault} at {at} s: {error:#}"));
        }
        vitals.calm(true);
        Ok(())
    }
}
