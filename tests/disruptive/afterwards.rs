//! What all trials together printed, searched for every secret that they handed out or made.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use testenv::Run;

use crate::{Outcome, Suite};

/// What a folder of the run holds that anybody might read: logs of ours, and what `Witness` wrote down.
const PRODUCED: [&str; 3] = ["vault-mesh-issuer.log", "objects.jsonl", "metrics.txt"];

pub fn add(suite: &mut Suite) {
    suite.add("no secret of any trial stands in a log, an event, a status or a metric", no_secret);
}

async fn no_secret(run: Run) -> Outcome {
    let folders = std::fs::read_dir(run.folder()).context("the run's folder")?;
    let folders = folders.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<PathBuf>>>()?;
    for audit in named(&folders, "audit.jsonl") {
        register_tokens(&run, &audit)?;
    }
    let mut leaks = Vec::new();
    for name in PRODUCED {
        for path in named(&folders, name) {
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

/// OpenBao's audit log is written raw.
fn register_tokens(run: &Run, audit: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(audit).with_context(|| format!("reading {}", audit.display()))?;
    // A server that was killed may have left half a line.
    for line in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        for token in [&line["response"]["auth"]["client_token"], &line["request"]["client_token"]] {
            if let Some(token) = token.as_str().filter(|token| !token.is_empty()) {
                run.secrets().add("a token in OpenBao's audit log", token);
            }
        }
    }
    Ok(())
}
