/// Protocols that Istio knows for ports.
const KNOWN: [&str; 12] =
    ["GRPC", "GRPC-WEB", "HTTP", "HTTP2", "HTTPS", "HTTP_PROXY", "MONGO", "MYSQL", "REDIS", "TCP", "TLS", "UDP"];

/// The protocol in Istio's spelling.
///
/// # Errors
/// When Istio does not know it; it would refuse the whole object.
pub(crate) fn protocol(written: &str) -> Result<&'static str, String> {
    let upper = written.to_uppercase();
    let known = KNOWN.iter().find(|known| **known == upper);
    known.copied().ok_or_else(|| format!("expected a protocol such as HTTP, GRPC, TLS or TCP, found {written:?}"))
}
