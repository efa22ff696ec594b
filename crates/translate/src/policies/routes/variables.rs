//! Variables in values of headers, such as `%REQ(x-user)%`. Envoy refuses all routes of a listener for one that it does
//! not know.

/// Variables without arguments: of requests and answers, of connections on either side and of certificates.
const PLAIN: &str = "\
    ACCESS_LOG_TYPE BYTES_RECEIVED BYTES_RETRANSMITTED BYTES_SENT CONNECTION_ID CONNECTION_TERMINATION_DETAILS \
    CUSTOM_FLAGS DOWNSTREAM_DETECTED_CLOSE_TYPE DOWNSTREAM_DIRECT_LOCAL_ADDRESS \
    DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID DOWNSTREAM_DIRECT_LOCAL_PORT DOWNSTREAM_DIRECT_REMOTE_ADDRESS \
    DOWNSTREAM_DIRECT_REMOTE_PORT DOWNSTREAM_HANDSHAKE_DURATION DOWNSTREAM_HEADER_BYTES_RECEIVED \
    DOWNSTREAM_HEADER_BYTES_SENT DOWNSTREAM_LOCAL_ADDRESS DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID \
    DOWNSTREAM_LOCAL_CLOSE_REASON DOWNSTREAM_LOCAL_DNS_SAN DOWNSTREAM_LOCAL_EMAIL_SAN DOWNSTREAM_LOCAL_IP_SAN \
    DOWNSTREAM_LOCAL_OTHERNAME_SAN DOWNSTREAM_LOCAL_PORT DOWNSTREAM_LOCAL_SUBJECT DOWNSTREAM_LOCAL_URI_SAN \
    DOWNSTREAM_PEER_CERT DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1 DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256 \
    DOWNSTREAM_PEER_CHAIN_SERIALS DOWNSTREAM_PEER_DNS_SAN DOWNSTREAM_PEER_EMAIL_SAN \
    DOWNSTREAM_PEER_FINGERPRINT_1 DOWNSTREAM_PEER_FINGERPRINT_256 DOWNSTREAM_PEER_IP_SAN DOWNSTREAM_PEER_ISSUER \
    DOWNSTREAM_PEER_OTHERNAME_SAN DOWNSTREAM_PEER_SERIAL DOWNSTREAM_PEER_SUBJECT DOWNSTREAM_PEER_URI_SAN \
    DOWNSTREAM_REMOTE_ADDRESS DOWNSTREAM_REMOTE_PORT DOWNSTREAM_TLS_CIPHER DOWNSTREAM_TLS_SESSION_ID \
    DOWNSTREAM_TLS_VERSION DOWNSTREAM_TRANSPORT_FAILURE_REASON DOWNSTREAM_WIRE_BYTES_RECEIVED \
    DOWNSTREAM_WIRE_BYTES_SENT DURATION FILTER_CHAIN_NAME GRPC_STATUS_NUMBER HOSTNAME LOCAL_REPLY_BODY \
    PACKETS_RETRANSMITTED PROTOCOL REQUEST_DURATION REQUEST_HEADERS_BYTES REQUEST_TX_DURATION RESPONSE_CODE \
    RESPONSE_DURATION RESPONSE_FLAGS RESPONSE_FLAGS_LONG RESPONSE_HEADERS_BYTES RESPONSE_TRAILERS_BYTES \
    RESPONSE_TX_DURATION ROUNDTRIP_DURATION ROUTE_NAME STREAM_ID TLS_JA3_FINGERPRINT TLS_JA4_FINGERPRINT \
    TRACE_ID UNIQUE_ID UPSTREAM_CLUSTER UPSTREAM_CLUSTER_RAW UPSTREAM_CONNECTION_ID \
    UPSTREAM_CONNECTION_POOL_READY_DURATION UPSTREAM_HEADER_BYTES_RECEIVED UPSTREAM_HEADER_BYTES_SENT \
    UPSTREAM_HOST UPSTREAM_HOST_NAME UPSTREAM_HOST_NAME_WITHOUT_PORT UPSTREAM_LOCAL_ADDRESS \
    UPSTREAM_LOCAL_DNS_SAN UPSTREAM_LOCAL_IP_SAN UPSTREAM_LOCAL_PORT UPSTREAM_LOCAL_URI_SAN UPSTREAM_PEER_CERT \
    UPSTREAM_PEER_DNS_SAN UPSTREAM_PEER_IP_SAN UPSTREAM_PEER_ISSUER UPSTREAM_PEER_SUBJECT UPSTREAM_PEER_URI_SAN \
    UPSTREAM_PROTOCOL UPSTREAM_REMOTE_ADDRESS UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID UPSTREAM_REMOTE_PORT \
    UPSTREAM_REQUEST_ATTEMPT_COUNT UPSTREAM_TLS_CIPHER UPSTREAM_TLS_SESSION_ID UPSTREAM_TLS_VERSION \
    UPSTREAM_TRANSPORT_FAILURE_REASON UPSTREAM_WIRE_BYTES_RECEIVED UPSTREAM_WIRE_BYTES_SENT VIRTUAL_CLUSTER_NAME";

/// Variables that may have arguments: sizes of networks, forms of dates and other choices.
const WITH_CHOICE: &str = "\
    DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT \
    DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT DOWNSTREAM_PEER_CERT_V_END DOWNSTREAM_PEER_CERT_V_START \
    DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT EMIT_TIME EMIT_TIME_LOCAL PATH REQUESTED_SERVER_NAME \
    RESPONSE_CODE_DETAILS START_TIME START_TIME_LOCAL UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT \
    UPSTREAM_PEER_CERT_V_END UPSTREAM_PEER_CERT_V_START UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT";

/// What a variable takes as arguments.
enum Arguments {
    Nothing,
    Optional(fn(&str) -> bool),
    Needed(fn(&str) -> bool),
}

/// The variables that Envoy 1.37 has. `COALESCE` and `CEL` are left out: what is in them is not checked here.
fn known(name: &str) -> Option<Arguments> {
    let is_among = |names: &str| names.split(' ').any(|known| known == name);
    Some(match name {
        "REQ" | "REQUEST_HEADER" | "REQ_WITHOUT_QUERY" | "RESP" | "RESPONSE_HEADER" | "RESPONSE_TRAILER"
        | "STREAM_INFO_REQ" | "TRAILER" => Arguments::Needed(is_header),
        "CLUSTER_METADATA" | "DYNAMIC_METADATA" | "METADATA" | "UPSTREAM_METADATA" | "ENVIRONMENT" | "QUERY_PARAM"
        | "PER_REQUEST_STATE" => Arguments::Needed(|text| !text.is_empty()),
        "FILTER_STATE" | "UPSTREAM_FILTER_STATE" => Arguments::Needed(is_state),
        "COMMON_DURATION" => Arguments::Needed(is_duration),
        "GRPC_STATUS" => Arguments::Optional(|text| ["CAMEL_STRING", "SNAKE_STRING", "NUMBER"].contains(&text)),
        _ if is_among(WITH_CHOICE) => Arguments::Optional(|_| true),
        _ if is_among(PLAIN) => Arguments::Nothing,
        _ => return None,
    })
}

/// A header, and at most one in its place.
fn is_header(text: &str) -> bool {
    !text.is_empty() && text.matches('?').count() < 2
}

/// What Istio or Envoy refuses in a value: control characters, `%` that neither begins nor ends a variable, and variables
/// that Envoy does not know.
pub(super) fn problem(value: &str) -> Option<String> {
    if value.contains(|c: char| c.is_ascii_control() && c != '\t') {
        return Some("expected no control characters in the value".to_owned());
    }
    let mut rest = value;
    while let Some((_, after)) = rest.split_once('%') {
        if let Some(next) = after.strip_prefix('%') {
            rest = next;
            continue;
        }
        let Some((name, arguments, next)) = variable(after) else {
            return Some("expected a variable such as %PROTOCOL% in the value, or %% for %".to_owned());
        };
        if let Some(problem) = variable_problem(name, arguments) {
            return Some(problem);
        }
        rest = next;
    }
    None
}

fn variable_problem(name: &str, arguments: Option<&str>) -> Option<String> {
    let problem = match (known(name), arguments) {
        (Some(Arguments::Nothing | Arguments::Optional(_)), None) => return None,
        (Some(Arguments::Optional(is_good) | Arguments::Needed(is_good)), Some(text)) if is_good(text) => return None,
        (None, _) => "expected a variable that headers may have, or %% for %",
        (Some(Arguments::Nothing), Some(_)) => "expected no arguments",
        (Some(_), _) => "expected the arguments that the variable takes",
    };
    let arguments = arguments.map(|text| format!("({text})")).unwrap_or_default();
    Some(format!("{problem}, found %{name}{arguments}%"))
}

/// Key, and how it is written: `key`, `key:PLAIN`, `key:TYPED` or `key:FIELD:name`.
fn is_state(text: &str) -> bool {
    match text.split(':').collect::<Vec<_>>()[..] {
        [key] | [key, "PLAIN" | "TYPED"] => !key.is_empty(),
        [key, "FIELD", name] => !key.is_empty() && !name.is_empty(),
        _ => false,
    }
}

/// Two points in time and a unit.
fn is_duration(text: &str) -> bool {
    matches!(text.split(':').collect::<Vec<_>>()[..], [from, to, "ms" | "us" | "ns"] if !from.is_empty() && !to.is_empty())
}

/// The name of a variable, its arguments, and what follows after it. Arguments are in round brackets, or quoted ones in
/// square brackets in these.
fn variable(text: &str) -> Option<(&str, Option<&str>, &str)> {
    let (end, bracket) = text.char_indices().find(|(_, c)| matches!(c, '%' | '('))?;
    let (name, mut rest) = (&text[..end], &text[end + 1..]);
    if bracket == '%' {
        return Some((name, None, rest));
    }
    let arguments = rest;
    rest = rest.trim_start_matches(' ');
    match rest.strip_prefix('[') {
        None => rest = after_string(rest, ')')?,
        Some(mut quoted) => loop {
            quoted = after_string(quoted.trim_start_matches(' ').strip_prefix('"')?, '"')?;
            quoted = quoted.trim_start_matches(' ');
            match quoted.strip_prefix(',') {
                Some(more) => quoted = more,
                None => {
                    rest = quoted.strip_prefix(']')?.trim_start_matches(' ').strip_prefix(')')?;
                    break;
                }
            }
        },
    }
    let arguments = &arguments[..arguments.len() - rest.len() - 1];
    // Istio takes blanks here, but Envoy does not.
    Some((name, Some(arguments), rest.strip_prefix('%')?))
}

/// What follows after a string, in which `\` takes the next character along.
fn after_string(text: &str, end: char) -> Option<&str> {
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '\\' => {
                characters.next()?;
            }
            _ if character == end => return Some(&text[index + 1..]),
            '"' | ')' => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_in_values_are_whole_and_known() {
        for good in [
            "",
            "plain text",
            "100%%",
            "%PROTOCOL%",
            "a%PROTOCOL%b%%c",
            "%START_TIME(%Y-%m)%",
            "%START_TIME%",
            "%REQ(x-a?:path)% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
            r#"%DYNAMIC_METADATA([ "a" , "b\"c"])%"#,
            r"%ENVIRONMENT(a\)b)%",
            "%FILTER_STATE(a:FIELD:b)%",
            "%GRPC_STATUS(NUMBER)%",
            "%COMMON_DURATION(DS_RX_BEG:DS_RX_END:ms)%",
        ] {
            assert_eq!(problem(good), None, "{good}");
        }
        for (bad, expected) in [
            ("%", "%% for %"),
            ("90%", "%% for %"),
            ("%PROTOCOL", "%% for %"),
            ("%PROTOCOL%%", "%% for %"),
            ("%REQ(a%", "%% for %"),
            ("%REQ(a)b%", "%% for %"),
            ("%REQ(a) %", "%% for %"),
            ("%REQ([a])%", "%% for %"),
            (r#"%REQ(["a")%"#, "%% for %"),
            (r#"%REQ(["a"]%"#, "%% for %"),
            (r"%REQ(a\", "%% for %"),
            ("%FOO%", "found %FOO%"),
            ("%PROTOCOL%%protocol%", "found %protocol%"),
            ("%PROTOCOL:3%", "found %PROTOCOL:3%"),
            ("%FOO(a)%", "found %FOO(a)%"),
            ("%REQ%", "found %REQ%"),
            ("%REQ(a?b?c)%", "found %REQ(a?b?c)%"),
            ("%PROTOCOL(a)%", "expected no arguments"),
            ("%FILTER_STATE(a:FIELD)%", "expected the arguments"),
            ("%GRPC_STATUS(number)%", "expected the arguments"),
            ("%COMMON_DURATION(a:b)%", "expected the arguments"),
            ("a\nb", "control characters"),
            ("\u{7f}", "control characters"),
        ] {
            let problem = problem(bad).unwrap_or_default();
            assert!(problem.contains(expected), "{bad}: {problem}");
        }
    }
}
