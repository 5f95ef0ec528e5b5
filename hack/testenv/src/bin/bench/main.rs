//! `hack/bench`: ours, cert-manager's built-in Vault issuer, and the two walls that no issuer passes, in turns of one run.
//! `bench PROGRAM [--estimates FOLDER] [--turns N] [--requests N] [--json FILE] [SCENARIO...]`.

#![allow(
    clippy::disallowed_methods,
    reason = "the environment of tests reads the clock, the environment and starts tasks"
)]

mod arena;
mod drain;
mod gauge;
mod growth;
mod latency;
mod pipeline;
mod record;
mod shares;
mod table;
mod walls;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use testenv::{Run, exit_code, in_a_run};

use crate::arena::{Arena, Contender, Signing};
use crate::drain::Waiting;
use crate::record::Record;
use crate::walls::Walls;

const USAGE: &str = "usage: bench PROGRAM [--estimates FOLDER] [--turns N] [--requests N] [--json FILE] [SCENARIO...]";

/// What is measured, how often, and where the figures go.
struct Settings {
    program: PathBuf,
    turns: usize,
    requests: usize,
    json: Option<PathBuf>,
    /// Where criterion has left what it found.
    estimates: Option<PathBuf>,
    scenarios: Vec<Scenario>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scenario {
    Drain,
    Latency,
    Herd,
    Pipeline,
    Growth,
}

impl Scenario {
    const ALL: [(&str, Scenario); 5] = [
        ("drain", Scenario::Drain),
        ("latency", Scenario::Latency),
        ("herd", Scenario::Herd),
        ("pipeline", Scenario::Pipeline),
        ("growth", Scenario::Growth),
    ];
    /// Those in which of cert-manager only its Vault issuer takes part.
    const ALONE: [Scenario; 4] = [Scenario::Drain, Scenario::Latency, Scenario::Herd, Scenario::Growth];
}

fn main() -> ExitCode {
    exit_code("bench", benched())
}

fn benched() -> Result<()> {
    let settings = settings(std::env::args().skip(1))?;
    let steps = settings.estimates.as_deref().map(shares::read).transpose()?;
    let mut record = Record::default();
    let ended = in_a_run("bench", async |run| bench(run, &settings, &mut record).await);
    if record.is_empty() {
        return ended;
    }
    // What was measured before a turn failed is not lost with it.
    print!("\n{}", table::of(&record, &steps.unwrap_or_default()));
    if let Some(path) = &settings.json {
        std::fs::write(path, record.json()?).with_context(|| format!("writing {}", path.display()))?;
        println!("\nall figures: {}", path.display());
    }
    ended
}

fn settings(mut arguments: impl Iterator<Item = String>) -> Result<Settings> {
    let program = std::path::absolute(arguments.next().context(USAGE)?).context("the program's path")?;
    let mut settings =
        Settings { program, turns: 5, requests: 1_000, json: None, estimates: None, scenarios: Vec::new() };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().context(USAGE);
        match argument.as_str() {
            "--turns" => settings.turns = value()?.parse().context("--turns takes a whole number")?,
            "--requests" => settings.requests = value()?.parse().context("--requests takes a whole number")?,
            "--estimates" => {
                settings.estimates = Some(std::path::absolute(value()?).context("--estimates takes a path")?)
            }
            "--json" => settings.json = Some(std::path::absolute(value()?).context("--json takes a path")?),
            name => match Scenario::ALL.iter().find(|(known, _)| *known == name) {
                Some((_, scenario)) => settings.scenarios.push(*scenario),
                None => bail!(USAGE),
            },
        }
    }
    ensure!(settings.turns > 0 && settings.requests > 1, "there is nothing to measure");
    if settings.scenarios.is_empty() {
        settings.scenarios = Scenario::ALL.iter().map(|(_, scenario)| *scenario).collect();
    }
    Ok(settings)
}

async fn bench(run: &Run, settings: &Settings, record: &mut Record) -> Result<()> {
    let asked = |scenario| settings.scenarios.contains(&scenario);
    if Scenario::ALONE.into_iter().any(asked) {
        let arena = Arena::issuers_alone(run, settings.program.clone()).await?;
        let walls = if asked(Scenario::Drain) { Some(Walls::find(&arena).await?) } else { None };
        for turn in 1..=settings.turns {
            println!("turn {turn} of {}", settings.turns);
            if let Some(walls) = &walls {
                drains(&arena, walls, settings.requests, record).await?;
            }
            for clients in [1, 8].into_iter().filter(|_| asked(Scenario::Latency)) {
                closed_loops(&arena, turn, clients, record).await?;
            }
            for contender in Contender::in_turn(turn).into_iter().filter(|_| asked(Scenario::Herd)) {
                record.add(latency::HERD, contender.name(), latency::herd(&arena, contender).await?);
            }
            if asked(Scenario::Growth) {
                growth::turn(&arena, turn, settings.requests, record).await?;
            }
        }
    }
    if asked(Scenario::Pipeline) {
        let arena = Arena::whole(run, settings.program.clone()).await?;
        for turn in 1..=settings.turns {
            println!("turn {turn} of {}, with the whole of cert-manager", settings.turns);
            for contender in Contender::in_turn(turn) {
                record.add(pipeline::NAME, contender.name(), pipeline::certificates(&arena, contender).await?);
            }
        }
    }
    Ok(())
}

/// One turn of the closed loop: the plain client between the contenders, so that neither is nearer to it.
async fn closed_loops(arena: &Arena, turn: usize, clients: usize, record: &mut Record) -> Result<()> {
    let scenario = latency::name(clients);
    let [first, second] = Contender::in_turn(turn);
    record.add(&scenario, first.name(), latency::closed_loop(arena, first, clients, 1).await?);
    record.add(&scenario, walls::BOTH, latency::plain(arena, clients).await?);
    record.add(&scenario, second.name(), latency::closed_loop(arena, second, clients, 1).await?);
    Ok(())
}

/// One turn of the drain: with each CA both contenders, and the walls before ours and after it, since the machine's own speed changes
/// by the minute, and the API server collects its garbage every few seconds.
async fn drains(arena: &Arena, walls: &Walls, requests: usize, record: &mut Record) -> Result<()> {
    let waiting = Waiting { requests, issuers: 1 };
    for signing in Signing::ALL {
        let scenario = drain::name(signing);
        let sign = walls.sign(arena, signing, requests).await?;
        let write = walls.write(arena, signing, requests).await?;
        let ours = drain::drain(arena, Contender::Ours, signing, waiting).await?;
        record.add(&scenario, Contender::Ours.name(), ours);
        record.add(&scenario, walls::WRITE, write.and(walls.write(arena, signing, requests).await?));
        record.add(&scenario, walls::SIGN, sign.and(walls.sign(arena, signing, requests).await?));
        record.add(&scenario, walls::BOTH, walls.both(arena, signing, requests).await?);
        let built_in = drain::drain(arena, Contender::BuiltIn, signing, waiting).await?;
        record.add(&scenario, Contender::BuiltIn.name(), built_in);
    }
    Ok(())
}
