//! What can go wrong with a store.

use std::path::PathBuf;
use std::time::Duration;

use meshrelay_snapshot::ObjectKey;

use crate::SnapshotId;

/// A failure that an operator has to look at. Every variant carries a code with a page in the documentation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No connection, or it broke.
    #[error("redis at {address} cannot be reached: {reason} (MR0900)")]
    Unreachable {
        /// The configured address.
        address: String,
        /// What the network said.
        reason: String,
    },
    /// No answer in time.
    #[error(
        "redis at {address} did not answer within {after:?} ({setting}); it is paused, overloaded or cut off (MR0901)"
    )]
    Timeout {
        /// The configured address.
        address: String,
        /// How long was waited.
        after: Duration,
        /// The setting that says so.
        setting: &'static str,
    },
    /// User or password are wrong, or missing.
    #[error(
        "redis at {address} refuses the log-in: {reason}; look at auth.usernameFile and auth.passwordFile (MR0902)"
    )]
    Login {
        /// The configured address.
        address: String,
        /// What Redis said; never the password.
        reason: String,
    },
    /// The user may not do something that the store needs.
    #[error(
        "redis does not permit the user what the store needs: {reason}; docs/redis.md has the permissions (MR0903)"
    )]
    Permission {
        /// What Redis said.
        reason: String,
    },
    /// The limit of memory is reached.
    #[error("redis is out of memory and takes no writes; raise its maxmemory, or remove what else is in it (MR0904)")]
    OutOfMemory,
    /// Not a master.
    #[error(
        "redis at {address} is a replica and takes no writes; give the master's address, or masterName and the sentinels' (MR0905)"
    )]
    ReadOnly {
        /// The configured address.
        address: String,
    },
    /// Redis takes no writes because it cannot save them, or cannot hand them to enough replicas.
    #[error("redis takes no writes: {reason}; look at its disk and its replicas (MR0906)")]
    NotSaving {
        /// What Redis said.
        reason: String,
    },
    /// Redis has just started and reads its data.
    #[error("redis at {address} is still loading its data; it will answer when it is done (MR0907)")]
    Loading {
        /// The configured address.
        address: String,
    },
    /// A Redis Cluster that has no node for our keys, for the time being or at all.
    #[error("the redis cluster at {address} cannot serve our keys: {reason} (MR0908)")]
    ClusterDown {
        /// The configured address.
        address: String,
        /// What Redis said.
        reason: String,
    },
    /// Anything else that Redis answered.
    #[error("redis refuses: {reason} (MR0909)")]
    Refused {
        /// What Redis said.
        reason: String,
    },
    /// A snapshot holds something that must not be stored.
    #[error("{id}: {key} is a secret, and secrets never enter the store; leave it out of the snapshot (MR0910)")]
    Secret {
        /// The snapshot.
        id: SnapshotId,
        /// The object.
        key: ObjectKey,
    },
    /// What is stored was damaged, or written by a version that we do not understand.
    #[error("{what} in the store cannot be read: {problem} (MR0911)")]
    Unreadable {
        /// Which part of the store.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A setting cannot work.
    #[error("redis setting {setting}: {problem} (MR0912)")]
    Settings {
        /// Its name.
        setting: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A file with a password or certificate cannot be used.
    #[error("cannot use {} for redis: {reason} (MR0913)", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; never what is in it.
        reason: String,
    },
    /// The Sentinels do not name a master.
    #[error("the sentinels at {address} name no master {master:?}: {reason} (MR0914)")]
    NoMaster {
        /// The configured address.
        address: String,
        /// The configured name.
        master: String,
        /// What they said.
        reason: String,
    },
}

impl StoreError {
    /// The code with which the documentation explains this failure, such as `MR0900`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "MR0900",
            Self::Timeout { .. } => "MR0901",
            Self::Login { .. } => "MR0902",
            Self::Permission { .. } => "MR0903",
            Self::OutOfMemory => "MR0904",
            Self::ReadOnly { .. } => "MR0905",
            Self::NotSaving { .. } => "MR0906",
            Self::Loading { .. } => "MR0907",
            Self::ClusterDown { .. } => "MR0908",
            Self::Refused { .. } => "MR0909",
            Self::Secret { .. } => "MR0910",
            Self::Unreadable { .. } => "MR0911",
            Self::Settings { .. } => "MR0912",
            Self::File { .. } => "MR0913",
            Self::NoMaster { .. } => "MR0914",
        }
    }
}
