//! Translation: the input snapshots of all clusters in, one output snapshot per cluster and reports out.
//!
//! It is a pure function with a memory. [`Translator::translate`] resolves the fleet into a model (which workspace owns
//! what, who sees what, how clusters reach each other), then translates units, each a context and a parent. What a unit
//! read is condensed to a fingerprint; a unit whose fingerprint did not change is not translated again. The memory
//! never shows: the result equals that of a new [`Translator`] with the same [`Allocations`] and [`LastAccepted`], byte
//! for byte.
//!
//! A bad resource becomes a report on that resource; everything else goes through.

mod depends;
mod doubts;
mod engine;
mod fingerprint;
mod gate;
mod hostname;
mod input;
mod last_accepted;
mod model;
mod names;
mod output;
mod policies;
mod reads;
mod reference;
mod report;
mod unit;
mod units;
mod vip;

use std::collections::BTreeMap;
use std::sync::Arc;

use meshrelay_snapshot::{Name, Snapshot};

pub use doubts::{doubt, doubts};
pub use engine::Translator;
pub use gate::{Gate, GateEvent, GateSettings, Registered, Verdict, ways_out};
pub use last_accepted::{AcceptedTree, LastAccepted};
pub use model::visibility::{ExportedResource, ImportedResource, OwnedNamespace, Visibility, WorkspaceView};
pub use output::{SHAPED_BY, Shaper, shaped_by};
pub use reference::{ContextId, ResourceRef};
pub use report::{
    Code, Message, MessageDocument, OutputRef, ReportDocument, Reports, ReportsDocument, ResourceReport, Severity,
};
use serde::Serialize;
pub use unit::{Unit, UnitId, UnitKind, UnitReads};
pub use vip::Allocations;

/// What translation works on.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// Name of the management cluster, where workspaces are written.
    pub management_cluster: Name,
    /// The newest input snapshot of each cluster, the management cluster included.
    pub clusters: BTreeMap<Name, Arc<Snapshot>>,
}

/// Choices of the installation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Options {
    /// Namespace of the management cluster in which clusters, workspaces and global settings are written.
    pub admin_namespace: String,
    /// Whether routes to hosts that work in every cluster set the request headers `x-gloo-mesh-federated-host` and
    /// `x-gloo-mesh-federated-port`, as the original does. Nothing of ours reads them.
    pub federated_host_headers: bool,
    /// Whether output also goes to clusters without a mesh, where no proxy reads it, as old versions of the original
    /// did.
    pub contexts_without_mesh: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { admin_namespace: "gloo-mesh".to_owned(), federated_host_headers: false, contexts_without_mesh: false }
    }
}

/// What translation gives.
#[derive(Clone, Debug, Default)]
pub struct Translation {
    /// The output snapshot of each input cluster. Objects and snapshots that did not change are those of the previous
    /// translation.
    pub outputs: BTreeMap<Name, Arc<Snapshot>>,
    /// What there is to say about each resource.
    pub reports: Arc<Reports>,
    /// What the translation took.
    pub stats: Stats,
}

/// What one translation took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// Parents that were resolved.
    pub parents: usize,
    /// Units with output.
    pub units: usize,
    /// Units that were translated again, or for the first time.
    pub recomputed: usize,
    /// Generated objects over all clusters.
    pub objects: usize,
    /// Clusters whose input had changed.
    pub changed_clusters: usize,
}
