//! Replays the fuzzer's corpus through the functions that it was found with. See hack/fuzz.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a fuzz target fails by a panic")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

#[path = "../../hack/fuzz-targets/src/targets.rs"]
mod targets;

#[track_caller]
fn replay(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/fuzz").join(name);
    let files = std::fs::read_dir(folder).expect("the corpus").map(|entry| entry.expect("a file").path());
    let files: Vec<_> = files.collect();
    assert!(files.len() >= 10, "the corpus of {name} has {} files", files.len());
    let fails = |file: &&std::path::PathBuf| {
        let data = std::fs::read(file).expect("a file");
        catch_unwind(AssertUnwindSafe(|| target(&data))).is_err()
    };
    let failing: Vec<_> = files.iter().filter(fails).collect();
    assert!(failing.is_empty(), "{name} fails with {failing:#?}");
}

#[test]
fn the_corpus_of_requests_passes() {
    replay("csr", targets::csr);
}

#[test]
fn the_corpus_of_bags_passes() {
    replay("bag", targets::bag);
}

#[test]
fn the_corpus_of_answers_passes() {
    replay("answer", targets::answer);
}
