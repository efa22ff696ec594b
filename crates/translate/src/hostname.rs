//! What Istio takes for a host name. It refuses a whole object for one bad name, so bad names are left out beforehand.

use std::net::IpAddr;

/// Longest host name and longest label of one.
const MAX: (usize, usize) = (255, 63);

/// What a host name may be beside a plain one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// Nothing, and a dot is needed: gateways refuse short names.
    Full,
    /// A wildcard as the first label or its beginning.
    Wildcard,
    /// A wildcard, alone too, or an IP address.
    Anything,
    /// As `Anything`, but no short names.
    Gateway,
}

/// The names without those that another one covers: Istio refuses a list in which two overlap.
pub(crate) fn without_covered(hosts: &[String]) -> Vec<String> {
    let is_covered = |host: &&String| hosts.iter().any(|other| other != *host && covers(other, host));
    hosts.iter().filter(|host| !is_covered(host)).cloned().collect()
}

/// Whether every name that fits `host` fits the pattern, where both may begin with a wildcard.
pub(crate) fn covers(pattern: &str, host: &str) -> bool {
    pattern == host || pattern.strip_prefix('*').is_some_and(|suffix| host.ends_with(suffix))
}

/// A name as Sidecars take it, which want a wildcard to be a whole label: what includes it, where it is not.
pub(crate) fn importable(host: &str) -> String {
    let rest = host.strip_prefix('*').filter(|rest| !rest.is_empty() && !rest.starts_with('.'));
    let Some(rest) = rest else { return host.to_owned() };
    format!("*{}", rest.find('.').map(|dot| &rest[dot..]).unwrap_or_default())
}

/// Whether Istio takes a text for the address of an endpoint: an IP address or a host name.
pub(crate) fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok() || !text.contains('*') && problem(text, Allowed::Wildcard).is_none()
}

/// Why a text is no host name; `None` if it is one.
pub(crate) fn problem(host: &str, allowed: Allowed) -> Option<String> {
    let told = |expected: &str| Some(format!("expected {expected}, found {host:?}"));
    if matches!(allowed, Allowed::Anything | Allowed::Gateway) && (host == "*" || host.parse::<IpAddr>().is_ok()) {
        return None;
    }
    if host.contains('*') && allowed == Allowed::Full {
        return told("a host name without wildcards");
    }
    if !host.contains('.') && matches!(allowed, Allowed::Full | Allowed::Gateway) {
        return told("a full host name, with a dot");
    }
    let rest = host.strip_prefix('*').unwrap_or(host);
    // Of `*.example.com` the part behind the dot; of `*-api.example.com` all that is left.
    let name = if rest.len() < host.len() { rest.strip_prefix('.').unwrap_or(rest) } else { rest };
    let labels: Vec<&str> = name.strip_suffix('.').unwrap_or(name).split('.').collect();
    let is_good = |label: &&str| {
        let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        inner && !label.is_empty() && label.len() <= MAX.1 && !label.starts_with('-') && !label.ends_with('-')
    };
    let first = usize::from(host.starts_with("*-"));
    let numeric = labels.last().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if host.len() > MAX.0 || !labels.iter().skip(first).all(is_good) || numeric {
        return told("a host name of letters, digits, hyphens and dots");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covered_names_are_left_out() {
        let hosts = ["b.a.com", "*.a.com", "a.com", "*-x.b.com", "c-x.b.com"].map(str::to_owned);
        assert_eq!(without_covered(&hosts), ["*.a.com", "a.com", "*-x.b.com"]);
        assert_eq!(without_covered(&["a".to_owned(), "*".to_owned(), "*.b".to_owned()]), ["*"]);
    }

    #[test]
    fn sidecars_are_told_of_whole_labels() {
        for (host, expected) in [
            ("a-b.example.com", "a-b.example.com"),
            ("*.example.com", "*.example.com"),
            ("*-api.example.com", "*.example.com"),
            ("*-api", "*"),
            ("*", "*"),
        ] {
            assert_eq!(importable(host), expected);
            assert!(covers(expected, host));
        }
    }

    #[test]
    fn host_names_are_told_from_other_texts() {
        let long = "a".repeat(64);
        for (host, full, wildcard, anything) in [
            ("a", false, true, true),
            ("reviews.books.svc.cluster.local", true, true, true),
            ("a.example.com.", true, true, true),
            ("*.example.com", false, true, true),
            ("*-api.example.com", false, true, true),
            ("*", false, false, true),
            ("10.0.0.1", false, false, true),
            ("a_b.example.com", false, false, false),
            ("-a.example.com", false, false, false),
            ("a..b", false, false, false),
            ("a.*.b", false, false, false),
            ("", false, false, false),
            ("http://a", false, false, false),
            (long.as_str(), false, false, false),
        ] {
            let is = |allowed| problem(host, allowed).is_none();
            assert_eq!(
                (is(Allowed::Full), is(Allowed::Wildcard), is(Allowed::Anything)),
                (full, wildcard, anything),
                "{host}"
            );
        }
    }
}
