//! Manifests as people keep them: YAML of one or more documents, JSON, and the lists that `kubectl get -o yaml` prints, from files or
//! from standard input. Shared by the commands that read issuers.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Deserialize as _;
use serde_json::Value;

/// One object, and where it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// The file as it was named on the command line, or `standard input`.
    pub source: String,
    /// The object; its `kind` is a string.
    pub object: Value,
}

impl fmt::Display for Document {
    /// `issuers.yaml: Issuer istio-system/vault`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |pointer: &str| self.object.pointer(pointer).and_then(Value::as_str);
        let (kind, name) = (text("/kind").unwrap_or_default(), text("/metadata/name").unwrap_or("without a name"));
        match text("/metadata/namespace") {
            Some(namespace) => write!(f, "{}: {kind} {namespace}/{name}", self.source),
            None => write!(f, "{}: {kind} {name}", self.source),
        }
    }
}

/// Reads all objects of these files in their order; `-` is standard input.
///
/// # Errors
/// A file that cannot be read, text that is neither YAML nor JSON, a document that is no object, and files without any.
pub fn read(files: &[PathBuf]) -> anyhow::Result<Vec<Document>> {
    let mut manifests = Vec::new();
    for file in files {
        let (source, text) = if file.as_path() == Path::new("-") {
            ("standard input".to_owned(), std::io::read_to_string(std::io::stdin()))
        } else {
            (file.display().to_string(), std::fs::read_to_string(file))
        };
        manifests.extend(parse(&source, &text.with_context(|| format!("cannot read {source}"))?)?);
    }
    if manifests.is_empty() {
        bail!("there is no object in the input");
    }
    Ok(manifests)
}

/// The objects of one text, those inside lists included.
fn parse(source: &str, text: &str) -> anyhow::Result<Vec<Document>> {
    // As kubectl tells them apart; YAML would refuse some of JSON, such as tabs.
    let documents: Box<dyn Iterator<Item = anyhow::Result<Value>>> = if text.trim_start().starts_with('{') {
        Box::new(serde_json::Deserializer::from_str(text).into_iter().map(|it| it.map_err(Into::into)))
    } else {
        Box::new(serde_yaml_ng::Deserializer::from_str(text).map(|it| Value::deserialize(it).map_err(Into::into)))
    };
    let mut manifests = Vec::new();
    // The first fault ends it: after one, the readers give it again without end.
    for (index, document) in documents.enumerate() {
        let place = || format!("{source}, document {}", index + 1);
        flatten(source, document.with_context(place)?, &mut manifests).with_context(place)?;
    }
    Ok(manifests)
}

fn flatten(source: &str, object: Value, manifests: &mut Vec<Document>) -> anyhow::Result<()> {
    // What stands between two `---` may be a comment only.
    if object.is_null() {
        return Ok(());
    }
    let kind = object.get("kind").and_then(Value::as_str).context("this is no manifest: it has no kind")?;
    match object.get("items").and_then(Value::as_array) {
        Some(items) if kind.ends_with("List") => {
            items.iter().try_for_each(|item| flatten(source, item.clone(), manifests))
        }
        Some(_) | None => {
            manifests.push(Document { source: source.to_owned(), object });
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn holds(text: &str, expected: &[&str]) {
        let found = parse("it", text).expect("the test's text can be read");
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
    }

    #[track_caller]
    fn refused(text: &str, words: &str) {
        let error = format!("{:#}", parse("it", text).expect_err("the text should be refused"));
        assert!(error.contains(words), "{error}");
    }

    #[test]
    fn yaml_json_and_lists_hold_the_same_objects() {
        let both = ["it: Issuer shop/a", "it: ClusterIssuer b"];
        holds(
            "# ours\n---\nkind: Issuer\nmetadata: {name: a, namespace: shop}\n---\n---\nkind: ClusterIssuer\nmetadata:\n  name: b\n",
            &both,
        );
        holds(
            "{\"kind\": \"Issuer\",\t\"metadata\": {\"name\": \"a\", \"namespace\": \"shop\"}}\n{\"kind\": \"ClusterIssuer\", \"metadata\": {\"name\": \"b\"}}",
            &both,
        );
        holds(
            "kind: List\nitems:\n- {kind: Issuer, metadata: {name: a, namespace: shop}}\n- kind: List\n  items: [{kind: ClusterIssuer, metadata: {name: b}}]",
            &both,
        );
        holds("kind: List\nitems: []", &[]);
        holds("", &[]);
    }

    #[test]
    fn a_document_that_cannot_be_used_is_named_by_its_place() {
        refused("kind: Issuer\n---\nkind: [", "it, document 2: ");
        refused("{\"kind\": ", "it, document 1: EOF");
        refused("just text", "it, document 1: this is no manifest: it has no kind");
        refused("kind: List\nitems: [{metadata: {}}]", "it, document 1: this is no manifest");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let error = read(&[PathBuf::from("/nowhere/x.yaml")]).expect_err("there is no such file");
        assert!(format!("{error:#}").starts_with("cannot read /nowhere/x.yaml: No such file"), "{error:#}");
    }
}
