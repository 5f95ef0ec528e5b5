//! Every secret value made in a run, so that one test can look for all of them
//! in everything we print: raw, base64, URL- or JSON-escaped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use aho_corasick::AhoCorasick;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// The registry: what each value is. Cloning it gives another handle of the same one.
#[derive(Clone, Default)]
pub struct Secrets(Arc<Mutex<BTreeMap<String, String>>>);

impl Secrets {
    /// Records a secret and hands it back.
    pub fn add(&self, what: impl Into<String>, value: impl Into<String>) -> String {
        let value = value.into();
        if value.len() >= 4 {
            self.known().entry(value.clone()).or_insert_with(|| what.into());
        }
        value
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.known().len()
    }

    /// What was leaked into `text`, as `what (form)`; the values are not repeated. A soak hands out thousands of tokens and
    /// logs megabytes, so all of them are looked for at once.
    pub fn found_in(&self, text: &str) -> Vec<String> {
        let (mut needles, mut meanings) = (Vec::new(), Vec::new());
        for (value, what) in self.known().iter() {
            for (form, needle) in forms(value) {
                needles.push(needle);
                meanings.push(format!("{what} ({form})"));
            }
        }
        let search = AhoCorasick::new(&needles).expect("fewer needles than states can be counted");
        let found: BTreeSet<_> = search.find_overlapping_iter(text).map(|it| it.pattern().as_usize()).collect();
        found.into_iter().filter_map(|index| meanings.get(index).cloned()).collect()
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn forms(value: &str) -> Vec<(&'static str, String)> {
    let json = serde_json::Value::from(value).to_string();
    let escaped: String = value
        .bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect();
    let forms = vec![
        ("raw", value.to_owned()),
        ("JSON", json.trim_matches('"').to_owned()),
        ("URL", escaped),
        ("base64", STANDARD.encode(value)),
        ("base64 without padding", STANDARD_NO_PAD.encode(value)),
        ("base64 for URLs", URL_SAFE_NO_PAD.encode(value)),
    ];
    let mut distinct: Vec<(&'static str, String)> = Vec::new();
    for (form, needle) in forms {
        if !distinct.iter().any(|(_, other)| *other == needle) {
            distinct.push((form, needle));
        }
    }
    distinct
}

#[cfg(test)]
mod tests {
    use super::Secrets;

    #[test]
    fn a_leak_is_found_in_every_form_and_not_repeated() {
        let secrets = Secrets::default();
        secrets.add("a token", "s.a/b\"c");
        assert!(secrets.found_in("nothing here").is_empty());
        assert_eq!(secrets.found_in("x s.a/b\"c y"), ["a token (raw)"]);
        assert_eq!(secrets.found_in("s.a%2Fb%22c"), ["a token (URL)"]);
        assert_eq!(secrets.found_in("{\"t\":\"s.a/b\\\"c\"}"), ["a token (JSON)"]);
    }
}
