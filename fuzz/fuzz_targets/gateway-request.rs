#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| zfl_fuzz_checks::check("gateway-request", input));
