use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{ClusterDoubt, ContentHash, Gvk, Name};

/// Whether everything of one kind in a cluster is known. Absence of an object means something only when its kind is
/// [`Synced`](Completeness::Synced).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "state", content = "reason")]
pub enum Completeness {
    /// Every object of the kind is in the snapshot.
    Synced,
    /// Objects of an earlier state are in force because the newest one could not be read, with the reason. None is
    /// missing on that account.
    Stale(String),
    /// The first listing has not ended yet.
    Listing,
    /// The cluster does not have the kind, so there can be no objects of it.
    KindAbsent,
    /// Objects may exist that could not be read, with the reason (forbidden, a file that does not parse, …).
    Incomplete(String),
}

impl Completeness {
    /// Why absence of an object of this kind does not mean that it does not exist.
    fn doubt(&self) -> Option<&str> {
        match self {
            Self::Synced | Self::KindAbsent | Self::Stale(_) => None,
            Self::Listing => Some("the first listing has not ended yet"),
            Self::Incomplete(reason) => Some(reason),
        }
    }
}

/// What an agent tells about its cluster beside the objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterFacts {
    /// Version of the agent, such as `0.1.0`.
    pub agent_version: String,
    /// Version of Kubernetes, empty when there is none (a fleet folder).
    pub kubernetes_version: String,
    /// Trust domain of each mesh by name of its `Mesh` object.
    pub trust_domains: BTreeMap<Name, Name>,
}

/// Where that was taken from which could not be read of an input: see [`carry_over`](crate::carry_over).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Carried {
    /// The version that had it last.
    pub from: u64,
    /// The version that lacked it first. What was there in between is not known.
    pub until: u64,
    /// The digest of what was taken.
    pub objects: ContentHash,
}

impl Carried {
    /// Whether a version is one of those of which nothing is known.
    pub fn misses(self, version: u64) -> bool {
        self.from < version && version < self.until
    }
}

/// What belongs to a snapshot as a whole; part of its digest, so that a new field needs a new protocol version: a peer that
/// does not know it would never find the digest that it was told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SnapshotMeta {
    /// Completeness by kind.
    #[serde(with = "by_kind")]
    pub completeness: BTreeMap<Gvk, Completeness>,
    /// Why objects of any kind may be missing, of kinds that are not listed too; `None` when there is no such reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doubt: Option<String>,
    /// In an output: the clusters of which not everything is known. What depends on one of them may be missing, or be less
    /// than it should be, and nothing else.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub doubts: BTreeMap<Name, ClusterDoubt>,
    /// In an output: which version of each cluster's input it was made from, when its content changed last. An agent finds
    /// by it that an output was made from an older picture than what it has in force, whichever server made either.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub basis: BTreeMap<Name, u64>,
    /// In an input as a server uses it: where that comes from which could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carried: Option<Carried>,
    /// In an output: the same of the inputs that it was made from.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub carried_inputs: BTreeMap<Name, Carried>,
    /// Facts of the cluster.
    pub facts: ClusterFacts,
}

impl SnapshotMeta {
    /// Notes that an input had a part in this output in that version, with what was carried over to it.
    pub fn set_basis(&mut self, cluster: &Name, version: u64, carried: Option<Carried>) {
        self.basis.insert(cluster.clone(), version);
        self.carried_inputs.remove(cluster);
        self.carried_inputs.extend(carried.map(|carried| (cluster.clone(), carried)));
    }

    /// Why absence of an object of this kind does not mean that it does not exist; `None` when it does mean that.
    pub fn doubt_about(&self, gvk: &Gvk) -> Option<&str> {
        self.doubt.as_deref().or_else(|| self.completeness.get(gvk)?.doubt())
    }

    /// Whether objects of an earlier state are in force for this reason.
    pub fn is_stale_for(&self, reason: &str) -> bool {
        self.completeness.values().any(|state| matches!(state, Completeness::Stale(known) if known == reason))
    }

    /// The first reason why absence of some object does not mean that it does not exist.
    pub fn any_doubt(&self) -> Option<&str> {
        self.doubt.as_deref().or_else(|| self.completeness.values().find_map(Completeness::doubt))
    }
}

/// JSON has string keys only, so the map travels as a list.
mod by_kind {
    use serde::{Deserializer, Serializer};

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Entry {
        #[serde(flatten)]
        gvk: Gvk,
        completeness: Completeness,
    }

    pub(super) fn serialize<S: Serializer>(
        map: &BTreeMap<Gvk, Completeness>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map.iter().map(|(gvk, state)| Entry { gvk: gvk.clone(), completeness: state.clone() }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<Gvk, Completeness>, D::Error> {
        Ok(Vec::<Entry>::deserialize(deserializer)?.into_iter().map(|entry| (entry.gvk, entry.completeness)).collect())
    }
}
