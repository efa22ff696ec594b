//! Policies for routes: of each kind at most one holds for a route, the oldest that selects it. It acts wherever the
//! table is served, other workspaces included.

mod cors;
mod fault_injection;
mod headers;
mod mirror;
mod retry_timeout;
mod variables;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshrelay_api::istio::virtual_service::HttpRoute;
use meshrelay_api::references::{DestinationKind, DestinationReference};
use meshrelay_api::resilience::{FaultInjectionPolicySpec, RetryTimeoutPolicySpec};
use meshrelay_api::security::{CorsPolicySpec, ExtAuthPolicySpec, JwtPolicySpec};
use meshrelay_api::selectors::{RouteLabelSelector, RouteSelector};
use meshrelay_api::traffic_control::{HeaderManipulationPolicySpec, MirrorPolicySpec, RateLimitPolicySpec};
use meshrelay_api::{Duration, Kind};

use meshrelay_snapshot::{Gvk, ObjectKey};

pub(crate) use headers::added_problem;

use super::{Book, Destination, Policy, Route, Subject, oldest};
use crate::engine::{Round, Step};
use crate::input::ClusterInput;
use crate::model::Model;
use crate::reads::{Taken, take_all, taking, together};
use crate::report::{Code, Finding, Notes, Severity};
use crate::units::route_table::Target;
use crate::{ContextId, ResourceRef};

/// Field of the status with the number of routes that a policy selects.
const SELECTED_ROUTES: &str = "numSelectedRoutes";

/// A kind of policy of which at most one holds for a route.
pub(crate) trait RoutePolicy: Kind {
    /// Fields of the status, one of which counts something if the policy selects anything.
    const COUNTERS: &'static [&'static str] = &[SELECTED_ROUTES];

    /// Whether it changes VirtualServices, and not only what filters do.
    const IS_IN_VIRTUAL_SERVICES: bool = true;

    /// The routes, any of which is enough.
    fn apply_to_routes(&self) -> &[RouteSelector];

    /// Whether a policy that names no routes holds for all of its workspace.
    fn holds_by_default(&self) -> bool {
        true
    }

    /// Why it can be in force nowhere; it is left out then.
    fn problem(&self) -> Option<Finding> {
        None
    }
}

/// A route that policies are selected for.
pub(crate) struct Candidate<'a> {
    pub(crate) seen: Route<'a>,
    /// Its name in VirtualServices.
    pub(crate) name: &'a str,
    /// The table that it is written in.
    pub(crate) table: &'a ResourceRef,
    /// What users know it as.
    pub(crate) target: String,
}

/// Policies for single destinations of a route, by destination and port.
type OnDestinations = Vec<((ResourceRef, u32), Arc<Policy<HeaderManipulationPolicySpec>>)>;

/// Declares the kinds: where the one that holds is found, the kind, and the table that the kind is read into.
macro_rules! route_policies {
    ($( $kind:ident: $spec:ty, $table:ident; )+) => {
        /// The policies of every kind.
        #[derive(Debug)]
        pub(crate) struct RouteBooks {
            $( pub(crate) $kind: Book<$spec>, )+
            /// Those that can be in force nowhere.
            refused: Step<BTreeSet<ResourceRef>>,
        }

        impl Default for RouteBooks {
            fn default() -> Self {
                Self { $( $kind: Book::default(), )+ refused: Step::new("route policies") }
            }
        }

        impl RouteBooks {
            /// Brings the books up to date, and tells what is wrong with the policies.
            pub(crate) fn update(&mut self, round: &mut Round<'_>) {
                $( self.$kind.update(round, ClusterInput::$table, <$spec>::COUNTERS); )+
                let Self { $( $kind, )+ refused } = self;
                let check_all = |notes: &mut Notes| {
                    let mut refused = BTreeSet::new();
                    $( check($kind, &mut refused, notes); )+
                    refused
                };
                // What reads this reads the policies, too.
                refused.update(round, check_all, |_, _, _| {});
            }

            /// The policies that hold for a route.
            pub(crate) fn select(
                &self,
                route: &Candidate<'_>,
                selected: &mut Selected,
                notes: &mut Notes,
            ) -> RoutePolicies {
                let nothing = BTreeSet::new();
                let refused = self.refused.get().unwrap_or(&nothing);
                let mut of_filters = Vec::new();
                RoutePolicies {
                    route: route.target.clone(),
                    $( $kind: {
                        let (policy, taken) = taking(|| pick(&self.$kind, route, refused, selected, notes));
                        if <$spec>::IS_IN_VIRTUAL_SERVICES { take_all(&taken) } else { of_filters.push(taken) }
                        policy
                    }, )+
                    headers_on: headers::pick(&self.headers, route, refused, selected, notes),
                    mirrored: None,
                    of_filters: together(&of_filters),
                }
            }
        }

        impl RouteBooks {
            /// Those of some policies that there still are.
            pub(crate) fn named(&self, model: &Model, wanted: &BTreeSet<ResourceRef>) -> RoutePolicies {
                let owner = |policy: &ResourceRef| model.config_owner(&policy.cluster, &policy.key.namespace);
                let owners: BTreeSet<&str> = wanted.iter().filter_map(owner).map(|owner| owner.name.as_str()).collect();
                let mut found = RoutePolicies::default();
                for owner in owners {
                    $(
                        let mut policies = self.$kind.of(owner).iter();
                        let policy = policies.find(|policy| wanted.contains(&policy.source));
                        found.$kind = found.$kind.or(policy.cloned());
                    )+
                }
                found
            }
        }

        /// The policies that hold for one route.
        #[derive(Clone, Debug, Default, Hash)]
        pub(crate) struct RoutePolicies {
            /// What users know the route as.
            route: String,
            $( pub(crate) $kind: Option<Arc<Policy<$spec>>>, )+
            /// Headers for single destinations, by destination and port.
            headers_on: OnDestinations,
            /// See [`RoutePolicies::resolve_mirror`].
            pub(crate) mirrored: Option<Result<Target, Finding>>,
            /// What told which of them become filters.
            pub(crate) of_filters: Taken,
        }

        impl RoutePolicies {
            /// The policies that change VirtualServices.
            pub(crate) fn sources(&self) -> impl Iterator<Item = &ResourceRef> {
                let each = [$(
                    self.$kind.as_ref().filter(|_| <$spec>::IS_IN_VIRTUAL_SERVICES).map(|policy| &policy.source)
                ),+];
                each.into_iter().flatten().chain(self.headers_on.iter().map(|(_, policy)| &policy.source))
            }

            /// The policies that become filters.
            pub(crate) fn filters(&self) -> impl Iterator<Item = &ResourceRef> {
                let each = [$(
                    self.$kind.as_ref().filter(|_| !<$spec>::IS_IN_VIRTUAL_SERVICES).map(|policy| &policy.source)
                ),+];
                each.into_iter().flatten()
            }
        }
    };
}

route_policies! {
    retry_timeout: RetryTimeoutPolicySpec, retry_timeout_policies;
    fault_injection: FaultInjectionPolicySpec, fault_injection_policies;
    cors: CorsPolicySpec, cors_policies;
    headers: HeaderManipulationPolicySpec, header_manipulation_policies;
    mirror: MirrorPolicySpec, mirror_policies;
    ext_auth: ExtAuthPolicySpec, ext_auth_policies;
    jwt: JwtPolicySpec, jwt_policies;
    rate_limit: RateLimitPolicySpec, rate_limit_policies;
}

/// What policies select in the tree of a root table.
#[derive(Debug, Default)]
pub(crate) struct Selected(BTreeMap<ResourceRef, Selection>);

/// What one policy selects.
#[derive(Debug, Default)]
struct Selection {
    /// Names of the routes.
    routes: BTreeSet<String>,
    /// The tables of those routes for which the policy holds.
    tables: BTreeSet<ResourceRef>,
}

impl Selected {
    fn add(&mut self, policy: &ResourceRef, (route, table): (&str, &ResourceRef), holds: bool) {
        let selection = self.0.entry(policy.clone()).or_default();
        selection.routes.insert(route.to_owned());
        if holds {
            selection.tables.insert(table.clone());
        }
    }

    /// Takes in the policies that select a route, the oldest first.
    fn add_all<K>(&mut self, policies: &[&Arc<Policy<K>>], route: &Candidate<'_>, refused: &BTreeSet<ResourceRef>) {
        for (index, policy) in policies.iter().enumerate() {
            let holds = index == 0 && !refused.contains(&policy.source);
            self.add(&policy.source, (route.name, route.table), holds);
        }
    }

    /// Counts, for the policies and for the tables.
    pub(crate) fn tell(&self, notes: &mut Notes) {
        for (policy, selection) in &self.0 {
            notes.count(policy, SELECTED_ROUTES, selection.routes.len());
            let gvk = &policy.key.gvk;
            let kind = format!("{}, Kind={}", gvk.api_version(), gvk.kind);
            for table in &selection.tables {
                notes.count_by_kind(table, "numAppliedRoutePolicies", kind.clone(), policy.clone());
            }
        }
    }
}

fn check<K: RoutePolicy>(book: &Book<K>, refused: &mut BTreeSet<ResourceRef>, notes: &mut Notes) {
    for policy in book.iter() {
        if let Some((code, problem)) = policy.input.spec.problem() {
            let text = format!("{problem}: the policy is left out");
            notes.say(&policy.source, Severity::Invalid, code, text);
            refused.insert(policy.source.clone());
        }
    }
}

fn selects<K: RoutePolicy>(spec: &K, route: &Route<'_>) -> bool {
    let routes = spec.apply_to_routes();
    routes.iter().any(|selector| route.is_selected(selector)) || routes.is_empty() && spec.holds_by_default()
}

/// Whether a policy picks some routes out of all.
fn names_routes<K: RoutePolicy>(spec: &K) -> bool {
    let is_any = |selector: &RouteSelector| {
        let is_any_table = selector.route.as_ref().is_none_or(|route| *route == RouteLabelSelector::default());
        is_any_table && selector.with_destinations.is_none()
    };
    !spec.apply_to_routes().is_empty() && !spec.apply_to_routes().iter().any(is_any)
}

/// The one policy of a kind that holds for a route. One that is refused keeps its place: what is younger must not
/// come into force by a mistake.
fn pick<K: RoutePolicy>(
    book: &Book<K>,
    route: &Candidate<'_>,
    refused: &BTreeSet<ResourceRef>,
    selected: &mut Selected,
    notes: &mut Notes,
) -> Option<Arc<Policy<K>>> {
    let policies = book.of(route.seen.workspace).iter();
    let selecting: Vec<_> = policies.filter(|policy| selects(&*policy.input.spec, &route.seen)).collect();
    selected.add_all(&selecting, route, refused);
    oldest(selecting, &route.target, notes).filter(|policy| !refused.contains(&policy.source)).cloned()
}

impl<'a> Destination<'a> {
    fn reference(&self) -> ResourceRef {
        let networking = |kind| Gvk::new("networking.gloo.solo.io", "v2", kind);
        let gvk = match self.kind {
            DestinationKind::VirtualDestination => networking("VirtualDestination"),
            DestinationKind::ExternalService => networking("ExternalService"),
            DestinationKind::Service | DestinationKind::Unknown(_) => Gvk::new("", "v1", "Service"),
        };
        let Subject { cluster, namespace, name, .. } = self.object;
        ResourceRef::new(&cluster.into(), &ObjectKey::new(gvk, namespace, name))
    }

    /// A target of a route as selectors look at it.
    pub(crate) fn of_target(model: &'a Model, target: &'a Target) -> Option<Self> {
        let ResourceRef { cluster, key } = &target.destination;
        let input = model.clusters.get(cluster)?;
        let name = (key.namespace.clone(), key.name.clone());
        let (kind, object, port) = match key.gvk.kind.as_str() {
            "Service" => {
                let service = input.services().get(&name)?;
                let port = service.spec.ports.iter().find(|port| port.port == target.port);
                (DestinationKind::Service, &service.object, port.map(|port| port.name.as_str()))
            }
            "VirtualDestination" => {
                (DestinationKind::VirtualDestination, &input.virtual_destinations().get(&name)?.object, None)
            }
            _ => {
                let service = input.external_services().get(&name)?;
                let port = service.spec.ports.iter().find(|port| port.number == target.port);
                (DestinationKind::ExternalService, &service.object, port.map(|port| port.name.as_str()))
            }
        };
        let object = Subject {
            cluster,
            namespace: &key.namespace,
            name: &key.name,
            workspace: model.owner(cluster, &key.namespace).map_or("", |owner| &owner.name),
            labels: object.labels(),
        };
        Some(Self { kind, object, ports: vec![(target.port, port.unwrap_or_default())] })
    }
}

impl RoutePolicies {
    /// Finds where the mirror leads, in the place where the route is served. `resolve` gets the policy, which references
    /// fall back to, and the destination.
    pub(crate) fn resolve_mirror(
        &mut self,
        resolve: impl FnOnce(&ResourceRef, &DestinationReference) -> Option<Result<Target, Finding>>,
    ) {
        let Some(policy) = &self.mirror else { return };
        let destination = policy.input.spec.config.as_ref().and_then(|config| config.destination.as_ref());
        self.mirrored = destination.and_then(|destination| resolve(&policy.source, destination));
    }

    /// Puts the policies into a route of a VirtualService, which leads to the targets if it leads anywhere. What makes no
    /// sense for it is left out and told.
    pub(crate) fn apply(&self, route: &mut HttpRoute, targets: &[&Target], context: &ContextId, notes: &mut Notes) {
        cors::apply(self, route);
        headers::apply(self, route, targets);
        if route.route.is_empty() {
            self.tell_useless(notes);
            return;
        }
        retry_timeout::apply(self, route);
        fault_injection::apply(self, route);
        mirror::apply(self, route, context, notes);
    }

    /// Proxies that answer themselves neither try, wait nor copy, and Istio refuses faults there. Policies for all
    /// routes mean those on which they have an effect.
    fn tell_useless(&self, notes: &mut Notes) {
        fn meant<K: RoutePolicy>(policy: Option<&Arc<Policy<K>>>) -> Option<&ResourceRef> {
            policy.filter(|policy| names_routes(&*policy.input.spec)).map(|policy| &policy.source)
        }
        let sources =
            [meant(self.retry_timeout.as_ref()), meant(self.fault_injection.as_ref()), meant(self.mirror.as_ref())];
        for source in sources.into_iter().flatten() {
            let text = format!("{} forwards no requests: the policy has no effect there", self.route);
            notes.say(source, Severity::Warning, Code::PolicyWithoutEffect, text);
        }
    }
}

/// What is wrong with a duration that Istio has to take.
fn duration_problem(field: &str, duration: Option<Duration>) -> Option<String> {
    let bad = duration.filter(|duration| !duration.is_whole_milliseconds())?;
    Some(format!("{field}: expected a whole number of milliseconds, at least 1, found {bad}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_policy_without_routes_holds_for_all_unless_it_names_destinations() {
        let labels = BTreeMap::from([("route".to_owned(), "cart".to_owned())]);
        let route = Route { labels: &labels, cluster: "c", namespace: "n", workspace: "w", destinations: &[] };
        for (spec, expected) in [
            (json!({}), true),
            (json!({"applyToRoutes": [{}]}), true),
            (json!({"applyToRoutes": [{"route": {"labels": {"route": "cart"}}}]}), true),
            (json!({"applyToRoutes": [{"route": {"labels": {"route": "other"}}}]}), false),
            (json!({"applyToRoutes": [{"route": {"namespace": "x"}}, {"route": {"namespace": "n"}}]}), true),
            (json!({"applyToRouteDestinations": [{}]}), false),
            (json!({"applyToRouteDestinations": [{}], "applyToRoutes": [{}]}), true),
        ] {
            let policy: HeaderManipulationPolicySpec = serde_json::from_value(spec.clone()).unwrap();
            assert_eq!(selects(&policy, &route), expected, "{spec}");
        }
    }

    #[test]
    fn routes_are_counted_once_wherever_they_are_served_and_lost_ones_too() {
        let reference = |name: &str| {
            let gvk = Gvk::new("resilience.policy.gloo.solo.io", "v2", "RetryTimeoutPolicy");
            ResourceRef::new(&"c".into(), &ObjectKey::new(gvk, "n", name))
        };
        let (table, other) = (reference("table"), reference("other"));
        let mut selected = Selected::default();
        for (policy, route, table, holds) in [
            ("old", "a", &table, true),
            ("new", "a", &table, false),
            ("old", "a", &table, true),
            ("new", "a", &table, false),
            ("old", "b", &other, true),
        ] {
            selected.add(&reference(policy), (route, table), holds);
        }
        let mut notes = Notes::default();
        selected.tell(&mut notes);
        let mut expected = Notes::default();
        expected.count(&reference("old"), "numSelectedRoutes", 2);
        expected.count(&reference("new"), "numSelectedRoutes", 1);
        for table in [&table, &other] {
            let kind = "resilience.policy.gloo.solo.io/v2, Kind=RetryTimeoutPolicy".to_owned();
            expected.count_by_kind(table, "numAppliedRoutePolicies", kind, reference("old"));
        }
        assert_eq!(notes, expected);
    }
}
