#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| strait_testkit::fuzz::run("qpack", bytes));
