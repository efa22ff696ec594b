//! Any bytes as a manifest: objects and problems, never a panic; what is read as an object is written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meshrelay_cluster::{Admission, Notation, parse_manifest};

fuzz_target!(|bytes: &[u8]| {
    let admission = Admission::default();
    for notation in [Notation::Yaml, Notation::Json] {
        for document in parse_manifest(bytes, notation) {
            if let Ok(object) = document.content.map(|value| admission.admit(value)) {
                // The identity was checked by the parser, so admission cannot fail, nor change a second time.
                let object = object.expect("an admitted object");
                assert_eq!(admission.admit(object.value()).expect("admitted once more"), object);
            }
        }
    }
});
