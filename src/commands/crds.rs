//! `vault-mesh-issuer crds`: writes the CustomResourceDefinitions, and the pages of the documentation that say what is in them and
//! what the program says. They are made from the types in `src/api` and the messages in `src/issuance`, and from nothing else; the
//! files of the project are their image, and a test fails when they drift.

mod messages;
mod reference;

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use serde_json::{Value, json};

use crate::api::{VaultMeshClusterIssuer, VaultMeshIssuer};
use crate::cli::CrdsArgs;

/// Where the CRDs lie in the project.
const FOLDERS: [&str; 2] = ["crds", "deploy/helm/files/crds"];

/// One CRD as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// `<plural>.<group>.yaml`.
    pub file: String,
    /// YAML, the same for the same types.
    pub yaml: String,
}

/// Prints both CRDs, or writes every generated file into a checkout of the project.
///
/// # Errors
/// Standard output or a file cannot be written.
pub fn crds(args: &CrdsArgs) -> anyhow::Result<()> {
    let manifests = manifests()?;
    match &args.write_to {
        None => {
            let documents: Vec<&str> = manifests.iter().map(|manifest| manifest.yaml.as_str()).collect();
            std::io::stdout().write_all(documents.join("---\n").as_bytes()).context("cannot print the CRDs")
        }
        Some(project) => write(project, &manifests),
    }
}

/// Both CRDs.
///
/// # Errors
/// The types give a schema that is no schema: a defect, which the tests of this file would show.
pub fn manifests() -> anyhow::Result<Vec<Manifest>> {
    [VaultMeshIssuer::crd(), VaultMeshClusterIssuer::crd()].iter().map(manifest).collect()
}

fn manifest(crd: &CustomResourceDefinition) -> anyhow::Result<Manifest> {
    let file = format!("{}.yaml", crd.metadata.name.as_deref().context("a CRD has a name")?);
    let mut crd = serde_json::to_value(crd)?;
    shape(&mut crd)?;
    let body = serde_yaml_ng::to_string(&crd)?;
    Ok(Manifest { file, yaml: format!("# Written by `vault-mesh-issuer crds`; edit src/api instead.\n{body}") })
}

/// What the derived schema does not say: bounds inside types that are not ours. Every field is bounded, because the API
/// server reckons the cost of a rule with the longest value that the schema allows.
fn shape(crd: &mut Value) -> anyhow::Result<()> {
    let schema = crd.pointer_mut("/spec/versions/0/schema/openAPIV3Schema").context("a CRD has a schema")?;
    drop_nullable(schema);
    // The bounds of metav1.Condition itself (kubebuilder markers in apimachinery's types.go).
    let condition = "/properties/status/properties/conditions/items/properties";
    for (field, longest) in [("type", 316), ("status", 16), ("reason", 1_024), ("message", 32_768)] {
        set(schema, &format!("{condition}/{field}"), "maxLength", json!(longest))?;
    }
    set(schema, &format!("{condition}/status"), "enum", json!(["True", "False", "Unknown"]))?;
    // A label's value; the derive has no word for the values of a map.
    let selector = "/properties/spec/properties/policy/properties/namespaceSelector";
    set(schema, &format!("{selector}/properties/matchLabels/additionalProperties"), "maxLength", json!(63))?;
    Ok(())
}

fn set(schema: &mut Value, pointer: &str, keyword: &str, value: Value) -> anyhow::Result<()> {
    let node = schema.pointer_mut(pointer).and_then(Value::as_object_mut);
    node.with_context(|| format!("the schema has no {pointer}"))?.insert(keyword.to_owned(), value);
    Ok(())
}

/// schemars calls each optional field nullable. Without that mark the API server drops a null before any rule sees it; with
/// it, `has(self.appRole)` would hold for `appRole: null`.
fn drop_nullable(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            // A property could bear that name; the keyword's value is a bool and a property's is an object.
            if fields.get("nullable").is_some_and(Value::is_boolean) {
                fields.remove("nullable");
            }
            fields.values_mut().for_each(drop_nullable);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nullable),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Fit for Markdown on one line, where `<` would begin a tag, `*` emphasis, and `|` end the cell of a table.
fn text(words: &str) -> String {
    let one_line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    ['<', '*', '|'].into_iter().fold(one_line, |words, special| words.replace(special, &format!("\\{special}")))
}

fn write(project: &Path, manifests: &[Manifest]) -> anyhow::Result<()> {
    for (path, text) in files(manifests)? {
        let file = project.join(path);
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        }
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// Every generated file: its path in the project, and its text.
fn files(manifests: &[Manifest]) -> anyhow::Result<Vec<(String, String)>> {
    let copies = |folder: &str| {
        let copy = |it: &Manifest| (format!("{folder}/{}", it.file), it.yaml.clone());
        manifests.iter().map(copy).collect::<Vec<_>>()
    };
    let mut files = FOLDERS.map(copies).concat();
    files.push(("docs/reference.md".to_owned(), reference::page(manifests)?));
    files.push(("docs/messages.md".to_owned(), messages::page()));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schemas() -> Vec<(String, Value)> {
        let parse = |manifest: Manifest| (manifest.file, serde_yaml_ng::from_str(&manifest.yaml).expect("YAML"));
        manifests().expect("manifests").into_iter().map(parse).collect()
    }

    #[test]
    fn the_generated_files_are_what_the_sources_say() {
        for (path, text) in files(&manifests().expect("manifests")).expect("files") {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(&path);
            let found = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{path}: {error}"));
            // Not assert_eq: nobody wants to read two CRDs.
            assert!(found == text, "{path} has drifted; run `vault-mesh-issuer crds --write-to .`");
        }
    }

    #[test]
    fn what_markdown_would_swallow_is_escaped() {
        assert_eq!(text("<mount>/sign\n  a|b *"), "\\<mount>/sign a\\|b \\*");
    }

    #[test]
    fn every_field_is_bounded() {
        for (file, crd) in schemas() {
            let mut unbounded = Vec::new();
            walk(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], "", &mut unbounded);
            assert!(unbounded.is_empty(), "{file}: {unbounded:#?}");
        }
    }

    fn walk(schema: &Value, path: &str, unbounded: &mut Vec<String>) {
        let missing = match schema["type"].as_str() {
            Some("string") => schema["maxLength"].is_null() && schema["format"] != "date-time",
            Some("array") => schema["maxItems"].is_null(),
            Some("object") => schema.get("additionalProperties").is_some() && schema["maxProperties"].is_null(),
            Some("integer" | "boolean" | "number") => false,
            other => panic!("{path}: {other:?} in {schema}"),
        };
        if missing {
            unbounded.push(path.to_owned());
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            walk(property, &format!("{path}.{name}"), unbounded);
        }
        for inner in ["items", "additionalProperties"] {
            if let Some(inner) = schema.get(inner) {
                walk(inner, &format!("{path}[]"), unbounded);
            }
        }
    }

    #[test]
    fn both_kinds_have_a_status_of_their_own_and_the_promised_columns() {
        for (file, crd) in schemas() {
            let version = &crd["spec"]["versions"][0];
            assert!(version["subresources"]["status"].is_object(), "{file}");
            assert_eq!(crd["spec"]["names"]["categories"], json!(["cert-manager"]), "{file}");
            let columns: Vec<(&str, i64)> = version["additionalPrinterColumns"]
                .as_array()
                .expect("columns")
                .iter()
                .map(|column| (column["name"].as_str().expect("name"), column["priority"].as_i64().unwrap_or(0)))
                .collect();
            assert_eq!(columns, [("Ready", 0), ("Status", 0), ("Path", 1), ("Server", 1), ("Age", 0)], "{file}");
        }
    }
}
