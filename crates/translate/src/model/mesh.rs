//! Identities of workloads.

use std::collections::BTreeSet;

use meshrelay_snapshot::Name;

use crate::ResourceRef;
use crate::input::kube::{ServicePort, ServiceSpec, TargetPort, WorkloadSpec, selects};
use crate::input::{ClusterInput, Input, Theirs};

impl ClusterInput {
    /// Trust domain of the workloads of a namespace: that of the mesh whose revision the namespace names, else that of
    /// the default revision, else that of the first by name. `None` without a mesh.
    pub(crate) fn trust_domain(&self, namespace: &str) -> Option<&str> {
        let labels = self.namespaces().get(namespace).map(|namespace| namespace.labels());
        let wanted = labels.and_then(|labels| labels.get("istio.io/rev")).map(Name::as_str);
        let revision = |mesh: &meshrelay_api::internal::MeshSpec| {
            mesh.installation.as_ref().map(|installation| installation.revision.clone()).unwrap_or_default()
        };
        let meshes = || self.meshes().values().map(|mesh| &*mesh.spec);
        let named = wanted.and_then(|wanted| meshes().find(|mesh| revision(mesh) == wanted));
        let default = || meshes().find(|mesh| matches!(&*revision(mesh), "" | "default"));
        let mesh = named.or_else(default).or_else(|| meshes().next())?;
        // Istio's own default.
        Some(if mesh.trust_domain.is_empty() { "cluster.local" } else { &mesh.trust_domain })
    }

    /// The workloads that a Service selects.
    pub(crate) fn selected_workloads<'a>(
        &'a self,
        service: &'a Input<Theirs<ServiceSpec>>,
    ) -> impl Iterator<Item = &'a Input<Theirs<WorkloadSpec>>> {
        let selector = &service.spec.selector;
        let workloads = self.workloads_in(service.namespace()).iter().map(|workload| &**workload);
        workloads.filter(|workload| !selector.is_empty() && selects(selector, workload.spec.pod_labels()))
    }

    /// SPIFFE identities of the workloads that a Service selects, and these workloads; empty when none is known.
    pub(crate) fn identities(&self, service: &Input<Theirs<ServiceSpec>>) -> (BTreeSet<String>, BTreeSet<ResourceRef>) {
        let namespace = service.namespace();
        let Some(trust_domain) = self.trust_domain(namespace) else { return Default::default() };
        let identity = |workload: &Input<Theirs<WorkloadSpec>>| {
            let identity = format!("spiffe://{trust_domain}/ns/{namespace}/sa/{}", workload.spec.service_account());
            (identity, workload.reference(&self.name))
        };
        self.selected_workloads(service).map(identity).unzip()
    }

    /// The number of the pods' port that a port of a Service leads to. A named one is looked up in the workloads that
    /// the Service selects; `None` if none of them has it.
    pub(crate) fn target_port(&self, service: &Input<Theirs<ServiceSpec>>, port: &ServicePort) -> Option<u32> {
        match &port.target_port {
            None => Some(port.port),
            Some(TargetPort::Number(0)) => Some(port.port),
            Some(TargetPort::Number(number)) => Some(*number),
            Some(TargetPort::Name(name)) => {
                self.selected_workloads(service).find_map(|workload| workload.spec.port(name))
            }
        }
    }

    /// The number by which an Istio Gateway names a port of pods. Istio takes it for a port of the Service first, and
    /// only if there is none for the pods' own; so the Service's port must be named where the pods' would lead
    /// elsewhere.
    pub(crate) fn gateway_port(
        &self,
        service: &Input<Theirs<ServiceSpec>>,
        port: &ServicePort,
        target_port: u32,
    ) -> u32 {
        let leads_elsewhere =
            |other: &ServicePort| other.port == target_port && self.target_port(service, other) != Some(target_port);
        if service.spec.ports.iter().any(leads_elsewhere) { port.port } else { target_port }
    }
}
