//! What the fuzzer calls. The file below is also compiled into `tests/corpus.rs`, which replays the corpus through it.

mod targets;

pub use targets::{answer, bag, csr};
