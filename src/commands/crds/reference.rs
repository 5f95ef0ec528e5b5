//! docs/reference.md: every field of both kinds, as the CRDs have it.

use std::fmt::Write as _;

use anyhow::Context as _;
use serde_json::Value;

use super::{Manifest, text};

const HEAD: &str = "\
<!-- Written by `vault-mesh-issuer crds --write-to .` from the types in src/api; edit these instead. -->
# Every field of VaultMeshIssuer and VaultMeshClusterIssuer

Both kinds have the same fields, but for what is marked in its description. `kubectl explain vaultmeshissuer.spec` shows the same
text. A field that is not marked required may be left out. The rules of a field are checked by the API server, which refuses an
object in the words given here; those of an object stand above its table.

";

/// The page. Both CRDs have one schema, but for the description at its top.
pub(super) fn page(manifests: &[Manifest]) -> anyhow::Result<String> {
    let mut schemas = manifests.iter().map(|manifest| schema(&manifest.yaml)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut schema = schemas.pop().context("there is a CRD")?;
    for other in schemas {
        let same = |field| fields(at(fields(&other), field)) == fields(at(fields(&schema), field));
        anyhow::ensure!(same("spec") && same("status"), "the two kinds have other fields, and one table for both");
    }
    // Which says what the kind is.
    let about = schema.pointer_mut("/properties/spec/description").context("the spec has a description")?;
    *about = "What a person writes.".into();
    let (mut page, mut objects) = (HEAD.to_owned(), Vec::new());
    for top in ["spec", "status"] {
        collect(&mut objects, top.to_owned(), at(fields(&schema), top));
    }
    for (path, object) in &objects {
        section(&mut page, &objects, path, object)?;
    }
    Ok(page)
}

fn schema(yaml: &str) -> anyhow::Result<Value> {
    let mut crd: Value = serde_yaml_ng::from_str(yaml)?;
    let schema = crd.pointer_mut("/spec/versions/0/schema/openAPIV3Schema").context("a CRD has a schema")?;
    Ok(schema.take())
}

fn fields(schema: &Value) -> &Value {
    at(schema, "properties")
}

/// What stands under a keyword, or null.
fn at<'a>(schema: &'a Value, keyword: &str) -> &'a Value {
    static NULL: Value = Value::Null;
    schema.get(keyword).unwrap_or(&NULL)
}

/// An object of the schema, and where it stands.
type Object<'a> = (String, &'a Value);

/// The objects in the order of reading; of several with the same fields and rules only the first.
fn collect<'a>(objects: &mut Vec<Object<'a>>, path: String, schema: &'a Value) {
    if objects.iter().any(|(_, known)| alike(known, schema)) {
        return;
    }
    objects.push((path.clone(), schema));
    for (name, field) in fields(schema).as_object().into_iter().flatten() {
        let (inner, suffix) = inner(field);
        if fields(inner).is_object() {
            collect(objects, format!("{path}.{name}{suffix}"), inner);
        }
    }
}

fn alike(one: &Value, other: &Value) -> bool {
    fields(one) == fields(other) && rules(one) == rules(other)
}

/// A field itself, or what it is a list of.
fn inner(field: &Value) -> (&Value, &str) {
    if at(field, "type") == "array" { (at(field, "items"), "[]") } else { (field, "") }
}

/// One table for the fields of an object.
fn section(page: &mut String, objects: &[Object<'_>], path: &str, schema: &Value) -> anyhow::Result<()> {
    writeln!(page, "## {path}\n")?;
    writeln!(page, "{}\n", text(at(schema, "description").as_str().unwrap_or_default()))?;
    for rule in rules(schema) {
        writeln!(page, "- {rule}")?;
    }
    if !rules(schema).is_empty() {
        page.push('\n');
    }
    writeln!(page, "| field | type | what it says | limits |\n|---|---|---|---|")?;
    for (name, field) in fields(schema).as_object().into_iter().flatten() {
        let required = at(schema, "required").as_array().is_some_and(|names| names.iter().any(|it| it == name));
        writeln!(page, "{}", row(objects, name, field, required))?;
    }
    page.push('\n');
    Ok(())
}

fn row(objects: &[Object<'_>], name: &str, field: &Value, required: bool) -> String {
    let required = required.then(|| "required".to_owned());
    let limits: Vec<String> = required.into_iter().chain(limits(field)).chain(rules_of_value(field)).collect();
    let says = text(at(field, "description").as_str().unwrap_or_default());
    let (kind, inner) = (kind(field), inner(field).0);
    let table = objects.iter().find(|(_, object)| fields(inner).is_object() && alike(object, inner));
    let kind = table
        .map_or(kind.clone(), |(path, _)| format!("[{kind}](#{})", path.replace(['.', '[', ']'], "").to_lowercase()));
    format!("| `{name}` | {kind} | {says} | {} |", limits.join("; "))
}

fn kind(field: &Value) -> String {
    let plain =
        |schema: &Value| at(schema, "format").as_str().or(at(schema, "type").as_str()).unwrap_or("any").to_owned();
    match at(field, "type").as_str() {
        Some("array") => format!("list of {}", plain(at(field, "items"))),
        Some("object") if field.get("additionalProperties").is_some() => "map of string".to_owned(),
        _ => plain(field),
    }
}

/// Bounds and defaults. The lower bounds say no more than that an empty value is none.
fn limits(field: &Value) -> Vec<String> {
    let words = [
        ("maxLength", "at most", "characters"),
        ("maxItems", "at most", "of them"),
        ("maxProperties", "at most", "of them"),
    ];
    let mut limits: Vec<String> =
        words.iter().filter_map(|(keyword, most, of)| Some(format!("{most} {} {of}", field.get(*keyword)?))).collect();
    if let Some(most) = at(field, "maximum").as_f64().filter(|_| at(field, "type") == "integer") {
        limits.push(format!("0 to {most}"));
    }
    if let Some(choice) = at(field, "enum").as_array() {
        let choice: Vec<String> = choice.iter().filter_map(Value::as_str).map(|it| format!("`{it}`")).collect();
        limits.push(format!("one of {}", choice.join(", ")));
    }
    // An empty list is what a field without a value is.
    if let Some(default) = field.get("default").filter(|default| **default != serde_json::json!([])) {
        limits.push(format!("default `{default}`"));
    }
    limits
}

/// The rules of a field that has no table of its own; an object's stand above its table.
fn rules_of_value(field: &Value) -> Vec<String> {
    let of_items = if fields(at(field, "items")).is_object() { Vec::new() } else { rules(at(field, "items")) };
    if fields(field).is_object() { Vec::new() } else { [rules(field), of_items].concat() }
}

/// What the API server says where a rule does not hold.
fn rules(schema: &Value) -> Vec<String> {
    let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    rules.filter_map(|rule| rule["message"].as_str()).map(text).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_object_of_the_schema_has_a_section_and_every_field_a_sentence() {
        let manifests = crate::commands::crds::manifests().expect("manifests");
        let page = page(&manifests).expect("a page");
        let schema = schema(&manifests[0].yaml).expect("a schema");
        let (mut found, mut objects) = (BTreeSet::new(), Vec::new());
        for top in ["spec", "status"] {
            walk(&schema["properties"][top], &mut found);
            collect(&mut objects, top.to_owned(), &schema["properties"][top]);
        }
        let told: BTreeSet<_> = objects.iter().map(|(_, object)| fields(object).to_string()).collect();
        assert_eq!(told, found);
        let sections: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        assert_eq!(sections, objects.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>());
        let rows = page.lines().filter(|line| line.starts_with("| `")).count();
        let expected: usize = objects.iter().filter_map(|(_, object)| Some(fields(object).as_object()?.len())).sum();
        assert_eq!(rows, expected);
        let mute: Vec<_> = page.lines().filter(|line| line.starts_with("| `") && line.contains(" |  | ")).collect();
        assert!(mute.is_empty(), "{mute:?}");
    }

    /// The fields of every object in a schema, wherever it stands.
    fn walk(schema: &Value, found: &mut BTreeSet<String>) {
        if let Some(properties) = schema["properties"].as_object() {
            found.insert(schema["properties"].to_string());
            properties.values().for_each(|field| walk(field, found));
        }
        if schema["items"].is_object() {
            walk(&schema["items"], found);
        }
    }
}
