//! Who may call what: isolation of workspaces, and AccessPolicies.
//!
//! Istio allows what any AuthorizationPolicy of a pod allows, so each policy has objects of its own. Of
//! PeerAuthentications that select the same pods it applies one only: there is one for each set of labels, with
//! everything that concerns these pods.

mod cni;
mod context;
mod effect;
mod gateway;
mod ground;
mod namespace;
mod overlap;
mod picks;
mod policy;
mod service;
mod speech;

use meshrelay_api::security::AccessPolicySpec;

use self::context::View;
use self::gateway::GatewayAccess;
use self::ground::{Backed, Ground};
use self::namespace::NamespaceAccess;
use self::service::ServiceAccess;
use crate::engine::{Round, Stage, Step};
use crate::policies::Book;
use crate::unit::UnitKind;
use crate::units::mesh_host::MeshHosts;

/// Everything that is said about callers, by what it is said of.
#[derive(Debug)]
pub(crate) struct Accesses {
    book: Book<AccessPolicySpec>,
    ground: Step<Ground>,
    backed: Backed,
    services: Stage<ServiceAccess>,
    namespaces: Stage<NamespaceAccess>,
    gateways: Stage<GatewayAccess>,
}

impl Default for Accesses {
    fn default() -> Self {
        Self {
            book: Book::default(),
            ground: Step::new(ground::NAME),
            backed: Backed::default(),
            services: Stage::new(UnitKind::Access, "access to services"),
            namespaces: Stage::new(UnitKind::Access, "access to namespaces"),
            gateways: Stage::new(UnitKind::Access, "access to gateways"),
        }
    }
}

impl Accesses {
    pub(crate) fn update(&mut self, round: &mut Round<'_>, hosts: &MeshHosts) {
        let Self { book, ground, backed, services, namespaces, gateways } = self;
        let model = round.model;
        let counters = &["numSelectedDestinationPorts", "numSelectedNamespaces"];
        book.update(round, |cluster| cluster.access_policies(), counters);
        ground.update(round, |notes| Ground::resolve(model, book, notes), Ground::compare);
        backed.update(round, hosts);
        let Some(ground) = ground.get() else { return };
        let view = View::new(model, hosts, ground, backed);
        services.update(round, |cluster| view.services(cluster), |parent, notes| view.service(parent, notes));
        namespaces.update(round, |cluster| view.namespaces(cluster), |parent, notes| view.namespace(parent, notes));
        gateways.update(round, |cluster| view.gateways(cluster), |parent, _| view.gateway(parent));
    }
}
