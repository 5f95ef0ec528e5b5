//! Lets libFuzzer call [`fuzz_targets::csr`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::csr(data));
