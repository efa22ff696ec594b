//! What there is to say about resources as such, before anything is translated.

use meshrelay_snapshot::{Name, Object};

use super::Model;
use super::settings::GLOBAL;
use crate::ResourceRef;
use crate::input::ClusterInput;
use crate::report::{Code, Notes, Severity};

/// Kinds that count in the management cluster's admin namespace only.
const ADMIN_KINDS: [&str; 2] = ["KubernetesCluster", "Workspace"];

/// Notes every resource that users wrote, whether it counts and what is wrong with it.
pub(crate) fn note(model: &Model, input: &ClusterInput, notes: &mut Notes) {
    let (cluster, management) = (&input.name, &model.management);
    for (object, problem) in input.unreadable() {
        let source = ResourceRef::new(cluster, object.key());
        if let Some((code, text)) = &problem.unreadable {
            notes.say(&source, Severity::Invalid, *code, text);
        }
    }
    for (object, problem) in input.written() {
        let source = ResourceRef::new(cluster, object.key());
        let owner = model.config_owner(cluster, &object.key().namespace);
        notes.known(&source, object.generation(), owner.map(|owner| &owner.name));
        for (code, text) in &problem.warnings {
            notes.say(&source, Severity::Warning, *code, text);
        }
        if let Some((code, text)) = &problem.unreadable {
            notes.say(&source, Severity::Invalid, *code, text);
        }
        if let Some(text) = out_of_place(model, management, cluster, object) {
            notes.say(&source, Severity::Warning, Code::OutOfPlace, text);
        } else if problem.unknown_kind {
            let text = format!("{} is accepted and stored, but not translated yet", object.key().gvk.kind);
            notes.say(&source, Severity::Warning, Code::NotTranslated, text);
        }
    }
}

fn out_of_place(model: &Model, management: &Name, cluster: &Name, object: &Object) -> Option<String> {
    let (kind, namespace) = (&object.key().gvk.kind, &object.key().namespace);
    let admin_namespace = &model.options.admin_namespace;
    let in_admin = cluster == management && *namespace == **admin_namespace;
    let is_admin_group = object.key().gvk.group == "admin.gloo.solo.io";
    let is_settings_of_one = *kind == "WorkspaceSettings" && object.key().name != GLOBAL;
    if in_admin && is_admin_group && !is_settings_of_one {
        return None;
    }
    if ADMIN_KINDS.contains(&kind.as_str()) {
        return Some(format!(
            "{kind} counts in namespace {admin_namespace} of the management cluster {management} only, found in \
             {cluster}/{namespace}: no effect"
        ));
    }
    if model.config_owner(cluster, namespace).is_some() {
        return None;
    }
    Some(match model.owner(cluster, namespace) {
        Some(owner) => format!(
            "workspace {} does not read configuration from {cluster}/{namespace} (configEnabled): no effect",
            owner.name
        ),
        None => format!("no workspace owns namespace {cluster}/{namespace}: no effect"),
    })
}
