//! Every message that a user can see, with what causes it and what ends it: docs/messages.md is written from here, by
//! `vault-mesh-issuer crds --write-to`.
//!
//! Each row is a sample of its variant and an arm of a match over its enum, so a variant without a row does not compile. The
//! words of a message, and where it is shown, come from the code that shows it.

mod details;
mod issuers;
mod requests;

use super::words::Words;
use crate::api::{IssuerKey, IssuerKind};

/// Messages that are seen in the same place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// A heading.
    pub title: &'static str,
    /// What they have in common, in Markdown.
    pub about: &'static str,
    /// At least one.
    pub entries: Vec<Entry>,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its words; `{name}` stands for what is filled in.
    pub message: String,
    /// The condition or event that it stands in, in Markdown; empty where the section says it.
    pub shown: String,
    /// How it comes about, in Markdown.
    pub cause: &'static str,
    /// What ends it, in Markdown.
    pub cure: &'static str,
}

/// All of them, in the order of the page.
pub fn catalogue() -> Vec<Section> {
    [issuers::sections(), requests::sections(), details::sections()].concat()
}

/// The entries of one enum: `shown` says where a sample is seen, `message` gives its words. A field of a tuple is named by its
/// number. A variant without a cause only passes on the words of another enum, which tells them.
macro_rules! entries {
    ($enum:ident, $message:expr, $shown:expr; $($variant:ident { $($field:tt: $value:expr),* $(,)? } => $cause:literal, $cure:literal;)+) => {{
        let explained = |sample: &$enum| match sample {
            $($enum::$variant { .. } => ($cause, $cure),)+
        };
        #[allow(clippy::init_numbered_fields, reason = "a row has the same form for every kind of variant")]
        let samples = [$($enum::$variant { $($field: $value),* }),+];
        samples.iter().map(|sample| {
            let (cause, cure) = explained(sample);
            $crate::issuance::messages::Entry { message: $message(sample), shown: $shown(sample), cause, cure }
        }).filter(|entry| !entry.cause.is_empty()).collect::<Vec<_>>()
    }};
}
use entries;

/// What stands where something is filled in.
fn gap(name: &str) -> String {
    format!("{{{name}}}")
}

fn foreign(name: &str) -> Words {
    Words::new(&gap(name), &[])
}

fn issuer() -> IssuerKey {
    IssuerKey::new(IssuerKind::Namespaced, "{namespace}", "{name}")
}

/// Where the section says it all.
fn as_said<T>(_: &T) -> String {
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_told_once_with_a_cause_and_a_cure() {
        let entries: Vec<_> = catalogue().into_iter().flat_map(|section| section.entries).collect();
        for entry in &entries {
            for sentence in [entry.cause, entry.cure] {
                assert!(sentence.ends_with('.'), "{}: {sentence:?} is no sentence", entry.message);
            }
        }
        let mut told: Vec<_> = entries.iter().map(|entry| (&entry.message, &entry.shown, entry.cause)).collect();
        told.sort();
        let twice: Vec<_> = told.windows(2).filter(|pair| pair[0] == pair[1]).collect();
        assert!(twice.is_empty(), "{twice:?}");
    }

    #[test]
    fn every_enum_of_messages_has_rows() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/issuance");
        let (mut folders, mut text) = (vec![root], String::new());
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("the sources can be read") {
                let path = entry.expect("the sources can be read").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    text.push_str(&std::fs::read_to_string(path).expect("the sources can be read"));
                }
            }
        }
        let errors = text.split("thiserror::Error)]\npub enum ").skip(1).filter_map(|rest| rest.split_once(' '));
        // SignError passes on what the others say.
        let names: Vec<&str> = errors.map(|(name, _)| name).filter(|name| *name != "SignError").collect();
        assert!(names.len() >= 9, "{names:?}");
        let untold: Vec<_> = names.iter().filter(|name| !text.contains(&format!("entries!({name},"))).collect();
        assert!(untold.is_empty(), "{untold:?} have no rows in src/issuance/messages");
    }
}
