//! The rules about layers, held by reading the sources: a module uses only those above it, and the pure half touches nothing.

use std::path::{Path, PathBuf};

/// From the top down; a module imports only from its own layer and from those before it.
const LAYERS: [&[&str]; 9] = [
    &["x509"],
    &["api"],
    &["issuance"],
    &["requests"],
    &["clock", "metrics"],
    &["cluster", "lease", "vault"],
    &["issuers"],
    &["controllers"],
    &["cli", "commands", "http", "lib", "main", "telemetry"],
];

/// The layers that decide without doing.
const PURE: usize = 4;

/// What the pure half may not name, because its answers would depend on more than its arguments.
const IMPURE: [&str; 9] = [
    "tokio",
    "reqwest",
    "kube::Client",
    "std::env",
    "std::fs",
    "crate::clock",
    "Timestamp::now",
    "rand::",
    "Instant::now",
];

#[test]
fn a_module_uses_only_those_above_it() {
    for (module, source, text) in sources() {
        let own = layer(&module);
        for (number, line) in text.lines().enumerate() {
            for used in line.split("crate::").skip(1).map(identifier) {
                // `crate::{a, b}` is split by rustfmt's own rule into one use per line elsewhere; here each name counts.
                let names: Vec<&str> = if used.is_empty() { braced(line) } else { vec![used] };
                for name in names {
                    assert!(
                        layer(name) <= own,
                        "{}:{}: {module} uses {name}, which stands below it",
                        source.display(),
                        number + 1
                    );
                }
            }
        }
    }
}

#[test]
fn the_pure_half_touches_nothing() {
    for (module, source, text) in sources().into_iter().filter(|(module, ..)| layer(module) < PURE) {
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            let found = IMPURE.iter().find(|name| line.contains(**name));
            assert_eq!(found, None, "{}:{}: {module} is pure: {line}", source.display(), number + 1);
        }
    }
}

#[test]
fn no_file_is_longer_than_four_hundred_lines_before_its_tests() {
    for (_, source, text) in sources() {
        assert!(text.lines().count() <= 400, "{} has {} lines", source.display(), text.lines().count());
    }
}

fn layer(module: &str) -> usize {
    let place = LAYERS.iter().position(|layer| layer.contains(&module));
    place.unwrap_or_else(|| panic!("{module} stands in no layer: give it a place in src/architecture.rs"))
}

fn identifier(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}

fn braced(line: &str) -> Vec<&str> {
    let inner = line.split_once('{').map_or("", |(_, inner)| inner);
    inner.split([',', '}']).map(|name| identifier(name.trim())).filter(|name| !name.is_empty()).collect()
}

/// Every source with its top module, up to its tests; test-only files and folders are left out.
fn sources() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the sources can be read") {
            let path = entry.expect("the sources can be read").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if path.is_dir() {
                // `tests/` belongs to the `tests.rs` beside it.
                folders.extend((name != "tests").then_some(path));
            } else if !["architecture.rs", "testing.rs", "fake.rs", "tests.rs"].contains(&name.as_str()) {
                let text = std::fs::read_to_string(&path).expect("the sources can be read");
                let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().to_owned();
                let top =
                    path.strip_prefix(&root).ok().and_then(|path| path.iter().next()).and_then(|top| top.to_str());
                found.push((top.unwrap_or_default().trim_end_matches(".rs").to_owned(), path, text));
            }
        }
    }
    assert!(found.len() > 40, "only {} sources were found", found.len());
    found
}
