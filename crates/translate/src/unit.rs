//! Units of translation.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use meshrelay_snapshot::{ContentHash, Gvk, Name, Object};
use serde::{Deserialize, Serialize};

use crate::report::Notes;
use crate::units::route_table::Target;
use crate::{ContextId, ResourceRef};

/// What a unit makes of its parent. One parent can have units of several kinds: a Service is federated, and its subsets
/// become rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum UnitKind {
    /// Gateways that a VirtualGateway asks for.
    VirtualGateway,
    /// Gateways that let in what comes from other clusters.
    EastWestGateway,
    /// The entries of a host name that works in every cluster.
    MeshHost,
    /// The entries of an ExternalService.
    ExternalService,
    /// The ways of an ExternalService's traffic through gateways.
    Egress,
    /// The routes of a RouteTable.
    RouteTable,
    /// Rules for clients of a destination.
    DestinationRule,
    /// Filters that policies put in the way of requests.
    HttpFilters,
    /// What a server that approves requests is told.
    AuthConfig,
    /// What a server that counts requests is told.
    RateLimitConfig,
    /// Who may call a Service, the workloads of a namespace or a gateway.
    Access,
    /// What the sidecars of a workload know.
    Sidecar,
}

/// What names a unit: one context and one parent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnitId {
    /// Where the unit writes, and nowhere else.
    pub context: ContextId,
    /// What it makes.
    pub kind: UnitKind,
    /// What it translates.
    pub parent: ResourceRef,
}

/// One unit of translation with its last output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its name.
    pub id: Arc<UnitId>,
    /// The kinds of which clusters had a part in the output: as long as one of them is incomplete, the output may be
    /// smaller than it should be.
    pub reads: Arc<UnitReads>,
    /// What it produced, ordered by key.
    pub objects: Vec<Arc<Object>>,
}

/// Kinds of clusters that had a part in an output. What many units read is one set, which they share.
#[derive(Clone, Debug, Default)]
pub struct UnitReads(Vec<Arc<BTreeSet<(Name, Gvk)>>>);

impl UnitReads {
    pub(crate) fn new(set: impl IntoIterator<Item = (Name, Gvk)>) -> Self {
        Self(vec![Arc::new(set.into_iter().collect())])
    }

    /// The kinds with their clusters; one may come several times.
    pub fn iter(&self) -> impl Iterator<Item = &(Name, Gvk)> {
        self.0.iter().flat_map(|set| &**set)
    }

    /// The clusters of all kinds.
    pub(crate) fn clusters(&self) -> BTreeSet<Name> {
        self.iter().map(|(cluster, _)| cluster.clone()).collect()
    }

    /// These and those of a shared set.
    pub(crate) fn with(&self, set: &Arc<BTreeSet<(Name, Gvk)>>) -> Self {
        let mut all = self.clone();
        all.add(set);
        all
    }

    /// These and those.
    pub(crate) fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        for set in &other.0 {
            all.add(set);
        }
        all
    }

    /// Adds a shared set; returns whether it was another one than those that are there.
    pub(crate) fn add(&mut self, set: &Arc<BTreeSet<(Name, Gvk)>>) -> bool {
        let is_new = !self.0.iter().any(|known| Arc::ptr_eq(known, set));
        if is_new {
            self.0.push(Arc::clone(set));
        }
        is_new
    }
}

impl PartialEq for UnitReads {
    fn eq(&self, other: &Self) -> bool {
        self.iter().collect::<BTreeSet<_>>() == other.iter().collect::<BTreeSet<_>>()
    }
}

impl Eq for UnitReads {}

/// All units of one parent: they are recomputed together, because most of what they read is the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    pub(crate) units: Vec<Unit>,
    pub(crate) notes: Notes,
}

/// What a batch is remembered by.
pub(crate) type BatchId = (UnitKind, ResourceRef);

/// Everything that the units of one parent read, resolved. `translate` sees nothing else, so that an equal fingerprint
/// means an equal output.
pub(crate) trait ParentInput: Debug + Send + Sync {
    /// What is remembered by.
    fn id(&self) -> BatchId;

    /// The fingerprint of the whole input.
    fn fingerprint(&self) -> ContentHash;

    /// Translates the parent in all contexts.
    fn translate(&self) -> Batch;

    /// What there is to remember of it, see [`LastAccepted`](crate::LastAccepted).
    fn tree(&self) -> Option<Tree> {
        None
    }
}

/// A parent whose output is kept while something is wrong with it.
#[derive(Debug)]
pub(crate) enum Tree {
    /// Nothing is; these are its targets with a subset.
    Accepted(Vec<(ContextId, Target)>),
    /// Something is.
    Broken,
}
