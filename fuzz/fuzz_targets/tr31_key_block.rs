#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    (fuzzing::target("tr31_key_block").run)(bytes);
});
