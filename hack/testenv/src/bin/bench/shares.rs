//! The steps of a certificate that need no peer, as the criterion benchmark has timed them, and their share of all that a
//! certificate costs us.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// The steps by their names in the criterion benchmark; the last one holds the one before it.
const STEPS: [&str; 4] = ["reading the request", "reading the answer", "building the path", "the whole inspection"];

/// A step and how long it takes, in milliseconds.
pub type Step = (&'static str, f64);

/// Reads criterion's estimates out of its folder.
pub fn read(folder: &Path) -> Result<Vec<Step>> {
    STEPS
        .iter()
        .map(|step| {
            let path = folder.join(step).join("new/estimates.json");
            let text = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            let estimates: Value = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
            let nanoseconds = estimates["median"]["point_estimate"].as_f64();
            Ok((*step, nanoseconds.with_context(|| format!("no median in {}", path.display()))? / 1e6))
        })
        .collect()
}
