use std::collections::BTreeMap;
use std::sync::Arc;

use meshrelay_process::metrics::{Documented, MetricInfo};
use meshrelay_relay::Refusal;
use meshrelay_relay::grpc::{RelayHandle, Traffic};
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::cluster_metrics;

/// Buckets of times, seconds: up to the limits that the alerts of the field watch (10 s, 80 s) and beyond.
const TIME_BUCKETS: [f64; 11] = [0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0, 10.0, 80.0, 300.0];

/// Label `cluster`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ClusterLabel {
    pub(crate) cluster: String,
}

/// Label `reason`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ReasonLabel {
    pub(crate) reason: &'static str,
}

/// Number of resources with findings, by what is counted together.
pub(crate) type FindingCounts = BTreeMap<FindingLabels, i64>;

/// Labels of findings.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub(crate) struct FindingLabels {
    pub(crate) workspace: String,
    pub(crate) gvk: String,
}

/// Metrics of the management server.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) translation_time: Histogram,
    pub(crate) reconciler_time: Histogram,
    translation_errors: Family<FindingLabels, Gauge>,
    translation_warnings: Family<FindingLabels, Gauge>,
    /// Errors and warnings as they are shown.
    findings: Arc<Mutex<[FindingCounts; 2]>>,
    pub(crate) write_failures: Family<ClusterLabel, Counter>,
    pub(crate) refusals: Family<ReasonLabel, Counter>,
    pub(crate) handshake_failures: Family<ReasonLabel, Counter>,
    pub(crate) withheld: Family<ClusterLabel, Gauge>,
    pub(crate) input_withheld: Family<ClusterLabel, Gauge>,
    pub(crate) rejected: Family<ReasonLabel, Counter>,
    pub(crate) certificate_expires: Gauge,
    pub(crate) units_recomputed: Counter,
    pub(crate) store_write_time: Histogram,
    pub(crate) store_errors: Counter,
    pub(crate) leader: Gauge,
    pub(crate) replicas: Gauge,
    pub(crate) sent_away: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            translation_time: Histogram::new(TIME_BUCKETS),
            reconciler_time: Histogram::new(TIME_BUCKETS),
            translation_errors: Family::default(),
            translation_warnings: Family::default(),
            findings: Arc::default(),
            write_failures: Family::default(),
            refusals: Family::default(),
            handshake_failures: Family::default(),
            withheld: Family::default(),
            input_withheld: Family::default(),
            rejected: Family::default(),
            certificate_expires: Gauge::default(),
            units_recomputed: Counter::default(),
            store_write_time: Histogram::new(TIME_BUCKETS),
            store_errors: Counter::default(),
            leader: Gauge::default(),
            replicas: Gauge::default(),
            sent_away: Counter::default(),
        }
    }
}

impl Metrics {
    /// Shows what the last translation found. What is found again never disappears meanwhile, whenever somebody looks.
    pub(crate) fn show_findings(&self, errors: FindingCounts, warnings: FindingCounts) {
        let mut shown = self.findings.lock();
        let families = [&self.translation_errors, &self.translation_warnings];
        for ((family, before), now) in families.into_iter().zip(shown.iter_mut()).zip([errors, warnings]) {
            for (labels, count) in &now {
                family.get_or_create(labels).set(*count);
            }
            for labels in before.keys().filter(|labels| !now.contains_key(*labels)) {
                family.remove(labels);
            }
            *before = now;
        }
    }

    /// Adds all metrics to a registry; returns what the reference says about them.
    pub fn register(&self, registry: &mut Registry) -> Vec<MetricInfo> {
        let mut metrics = Documented::new(registry);
        metrics.add("gloo_mesh_translation_time_sec", "Time that a translation took", &[], &self.translation_time);
        metrics.add(
            "gloo_mesh_reconciler_time_sec",
            "Time from the first change that was not in the outputs until they were published",
            &[],
            &self.reconciler_time,
        );
        metrics.add(
            "translation_error",
            "Resources that are invalid or failed",
            &["workspace", "gvk"],
            &self.translation_errors,
        );
        metrics.add(
            "translation_warning",
            "Resources that work with gaps",
            &["workspace", "gvk"],
            &self.translation_warnings,
        );
        metrics.add(
            "gloo_mesh_redis_write_time_sec",
            "Time that a write of an input to the snapshot store took",
            &[],
            &self.store_write_time,
        );
        metrics.add(
            "gloo_mesh_redis_sync_err",
            "Failed reads and writes of the snapshot store",
            &[],
            &self.store_errors,
        );
        metrics.add("object_write_fails", "Objects that agents could not write", &["cluster"], &self.write_failures);
        metrics.add("meshrelay_refusals", "Refused registrations and streams", &["reason"], &self.refusals);
        metrics.add(
            "meshrelay_handshake_failures",
            "TLS handshakes that failed",
            &["reason"],
            &self.handshake_failures,
        );
        metrics.add(
            "meshrelay_withheld_objects",
            "Objects of an output that are too large to travel",
            &["cluster"],
            &self.withheld,
        );
        metrics.add(
            "meshrelay_input_withheld_objects",
            "Objects of a cluster that are too large to travel, or were refused",
            &["cluster"],
            &self.input_withheld,
        );
        metrics.add(
            "meshrelay_rejected_transfers",
            "Transfers that were refused as a whole",
            &["reason"],
            &self.rejected,
        );
        metrics.add(
            "meshrelay_units_recomputed",
            "Units of translation that were computed again",
            &[],
            &self.units_recomputed,
        );
        metrics.add(
            "meshrelay_server_certificate_expiry_timestamp_seconds",
            "End of the server's certificate",
            &[],
            &self.certificate_expires,
        );
        metrics.add(
            "meshrelay_leader",
            "1 while this server is the replica that writes the reports, else 0",
            &[],
            &self.leader,
        );
        metrics.add(
            "meshrelay_replicas",
            "Replicas of the management server that the snapshot store knew of last, with this one; 0 without a store",
            &[],
            &self.replicas,
        );
        metrics.add(
            "meshrelay_agents_sent_away",
            "Agents that were asked to go to a replica that serves fewer",
            &[],
            &self.sent_away,
        );
        let mut infos = metrics.into_infos();
        infos.extend(cluster_metrics::infos());
        infos.extend(TRAFFIC.iter().map(|traffic| MetricInfo {
            name: format!("{}_total", traffic.name),
            kind: "counter",
            labels: &[],
            help: traffic.help,
        }));
        infos
    }

    /// Counts a refusal.
    pub(crate) fn refused(&self, refusal: &Refusal) {
        self.refusals.get_or_create(&ReasonLabel { reason: refusal.metric_label() }).inc();
    }

    pub(crate) fn cluster(name: &str) -> ClusterLabel {
        ClusterLabel { cluster: name.to_owned() }
    }
}

/// A counter that the relay keeps itself.
struct TrafficCounter {
    name: &'static str,
    help: &'static str,
    value: fn(&Traffic) -> u64,
}

const TRAFFIC: [TrafficCounter; 4] = [
    TrafficCounter {
        name: "meshrelay_relay_received_bytes",
        help: "Bytes received from agents",
        value: Traffic::bytes_in,
    },
    TrafficCounter { name: "meshrelay_relay_sent_bytes", help: "Bytes sent to agents", value: Traffic::bytes_out },
    TrafficCounter {
        name: "meshrelay_relay_received_frames",
        help: "Frames received from agents",
        value: Traffic::frames_in,
    },
    TrafficCounter { name: "meshrelay_relay_sent_frames", help: "Frames sent to agents", value: Traffic::frames_out },
];

/// What passed over the relay, read from its own counters at scrape time.
#[derive(Debug)]
pub(crate) struct TrafficCollector(pub(crate) RelayHandle);

impl Collector for TrafficCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for TrafficCounter { name, help, value } in TRAFFIC {
            let counter = ConstCounter::new(value(self.0.traffic()));
            let metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(metric)?;
        }
        Ok(())
    }
}
