//! All figures of a run, by scenario and contender, turn by turn.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::gauge::Figures;

/// The run.
#[derive(Default)]
pub struct Record {
    /// In the order in which they came.
    scenarios: Vec<String>,
    turns: BTreeMap<(String, String), Vec<Figures>>,
}

impl Record {
    /// Adds a turn, and prints it.
    pub fn add(&mut self, scenario: &str, contender: &str, figures: Figures) {
        println!(
            "  {scenario:<24} {contender:<18} {:>7.1}/s  p50 {:>7.1} ms  p99 {:>7.1} ms",
            figures.per_second, figures.p50, figures.p99
        );
        if !self.scenarios.iter().any(|known| known == scenario) {
            self.scenarios.push(scenario.to_owned());
        }
        self.turns.entry((scenario.to_owned(), contender.to_owned())).or_default().push(figures);
    }

    /// Whether nobody has had a turn.
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// The scenarios that were played.
    pub fn scenarios(&self) -> &[String] {
        &self.scenarios
    }

    /// The turns of one contender.
    pub fn turns(&self, scenario: &str, contender: &str) -> &[Figures] {
        self.turns.get(&(scenario.to_owned(), contender.to_owned())).map_or(&[], Vec::as_slice)
    }

    /// Who took part in a scenario.
    pub fn contenders(&self, scenario: &str) -> Vec<&str> {
        self.turns.keys().filter(|(of, _)| of == scenario).map(|(_, contender)| contender.as_str()).collect()
    }

    /// Everything, as JSON.
    pub fn json(&self) -> Result<String> {
        let rows: Vec<_> = self
            .turns
            .iter()
            .map(|((scenario, contender), turns)| {
                serde_json::json!({"scenario": scenario, "contender": contender, "turns": turns})
            })
            .collect();
        Ok(serde_json::to_string_pretty(&rows)?)
    }
}
