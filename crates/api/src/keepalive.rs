//! How idle connections are kept open.

use crate::Duration;

message! {
    /// Probes that find out whether the other end of an idle connection is still there.
    pub struct TcpKeepalive {
        /// How many probes go unanswered before the connection is given up; 0 leaves it to the operating system.
        pub probes: u32,
        /// How long a connection is idle before the first probe.
        pub time: Option<Duration>,
        /// Time between probes.
        pub interval: Option<Duration>,
    }
}
