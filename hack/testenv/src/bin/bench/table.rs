//! The record for people: a table a scenario, and the ratios. A cell is the median of the turns, with the least and the most.

use crate::arena::{Contender, Signing};
use crate::gauge::Figures;
use crate::record::Record;
use crate::shares::Step;
use crate::{drain, growth, latency, pipeline, walls};

const BUILT_IN: &str = Contender::BuiltIn.name();

/// Least, median and most of some figures.
#[derive(Clone, Copy, Default)]
pub struct Spread {
    pub least: f64,
    pub median: f64,
    pub most: f64,
}

impl Spread {
    pub fn of(figures: impl Iterator<Item = f64>) -> Spread {
        let mut figures: Vec<f64> = figures.collect();
        figures.sort_by(f64::total_cmp);
        let at = |index: usize| figures.get(index).copied().unwrap_or_default();
        let last = figures.len().saturating_sub(1);
        let median = (at(last / 2) + at(last.div_ceil(2))) / 2.0;
        Spread { least: at(0), median, most: at(last) }
    }

    fn cell(self, digits: usize) -> String {
        let Spread { least, median, most } = self;
        format!("{median:.digits$} ({least:.digits$}–{most:.digits$})")
    }
}

/// All of it.
pub fn of(record: &Record, steps: &[Step]) -> String {
    let tables = record.scenarios().iter().filter(|scenario| !scenario.starts_with(growth::NAME));
    let mut lines: Vec<String> = tables.flat_map(|scenario| scenario_table(record, scenario)).collect();
    lines.extend(growth_table(record));
    lines.extend(steps_table(record, steps));
    lines.extend(ratios(record));
    lines.join("\n") + "\n"
}

fn scenario_table(record: &Record, scenario: &str) -> Vec<String> {
    let contenders = record.contenders(scenario);
    let mut lines = vec![
        format!("\n## {scenario}\n"),
        format!("| | {} |", contenders.join(" | ")),
        format!("|---|{}", "---|".repeat(contenders.len())),
    ];
    let mut row = |title: &str, digits: usize, of: &dyn Fn(&Figures) -> Option<f64>| {
        let cells: Vec<_> = contenders
            .iter()
            .map(|contender| {
                let figures: Vec<f64> = record.turns(scenario, contender).iter().filter_map(of).collect();
                if figures.is_empty() { String::new() } else { Spread::of(figures.into_iter()).cell(digits) }
            })
            .collect();
        if cells.iter().any(|cell| !cell.is_empty()) {
            lines.push(format!("| {title} | {} |", cells.join(" | ")));
        }
    };
    let when = |figures: &Figures, value: f64| (figures.signs > 0.0).then_some(value);
    row("certificates/s", 1, &|it| Some(it.per_second));
    let waited = |wait: f64| (wait > 0.0).then_some(wait);
    row("p50, ms", 1, &|it| waited(it.p50));
    row("p90, ms", 1, &|it| waited(it.p90));
    row("p99, ms", 1, &|it| waited(it.p99));
    for peer in
        ["vault-mesh-issuer", "cert-manager-controller", "openbao", "kube-apiserver", "cert-manager-webhook", "etcd"]
    {
        row(&format!("CPU of {peer}, ms each"), 2, &|it| it.cpu.get(peer).copied());
    }
    row("memory before, MB", 1, &|it| when(it, it.memory[0]));
    row("memory after, MB", 1, &|it| when(it, it.memory[1]));
    row("signs each", 3, &|it| when(it, it.signs));
    row("other calls at Vault, in all", 0, &|it| when(it, it.other_vault_calls as f64));
    row("status writes each", 3, &|it| when(it, it.status_writes));
    row("other calls at the API server, in all", 0, &|it| when(it, it.other_api_calls.values().sum::<usize>() as f64));
    row("bytes to the API server, each", 0, &|it| when(it, it.bytes_received));
    row("bytes from the API server, each", 0, &|it| when(it, it.bytes_sent));
    lines
}

fn growth_table(record: &Record) -> Vec<String> {
    let mut lines = Vec::new();
    for scenario in record.scenarios() {
        let Some(row) = scenario.strip_prefix(growth::NAME) else { continue };
        if lines.is_empty() {
            lines.push("\n## growth\n".to_owned());
            lines.push(
                "| | who | certificates/s | CPU of the issuer, ms each | memory before, MB | memory after, MB |"
                    .to_owned(),
            );
            lines.push("|---|---|---|---|---|---|".to_owned());
        }
        for contender in record.contenders(scenario) {
            let turns = record.turns(scenario, contender);
            let cell = |digits, of: fn(&Figures) -> f64| Spread::of(turns.iter().map(of)).cell(digits);
            let (rate, cpu) = (cell(1, |it| it.per_second), cell(2, issuer_cpu));
            let (before, after) = (cell(1, |it| it.memory[0]), cell(1, |it| it.memory[1]));
            lines.push(format!("| {row} | {contender} | {rate} | {cpu} | {before} | {after} |"));
        }
    }
    lines
}

fn steps_table(record: &Record, steps: &[Step]) -> Vec<String> {
    if steps.is_empty() {
        return Vec::new();
    }
    let usual = drain::name(Signing::USUAL);
    let all = Spread::of(record.turns(&usual, Contender::Ours.name()).iter().map(issuer_cpu)).median;
    let mut lines = vec![
        "\n## steps of ours that need no peer\n".to_owned(),
        format!("| step | µs | share of our CPU time in \"{usual}\" |"),
        "|---|---|---|".to_owned(),
    ];
    lines.extend(steps.iter().map(|(step, milliseconds)| {
        let share = if all > 0.0 { format!("{:.0} %", 100.0 * milliseconds / all) } else { "not measured".to_owned() };
        format!("| {step} | {:.0} | {share} |", 1_000.0 * milliseconds)
    }));
    lines
}

fn ratios(record: &Record) -> Vec<String> {
    let mut lines = vec![
        "\n## Ratios (turn by turn: median, least, most)\n".to_owned(),
        "| what | ratio |".to_owned(),
        "|---|---|".to_owned(),
    ];
    let mut row = |what: String, spread: Option<Spread>| {
        lines.extend(spread.map(|spread| format!("| {what} | {} |", spread.cell(2))));
    };
    let drains = Signing::ALL.map(drain::name);
    for scenario in &drains {
        row(format!("{scenario}: ours, of what the walls leave"), of_walls(record, scenario));
        let plain = versus(record, scenario, walls::BOTH, |it| it.per_second);
        row(format!("{scenario}: ours, of a plain client that signs and writes"), plain);
        let rate = versus(record, scenario, BUILT_IN, |it| it.per_second);
        row(format!("{scenario}: ours, times the built-in's certificates/s"), rate);
    }
    let waits = [latency::name(1), latency::name(8), latency::HERD.to_owned()];
    for scenario in &waits {
        for (percentile, wait) in [("p50", (|it| it.p50) as fn(&Figures) -> f64), ("p99", |it| it.p99)] {
            row(format!("{scenario}: {percentile}, of the built-in's"), versus(record, scenario, BUILT_IN, wait));
            let least = compared(record, scenario, [walls::BOTH, BUILT_IN], wait);
            row(format!("{scenario}: {percentile} of a plain client that signs and writes, of the built-in's"), least);
        }
    }
    for scenario in drains.iter().chain(&waits) {
        row(
            format!("{scenario}: CPU of the issuer, of the built-in's"),
            versus(record, scenario, BUILT_IN, issuer_cpu),
        );
        let openbao = |it: &Figures| cpu(it, "openbao");
        row(format!("{scenario}: CPU of OpenBao, of the built-in's"), versus(record, scenario, BUILT_IN, openbao));
        let least = compared(record, scenario, [walls::SIGN, BUILT_IN], openbao);
        row(format!("{scenario}: CPU of OpenBao for a raw sign, of the built-in's"), least);
    }
    let rate = versus(record, pipeline::NAME, BUILT_IN, |it| it.per_second);
    row(format!("{}: ours, times the built-in's certificates/s", pipeline::NAME), rate);
    lines
}

/// CPU time of the issuer itself, whichever it is: but in the pipeline only one of the two runs.
fn issuer_cpu(figures: &Figures) -> f64 {
    cpu(figures, "vault-mesh-issuer") + cpu(figures, "cert-manager-controller")
}

fn cpu(figures: &Figures, peer: &str) -> f64 {
    figures.cpu.get(peer).copied().unwrap_or_default()
}

/// Ours to another's.
fn versus(record: &Record, scenario: &str, other: &str, figure: impl Fn(&Figures) -> f64) -> Option<Spread> {
    compared(record, scenario, [Contender::Ours.name(), other], figure)
}

/// One's to another's, turn by turn; none if nobody had a turn.
fn compared(record: &Record, scenario: &str, who: [&str; 2], figure: impl Fn(&Figures) -> f64) -> Option<Spread> {
    let [ones, others] = who.map(|contender| record.turns(scenario, contender));
    let ratios = ones.iter().zip(others).map(|(one, other)| figure(one) / figure(other));
    (!ones.is_empty()).then(|| Spread::of(ratios))
}

/// Sign and status write share the cores, so an issuer that costs nothing reaches 1/(1/sign + 1/write).
fn of_walls(record: &Record, scenario: &str) -> Option<Spread> {
    let ours = record.turns(scenario, Contender::Ours.name());
    let (signs, writes) = (record.turns(scenario, walls::SIGN), record.turns(scenario, walls::WRITE));
    let walls = signs.iter().zip(writes).map(|(sign, write)| 1.0 / (1.0 / sign.per_second + 1.0 / write.per_second));
    (!ours.is_empty()).then(|| Spread::of(ours.iter().zip(walls).map(|(ours, wall)| ours.per_second / wall)))
}
