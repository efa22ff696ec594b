//! The WorkspaceSettings in force for each workspace.

use std::collections::BTreeMap;

use meshrelay_api::admin::{
    EastWestGatewaySelector, Federation, ServiceIsolation, WorkspaceObjectSelector, WorkspaceSettingsSpec,
};
use meshrelay_api::client_mode::ClientMode;
use meshrelay_snapshot::Name;

use super::workspaces::{Owners, Registry, Workspace};
use crate::ResourceRef;
use crate::input::{Input, Ours};
use crate::reads::kinds;
use crate::report::{Code, Notes, Severity};

/// Name of the settings, in the admin namespace, that hold for all workspaces.
pub(super) const GLOBAL: &str = "global";

/// What is in force for a workspace. Options of the global settings override the workspace's own, one by one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Settings {
    /// The settings that these come from.
    pub(crate) sources: Vec<ResourceRef>,
    pub(crate) import_from: Vec<WorkspaceObjectSelector>,
    pub(crate) export_to: Vec<WorkspaceObjectSelector>,
    pub(crate) east_west_gateways: Vec<EastWestGatewaySelector>,
    /// Where `east_west_gateways` is written.
    pub(crate) east_west_source: Option<ResourceRef>,
    pub(crate) federation: Option<Federation>,
    /// Where `federation` is written.
    pub(crate) federation_source: Option<ResourceRef>,
    pub(crate) client_mode: Option<ClientMode>,
    isolation: Option<ServiceIsolation>,
    /// Whether others would come into force without them.
    pub(crate) are_contested: bool,
    /// Whether sidecars know no destination but those that something adds.
    pub(crate) trims_all: bool,
}

impl Settings {
    /// How the workspace's services are isolated; `None` if they are not.
    pub(crate) fn isolation(&self) -> Option<&ServiceIsolation> {
        self.isolation.as_ref().filter(|isolation| isolation.enabled)
    }

    /// Whether sidecars know the destinations that the workspace owns or imports, and no others.
    pub(crate) fn trims_to_visible(&self) -> bool {
        self.isolation().is_some_and(|isolation| isolation.trim_proxy_config == Some(true))
    }
}

type SettingsInput = Input<Ours<WorkspaceSettingsSpec>>;

pub(super) fn resolve(
    registry: &Registry<'_>,
    owners: &Owners,
    workspaces: &mut BTreeMap<Name, Workspace>,
    notes: &mut Notes,
) {
    let mut by_workspace: BTreeMap<&Name, Vec<(&Name, &SettingsInput)>> = BTreeMap::new();
    let mut global = None;
    for (cluster, input) in registry.clusters {
        for settings in input.settings().values() {
            let in_admin = cluster == registry.management && settings.namespace() == registry.admin_namespace;
            if in_admin && settings.name() == GLOBAL {
                global = Some((cluster, &**settings));
            } else if let Some(owner) = owners.get(cluster).and_then(|of_cluster| of_cluster.get(settings.namespace()))
                && owner.config
            {
                by_workspace.entry(&owner.workspace).or_default().push((cluster, settings));
            }
        }
    }
    if let Some((cluster, global)) = global
        && !(global.spec.import_from.is_empty() && global.spec.export_to.is_empty())
    {
        let text = "importFrom and exportTo of the global settings have no effect: write them in each workspace's own";
        notes.say(&global.reference(cluster), Severity::Warning, Code::SettingsIgnored, text);
    }
    for workspace in workspaces.values_mut() {
        let mut own = by_workspace.remove(&workspace.name).unwrap_or_default();
        own.sort_by_key(|(cluster, settings)| settings.age(cluster));
        let winner = own.first().copied();
        if let Some((cluster, settings)) = winner {
            let winner = settings.reference(cluster);
            notes.refer(&winner, "workspace", workspace.source.clone());
            for (cluster, loser) in own.iter().skip(1) {
                let text = format!("workspace {} has settings already, the older {winner}", workspace.name);
                notes.say(&loser.reference(cluster), Severity::Invalid, Code::SettingsTaken, text);
            }
            notes.refer(&workspace.source, "workspaceSettings", winner);
        }
        workspace.settings = merge(winner, global);
        workspace.settings.are_contested = own.len() > 1;
        workspace.reads = kinds([&workspace.source].into_iter().chain(&workspace.settings.sources));
    }
}

fn merge(own: Option<(&Name, &SettingsInput)>, global: Option<(&Name, &SettingsInput)>) -> Settings {
    let mut merged = Settings::default();
    if let Some((_, own)) = own {
        merged.import_from.clone_from(&own.spec.import_from);
        merged.export_to.clone_from(&own.spec.export_to);
    }
    for (cluster, settings) in own.into_iter().chain(global) {
        let source = settings.reference(cluster);
        if let Some(options) = &settings.spec.options {
            if !options.east_west_gateways.is_empty() {
                merged.east_west_gateways.clone_from(&options.east_west_gateways);
                merged.east_west_source = Some(source.clone());
            }
            if options.federation.is_some() {
                merged.federation.clone_from(&options.federation);
                merged.federation_source = Some(source.clone());
            }
            if options.virtual_dest_client_mode.is_some() {
                merged.client_mode.clone_from(&options.virtual_dest_client_mode);
            }
            if options.service_isolation.is_some() {
                merged.isolation.clone_from(&options.service_isolation);
            }
            // A bool without presence: what is not set does not override.
            merged.trims_all |= options.trim_all_proxy_config;
        }
        merged.sources.push(source);
    }
    merged
}
