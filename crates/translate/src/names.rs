//! Names of generated objects and values of their labels.
//!
//! Where the name that the original gives is known, the same recipe is used, so that scripts and habits keep working.
//! Elsewhere a name is a readable beginning and a hash of everything that identifies the object, never of its content:
//! an object that changes keeps its name.

use std::fmt::Write;

use md5::{Digest, Md5};

/// Longest name of an object and longest value of a label: the limit of a DNS label.
pub(crate) const MAX: usize = 63;

/// Characters of the readable beginning and hexadecimal digits of the hash in a name that was too long.
const HALF: usize = 31;

/// A valid name out of parts that were joined: separators become `-`, brackets and quotes vanish, what is too long ends
/// in a hash of the whole. The hash is taken before letters are made small, as the original does.
pub(crate) fn sanitize(joined: &str) -> String {
    let name: String = joined
        .chars()
        .filter(|c| !matches!(c, '[' | ']' | '\n' | '"' | '\''))
        .map(|c| if matches!(c, '*' | '/' | '.' | ':' | '_' | ' ') { '-' } else { c })
        .collect();
    shorten(name).to_lowercase()
}

/// A name with a readable beginning and a hash over `identity`, whose parts are told apart by their lengths.
pub(crate) fn identified(readable: &str, identity: &[&str]) -> String {
    let readable = sanitize(readable);
    let prefix: String = readable.chars().take(HALF).collect();
    let mut hash = Md5::new();
    for part in identity {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    format!("{}-{}", prefix.trim_end_matches('-'), hex(&hash.finalize()))
}

/// The value itself, or a beginning and a hash if it is too long for a label.
pub(crate) fn label_value(value: &str) -> String {
    shorten(value.to_owned())
}

fn shorten(text: String) -> String {
    if text.len() <= MAX {
        return text;
    }
    let prefix: String = text.chars().take(HALF).collect();
    format!("{prefix}-{}", hex(&Md5::digest(text.as_bytes())))
}

/// The first 31 of 32 hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    let mut digits = bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    });
    digits.truncate(HALF);
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_were_observed() {
        for (joined, name) in [
            (
                "Sidecar-polished-feather-v1-ns-2-glooplatform-central-tiered-app",
                "sidecar-polished-feather-v1-ns--f45bd640afcaf2a28696b13c4b349cb",
            ),
            (
                "RouteTable-glooplatform-central-argo-rt-443-argocd-mgmt-ops-team",
                "routetable-glooplatform-central-0e7caa97b08f23506b14987c6bac348",
            ),
            (
                "vd-checkout.mesh.internal-backend-apis-team-app-checkoutservice-34.83.131.170",
                "vd-checkout-mesh-internal-backe-540580d6e83e39b77d93b7abd3e7d34",
            ),
            (
                "vd-checkout-loadgenerator.backend-apis.svc.cluster2-backend-apis-team",
                "vd-checkout-loadgenerator-backe-4ca1d7383f3606c730115465e99d4f9",
            ),
            (
                "EastWestGateway-Passthrough-istio-eastwestgateway-1-23-tls-istio-gateways-glooplatform-central",
                "eastwestgateway-passthrough-ist-942f2eb2b2b571498c7e26e79f2cb19",
            ),
            (
                "insecure-argo-health-central-glooplatform-central-argo-rt-443-argocd-mgmt",
                "insecure-argo-health-central-gl-e3beca7eb26dfea691b2a30078a4152",
            ),
            ("vd-cart.mesh.internal-backend-apis-team", "vd-cart-mesh-internal-backend-apis-team"),
        ] {
            assert_eq!(sanitize(joined), name);
        }
    }

    #[test]
    fn an_identity_is_not_its_joined_text() {
        assert_ne!(identified("x", &["a-b", "c"]), identified("x", &["a", "b-c"]));
        assert_ne!(identified("x", &["ab", "c"]), identified("x", &["a", "bc"]));
        assert_eq!(identified("Gateway north.south", &["a"]).len(), "gateway-north-south-".len() + HALF);
    }

    #[test]
    fn long_label_values_stay_distinct_and_valid() {
        let (one, two) = (format!("{}1", "A.".repeat(60)), format!("{}2", "A.".repeat(60)));
        assert_eq!(label_value(&one).len(), MAX);
        assert_ne!(label_value(&one), label_value(&two));
        assert_eq!(label_value("Short.Value"), "Short.Value");
    }
}
