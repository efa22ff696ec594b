use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshrelay_api::networking::{FailureMode, RouteTableSpec};
use meshrelay_api::references::DestinationReference;
use meshrelay_snapshot::Name;

use super::delegation::{Children, Table};
use super::destinations::{Place, Target};
use super::overview::PARENTS;
use super::placement::Root;
use super::tree::{self, Tree};
use super::{Freeze, Placement, Reached, RouteTable, Targets};
use crate::engine::Stage;
use crate::fingerprint::{Derived, Shared};
use crate::hostname::{self, Allowed};
use crate::input::ClusterInput;
use crate::model::{Model, Shareable, Viewer, Workspace};
use crate::policies::routes::{Candidate, RouteBooks, RoutePolicies, Selected};
use crate::policies::{self, Destination};
use crate::reads::{Taken, taking};
use crate::report::{Code, Finding, Notes, Severity};
use crate::units::egress::Egress;
use crate::units::mesh_host::MeshHosts;
use crate::units::virtual_gateway::VirtualGateway;
use crate::{LastAccepted, ResourceRef};

/// How many faults a message names before it only counts them.
const NAMED: usize = 5;

/// The tables of a cluster that count.
pub(crate) fn list(model: &Model, cluster: &ClusterInput) -> BTreeSet<ResourceRef> {
    model.counting(&cluster.name, cluster.route_tables().values())
}

/// What tables are resolved against.
#[derive(Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    pub(crate) model: &'a Model,
    pub(crate) hosts: &'a MeshHosts,
    pub(crate) gateways: &'a Stage<VirtualGateway>,
    pub(crate) children: &'a Children,
    pub(crate) egress: &'a Stage<Egress>,
    pub(crate) policies: &'a RouteBooks,
    pub(crate) last_accepted: &'a LastAccepted,
}

impl Surroundings<'_> {
    /// One table, if it is a root.
    pub(crate) fn resolve(&self, parent: &ResourceRef, notes: &mut Notes) -> Option<RouteTable> {
        let model = self.model;
        let input = model.clusters.get(&parent.cluster)?.route_tables().get(&parent.place())?;
        let owner = model.config_owner(&parent.cluster, input.namespace())?;
        note_untranslated(&input.spec, parent, notes);
        let root = Arc::new(Table { source: parent.clone(), workspace: owner.name.clone(), input: Arc::clone(input) });
        if input.spec.hosts.is_empty() {
            note_child(&root, notes);
            return None;
        }
        let ((viewers, tree), taken) = taking(|| {
            let viewers = model.viewers(Shareable::RouteTable, &parent.cluster, input, owner);
            (viewers, tree::flatten(model, self.children, &root, notes))
        });
        let placements = self.placements(owner, &viewers, &tree, notes);
        let mut table = RouteTable {
            parent: parent.clone(),
            tables: tree.tables,
            routes: tree.routes,
            parents: tree.parents,
            placements,
            freeze: None,
            taken,
            sources: model.sources(&owner.name).cloned().collect(),
            of_tree: Derived::default(),
            federated_host_headers: model.options.federated_host_headers,
        };
        if input.spec.failure_mode == FailureMode::FreezeConfig {
            self.freeze(&mut table, &viewers, notes);
        }
        Some(table)
    }

    /// Everywhere that a tree is served.
    fn placements(&self, owner: &Workspace, viewers: &[Viewer], tree: &Tree, notes: &mut Notes) -> Vec<Placement> {
        let Self { model, hosts, gateways, egress, policies, .. } = *self;
        let Some(Reached { table: root, .. }) = tree.tables.first() else { return Vec::new() };
        let good_hosts = good_hosts(&root.input.spec, &root.source, notes);
        let specs = || tree.tables.iter().map(|reached| &reached.table.input.spec);
        let has = [
            specs().any(|spec| !spec.http.is_empty()),
            specs().any(|spec| !spec.tcp.is_empty()),
            specs().any(|spec| !spec.tls.is_empty()),
        ];
        let (cluster, input, parent) = (&root.source.cluster, &root.input, &root.source);
        let place = Root { model, gateways, cluster, input, has, hosts: &good_hosts, parent, owner };
        // Contexts of one cluster and workspace see the same.
        let mut known: BTreeMap<(Name, Name, bool), Shared<Targets>> = BTreeMap::new();
        let mut placements = Vec::new();
        let mut selected = Selected::default();
        for (context, place) in place.places(viewers, notes) {
            let Some(workspace) = model.workspaces.get(&context.workspace) else { continue };
            let seen_from = (context.cluster.clone(), context.workspace.clone(), place.is_mesh);
            let targets = known.entry(seen_from).or_insert_with(|| {
                let (cluster, is_mesh) = (&context.cluster, place.is_mesh);
                let view = View { model, hosts, egress, cluster, workspace, is_mesh };
                let (mut targets, taken) = taking(|| {
                    let mut targets = view.targets(tree);
                    targets.policies = view.policies(tree, &targets.http, policies, &mut selected, notes);
                    targets
                });
                targets.taken = taken;
                Shared::new(targets)
            });
            let served = good_hosts.iter().filter(|host| place.hosts.contains(*host));
            placements.push(Placement {
                served_by: place.served_by.into_iter().collect(),
                hosts: served.cloned().collect(),
                targets: targets.clone(),
                sources: place.sources.iter().chain(model.sources(&context.workspace)).cloned().collect(),
                context,
            });
        }
        if placements.is_empty() {
            // Policies are not without use because of what is wrong with the table.
            let view = View { model, hosts, egress, cluster, workspace: owner, is_mesh: false };
            view.policies(tree, &view.targets(tree).http, policies, &mut selected, notes);
        }
        selected.tell(notes);
        placements
    }

    /// Keeps a tree as it last was right, while something is wrong with it.
    fn freeze(&self, table: &mut RouteTable, viewers: &[Viewer], notes: &mut Notes) {
        let now = table.translate_now().notes;
        let faults: BTreeSet<String> = table
            .tables
            .iter()
            .flat_map(|reached| {
                let source = &reached.table.source;
                let texts = notes.faults(source).chain(now.faults(source));
                // What the message itself says further is with the table.
                texts.map(move |text| format!("{source} {}", text.split(": ").next().unwrap_or_default()))
            })
            .collect();
        if faults.is_empty() {
            table.freeze = Some(Freeze::Accepted);
            return;
        }
        let more = faults.len().saturating_sub(NAMED);
        let mut list = faults.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
        if more > 0 {
            list.push_str(&format!(" and {more} more"));
        }
        let text = if let Some(accepted) = self.last_accepted.get(&table.parent) {
            let accepted = accepted.within(|context| {
                let is_here = |viewer: &&Viewer| viewer.workspace == context.workspace;
                let viewer = viewers.iter().find(is_here);
                let namespaces = viewer.and_then(|viewer| viewer.contexts.get(&context.cluster));
                namespaces.is_some_and(|namespaces| namespaces.contains(&context.namespace))
            });
            for placement in &mut table.placements {
                let kept = accepted.targets_in(&placement.context);
                if !kept.is_empty() {
                    placement.targets = Shared::new(Targets { kept, ..(*placement.targets).clone() });
                }
            }
            table.freeze = Some(Freeze::Frozen(accepted));
            format!(
                "spec.failureMode: FREEZE_CONFIG: all routes of the tree stay as they last were right, whatever other \
                 messages say of their effect, until this is put right: {list}"
            )
        } else {
            table.freeze = Some(Freeze::NeverAccepted);
            format!(
                "spec.failureMode: FREEZE_CONFIG: the tree was never right since it is known, so that there is nothing \
                 to keep: broken routes are replaced until this is put right: {list}"
            )
        };
        notes.say(&table.parent, Severity::Warning, Code::Frozen, text);
    }
}

/// The hosts that Istio takes; others are told.
fn good_hosts(spec: &RouteTableSpec, parent: &ResourceRef, notes: &mut Notes) -> Vec<String> {
    let mut good: Vec<String> = Vec::new();
    for host in &spec.hosts {
        match hostname::problem(host, Allowed::Anything) {
            Some(problem) => {
                let text = format!("spec.hosts: {problem}: it is left out");
                notes.say(parent, Severity::Invalid, Code::BadValue, text);
            }
            None if good.contains(host) => {}
            None => good.push(host.clone()),
        }
    }
    good
}

fn note_untranslated(spec: &RouteTableSpec, parent: &ResourceRef, notes: &mut Notes) {
    for (found, text) in [
        (!spec.apply_to_destinations.is_empty(), "spec.applyToDestinations is not translated yet: no effect"),
        (spec.portal_metadata.is_some(), "spec.portalMetadata is not translated yet: no effect"),
    ] {
        if found {
            notes.say(parent, Severity::Warning, Code::NotTranslated, text);
        }
    }
}

/// What there is to say about a table without hosts.
fn note_child(child: &Table, notes: &mut Notes) {
    let spec = &child.input.spec;
    let text = "expected hosts, or a root table (one with hosts) that delegates to this one: no effect";
    notes.unless_counted(&child.source, &[PARENTS], Severity::Warning, Code::NotDelegated, text);
    for (found, field) in [
        (!spec.virtual_gateways.is_empty(), "virtualGateways"),
        (!spec.apply_to_destinations.is_empty(), "applyToDestinations"),
        (spec.failure_mode != FailureMode::default(), "failureMode"),
        (!spec.virtual_service_annotations.is_empty(), "virtualServiceAnnotations"),
    ] {
        if found {
            let text = format!("spec.{field}: only root tables may have it, a table without hosts takes it from them");
            notes.say(&child.source, Severity::Warning, Code::BadValue, text);
        }
    }
}

/// From where the destinations of a table's routes are looked at.
struct View<'a> {
    model: &'a Model,
    hosts: &'a MeshHosts,
    egress: &'a Stage<Egress>,
    cluster: &'a Name,
    workspace: &'a Workspace,
    is_mesh: bool,
}

impl View<'_> {
    fn targets(&self, tree: &Tree) -> Targets {
        let http = tree.routes.iter().map(|route| {
            let forward = route.written().filter(|_| !route.replaced).and_then(|route| route.forward_to.as_ref());
            match forward {
                Some(forward) if !forward.destinations.is_empty() => self.resolve(&route.table, &forward.destinations),
                Some(_) => self.resolve(&route.table, route.table.input.spec.default_destination.as_slice()),
                None => Ok(Vec::new()),
            }
        });
        let tables = || tree.tables.iter().map(|reached| &*reached.table);
        let tcp = tables().flat_map(|table| {
            let routes = table.input.spec.tcp.iter();
            let destinations = routes.map(|route| route.forward_to.as_ref().map(|forward| &*forward.destinations));
            destinations.map(move |destinations| self.resolve(table, destinations.unwrap_or_default()))
        });
        let tls = tables().flat_map(|table| {
            let routes = table.input.spec.tls.iter();
            let destinations = routes.map(|route| route.forward_to.as_ref().map(|forward| &*forward.destinations));
            destinations.map(move |destinations| self.resolve(table, destinations.unwrap_or_default()))
        });
        let (policies, kept, taken) = (Vec::new(), Vec::new(), Taken::default());
        Targets { http: http.collect(), tcp: tcp.collect(), tls: tls.collect(), policies, kept, taken }
    }

    /// The policies of each HTTP route.
    fn policies(
        &self,
        tree: &Tree,
        targets: &[Result<Vec<Target>, Finding>],
        policies: &RouteBooks,
        selected: &mut Selected,
        notes: &mut Notes,
    ) -> Vec<RoutePolicies> {
        let mut all = Vec::new();
        for (route, targets) in tree.routes.iter().zip(targets) {
            let Some(written) = route.written().filter(|_| !route.replaced) else {
                all.push(RoutePolicies::default());
                continue;
            };
            let targets = targets.as_deref().unwrap_or_default().iter();
            let destinations: Vec<_> =
                targets.filter_map(|target| Destination::of_target(self.model, target)).collect();
            let table = &*route.table;
            let seen = policies::Route {
                labels: &route.labels,
                cluster: &table.source.cluster,
                namespace: &table.source.key.namespace,
                workspace: &table.workspace,
                destinations: &destinations,
            };
            let number = route.index.to_string();
            let name = if written.name.is_empty() { &number } else { &written.name };
            let target = format!("route {name} of {}", table.source);
            let candidate = Candidate { seen, name: &route.name, table: &table.source, target };
            let mut held = policies.select(&candidate, selected, notes);
            if !destinations.is_empty() {
                let resolve = |policy: &_, to: &_| {
                    self.place(table, policy).map(|place| place.resolve(to).and_then(Target::without_gateway))
                };
                held.resolve_mirror(resolve);
            }
            all.push(held);
        }
        all
    }

    /// Where a table's destinations are looked up; what is left out of references is that of `source`.
    fn place<'a>(&'a self, table: &Table, source: &'a ResourceRef) -> Option<Place<'a>> {
        let Self { model, hosts, egress, cluster, workspace, is_mesh } = *self;
        let owner = model.workspaces.get(&table.workspace)?;
        Some(Place { model, hosts, egress: Some(egress), table: source, owner, cluster, workspace, is_mesh })
    }

    /// One destination that leads nowhere spoils the route: its share of the traffic would be lost in silence.
    fn resolve(&self, table: &Table, destinations: &[DestinationReference]) -> Result<Vec<Target>, Finding> {
        let Some(place) = self.place(table, &table.source) else { return Ok(Vec::new()) };
        destinations.iter().map(|destination| place.resolve(destination)).collect()
    }
}
