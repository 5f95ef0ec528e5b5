//! What all trials together printed, searched for every secret that they handed out or made.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use testenv::Run;

use crate::{Outcome, Suite};

/// What a folder of the run holds that anybody might read: logs of ours, and what `Witness` wrote down.
const PRODUCED: [&str; 3] = ["vault-mesh-issuer.log", "objects.jsonl", "metrics.txt"];

/// `after_trials`: whether there can be anything to search.
pub fn add(suite: &mut Suite, after_trials: bool) {
    suite.add("no secret of any trial stands in a log, an event, a status or a metric", move |run| {
        no_secret(run, after_trials)
    });
}

async fn no_secret(run: Run, after_trials: bool) -> Outcome {
    let folders = std::fs::read_dir(run.folder()).context("the run's folder")?;
    let folders = folders.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<PathBuf>>>()?;
    let mut tokens = 0;
    for audit in named(&folders, "audit.jsonl") {
        tokens += register_tokens(&run, &audit)?;
    }
    ensure!(tokens > 0 || !after_trials, "OpenBao's audit logs show no token");
    let mut leaks = Vec::new();
    for name in PRODUCED {
        let paths = named(&folders, name);
        ensure!(!paths.is_empty() || !after_trials, "no trial has left a {name}");
        for path in paths {
            // Ours is UTF-8; whatever is not could be no text of a secret of ours either.
            let text = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
            leaks.extend(run.secrets().found_in(&text).into_iter().map(|leak| format!("{}: {leak}", path.display())));
        }
    }
    ensure!(leaks.is_empty(), "{leaks:#?}");
    Ok(())
}

fn named(folders: &[PathBuf], name: &str) -> Vec<PathBuf> {
    folders.iter().map(|folder| folder.join(name)).filter(|path| path.exists()).collect()
}

/// OpenBao's audit log is written raw. Returns how many lines show a token.
fn register_tokens(run: &Run, audit: &Path) -> anyhow::Result<usize> {
    let mut tokens = 0;
    let text = std::fs::read_to_string(audit).with_context(|| format!("reading {}", audit.display()))?;
    // A server that was killed may have left half a line.
    for line in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        for token in [&line["response"]["auth"]["client_token"], &line["request"]["client_token"]] {
            if let Some(token) = token.as_str().filter(|token| !token.is_empty()) {
                run.secrets().add("a token in OpenBao's audit log", token);
                tokens += 1;
            }
        }
    }
    Ok(tokens)
}
