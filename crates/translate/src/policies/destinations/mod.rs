//! Policies that change how clients talk to destinations: which of them hold for which port.
//!
//! A destination keeps the policies of the workspace that owns it wherever it is seen. A workspace that imports it puts
//! its own in their place, kind by kind, for its own namespaces.

mod failover;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshrelay_api::Kind;
use meshrelay_api::networking::{ClientsideTls, ExternalServiceSpec};
use meshrelay_api::references::DestinationKind;
use meshrelay_api::resilience::{ConnectionPolicySpec, FailoverPolicySpec, OutlierDetectionPolicySpec};
use meshrelay_api::security::ClientTlsPolicySpec;
use meshrelay_api::selectors::DestinationSelector;
use meshrelay_api::traffic_control::LoadBalancerPolicySpec;

pub(crate) use failover::locality;
pub(crate) use settings::{client_tls, cluster_settings, connection_pool, load_balancer, outlier_detection};

use super::{Book, Destination, Policy, oldest};
use crate::ResourceRef;
use crate::engine::{Round, Step};
use crate::input::{Input, Ours};
use crate::report::{Code, Finding, Notes, Severity};

/// The counter in the status of all these kinds.
const SELECTED: &str = "numSelectedDestinationPorts";

/// How many destinations a message names before it only counts them.
const NAMED: usize = 5;

/// A kind of policy that selects destinations.
trait DestinationPolicy: Kind {
    /// Kinds of destinations for which it cannot hold.
    const REFUSED: &'static [DestinationKind];

    fn targets(&self) -> &[DestinationSelector];

    /// What is wrong with its settings, whatever they are applied to.
    fn problems(&self) -> Vec<Finding>;
}

macro_rules! destination_policies {
    ($( $spec:ty, refused [$($refused:ident),*], $problems:expr; )+) => {
        $( impl DestinationPolicy for $spec {
            const REFUSED: &'static [DestinationKind] = &[$( DestinationKind::$refused ),*];

            fn targets(&self) -> &[DestinationSelector] {
                &self.apply_to_destinations
            }

            fn problems(&self) -> Vec<Finding> {
                let mut problems = Vec::new();
                let check: fn(&$spec, &mut Vec<Finding>) = $problems;
                check(self, &mut problems);
                problems
            }
        } )+
    };
}

destination_policies! {
    FailoverPolicySpec, refused [ExternalService], |spec, problems| { locality(spec, problems); };
    OutlierDetectionPolicySpec, refused [Service], |spec, problems| { outlier_detection(spec, problems); };
    ConnectionPolicySpec, refused [], |spec, problems| { connection_pool(spec, problems); };
    LoadBalancerPolicySpec, refused [], |spec, problems| {
        load_balancer(spec, problems);
        cluster_settings(spec, problems);
    };
    ClientTlsPolicySpec, refused [], |spec, problems| { client_tls(spec, "", problems); };
}

/// The policies that hold for one port, one of each kind at most.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct PortPolicies {
    pub(crate) failover: Option<Arc<Policy<FailoverPolicySpec>>>,
    pub(crate) outlier_detection: Option<Arc<Policy<OutlierDetectionPolicySpec>>>,
    pub(crate) connection: Option<Arc<Policy<ConnectionPolicySpec>>>,
    pub(crate) load_balancer: Option<Arc<Policy<LoadBalancerPolicySpec>>>,
    pub(crate) client_tls: Option<Arc<Policy<ClientTlsPolicySpec>>>,
    /// TLS that the destination asks for itself; a ClientTLSPolicy counts more.
    pub(crate) own_tls: Option<OwnTls>,
}

/// TLS that an ExternalService asks for at one of its ports.
#[derive(Clone, Debug, Hash)]
pub(crate) struct OwnTls {
    service: Arc<Input<Ours<ExternalServiceSpec>>>,
    /// Position of the port.
    port: usize,
}

impl OwnTls {
    pub(crate) fn new(service: &Arc<Input<Ours<ExternalServiceSpec>>>, port: usize) -> Self {
        Self { service: Arc::clone(service), port }
    }

    pub(crate) fn get(&self) -> Option<&ClientsideTls> {
        self.service.spec.ports.get(self.port)?.clientside_tls.as_ref()
    }
}

impl PortPolicies {
    /// Takes over the kinds that are missing here.
    pub(crate) fn fill(&mut self, other: &Self) {
        fn fill<K>(one: &mut Option<Arc<Policy<K>>>, other: &Option<Arc<Policy<K>>>) {
            if one.is_none() {
                one.clone_from(other);
            }
        }
        fill(&mut self.failover, &other.failover);
        fill(&mut self.outlier_detection, &other.outlier_detection);
        fill(&mut self.connection, &other.connection);
        fill(&mut self.load_balancer, &other.load_balancer);
        fill(&mut self.client_tls, &other.client_tls);
        if self.own_tls.is_none() {
            self.own_tls.clone_from(&other.own_tls);
        }
    }

    /// The policies themselves.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &ResourceRef> {
        let Self { failover, outlier_detection, connection, load_balancer, client_tls, own_tls: _ } = self;
        [
            failover.as_ref().map(|policy| &policy.source),
            outlier_detection.as_ref().map(|policy| &policy.source),
            connection.as_ref().map(|policy| &policy.source),
            load_balancer.as_ref().map(|policy| &policy.source),
            client_tls.as_ref().map(|policy| &policy.source),
        ]
        .into_iter()
        .flatten()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.own_tls.is_none() && self.sources().next().is_none()
    }
}

/// Policies by number of the port; ports without any are left out.
pub(crate) type ByPort = BTreeMap<u32, PortPolicies>;

/// All policies for destinations.
#[derive(Debug)]
pub(crate) struct DestinationPolicies {
    failover: Book<FailoverPolicySpec>,
    outlier_detection: Book<OutlierDetectionPolicySpec>,
    connection: Book<ConnectionPolicySpec>,
    load_balancer: Book<LoadBalancerPolicySpec>,
    client_tls: Book<ClientTlsPolicySpec>,
    checked: Step<()>,
}

impl Default for DestinationPolicies {
    fn default() -> Self {
        Self {
            failover: Book::default(),
            outlier_detection: Book::default(),
            connection: Book::default(),
            load_balancer: Book::default(),
            client_tls: Book::default(),
            checked: Step::new("destination policies"),
        }
    }
}

impl DestinationPolicies {
    /// Brings all of them up to date, and says what is wrong with them as such.
    pub(crate) fn update(&mut self, round: &mut Round<'_>) {
        const COUNTERS: &[&str] = &[SELECTED];
        self.failover.update(round, |cluster| cluster.failover_policies(), COUNTERS);
        self.outlier_detection.update(round, |cluster| cluster.outlier_detection_policies(), COUNTERS);
        self.connection.update(round, |cluster| cluster.connection_policies(), COUNTERS);
        self.load_balancer.update(round, |cluster| cluster.load_balancer_policies(), COUNTERS);
        self.client_tls.update(round, |cluster| cluster.client_tls_policies(), COUNTERS);
        let Self { failover, outlier_detection, connection, load_balancer, client_tls, checked } = self;
        let check_all = |notes: &mut Notes| {
            check(failover, notes);
            check(outlier_detection, notes);
            check(connection, notes);
            check(load_balancer, notes);
            check(client_tls, notes);
        };
        checked.update(round, check_all, |_, (), _| ());
    }

    /// Whether there are none at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.failover.iter().next().is_none()
            && self.outlier_detection.iter().next().is_none()
            && self.connection.iter().next().is_none()
            && self.load_balancer.iter().next().is_none()
            && self.client_tls.iter().next().is_none()
    }

    /// Whether a workspace has any.
    pub(crate) fn are_in(&self, workspace: &str) -> bool {
        !(self.failover.of(workspace).is_empty()
            && self.outlier_detection.of(workspace).is_empty()
            && self.connection.of(workspace).is_empty()
            && self.load_balancer.of(workspace).is_empty()
            && self.client_tls.of(workspace).is_empty())
    }

    /// What the policies of a workspace select Services by; `None` stands for all of them.
    pub(crate) fn service_selectors(&self, workspace: &str) -> Vec<Option<&DestinationSelector>> {
        let mut all = Vec::new();
        service_selectors(&self.failover, workspace, &mut all);
        service_selectors(&self.connection, workspace, &mut all);
        service_selectors(&self.load_balancer, workspace, &mut all);
        service_selectors(&self.client_tls, workspace, &mut all);
        all
    }

    /// The policies of a workspace that hold for the ports of a destination.
    pub(crate) fn hold(
        &self,
        workspace: &str,
        destination: &Destination<'_>,
        target: &ResourceRef,
        notes: &mut Notes,
    ) -> ByPort {
        let mut ports = vec![PortPolicies::default(); destination.ports.len()];
        let mut at = At { destination, target, notes };
        at.choose(self.failover.of(workspace), &mut ports, |port| &mut port.failover);
        at.choose(self.outlier_detection.of(workspace), &mut ports, |port| &mut port.outlier_detection);
        at.choose(self.connection.of(workspace), &mut ports, |port| &mut port.connection);
        at.choose(self.load_balancer.of(workspace), &mut ports, |port| &mut port.load_balancer);
        at.choose(self.client_tls.of(workspace), &mut ports, |port| &mut port.client_tls);
        let numbers = destination.ports.iter().map(|(number, _)| *number);
        numbers.zip(ports).filter(|(_, policies)| !policies.is_empty()).collect()
    }
}

/// Where policies do nothing although they hold: the destinations, by the policy and why.
#[derive(Debug, Default)]
pub(crate) struct IdlePolicies(BTreeMap<(ResourceRef, Idle), BTreeSet<ResourceRef>>);

/// Why a policy does nothing at a destination for which it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Idle {
    /// Endpoints that fail are not noticed.
    NoOutlierDetection,
    /// Other clusters are reached by mutual TLS of the mesh alone.
    AcrossClusters,
}

impl IdlePolicies {
    pub(crate) fn add(&mut self, policy: &ResourceRef, why: Idle, destination: &ResourceRef) {
        self.0.entry((policy.clone(), why)).or_default().insert(destination.clone());
    }

    /// Tells the policies, after all destinations have asked.
    pub(crate) fn say(&self, notes: &mut Notes) {
        for ((policy, why), destinations) in &self.0 {
            let more = destinations.len().saturating_sub(NAMED);
            let mut list = destinations.iter().take(NAMED).map(ToString::to_string).collect::<Vec<_>>().join(", ");
            if more > 0 {
                list.push_str(&format!(" and {more} more"));
            }
            let (code, text) = match why {
                Idle::NoOutlierDetection => (
                    Code::NoOutlierDetection,
                    format!("expected an OutlierDetectionPolicy too, found none for {list}: nothing fails over"),
                ),
                Idle::AcrossClusters => (
                    Code::TlsAcrossClusters,
                    format!("left out wherever {list} leads to other clusters, which want mutual TLS of the mesh"),
                ),
            };
            notes.say(policy, Severity::Warning, code, text);
        }
    }
}

/// Says what is wrong with policies as such.
fn check<K: DestinationPolicy>(book: &Book<K>, notes: &mut Notes) {
    for policy in book.iter() {
        for (code, text) in policy.input.spec.problems() {
            let severity = if code == Code::NotTranslated { Severity::Warning } else { Severity::Invalid };
            notes.say(&policy.source, severity, code, text);
        }
        for (index, target) in policy.input.spec.targets().iter().enumerate() {
            if K::REFUSED.contains(&target.kind) {
                let text = format!(
                    "spec.applyToDestinations[{index}].kind: {} does not hold for destinations of kind {}: the entry \
                     is left out",
                    K::INFO.kind,
                    target.kind
                );
                notes.say(&policy.source, Severity::Invalid, Code::WrongTarget, text);
            }
        }
    }
}

fn service_selectors<'a, K: DestinationPolicy>(
    book: &'a Book<K>,
    workspace: &str,
    into: &mut Vec<Option<&'a DestinationSelector>>,
) {
    for policy in book.of(workspace) {
        let targets = policy.input.spec.targets();
        if targets.is_empty() {
            into.push(None);
        }
        into.extend(targets.iter().filter(|target| target.kind == DestinationKind::Service).map(Some));
    }
}

/// A destination while policies are chosen for it.
struct At<'a> {
    destination: &'a Destination<'a>,
    target: &'a ResourceRef,
    notes: &'a mut Notes,
}

impl At<'_> {
    /// Puts the oldest policy that selects a port in its slot.
    fn choose<K: DestinationPolicy>(
        &mut self,
        policies: &[Arc<Policy<K>>],
        ports: &mut [PortPolicies],
        slot: impl Fn(&mut PortPolicies) -> &mut Option<Arc<Policy<K>>>,
    ) {
        if policies.is_empty() || K::REFUSED.contains(&self.destination.kind) {
            return;
        }
        let mut selecting: Vec<Vec<&Arc<Policy<K>>>> = vec![Vec::new(); ports.len()];
        for policy in policies {
            let targets = policy.input.spec.targets();
            let selected: BTreeSet<usize> = if targets.is_empty() {
                (0..ports.len()).collect()
            } else {
                targets.iter().flat_map(|target| self.destination.selected_ports(target)).collect()
            };
            if !selected.is_empty() {
                self.notes.count(&policy.source, SELECTED, selected.len());
            }
            for index in selected {
                if let Some(selecting) = selecting.get_mut(index) {
                    selecting.push(policy);
                }
            }
        }
        for ((port, (number, _)), selecting) in ports.iter_mut().zip(&self.destination.ports).zip(selecting) {
            let target = format!("port {number} of {}", self.target);
            *slot(port) = oldest(selecting, &target, self.notes).cloned();
        }
    }
}
