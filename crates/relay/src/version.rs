use std::ops::RangeInclusive;

use crate::wire::Hello;
use crate::{Refusal, RefusalReason};

/// Protocol versions that this build speaks. Version 2 brought doubts about single clusters, which are part of digests.
pub const PROTOCOL: RangeInclusive<u32> = 2..=2;

/// How many minor versions server and agent may be apart, so that one can be upgraded before the other.
const MINOR_WINDOW: u64 = 1;

/// Finds the protocol version for two peers.
///
/// # Errors
/// [`RefusalReason::Version`] when they share no protocol version, when a software version does not read as
/// `major.minor.patch`, or when the versions differ by more than one minor.
pub fn negotiate(ours: &Hello, theirs: &Hello) -> Result<u32, Refusal> {
    check_software(&ours.software_version, &theirs.software_version)?;
    let highest = (*ours.protocol.end()).min(*theirs.protocol.end());
    let lowest = (*ours.protocol.start()).max(*theirs.protocol.start());
    if lowest > highest {
        return Err(Refusal::new(
            RefusalReason::Version,
            format_args!(
                "expected a peer that speaks relay protocol {} to {}, found one that speaks {} to {} (software {}); \
                 upgrade the older of the two",
                ours.protocol.start(),
                ours.protocol.end(),
                theirs.protocol.start(),
                theirs.protocol.end(),
                theirs.software_version,
            ),
        ));
    }
    Ok(highest)
}

/// Checks that a peer's software version is at most one minor version away from ours.
///
/// # Errors
/// [`RefusalReason::Version`] otherwise.
pub fn check_software(ours: &str, theirs: &str) -> Result<(), Refusal> {
    let refuse = || {
        let message = format!(
            "expected a peer of version {ours} or one minor version away, found {theirs:?}; upgrade the older of the two"
        );
        Err(Refusal::new(RefusalReason::Version, message))
    };
    let (Some(our), Some(their)) = (major_minor(ours), major_minor(theirs)) else { return refuse() };
    if our.0 == their.0 && our.1.abs_diff(their.1) <= MINOR_WINDOW { Ok(()) } else { refuse() }
}

fn major_minor(version: &str) -> Option<(u64, u64)> {
    let mut parts = version.trim_start_matches('v').split('.');
    let (major, minor, patch) = (parts.next()?, parts.next()?, parts.next()?);
    patch.starts_with(|first: char| first.is_ascii_digit()).then_some(())?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_minor_version_of_difference_is_served() {
        for theirs in ["1.4.0", "1.3.9", "1.5.2-rc.1", "v1.4.7"] {
            assert!(check_software("1.4.2", theirs).is_ok(), "{theirs}");
        }
        for theirs in ["1.2.0", "1.6.0", "2.4.0", "0.4.0", "", "1.4", "1.4.x", "latest"] {
            let refusal = check_software("1.4.2", theirs).unwrap_err();
            assert_eq!(refusal.reason, RefusalReason::Version);
            assert!(refusal.message.contains("1.4.2") && refusal.message.contains(theirs), "{refusal}");
        }
    }

    #[test]
    fn the_highest_common_protocol_version_is_spoken() {
        let hello = |range| Hello { protocol: range, software_version: "1.0.0".to_owned(), ..Hello::default() };
        assert_eq!(negotiate(&hello(1..=3), &hello(2..=5)), Ok(3));
        let refusal = negotiate(&hello(1..=2), &hello(3..=5)).unwrap_err();
        assert!(refusal.message.contains("1 to 2") && refusal.message.contains("3 to 5"), "{refusal}");
    }
}
