//! All pages together: no command stands in the documentation that is neither run here nor says that it is not.

use std::path::{Path, PathBuf};

use anyhow::ensure;
use testenv::{Run, blocks};

use crate::support::{project, text};
use crate::{Outcome, Suite};

/// The pages that a trial of this suite follows from beginning to end.
const FOLLOWED: &[&str] = &[
    "README.md",
    "docs/check.md",
    "docs/conditions.md",
    "docs/cut-over.md",
    "docs/install.md",
    "docs/issuers.md",
    "docs/meshes/certificates.md",
    "docs/meshes/csi-driver-spiffe.md",
    "docs/meshes/csi-driver.md",
    "docs/meshes/kong-mesh.md",
    "docs/meshes/linkerd.md",
    "docs/meshes/open-service-mesh.md",
    "docs/meshes/openshift.md",
    "docs/meshes/spire.md",
    "docs/meshes/tanzu.md",
    "docs/meshes/tetrate.md",
    "docs/replicas.md",
    "docs/rotation.md",
];

pub fn add(suite: &mut Suite) {
    suite.add("every command of the documentation is run, or says that it is not", every_command);
}

async fn every_command(_: Run) -> Outcome {
    let mut wrong = Vec::new();
    for page in all()? {
        let name = page.strip_prefix(project(""))?.display().to_string();
        let left =
            blocks(&text(&page)?).into_iter().filter(|block| !block.not_run && !FOLLOWED.contains(&name.as_str()));
        wrong.extend(left.map(|block| format!("{name}:{}", block.line)));
    }
    ensure!(wrong.is_empty(), "nobody runs these, and they do not say so: {wrong:?}");
    Ok(())
}

/// The README and every page of docs/.
pub fn all() -> anyhow::Result<Vec<PathBuf>> {
    let mut pages = vec![project("README.md")];
    collect(&project("docs"), &mut pages)?;
    Ok(pages)
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
