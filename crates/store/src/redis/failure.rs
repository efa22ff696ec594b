//! What Redis and the network say, in words that tell an operator what to do.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::StoreError;

/// Longest text of Redis that is passed on: an error can repeat what was sent.
const LONGEST: usize = 300;

/// What a failed call means.
pub(super) fn classify(error: &RedisError, address: &str) -> StoreError {
    let address = address.to_owned();
    let code = error.code().unwrap_or_default();
    let reason = shortened(match error.detail() {
        Some(detail) => format!("{code} {detail}").trim().to_owned(),
        None => error.to_string(),
    });
    match error.kind() {
        ErrorKind::AuthenticationFailed => StoreError::Login { address, reason: "wrong user or password".to_owned() },
        ErrorKind::Io | ErrorKind::ClusterConnectionNotFound | ErrorKind::Parse => {
            StoreError::Unreachable { address, reason }
        }
        ErrorKind::Server(ServerErrorKind::ReadOnly) => StoreError::ReadOnly { address },
        ErrorKind::Server(ServerErrorKind::BusyLoading) => StoreError::Loading { address },
        ErrorKind::Server(ServerErrorKind::NoPerm) => StoreError::Permission { reason },
        ErrorKind::Server(
            ServerErrorKind::ClusterDown
            | ServerErrorKind::TryAgain
            | ServerErrorKind::Moved
            | ServerErrorKind::Ask
            | ServerErrorKind::CrossSlot,
        ) => StoreError::ClusterDown { address, reason },
        _ => by_text(code, reason, address),
    }
}

/// By the code that Redis begins its errors with, or what it says; older versions wrap errors of scripts in their own.
fn by_text(code: &str, reason: String, address: String) -> StoreError {
    let says = |text: &str| code == text || reason.contains(text);
    if says("OOM") && reason.contains("maxmemory") {
        StoreError::OutOfMemory
    } else if says("READONLY") {
        StoreError::ReadOnly { address }
    } else if says("MISCONF") || says("NOREPLICAS") {
        StoreError::NotSaving { reason }
    } else if says("LOADING") {
        StoreError::Loading { address }
    } else if says("WRONGPASS") || says("NOAUTH") {
        StoreError::Login { address, reason }
    } else if says("NOPERM") || says("The user executing the script can't") {
        StoreError::Permission { reason }
    } else if says("CLUSTERDOWN") || says("MASTERDOWN") {
        StoreError::ClusterDown { address, reason }
    } else {
        StoreError::Refused { reason }
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
    }
    text
}

/// Whether the call may be tried again: it was not done, or does no harm when done twice.
pub(super) fn is_passing(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Unreachable { .. }
            | StoreError::Loading { .. }
            | StoreError::ClusterDown { .. }
            | StoreError::ReadOnly { .. }
            | StoreError::NoMaster { .. }
    )
}

/// Whether the connection is of no use any more: it broke, or leads to the wrong place.
pub(super) fn is_of_connection(error: &StoreError) -> bool {
    is_passing(error) || matches!(error, StoreError::Timeout { .. } | StoreError::Login { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_redis_tell_what_to_do() {
        // As Redis writes them, from commands and from scripts, in versions 6 and 7.
        for (text, code) in [
            ("OOM command not allowed when used memory > 'maxmemory'.", "MR0904"),
            ("OOM command not allowed when used memory > 'maxmemory'. script: 5f, on @user_script:1.", "MR0904"),
            (
                "ERR Error running script (call to f_5f): @user_script:1: -OOM command not allowed when used memory > 'maxmemory'.",
                "MR0904",
            ),
            ("READONLY You can't write against a read only replica.", "MR0905"),
            (
                "ERR Error running script: @user_script:1: -READONLY You can't write against a read only replica.",
                "MR0905",
            ),
            (
                "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
                "MR0906",
            ),
            ("NOREPLICAS Not enough good replicas to write.", "MR0906"),
            ("LOADING Redis is loading the dataset in memory", "MR0907"),
            ("NOAUTH Authentication required.", "MR0902"),
            ("WRONGPASS invalid username-password pair or user is disabled.", "MR0902"),
            ("NOPERM this user has no permissions to run the 'evalsha' command", "MR0903"),
            (
                "ERR The user executing the script can't run this command or subcommand script: 25d8, on @user_script:18.",
                "MR0903",
            ),
            ("CLUSTERDOWN Hash slot not served", "MR0908"),
            ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", "MR0908"),
            ("ERR unknown command 'EVALSHA'", "MR0909"),
            ("BUSY Redis is busy running a script.", "MR0909"),
        ] {
            let (first, rest) = text.split_once(' ').unwrap();
            let error = redis::make_extension_error(first.to_owned(), Some(rest.to_owned()));
            let classified = classify(&error, "redis:6379");
            assert_eq!(classified.code(), code, "{text}: {classified}");
        }
    }

    #[test]
    fn a_long_answer_is_cut() {
        let error = redis::make_extension_error("ERR".to_owned(), Some("ü".repeat(5000)));
        assert!(classify(&error, "a").to_string().len() < LONGEST + 50);
    }
}
