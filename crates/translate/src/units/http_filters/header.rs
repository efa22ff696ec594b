//! Names of headers, as far as Envoy takes them: it refuses a whole listener for one bad name.

/// The name itself, if it is one; `place` is the field that it is from.
///
/// # Errors
/// When it is none.
pub(super) fn name<'a>(name: &'a str, place: &str) -> Result<&'a str, String> {
    // The characters of a token, RFC 9110, and the colon of HTTP/2's own headers.
    let is_good = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let token = name.strip_prefix(':').unwrap_or(name);
    if token.is_empty() || !token.chars().all(is_good) {
        return Err(format!("{place}: expected the name of a header, found {name:?}"));
    }
    Ok(name)
}
