use std::collections::{BTreeMap, BTreeSet};

use meshrelay_snapshot::Name;

use super::{Code, Message, OutputRef, ResourceReport, Severity};
use crate::{ContextId, ResourceRef};

/// What one step of translation says about one resource; the report is all of them together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fragment {
    observed_generation: i64,
    owner: Name,
    workspaces: BTreeSet<Name>,
    messages: BTreeMap<(Severity, Code, String), BTreeSet<ContextId>>,
    counters: BTreeMap<&'static str, u64>,
    by_kind: BTreeMap<(&'static str, String), BTreeSet<ResourceRef>>,
    references: BTreeMap<&'static str, ResourceRef>,
    /// Messages that hold if none of some counters counts anything.
    unless_counted: BTreeMap<&'static [&'static str], (Severity, Code, String)>,
    /// Generated objects, by the keys that they were made with.
    pub(crate) shaped: BTreeSet<OutputRef>,
}

/// Fragments by resource, as one step of translation collects them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Notes(pub(crate) BTreeMap<ResourceRef, Fragment>);

impl Notes {
    fn on(&mut self, resource: &ResourceRef) -> &mut Fragment {
        self.0.entry(resource.clone()).or_default()
    }

    /// Says that the resource exists, in which generation and whose it is.
    pub(crate) fn known(&mut self, resource: &ResourceRef, generation: i64, owner: Option<&Name>) {
        let fragment = self.on(resource);
        fragment.observed_generation = generation;
        if let Some(owner) = owner {
            fragment.owner = owner.clone();
            fragment.workspaces.insert(owner.clone());
        }
    }

    /// A finding that holds wherever the resource has an effect.
    pub(crate) fn say(&mut self, resource: &ResourceRef, severity: Severity, code: Code, text: impl Into<String>) {
        self.on(resource).messages.entry((severity, code, text.into())).or_default();
    }

    /// A finding that holds in one context. A finding of the same words without a context is another one.
    pub(crate) fn say_in(
        &mut self,
        resource: &ResourceRef,
        context: &ContextId,
        severity: Severity,
        code: Code,
        text: impl Into<String>,
    ) {
        let fragment = self.on(resource);
        fragment.messages.entry((severity, code, text.into())).or_default().insert(context.clone());
        fragment.workspaces.insert(context.workspace.clone());
    }

    /// The resource has an effect in a workspace.
    pub(crate) fn effective_in(&mut self, resource: &ResourceRef, workspace: &Name) {
        self.on(resource).workspaces.insert(workspace.clone());
    }

    /// Adds to a counter of the status.
    pub(crate) fn count(&mut self, resource: &ResourceRef, counter: &'static str, number: usize) {
        *self.on(resource).counters.entry(counter).or_insert(0) += number as u64;
    }

    /// Counts something once in a counter of the status that is kept by kind, such as `networking…/v2, Kind=…`.
    pub(crate) fn count_by_kind(
        &mut self,
        resource: &ResourceRef,
        counter: &'static str,
        kind: String,
        what: ResourceRef,
    ) {
        self.on(resource).by_kind.entry((counter, kind)).or_default().insert(what);
    }

    /// A finding that holds if, over everything that is said about the resource, none of `counters` counts anything.
    pub(crate) fn unless_counted(
        &mut self,
        resource: &ResourceRef,
        counters: &'static [&'static str],
        severity: Severity,
        code: Code,
        text: impl Into<String>,
    ) {
        self.on(resource).unless_counted.insert(counters, (severity, code, text.into()));
    }

    /// Sets a reference of the status.
    pub(crate) fn refer(&mut self, resource: &ResourceRef, field: &'static str, to: ResourceRef) {
        self.on(resource).references.insert(field, to);
    }

    /// The findings about a resource that are more than warnings.
    pub(crate) fn faults(&self, resource: &ResourceRef) -> impl Iterator<Item = &str> {
        let messages = self.0.get(resource).into_iter().flat_map(|fragment| fragment.messages.keys());
        messages.filter(|(severity, ..)| *severity > Severity::Warning).map(|(.., text)| text.as_str())
    }

    /// The resources that had a part in a generated object.
    pub(crate) fn shapers(&self, output: &OutputRef) -> BTreeSet<ResourceRef> {
        let shapers = self.0.iter().filter(|(_, fragment)| fragment.shaped.contains(output));
        shapers.map(|(resource, _)| resource.clone()).collect()
    }

    /// Takes back all that was said of generated objects.
    pub(crate) fn forget_outputs(&mut self) {
        self.0.values_mut().for_each(|fragment| fragment.shaped.clear());
    }

    /// The resource had a part in a generated object.
    pub(crate) fn shaped(&mut self, resource: &ResourceRef, output: OutputRef) {
        self.on(resource).shaped.insert(output);
    }
}

/// The report that fragments make up together, whatever their order; without the generated objects, whose final names
/// fragments do not know.
pub(crate) fn assemble<'a>(fragments: impl Iterator<Item = &'a Fragment>) -> ResourceReport {
    let mut whole = Fragment::default();
    for fragment in fragments {
        whole.observed_generation = whole.observed_generation.max(fragment.observed_generation);
        if whole.owner.is_empty() {
            whole.owner = fragment.owner.clone();
        }
        whole.workspaces.extend(fragment.workspaces.iter().cloned());
        for (message, contexts) in &fragment.messages {
            whole.messages.entry(message.clone()).or_default().extend(contexts.iter().cloned());
        }
        for (counter, number) in &fragment.counters {
            *whole.counters.entry(counter).or_insert(0) += number;
        }
        for (counter, counted) in &fragment.by_kind {
            whole.by_kind.entry(counter.clone()).or_default().extend(counted.iter().cloned());
        }
        whole.unless_counted.extend(fragment.unless_counted.clone());
        whole.references.extend(fragment.references.iter().map(|(field, to)| (*field, to.clone())));
    }
    for (counters, message) in whole.unless_counted {
        if counters.iter().all(|counter| whole.counters.get(counter).is_none_or(|number| *number == 0)) {
            whole.messages.entry(message).or_default();
        }
    }
    let messages: Vec<_> = whole
        .messages
        .into_iter()
        .map(|((severity, code, text), contexts)| Message { severity, code, text, contexts })
        .collect();
    let worst_in = |workspace: &Name| {
        let concerns = |message: &&Message| {
            message.contexts.is_empty() || message.contexts.iter().any(|context| context.workspace == *workspace)
        };
        messages.iter().filter(concerns).map(|message| message.severity).max()
    };
    let workspaces = whole.workspaces.into_iter().map(|name| (name.clone(), worst_in(&name))).collect();
    ResourceReport {
        observed_generation: whole.observed_generation,
        owner: whole.owner,
        workspaces,
        messages,
        counters: whole.counters,
        by_kind: whole.by_kind.into_iter().map(|(counter, counted)| (counter, counted.len())).collect(),
        references: whole.references,
        shaped: BTreeSet::new(),
    }
}
