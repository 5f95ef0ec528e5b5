//! All pages together: no command stands in the documentation that is neither run here nor says that it is not.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use testenv::{Run, blocks};

use crate::{Outcome, Suite};

/// The pages that a trial of this suite follows from beginning to end.
const FOLLOWED: &[&str] = &["docs/check.md"];

pub fn add(suite: &mut Suite) {
    suite.add("every command of the documentation is run, or says that it is not", every_command);
}

async fn every_command(_: Run) -> Outcome {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![project.join("README.md")];
    collect(&project.join("docs"), &mut pages)?;
    let mut wrong = Vec::new();
    for page in pages {
        let name = page.strip_prefix(project)?.display().to_string();
        let text = std::fs::read_to_string(&page).with_context(|| name.clone())?;
        let left = blocks(&text).into_iter().filter(|block| !block.not_run && !FOLLOWED.contains(&name.as_str()));
        wrong.extend(left.map(|block| format!("{name}:{}", block.line)));
    }
    ensure!(wrong.is_empty(), "nobody runs these, and they do not say so: {wrong:?}");
    Ok(())
}

fn collect(folder: &Path, pages: &mut Vec<PathBuf>) -> Outcome {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, pages)?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    Ok(())
}
