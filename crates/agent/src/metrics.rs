use meshrelay_pki::TlsRefusal;
use meshrelay_process::metrics::{Documented, MetricInfo};
use meshrelay_relay::RefusalReason;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Buckets of times, seconds: from a small change on loopback to a whole large cluster over a slow link.
const TIME_BUCKETS: [f64; 10] = [0.001, 0.005, 0.02, 0.1, 0.25, 1.0, 5.0, 20.0, 80.0, 300.0];

/// Label `reason`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Reason {
    /// Stable name of the reason.
    pub(crate) reason: &'static str,
}

/// Label `cluster`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfCluster {
    /// Name of the cluster.
    pub(crate) cluster: String,
}

/// Label `server`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServerLabel {
    /// Address as in the settings.
    server: String,
}

/// Metrics of an agent.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// From a change in the cluster until the server has it.
    pub push_time: Histogram,
    /// Ends of push streams that were not orderly.
    pub push_errors: Counter,
    /// Time that applying an output took.
    pub pull_time: Histogram,
    /// Ends of pull streams that were not orderly.
    pub pull_errors: Counter,
    /// Objects that could not be written.
    pub write_failures: Counter,
    /// 1 while the stream is open: push, pull.
    pub push_connected: Gauge,
    /// As `push_connected`.
    pub pull_connected: Gauge,
    /// Objects in the input.
    pub input_objects: Gauge,
    /// Objects in the output.
    pub output_objects: Gauge,
    /// Problems in the cluster's manifests.
    pub problems: Gauge,
    /// End of the client certificate, seconds since 1970.
    pub certificate_expires: Gauge,
    /// Objects of the input that are too large to be sent, or that the server refused.
    pub withheld: Gauge,
    /// Objects that are not wanted any more, but kept.
    pub(crate) deletions_held: Family<Reason, Gauge>,
    /// Objects that are kept as they were, by the cluster of which not everything is known.
    pub(crate) frozen: Family<OfCluster, Gauge>,
    /// How often another server took over.
    pub(crate) server_changes: Counter,
    servers: Family<ServerLabel, Gauge>,
    refusals: Family<Reason, Counter>,
    handshake_failures: Family<Reason, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let histogram = || Histogram::new(TIME_BUCKETS);
        Self {
            push_time: histogram(),
            push_errors: Counter::default(),
            pull_time: histogram(),
            pull_errors: Counter::default(),
            write_failures: Counter::default(),
            push_connected: Gauge::default(),
            pull_connected: Gauge::default(),
            input_objects: Gauge::default(),
            output_objects: Gauge::default(),
            problems: Gauge::default(),
            certificate_expires: Gauge::default(),
            withheld: Gauge::default(),
            deletions_held: Family::default(),
            frozen: Family::default(),
            server_changes: Counter::default(),
            servers: Family::default(),
            refusals: Family::default(),
            handshake_failures: Family::default(),
        }
    }
}

impl Metrics {
    /// Adds all metrics to a registry; returns what the reference says about them.
    pub fn register(&self, registry: &mut Registry) -> Vec<MetricInfo> {
        let mut metrics = Documented::new(registry);
        metrics.add(
            "gloo_mesh_relay_client_delta_push_time_sec",
            "Time from a change in the cluster until the server holds it",
            &[],
            &self.push_time,
        );
        metrics.add(
            "gloo_mesh_relay_client_delta_push_err",
            "Push streams that ended with an error",
            &[],
            &self.push_errors,
        );
        metrics.add(
            "gloo_mesh_relay_client_delta_pull_time_sec",
            "Time that applying an output took",
            &[],
            &self.pull_time,
        );
        metrics.add(
            "gloo_mesh_relay_client_delta_pull_err",
            "Pull streams that ended with an error",
            &[],
            &self.pull_errors,
        );
        metrics.add("object_write_fails", "Objects of an output that could not be written", &[], &self.write_failures);
        metrics.add("meshrelay_agent_push_connected", "1 while the push stream is open", &[], &self.push_connected);
        metrics.add("meshrelay_agent_pull_connected", "1 while the pull stream is open", &[], &self.pull_connected);
        metrics.add("meshrelay_agent_input_objects", "Objects in the newest input snapshot", &[], &self.input_objects);
        metrics.add(
            "meshrelay_agent_output_objects",
            "Objects in the newest output snapshot",
            &[],
            &self.output_objects,
        );
        metrics.add("meshrelay_agent_manifest_problems", "Problems in the cluster's manifests", &[], &self.problems);
        metrics.add(
            "meshrelay_agent_client_certificate_expiry_timestamp_seconds",
            "End of the client certificate",
            &[],
            &self.certificate_expires,
        );
        metrics.add("meshrelay_agent_refusals", "Refusals by the server, by reason", &["reason"], &self.refusals);
        metrics.add(
            "meshrelay_agent_handshake_failures",
            "TLS connections that either side refused",
            &["reason"],
            &self.handshake_failures,
        );
        metrics.add(
            "meshrelay_agent_withheld_objects",
            "Objects of the input that are too large to be sent, or were refused",
            &[],
            &self.withheld,
        );
        metrics.add(
            "meshrelay_agent_deletions_held",
            "Objects that are not wanted any more, but kept: by the delete brake, or as not all is known",
            &["reason"],
            &self.deletions_held,
        );
        metrics.add(
            "meshrelay_agent_frozen_objects",
            "Objects that are kept as they were, as they depend on a cluster of which not everything is known",
            &["cluster"],
            &self.frozen,
        );
        metrics.add(
            "meshrelay_agent_server_connected",
            "1 for the server that the agent is connected to, of those that it may be",
            &["server"],
            &self.servers,
        );
        metrics.add(
            "meshrelay_agent_server_changes",
            "How often the agent went over to another of its servers",
            &[],
            &self.server_changes,
        );
        metrics.into_infos()
    }

    /// Whether a server is the connected one.
    pub(crate) fn server(&self, address: &str) -> Gauge {
        self.servers.get_or_create_owned(&ServerLabel { server: address.to_owned() })
    }

    /// Counts a TLS connection that was refused.
    pub(crate) fn handshake_failed(&self, refusal: TlsRefusal) {
        self.handshake_failures.get_or_create(&Reason { reason: refusal.as_str() }).inc();
    }

    /// Counts a refusal by the server.
    pub(crate) fn refused(&self, reason: RefusalReason) {
        self.refusals.get_or_create(&Reason { reason: reason.metric_label() }).inc();
    }
}
