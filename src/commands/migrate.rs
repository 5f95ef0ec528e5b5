//! `vault-mesh-issuer migrate`: cert-manager's built-in Vault issuers in, ours out. Standard output holds manifests and nothing else,
//! ready for `kubectl apply -f -`; what a person should look at goes to standard error, where a pipe does not swallow it.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::{Context as _, ensure};

use super::manifests::{self, Document};
use crate::api::built_in::{ConvertError, Converted, convert};
use crate::cli::MigrateArgs;

/// Reads, converts and prints.
///
/// # Errors
/// The input cannot be read, something in it is neither converted nor an issuer of another sort, or standard output cannot be written.
pub fn migrate(args: &MigrateArgs) -> anyhow::Result<()> {
    let documents = manifests::read(&args.files)?;
    let Migration { issuers, notes, refused } = Migration::of(&documents)?;
    std::io::stdout().write_all(issuers.as_bytes()).context("cannot print the issuers")?;
    std::io::stderr().write_all(notes.as_bytes()).context("cannot print what to look at")?;
    ensure!(refused == 0, "{refused} of {} objects not migrated", documents.len());
    Ok(())
}

/// What became of the input.
#[derive(Debug, Default, PartialEq, Eq)]
struct Migration {
    /// YAML documents.
    issuers: String,
    /// What to look at, by issuer.
    notes: String,
    /// How many objects could not be converted; issuers that do not use Vault are not among them.
    refused: usize,
}

impl Migration {
    fn of(documents: &[Document]) -> anyhow::Result<Self> {
        let mut migration = Self::default();
        for document in documents {
            match convert(&document.object) {
                Ok(converted) => migration.converted(document, &converted)?,
                Err(error @ ConvertError::NoVault(_)) => writeln!(migration.notes, "{document} {error}; skipped")?,
                Err(error) => migration.refused(document, &error)?,
            }
        }
        Ok(migration)
    }

    fn converted(&mut self, document: &Document, Converted { issuer, points }: &Converted) -> anyhow::Result<()> {
        if !self.issuers.is_empty() {
            self.issuers.push_str("---\n");
        }
        self.issuers.push_str(&serde_yaml_ng::to_string(issuer)?);
        let kind = issuer.get("kind").and_then(serde_json::Value::as_str).unwrap_or_default();
        writeln!(self.notes, "{document} becomes a {kind}")?;
        points.iter().try_for_each(|point| writeln!(self.notes, "  - {point}"))?;
        Ok(())
    }

    fn refused(&mut self, document: &Document, error: &ConvertError) -> anyhow::Result<()> {
        self.refused += 1;
        writeln!(self.notes, "{document} is not migrated: {error}")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    /// The files in testdata/migrate, as `cargo test` finds them.
    fn inputs() -> Vec<PathBuf> {
        let folder = std::fs::read_dir("testdata/migrate").expect("the project's own folder");
        let path = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("the project's own folder").path();
        let mut inputs: Vec<_> =
            folder.map(path).filter(|path| !path.display().to_string().contains(".expected.")).collect();
        inputs.sort();
        inputs
    }

    #[track_caller]
    fn is(found: &str, file: &Path) {
        let expected = std::fs::read_to_string(file).unwrap_or_default();
        assert_eq!(found, expected, "{} (testdata/README.md says how it is made)", file.display());
    }

    #[test]
    fn real_world_issuers_become_what_is_expected_of_them() {
        for input in inputs() {
            let migration =
                Migration::of(&manifests::read(std::slice::from_ref(&input)).expect("manifests")).expect("YAML");
            is(&migration.issuers, &input.with_extension("expected.yaml"));
            is(&migration.notes, &input.with_extension("expected.txt"));
            let refused = ["aws", "other-objects"].iter().any(|name| input.ends_with(format!("{name}.yaml")));
            assert_eq!(migration.refused > 0, refused, "{}", input.display());
        }
        assert_eq!(inputs().len(), 14, "{:?}", inputs());
    }

    #[test]
    fn what_was_migrated_is_not_migrated_again() {
        let inputs = inputs();
        let twice = |input: &PathBuf| {
            let once = Migration::of(&manifests::read(std::slice::from_ref(input)).expect("manifests")).expect("YAML");
            let path = tempfile::NamedTempFile::new().expect("a file");
            std::fs::write(&path, once.issuers).expect("a file");
            Migration::of(&manifests::read(&[path.path().to_owned()]).expect("manifests")).expect("YAML")
        };
        let app_role = inputs.iter().find(|it| it.ends_with("app-role.yaml")).expect("an AppRole");
        let again = twice(app_role);
        assert_eq!((again.issuers.as_str(), again.refused), ("", 1));
        assert!(
            again.notes.ends_with("is not migrated: it is no Issuer or ClusterIssuer of cert-manager.io\n"),
            "{}",
            again.notes
        );
    }
}
