//! A page of the documentation, followed as its reader would: the commands of its `sh` blocks run in bash, section by section,
//! with kubectl, helm and the CLI of Vault at hand.
//!
//! A block whose paragraph above begins with [`NOT_RUN`] is for the reader alone. Each other one has to be run, or
//! [`Guide::finished`] complains.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;

use crate::control_plane::ControlPlane;
use crate::programs::project;

/// How the paragraph above a block begins whose commands are not run.
pub const NOT_RUN: &str = "*Not run by the tests";
/// How long the commands of one section may take.
const WITHIN: Duration = Duration::from_secs(180);

/// One `sh` block of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The heading that it stands under.
    pub section: String,
    /// The number of its first line in the page.
    pub line: usize,
    /// Its text.
    pub commands: String,
    /// It says of itself that it is not run.
    pub not_run: bool,
}

/// The `sh` blocks of a page of Markdown.
pub fn blocks(page: &str) -> Vec<Block> {
    let (mut found, mut section, mut paragraph) = (Vec::new(), String::new(), String::new());
    let mut fence: Option<(usize, String, Vec<&str>)> = None;
    for (number, line) in page.lines().enumerate() {
        match (&mut fence, line.trim_start().strip_prefix("```")) {
            (Some((first, info, lines)), Some(_)) => {
                if info == "sh" {
                    let (section, commands) = (section.clone(), lines.join("\n"));
                    found.push(Block { section, line: *first, commands, not_run: paragraph.starts_with(NOT_RUN) });
                }
                fence = None;
                paragraph.clear();
            }
            (None, Some(info)) => fence = Some((number + 2, info.trim().to_owned(), Vec::new())),
            (Some((_, _, lines)), None) => lines.push(line),
            (None, None) => {
                if let Some(heading) = line.strip_prefix('#') {
                    section = heading.trim_start_matches('#').trim().to_owned();
                    paragraph.clear();
                } else if !line.trim().is_empty() && paragraph.ends_with('\n') {
                    line.trim().clone_into(&mut paragraph);
                } else if line.trim().is_empty() {
                    paragraph.push('\n');
                } else {
                    paragraph.push_str(line.trim());
                }
            }
        }
    }
    found
}

/// A page that is being followed.
pub struct Guide {
    page: String,
    blocks: Vec<Block>,
    folder: PathBuf,
    environment: BTreeMap<String, String>,
    followed: Vec<String>,
}

impl Guide {
    /// Opens a page, named by its path in the project. Its commands find the control plane as its admin, OpenBao with its root
    /// token, and the project's `deploy` folder in the folder that they run in.
    pub fn open(plane: &ControlPlane, page: &str) -> Result<Guide> {
        let text = std::fs::read_to_string(project().join(page)).with_context(|| format!("reading {page}"))?;
        let folder = plane.run.new_folder("guide")?;
        let programs = folder.join("bin");
        std::fs::create_dir(&programs)?;
        let link = |name: &str, to: PathBuf| {
            std::os::unix::fs::symlink(to, folder.join(name)).with_context(|| format!("linking {name}"))
        };
        link("deploy", project().join("deploy"))?;
        for (name, program) in
            [("bin/vault", "bao"), ("bin/bao", "bao"), ("bin/kubectl", "kubectl"), ("bin/helm", "helm")]
        {
            link(name, plane.run.programs().path(program))?;
        }
        let authority = folder.join("vault-server-ca.pem");
        std::fs::write(&authority, plane.bao.ca_pem())?;
        let kubeconfig = plane.kube.kubeconfig("guide", "default")?;
        let path = std::env::var("PATH").unwrap_or_default();
        let environment = BTreeMap::from(
            [
                ("PATH", format!("{}:{path}", programs.display())),
                ("HOME", folder.display().to_string()),
                ("KUBECONFIG", kubeconfig.display().to_string()),
                ("VAULT_ADDR", plane.bao.address().to_owned()),
                ("VAULT_CACERT", authority.display().to_string()),
                ("VAULT_TOKEN", plane.bao.token().context("a root token")?.to_owned()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        Ok(Guide { page: page.to_owned(), blocks: blocks(&text), folder, environment, followed: Vec::new() })
    }

    /// Puts another program into the reader's path.
    pub fn program(&self, name: &str, path: &str) -> Result<()> {
        std::os::unix::fs::symlink(path, self.folder.join("bin").join(name)).with_context(|| format!("linking {name}"))
    }

    /// Sets a variable for the commands to come: what a reader fills in.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.insert(name.to_owned(), value.to_owned());
    }

    /// The folder in which the commands run, and where what they save lies.
    pub fn folder(&self) -> &PathBuf {
        &self.folder
    }

    /// A text in that folder.
    pub fn file(&self, name: &str) -> Result<String> {
        std::fs::read_to_string(self.folder.join(name)).with_context(|| format!("{}: reading {name}", self.page))
    }

    /// Runs the commands of one section, up to the first that fails; gives what they print. Variables and the folder's files
    /// last from section to section.
    pub async fn follow(&mut self, section: &str) -> Result<String> {
        let of_section = |block: &&Block| block.section == section && !block.not_run;
        let commands: Vec<_> = self.blocks.iter().filter(of_section).map(|block| block.commands.as_str()).collect();
        ensure!(!commands.is_empty(), "{}: nothing to run under {section:?}", self.page);
        let state = "if [ -e .state ]; then . ./.state; fi; set -aeuo pipefail";
        let script = format!("{state}\n{}\nexport -p > .state\n", commands.join("\n"));
        let mut command = Command::new("bash");
        command.args(["-c", &script]).current_dir(&self.folder).env_clear().envs(&self.environment);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let output = tokio::time::timeout(WITHIN, command.output());
        let output =
            output.await.with_context(|| format!("{}, {section}: not done within {WITHIN:?}", self.page))??;
        let [said, complained] =
            [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
        if !output.status.success() {
            bail!("{}, {section}: {}\n{said}\n{complained}", self.page, output.status);
        }
        self.followed.push(section.to_owned());
        Ok(said)
    }

    /// The page has no command left that was to be run.
    pub fn finished(&self) -> Result<()> {
        let left = |block: &&Block| !block.not_run && !self.followed.contains(&block.section);
        let left: Vec<_> = self.blocks.iter().filter(left).map(|block| (block.line, &block.section)).collect();
        ensure!(left.is_empty(), "{}: not run, and not marked so: {left:?}", self.page);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_know_their_section_and_whether_they_are_run() {
        let page = "# One\nText.\n\n```sh\na\n\nb\n```\n## Two\n*Not run by the tests, which have no nodes.*\n\n```sh\n# c\n```\n\
                    Now:\n```sh\nd\n```\n```yaml\ne: 1\n```\n*Not run by the tests.*\n\nBut this is:\n\n```sh\nf\n```\n";
        let found: Vec<_> =
            blocks(page).into_iter().map(|block| (block.section, block.line, block.commands, block.not_run)).collect();
        let expected =
            [("One", 5, "a\n\nb", false), ("Two", 13, "# c", true), ("Two", 17, "d", false), ("Two", 27, "f", false)];
        assert_eq!(
            found,
            expected
                .map(|(section, line, commands, not_run)| { (section.to_owned(), line, commands.to_owned(), not_run) })
        );
    }
}
