//! Who may call a Service.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshrelay_api::OutputKind as _;
use meshrelay_api::istio::authorization_policy::{MatchLabelsSelector, Rule};
use meshrelay_api::istio::{AuthorizationPolicy, PeerAuthentication};
use meshrelay_snapshot::{ContentHash, Gvk, Name, Pieces};

use super::cni;
use super::effect::{Doors, Effect, Tls};
use crate::fingerprint::{Shared, fingerprint};
use crate::input::kube::{ServiceSpec, TargetPort};
use crate::input::{ClusterInput, Input, Theirs};
use crate::names;
use crate::output::{Body, Emission, Extra, Shapers, add_with_first_field, written};
use crate::reads::Taken;
use crate::unit::{Batch, BatchId, ParentInput, UnitKind};
use crate::{ContextId, ResourceRef};

/// Annotation of an AuthorizationPolicy that only logs what it would refuse.
const DRY_RUN: &str = "istio.io/dry-run";

/// A Service with everything that is said about its callers.
#[derive(Debug, Hash)]
pub(crate) struct ServiceAccess {
    pub(super) parent: ResourceRef,
    pub(super) context: ContextId,
    pub(super) service: Arc<Input<Theirs<ServiceSpec>>>,
    pub(super) rulings: Vec<Ruling>,
    pub(super) peers: Peers,
    /// Gateways through which callers of other clusters come in.
    pub(super) doors: Doors,
    /// What told all that.
    pub(super) taken: Taken,
}

/// What one policy, or isolation, says about the callers of a Service.
#[derive(Debug, Hash)]
pub(super) struct Ruling {
    pub(super) effect: Shared<Effect>,
    /// Ports at which proxies enforce it, and those at which the container network does.
    pub(super) mesh: Vec<PodPort>,
    pub(super) cni: Vec<PodPort>,
    /// By port of the Service the name that objects of a policy get; isolation has one object for all ports.
    pub(super) names: BTreeMap<u32, String>,
    pub(super) sources: Shared<Vec<ResourceRef>>,
    /// Where it is written whether the workspace is isolated. `None` for isolation itself, which follows from all that is
    /// said of the Service: it is about the ports that no policy is about.
    pub(super) settings: Option<Taken>,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PodPort {
    pub(super) service_port: u32,
    pub(super) is_tcp: bool,
    /// Where it leads, if that is known.
    pub(super) number: Option<u32>,
    /// The name by which pods know it, where the Service uses one.
    pub(super) name: Option<Name>,
}

impl PodPort {
    pub(super) fn all(cluster: &ClusterInput, service: &Input<Theirs<ServiceSpec>>) -> Vec<Self> {
        let port = |port: &crate::input::kube::ServicePort| Self {
            service_port: port.port,
            is_tcp: port.is_tcp(),
            number: cluster.target_port(service, port),
            name: match &port.target_port {
                Some(TargetPort::Name(name)) => Some(name.clone()),
                _ => None,
            },
        };
        service.spec.ports.iter().map(port).collect()
    }

    /// As Cilium takes it, which knows the ports of pods by name.
    fn in_cilium(&self) -> String {
        let name = self.name.as_ref().map(Name::to_string).unwrap_or_default();
        self.number.map_or(name, |number| number.to_string())
    }
}

/// Whether connections to some pods must use mutual TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Peers {
    pub(super) wide: Option<Tls>,
    /// By port of the pods.
    pub(super) ports: BTreeMap<u32, Tls>,
    pub(super) sources: BTreeSet<ResourceRef>,
}

impl Peers {
    pub(super) fn is_empty(&self) -> bool {
        self.wide.is_none() && self.ports.is_empty()
    }

    pub(super) fn object(&self, labels: &BTreeMap<Name, Name>) -> PeerAuthentication {
        let ports = self.ports.iter().map(|(port, tls)| (port.to_string(), tls.to_istio()));
        PeerAuthentication {
            mtls: self.wide.map(Tls::to_istio),
            port_level_mtls: ports.collect(),
            selector: selector(labels),
        }
    }
}

/// Nothing is every pod of the namespace.
fn selector(labels: &BTreeMap<Name, Name>) -> Option<MatchLabelsSelector> {
    let match_labels: BTreeMap<_, _> = labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    (!match_labels.is_empty()).then_some(MatchLabelsSelector { match_labels })
}

pub(super) fn authorization(labels: &BTreeMap<Name, Name>, rules: Vec<Rule>) -> AuthorizationPolicy {
    AuthorizationPolicy { rules, selector: selector(labels), ..AuthorizationPolicy::default() }
}

/// Pods whose callers something is said about.
#[derive(Clone, Copy)]
pub(super) struct Guarded<'a> {
    pub(super) context: &'a ContextId,
    pub(super) labels: &'a BTreeMap<Name, Name>,
    /// What told that it is said.
    pub(super) taken: &'a Taken,
}

/// Emits what proxies enforce. What is only logged is an object of its own.
pub(super) fn emit_authorization(
    emission: &mut Emission<'_>,
    name: &str,
    Guarded { context, labels, taken }: Guarded<'_>,
    effect: &Effect,
    ports: &[String],
    shapers: &Shapers,
) {
    let enforced = effect.rules(false, ports);
    let logged = effect.rules(true, ports);
    // The name stays free for what is enforced as long as there is something.
    let suffix = if enforced.is_some() { "-dry-run" } else { "" };
    let logged_name = names::sanitize(&format!("{name}{suffix}"));
    let body = |rules: &Pieces| {
        let rest = written(&authorization(labels, Vec::new()));
        let mut spec = Pieces::default();
        if rules.is_empty() {
            spec.add(&rest);
        } else {
            add_with_first_field(&mut spec, "rules", rules, &rest);
        }
        let gvk = Gvk::new(AuthorizationPolicy::GROUP, AuthorizationPolicy::VERSION, AuthorizationPolicy::KIND);
        Body::written(gvk, spec, shapers.clone()).reading([effect.reads(), taken])
    };
    if let Some(rules) = enforced {
        let body = body(&rules);
        emission.emit(context, &names::sanitize(name), &body, Extra::default());
    }
    if let Some(rules) = logged {
        let body = body(&rules);
        let annotations = BTreeMap::from([(DRY_RUN.to_owned(), "true".to_owned())]);
        emission.emit(context, &logged_name, &body, Extra { annotations: Some(&annotations), ..Extra::default() });
    }
}

impl ParentInput for ServiceAccess {
    fn id(&self) -> BatchId {
        (UnitKind::Access, self.parent.clone())
    }

    fn fingerprint(&self) -> ContentHash {
        fingerprint(self)
    }

    fn translate(&self) -> Batch {
        let mut emission = Emission::new(UnitKind::Access, &self.parent);
        let own: Shapers = [&self.parent].into_iter().collect();
        let settings_name = names::sanitize(&format!("settings-{}-{}", self.service.name(), self.context.workspace));
        let labels = &self.service.spec.selector;
        for ruling in &self.rulings {
            let shapers = own.with(ruling.sources.iter());
            let of_port = |port: &PodPort| ruling.names.get(&port.service_port).unwrap_or(&settings_name);
            for (name, ports) in by_name(&ruling.mesh, of_port) {
                let ports: BTreeSet<u32> =
                    ports.iter().filter(|port| port.is_tcp).filter_map(|port| port.number).collect();
                let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
                // No port at all would mean every port.
                if !ports.is_empty() {
                    let effect = &ruling.effect;
                    let taken = ruling.settings.as_ref().unwrap_or(&self.taken);
                    let pods = Guarded { context: &self.context, labels, taken };
                    emit_authorization(&mut emission, name, pods, effect, &ports, &shapers);
                }
            }
            for (name, ports) in by_name(&ruling.cni, of_port) {
                let ports = ports.iter().map(|port| port.in_cilium()).filter(|port| !port.is_empty()).collect();
                let spec = cni::policy(labels, &ruling.effect, &self.context.cluster, &self.doors, &ports);
                let body = Body::new(&spec, shapers.clone()).reading([ruling.effect.reads(), &self.taken]);
                emission.emit(&self.context, &names::sanitize(name), &body, Extra::default());
            }
        }
        if !self.peers.is_empty() {
            let body = Body::new(&self.peers.object(labels), own.with(&self.peers.sources)).reading([&self.taken]);
            emission.emit(&self.context, &settings_name, &body, Extra::default());
        }
        emission.finish()
    }
}

/// The ports by the name of the object that is about them.
fn by_name<'a>(ports: &'a [PodPort], name: impl Fn(&PodPort) -> &'a String) -> BTreeMap<&'a String, Vec<&'a PodPort>> {
    let mut all: BTreeMap<&String, Vec<&PodPort>> = BTreeMap::new();
    for port in ports {
        all.entry(name(port)).or_default().push(port);
    }
    all
}
