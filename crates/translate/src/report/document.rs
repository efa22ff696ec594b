use std::collections::BTreeMap;

use meshrelay_snapshot::Name;
use serde::Serialize;

use super::{BELOW, Code, Reports, ResourceReport, Severity};
use crate::ResourceRef;

/// Reports as they are shown and written to files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ReportsDocument(pub Vec<ReportDocument>);

/// The report on one resource as it is shown and written to files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportDocument {
    /// The resource: kind, cluster, namespace and name.
    pub resource: String,
    /// The outcome over all workspaces.
    pub approval: String,
    /// The workspace that owns the resource.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub owner: Name,
    /// The outcome in each workspace.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub workspaces: BTreeMap<Name, String>,
    /// The findings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<MessageDocument>,
    /// Counters by the names of the fields in `status`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub counters: BTreeMap<&'static str, u64>,
    /// Counters that are kept by kind.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub counters_by_kind: BTreeMap<&'static str, BTreeMap<String, usize>>,
    /// References by the names of the fields in `status`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub references: BTreeMap<&'static str, String>,
    /// The generated objects that the resource had a part in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<String>,
}

/// One finding as it is shown and written to files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageDocument {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub code: Code,
    /// The finding in words.
    pub text: String,
    /// Where it holds; empty means wherever the resource has an effect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub contexts: Vec<String>,
}

impl From<&Reports> for ReportsDocument {
    fn from(reports: &Reports) -> Self {
        Self(reports.iter().map(|(resource, report)| ReportDocument::new(resource, report)).collect())
    }
}

impl ReportDocument {
    /// From the report on a resource.
    pub fn new(resource: &ResourceRef, report: &ResourceReport) -> Self {
        let messages = report.messages.iter().map(|message| MessageDocument {
            severity: message.severity,
            code: message.code,
            text: message.text.clone(),
            contexts: message.contexts.iter().map(ToString::to_string).collect(),
        });
        let mut counters_by_kind: BTreeMap<&'static str, BTreeMap<String, usize>> = BTreeMap::new();
        for ((counter, kind), number) in &report.by_kind {
            counters_by_kind.entry(counter).or_default().insert(kind.clone(), *number);
        }
        Self {
            resource: resource.to_string(),
            approval: report.approval().to_string(),
            owner: report.owner.clone(),
            workspaces: report
                .workspaces
                .iter()
                .map(|(name, worst)| (name.clone(), super::approval(*worst).to_string()))
                .collect(),
            messages: messages.collect(),
            // Those that lie deeper are kept for statuses.
            counters: report
                .counters
                .iter()
                .filter(|(field, _)| !field.contains(BELOW))
                .map(|(field, number)| (*field, *number))
                .collect(),
            counters_by_kind,
            references: report.references.iter().map(|(field, to)| (*field, to.to_string())).collect(),
            outputs: report.shaped.iter().map(|(cluster, key)| ResourceRef::new(cluster, key).to_string()).collect(),
        }
    }
}
