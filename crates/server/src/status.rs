use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use meshrelay_api::status::Condition;
use meshrelay_snapshot::{ContentHash, Name};
use meshrelay_translate::Stats;
use serde::Serialize;

use crate::replicas::{EarlierReports, ReplicaStatus, StoreStatus};

/// What the server can tell about itself and its clusters.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerStatus {
    /// The clusters that are registered or were heard of, by name.
    pub clusters: BTreeMap<Name, ClusterStatus>,
    /// Name of this replica.
    pub replica: String,
    /// True if this replica leads: it alone writes the reports.
    pub leader: bool,
    /// Name of the replica that leads, as far as the store told; `None` without a store.
    pub led_by: Option<String>,
    /// The snapshot store; `None` if there is none, or it was not asked yet.
    pub store: Option<StoreStatus>,
    /// How the replicas are that said so in the store, with this one, by name; empty without a store.
    pub replicas: BTreeMap<String, ReplicaStatus>,
    /// The clusters that translation waits for; empty while it runs.
    pub waiting_for: Vec<Name>,
    /// It waits for a first look into the snapshot store.
    pub waiting_for_store: bool,
    /// Since when it waits.
    pub waiting_since: Option<Timestamp>,
    /// When it goes on all the same; `None` if it waits for as long as it takes, or does not wait.
    pub waiting_until: Option<Timestamp>,
    /// What ends the wait, or brings what is left out back in; `None` while nothing is missing.
    pub ways_out: Option<String>,
    /// The clusters that translation runs without although their inputs are wanted: nobody waits for them any longer.
    pub running_without: Vec<Name>,
    /// Why what depends on some cluster is not deleted; `None` while all deletions go through.
    pub deletions_held: Option<String>,
    /// Since when.
    pub deletions_held_since: Option<Timestamp>,
    /// When the last translation ended.
    pub translated_at: Option<Timestamp>,
    /// How long the last translation took.
    pub translation_time: Duration,
    /// What the last translation did.
    pub stats: Stats,
    /// Number of translations since the start.
    pub translations: u64,
    /// Resources that are not accepted.
    pub problem_resources: usize,
    /// What was found about them, as text; the first [`ServerStatus::FINDINGS`].
    pub findings: Vec<String>,
    /// What the store has of these from before this process's first translation; `None` after it.
    pub earlier_reports: Option<EarlierReports>,
    /// Problems in the management cluster's manifests.
    pub problems: Vec<String>,
}

impl ServerStatus {
    /// Most findings that the status lists; all are in the reports.
    pub const FINDINGS: usize = 50;
}

/// What the server knows of one cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// A KubernetesCluster of that name exists.
    pub registered: bool,
    /// It has sent a snapshot at some time.
    pub warm: bool,
    /// What its KubernetesCluster should say of it: the condition `ClusterWarm`.
    pub conditions: Vec<Condition>,
    /// When a stream of its agent began last, to this process; `None` before the first one.
    pub connected_at: Option<Timestamp>,
    /// This process has its input.
    pub has_input: bool,
    /// It is sending inputs.
    pub pushing: bool,
    /// It is receiving outputs.
    pub pulling: bool,
    /// Version of its agent.
    pub agent_version: String,
    /// Version of its newest input, as its agent counts.
    pub input_version: u64,
    /// Objects in its newest input.
    pub input_objects: usize,
    /// Why the input that the snapshot store has of it cannot be read; `None` if it can, or there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_unreadable: Option<String>,
    /// Objects in its output.
    pub output_objects: usize,
    /// True if its agent holds and has applied the newest output.
    pub applied: bool,
    /// Digest of the output that its agent applied last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied_digest: Option<ContentHash>,
    /// Objects of its output that its agent could not apply.
    pub failed_objects: usize,
    /// Deletions that its agent does not carry out; `None` if there are none.
    pub held: Option<HeldDeletions>,
    /// The last thing that went wrong with it; empty while all is well.
    pub last_error: String,
}

/// Objects that are in no output any more, but stay in their cluster.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldDeletions {
    /// How many, as far as the agent named them.
    pub objects: usize,
    /// What the agent says about them, and what to do; different reasons with `|` in between.
    pub reason: String,
    /// Since when there are any, as far as this server knows.
    pub since: Timestamp,
}
