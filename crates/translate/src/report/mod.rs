//! What translation says about each resource.

mod code;
mod document;
mod fragment;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use code::Code;
pub(crate) use code::Finding;
pub use document::{MessageDocument, ReportDocument, ReportsDocument};
pub(crate) use fragment::{Fragment, Notes, assemble};
use meshrelay_api::status::{Approval, State, Status};
use meshrelay_snapshot::{Name, ObjectKey};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{ContextId, ResourceRef};

/// How bad it is; ordered from harmless to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Severity {
    /// The resource works, with gaps.
    Warning,
    /// The resource is valid, but could not be put in force.
    Failed,
    /// The resource itself is wrong.
    Invalid,
}

impl Severity {
    /// The approval that a resource with such a message gets.
    pub fn approval(self) -> Approval {
        match self {
            Self::Warning => Approval::Warning,
            Self::Failed => Approval::Failed,
            Self::Invalid => Approval::Invalid,
        }
    }
}

/// One finding about a resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Message {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub code: Code,
    /// What was expected, what was found and what to do, for people.
    pub text: String,
    /// Where it holds; empty means wherever the resource has an effect.
    pub contexts: BTreeSet<ContextId>,
}

/// Everything that translation says about one resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceReport {
    /// The generation that was translated.
    pub observed_generation: i64,
    /// The workspace that owns the resource; empty when none does.
    pub owner: Name,
    /// Workspaces in which the resource has an effect, with the worst that was found in each.
    pub workspaces: BTreeMap<Name, Option<Severity>>,
    /// The findings, ordered.
    pub messages: Vec<Message>,
    /// Counters by the names of the fields in `status`, such as `numSelectedBackingServices`.
    pub counters: BTreeMap<&'static str, u64>,
    /// Counters that are kept by kind, such as `numAppliedRoutePolicies`, by their names and the kinds.
    pub by_kind: BTreeMap<(&'static str, String), usize>,
    /// References for `status`, such as `workspaceSettings`, by the names of the fields.
    pub references: BTreeMap<&'static str, ResourceRef>,
    /// The generated objects that the resource had a part in.
    pub shaped: BTreeSet<OutputRef>,
}

/// One generated object: the cluster it is for and its key.
pub type OutputRef = (Name, ObjectKey);

impl ResourceReport {
    /// The outcome over all workspaces: the worst finding, `ACCEPTED` without any.
    pub fn approval(&self) -> Approval {
        approval(self.messages.iter().map(|message| message.severity).max())
    }

    /// The part of the status that nearly every kind has. The message is the worst finding, and how many more there
    /// are.
    pub fn status(&self) -> Status {
        let mut workspace_conditions = BTreeMap::new();
        for severity in self.workspaces.values() {
            *workspace_conditions.entry(approval(*severity).as_str().to_owned()).or_insert(0) += 1;
        }
        let worst = self.messages.iter().max_by_key(|message| message.severity);
        let mut message = worst.map(|worst| format!("{}: {}", worst.code, worst.text)).unwrap_or_default();
        if self.messages.len() > 1 {
            message.push_str(&format!(" (and {} more)", self.messages.len() - 1));
        }
        let state = State { observed_generation: self.observed_generation, approval: self.approval(), message };
        Status { state: Some(state), workspace_conditions }
    }
}

/// Stands between the names of fields in the name of a counter that lies deeper in a status.
pub(crate) const BELOW: char = '|';

/// Kinds whose status has no common part, only the generation and the outcome.
const WITHOUT_COMMON: [&str; 3] = ["RootTrustPolicy", "RateLimitServerSettings", "Dashboard"];

/// Kinds whose status names the workspace that owns the resource.
const WITH_OWNER: [&str; 3] = ["ExternalService", "RouteTable", "VirtualDestination"];

impl ResourceReport {
    /// The whole `status` of a resource of the given kind, without what the server adds from elsewhere (conditions of
    /// clusters). Counters that are 0 are left out.
    pub fn status_value(&self, kind: &str) -> Value {
        let generation = self.observed_generation;
        if WITHOUT_COMMON.contains(&kind) {
            return json!({"observedGeneration": generation, "state": self.approval().as_str()});
        }
        let mut status = json!({"common": self.status()});
        for (field, number) in self.counters.iter().filter(|(_, number)| **number > 0) {
            let place = field.split(BELOW).fold(&mut status, |place, part| &mut place[part]);
            *place = (*number).into();
        }
        for ((field, kind), number) in &self.by_kind {
            status[*field][kind.as_str()] = (*number).into();
        }
        for (field, ResourceRef { cluster, key }) in &self.references {
            status[*field] = json!({"name": key.name, "namespace": key.namespace, "cluster": cluster});
        }
        if WITH_OWNER.contains(&kind) && !self.owner.is_empty() {
            status["ownedByWorkspace"] = self.owner.as_str().into();
        }
        status
    }
}

fn approval(worst: Option<Severity>) -> Approval {
    worst.map_or(Approval::Accepted, Severity::approval)
}

/// What translation says about every resource that users wrote. Kubernetes' own resources and those of agents appear
/// only when there is something to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reports {
    pub(crate) by_resource: BTreeMap<ResourceRef, Arc<ResourceReport>>,
}

impl Reports {
    /// The report on one resource.
    pub fn get(&self, resource: &ResourceRef) -> Option<&Arc<ResourceReport>> {
        self.by_resource.get(resource)
    }

    /// All reports, ordered by cluster, group, kind, namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = (&ResourceRef, &Arc<ResourceReport>)> {
        self.by_resource.iter()
    }

    /// Number of resources with a report.
    pub fn len(&self) -> usize {
        self.by_resource.len()
    }

    /// True if there is no report.
    pub fn is_empty(&self) -> bool {
        self.by_resource.is_empty()
    }

    /// The reports in the form in which they are shown and written to files.
    pub fn document(&self) -> ReportsDocument {
        ReportsDocument::from(self)
    }
}

#[cfg(test)]
mod tests {
    use meshrelay_api::admin::WorkspaceSpec;
    use meshrelay_api::networking::VirtualDestinationSpec;
    use meshrelay_api::{Kind, decode};

    use super::*;

    fn report() -> ResourceReport {
        let context =
            |workspace: &str| ContextId { cluster: "c".into(), namespace: "n".into(), workspace: workspace.into() };
        let resource = ResourceRef { cluster: "c".into(), key: ObjectKey::default() };
        let mut notes = Notes::default();
        notes.known(&resource, 7, Some(&"own".into()));
        notes.effective_in(&resource, &"other".into());
        notes.say(&resource, Severity::Warning, Code::NoIdentity, "everywhere");
        notes.say_in(&resource, &context("other"), Severity::Invalid, Code::NotFound, "there");
        notes.say_in(&resource, &context("other"), Severity::Invalid, Code::NotFound, "there");
        notes.count(&resource, "numSelectedBackingServices", 2);
        let (one, two) = (notes.0.remove(&resource).unwrap(), Fragment::default());
        let report = assemble([&one, &two].into_iter());
        assert_eq!(report, assemble([&two, &one].into_iter()));
        report
    }

    #[test]
    fn the_worst_finding_decides_in_each_workspace_and_over_all() {
        let status = report().status();
        let state = status.state.unwrap();
        assert_eq!((state.observed_generation, state.approval), (7, Approval::Invalid));
        assert_eq!(state.message, "MR0530: there (and 1 more)");
        let expected = [("INVALID".to_owned(), 1), ("WARNING".to_owned(), 1)];
        assert_eq!(status.workspace_conditions, BTreeMap::from(expected));
        assert_eq!(ResourceReport::default().approval(), Approval::Accepted);
    }

    fn read_back<K: Kind>(report: &ResourceReport) -> K::Status {
        let info = K::INFO;
        let status = report.status_value(info.kind);
        let object =
            json!({"apiVersion": info.api_version(), "kind": info.kind, "metadata": {"name": "x"}, "status": status});
        let decoded = decode::<K>(&object).unwrap();
        assert!(decoded.warnings.iter().all(|warning| !warning.path.starts_with("status")), "{:?}", decoded.warnings);
        decoded.value.status.unwrap()
    }

    #[test]
    fn a_status_is_what_its_kind_has() {
        let report = report();
        let status = read_back::<VirtualDestinationSpec>(&report);
        assert_eq!((status.num_selected_backing_services, status.owned_by_workspace.as_str()), (2, "own"));
        let reference =
            ResourceRef { cluster: "c".into(), key: ObjectKey { name: "wss".into(), ..ObjectKey::default() } };
        let references = BTreeMap::from([("workspaceSettings", reference)]);
        let status = read_back::<WorkspaceSpec>(&ResourceReport { references, ..ResourceReport::default() });
        assert_eq!(status.workspace_settings.unwrap().name, "wss");
        let counters = BTreeMap::from([("numResources|/v1, Kind=Service|exported", 2)]);
        let status = read_back::<WorkspaceSpec>(&ResourceReport { counters, ..ResourceReport::default() });
        assert_eq!(status.num_resources["/v1, Kind=Service"].exported, 2);
        let state = report.status_value("RootTrustPolicy");
        assert_eq!(state, json!({"observedGeneration": 7, "state": "INVALID"}));
    }
}
