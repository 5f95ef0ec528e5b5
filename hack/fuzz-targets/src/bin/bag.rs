//! Lets libFuzzer call [`fuzz_targets::bag`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::bag(data));
