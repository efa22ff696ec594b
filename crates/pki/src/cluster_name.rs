//! Names of clusters, which are also identities: the name is the DNS SAN of the agent's certificate.

use std::fmt;
use std::sync::Arc;

/// Longest name: a cluster name is one DNS label.
pub const MAX_CLUSTER_NAME: usize = 63;

/// A valid cluster name: lower-case letters, digits and `-`, beginning with a letter, not ending with `-`, at most 63
/// characters. The last character rule is that of Kubernetes object names, which a cluster's name is as well.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterName(Arc<str>);

/// Why a text is not a cluster name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{name}` is not a cluster name: {reason}; expected lower-case letters, digits and `-`, beginning with a letter, \
         at most 63 characters (MR0320)"
)]
pub struct ClusterNameError {
    /// The text as given, shortened and with control characters escaped.
    pub name: String,
    /// Which rule it breaks.
    pub reason: &'static str,
}

impl ClusterName {
    /// Checks a name against the rules of [`ClusterName`].
    ///
    /// # Errors
    /// [`ClusterNameError`] names the first rule that is broken.
    pub fn new(name: &str) -> Result<Self, ClusterNameError> {
        let refuse = |reason| {
            let name = name.chars().take(MAX_CLUSTER_NAME).flat_map(char::escape_default).collect();
            Err(ClusterNameError { name, reason })
        };
        if name.is_empty() {
            return refuse("it is empty");
        }
        if name.len() > MAX_CLUSTER_NAME {
            return refuse("it is too long");
        }
        if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
            return refuse("it has another character");
        }
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
            return refuse("it does not begin with a letter");
        }
        if name.ends_with('-') {
            return refuse("it ends with `-`");
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ClusterNameError {
    /// The code of this error.
    pub fn code(&self) -> &'static str {
        "MR0320"
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for ClusterName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for ClusterName {
    type Err = ClusterNameError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::new(name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_rules_hold_at_their_edges() {
        for good in ["a", "cluster1", "eu-west-1", "a--b", &"a".repeat(63)] {
            assert_eq!(ClusterName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "1a", "-a", "a-", "A", "a_b", "a.b", "*", "ä", "a\0", "a ", &"a".repeat(64)] {
            let error = ClusterName::new(bad).unwrap_err();
            assert!(error.to_string().contains(error.code()), "{error}");
        }
        assert!(!ClusterName::new("a\nb").unwrap_err().to_string().contains('\n'), "no line break reaches a log");
    }

    proptest! {
        #[test]
        fn a_name_is_accepted_exactly_when_the_rule_says_so(name in "\\PC{0,70}|[a-z][a-z0-9-]{0,66}") {
            let bytes = name.as_bytes();
            let expected = (1..=63).contains(&bytes.len())
                && bytes.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
                && bytes[0].is_ascii_lowercase()
                && bytes[bytes.len() - 1] != b'-';
            prop_assert_eq!(ClusterName::new(&name).is_ok(), expected);
        }
    }
}
