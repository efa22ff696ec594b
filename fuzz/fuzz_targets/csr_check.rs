//! Any bytes as a signing request: refused or accepted, never a panic; what is accepted asks for the one name.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meshrelay_pki::{ClusterName, check_csr};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(cluster) = ClusterName::new("cluster1")
        && let Ok(checked) = check_csr(bytes, &cluster)
    {
        assert_eq!(checked.cluster(), &cluster);
    }
});
