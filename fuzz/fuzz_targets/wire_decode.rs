//! Whatever a peer sends, the ends of a stream neither panic nor exceed their limits nor show what was not committed.
#![no_main]

#[path = "../harness/wire_decode.rs"]
mod wire_decode;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = wire_decode::run(data);
});
