use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Addresses of management servers, `host:port`, the preferred one first. In settings a list, or a text with commas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Text", into = "Text")]
pub struct ServerAddresses(Vec<String>);

/// What a setting may look like.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Text {
    One(String),
    Many(Vec<String>),
}

/// A text that is no list of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It names no server.
    #[error("expected the address of a server as host:port, found none")]
    None,
    /// Something that cannot be connected to.
    #[error("expected the address of a server as host:port, found {0:?}")]
    Malformed(String),
}

impl ServerAddresses {
    /// The addresses, the preferred one first.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }

    fn new(texts: impl IntoIterator<Item = String>) -> Result<Self, AddressError> {
        let mut addresses: Vec<String> = Vec::new();
        for text in texts {
            for address in text.split(',').map(str::trim).filter(|address| !address.is_empty()) {
                let parts = address.rsplit_once(':');
                let good = parts.is_some_and(|(host, port)| {
                    // Brackets tell where an address of version 6 ends and its port begins.
                    let plain =
                        host.starts_with('[') == host.ends_with(']') && (host.starts_with('[') || !host.contains(':'));
                    plain && !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok()
                });
                if !good {
                    return Err(AddressError::Malformed(address.to_owned()));
                }
                if !addresses.iter().any(|known| known == address) {
                    addresses.push(address.to_owned());
                }
            }
        }
        if addresses.is_empty() { Err(AddressError::None) } else { Ok(Self(addresses)) }
    }
}

impl FromStr for ServerAddresses {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::new([text.to_owned()])
    }
}

impl TryFrom<Text> for ServerAddresses {
    type Error = AddressError;

    fn try_from(text: Text) -> Result<Self, AddressError> {
        match text {
            Text::One(text) => Self::new([text]),
            Text::Many(texts) => Self::new(texts),
        }
    }
}

impl From<ServerAddresses> for Text {
    fn from(mut addresses: ServerAddresses) -> Self {
        match addresses.0.pop() {
            Some(only) if addresses.0.is_empty() => Self::One(only),
            last => Self::Many(addresses.0.into_iter().chain(last).collect()),
        }
    }
}

impl From<SocketAddr> for ServerAddresses {
    fn from(address: SocketAddr) -> Self {
        Self(vec![address.to_string()])
    }
}

impl fmt::Display for ServerAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_a_text_with_commas_and_a_list_are_read() {
        let read = |text: &str| serde_json::from_str::<ServerAddresses>(text).map_err(|error| error.to_string());
        let two = ServerAddresses(vec!["a.example:9900".to_owned(), "[::1]:9900".to_owned()]);
        assert_eq!(read(r#""a.example:9900, [::1]:9900,a.example:9900""#).as_ref(), Ok(&two));
        assert_eq!(read(r#"["a.example:9900", "[::1]:9900"]"#).as_ref(), Ok(&two));
        assert_eq!(serde_json::to_string(&two).unwrap(), r#"["a.example:9900","[::1]:9900"]"#);
        let one: ServerAddresses = "127.0.0.1:9900".parse().unwrap();
        assert_eq!(serde_json::to_string(&one).unwrap(), r#""127.0.0.1:9900""#);
        for bad in ["http://a:9900", "a", "a:b", ":9900", "::1:9900", "a:70000", "[::1:9900"] {
            let error = read(&format!("[{bad:?}]")).unwrap_err();
            assert!(error.contains("host:port") && error.contains(bad), "{error}");
        }
        assert!(read(r#"" , ""#).unwrap_err().contains("found none"));
    }
}
