use std::collections::BTreeMap;

use jiff::Timestamp;
use meshrelay_snapshot::{ContentHash, Name};
use serde::{Deserialize, Serialize};

/// What an agent can tell about itself: `GET /status` on its health port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AgentStatus {
    /// Name of its cluster.
    pub cluster: String,
    /// Its version.
    pub version: String,
    /// The servers it may connect to, the preferred one first.
    pub servers: Vec<String>,
    /// The one that it is connected to.
    pub server: Option<String>,
    /// True while the server receives inputs.
    pub pushing: bool,
    /// True while outputs are received.
    pub pulling: bool,
    /// Why there is no connection, as of the last attempt; empty with one.
    pub last_error: String,
    /// Objects in the newest input.
    pub input_objects: usize,
    /// Version of the output that was applied last.
    pub output_version: u64,
    /// Its digest.
    pub output_digest: Option<ContentHash>,
    /// Objects in it.
    pub output_objects: usize,
    /// How many of them could not be written.
    pub failed_objects: usize,
    /// Why nothing of the newest output is applied yet; `None` if it is applied.
    pub waiting: Option<WaitingStatus>,
    /// Deletions that are not carried out; `None` if there are none.
    pub held: Option<HeldStatus>,
    /// What is kept as it was because not all of a cluster is known, by the name of that cluster.
    pub frozen: BTreeMap<Name, FrozenStatus>,
    /// Problems in the cluster's manifests, as text.
    pub problems: Vec<String>,
}

/// An output that is not applied, because it is not known what is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaitingStatus {
    /// Why that is not known.
    pub reason: String,
    /// Since when, as far as this process knows.
    pub since: Timestamp,
    /// What a person can do about it.
    pub what_to_do: String,
}

/// Deletions that are not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldStatus {
    /// Number of objects that are not wanted, but kept.
    pub objects: usize,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// What an approval names; `None` if approval does not help.
    pub digest: Option<ContentHash>,
    /// What a person can do about it.
    pub what_to_do: String,
}

/// Objects that are kept as they were because they depend on a cluster of which not everything is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FrozenStatus {
    /// Objects that the newest output lacks.
    pub deletions: usize,
    /// Objects that the newest output has in another version.
    pub changes: usize,
    /// What is not known of the cluster.
    pub reason: String,
    /// Since when, as far as this process knows.
    pub since: Timestamp,
    /// What a person can do about it.
    pub what_to_do: String,
}
