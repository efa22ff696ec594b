//! Metrics of each cluster, read from the status at scrape time: they never say something else than it, and those of a
//! cluster that is removed are gone with it.

use meshrelay_process::metrics::MetricInfo;
use meshrelay_snapshot::Name;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::sync::watch;

use crate::{ClusterStatus, Metrics, ServerStatus};

/// A metric with the label `cluster`.
struct ClusterGauge {
    name: &'static str,
    help: &'static str,
    /// `None`: this process has nothing to say of the cluster.
    value: fn(&ServerStatus, &Name, &ClusterStatus) -> Option<usize>,
}

const GAUGES: [ClusterGauge; 8] = [
    // An agent is connected to one replica of several. Another one says nothing of it, or it would seem to be gone.
    ClusterGauge {
        name: "relay_push_clients_connected",
        help: "1 while the agent sends inputs to this server, 0 when it did and does no more",
        value: |_, _, cluster| cluster.connected_at.map(|_| cluster.pushing.into()),
    },
    ClusterGauge {
        name: "relay_pull_clients_connected",
        help: "1 while the agent receives outputs from this server, 0 when it did and does no more",
        value: |_, _, cluster| cluster.connected_at.map(|_| cluster.pulling.into()),
    },
    ClusterGauge {
        name: "relay_push_clients_warmed",
        help: "1 while the agent is connected and its input is here, 0 when it was connected and is not",
        value: |_, _, cluster| cluster.connected_at.map(|_| usize::from(cluster.pushing && cluster.has_input)),
    },
    // Of every one that has an agent, though this process may never have seen it.
    ClusterGauge {
        name: "meshrelay_agent_connected",
        help: "1 for each warm cluster whose agent is connected to this or, as far as is known, another replica, else 0",
        value: |status, name, cluster| {
            (cluster.registered && cluster.warm).then(|| is_connected(status, name, cluster).into())
        },
    },
    // Of every registered cluster, so that a query can tell no safe mode from no server.
    ClusterGauge {
        name: "gloo_mesh_safe_mode_active",
        help: "1 for each registered cluster whose missing input halts translation, else 0",
        value: |status, name, cluster| cluster.registered.then(|| status.waiting_for.contains(name).into()),
    },
    ClusterGauge {
        name: "meshrelay_input_missing",
        help: "1 for each registered cluster that was connected before and whose input is missing, else 0",
        value: |status, name, cluster| {
            let missing = || status.waiting_for.contains(name) || status.running_without.contains(name);
            cluster.registered.then(|| missing().into())
        },
    },
    ClusterGauge {
        name: "meshrelay_input_objects",
        help: "Objects in the newest input",
        value: |_, _, cluster| cluster.has_input.then_some(cluster.input_objects),
    },
    ClusterGauge {
        name: "meshrelay_output_objects",
        help: "Objects in the newest output",
        value: |_, _, cluster| cluster.registered.then_some(cluster.output_objects),
    },
];

/// Whether both streams of an agent are at one replica.
fn is_connected(status: &ServerStatus, name: &Name, cluster: &ClusterStatus) -> bool {
    let others = status.replicas.values().filter(|replica| !replica.this);
    (cluster.pushing && cluster.pulling)
        || others.filter_map(|replica| replica.state.clusters.get(name)).any(|streams| streams.push && streams.pull)
}

/// What translation waits for.
const HALTED: &str = "meshrelay_translation_halted";
const HALTED_HELP: &str =
    "1 while translation waits for the inputs of clusters, or for a first look into the store, else 0";

/// Label `for`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ForLabel {
    r#for: &'static str,
}

/// What the reference says about them.
pub(crate) fn infos() -> impl Iterator<Item = MetricInfo> {
    let halted = MetricInfo { name: HALTED.to_owned(), kind: "gauge", labels: &["for"], help: HALTED_HELP };
    let of_clusters = GAUGES.iter().map(|gauge| MetricInfo {
        name: gauge.name.to_owned(),
        kind: "gauge",
        labels: &["cluster"],
        help: gauge.help,
    });
    of_clusters.chain([halted])
}

#[derive(Debug)]
pub(crate) struct ClusterCollector(pub(crate) watch::Receiver<ServerStatus>);

impl Collector for ClusterCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        // All of one moment.
        let status = self.0.borrow();
        for ClusterGauge { name, help, value } in GAUGES {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (cluster, of_cluster) in &status.clusters {
                if let Some(value) = value(&status, cluster, of_cluster) {
                    let label = Metrics::cluster(cluster);
                    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(metric.encode_family(&label)?)?;
                }
            }
        }
        let mut metric = encoder.encode_descriptor(HALTED, HALTED_HELP, None, MetricType::Gauge)?;
        for (waits_for, is_halted) in
            [("clusters", !status.waiting_for.is_empty()), ("store", status.waiting_for_store)]
        {
            let label = ForLabel { r#for: waits_for };
            ConstGauge::new(i64::from(is_halted)).encode(metric.encode_family(&label)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::{ReplicaState, ReplicaStatus, ReplicaStreams};

    fn series(status: ServerStatus) -> Vec<String> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ClusterCollector(watch::channel(status).1)));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    #[test]
    fn each_cluster_has_the_series_that_this_process_can_vouch_for() {
        let registered = ClusterStatus { registered: true, ..ClusterStatus::default() };
        let connected = ClusterStatus {
            connected_at: Some(Timestamp::UNIX_EPOCH),
            pushing: true,
            pulling: true,
            ..registered.clone()
        };
        let warmed = ClusterStatus { warm: true, has_input: true, input_objects: 7, ..connected.clone() };
        let gone = ClusterStatus { pushing: false, pulling: false, ..warmed.clone() };
        let clusters = [("away", registered), ("connected", connected), ("gone", gone), ("warmed", warmed)]
            .map(|(n, c)| (n.into(), c));
        let status = ServerStatus {
            clusters: clusters.into(),
            waiting_for: vec!["away".into()],
            waiting_for_store: true,
            running_without: vec!["gone".into()],
            ..ServerStatus::default()
        };
        let found = series(status.clone());
        let values = |metric: &str| {
            let line = |line: &String| {
                let (cluster, value) = line.strip_prefix(metric)?.strip_prefix("{cluster=\"")?.split_once("\"} ")?;
                Some(format!("{cluster} {value}"))
            };
            found.iter().filter_map(line).collect::<Vec<_>>()
        };
        assert_eq!(values("relay_push_clients_connected"), ["connected 1", "gone 0", "warmed 1"]);
        assert_eq!(values("relay_pull_clients_connected"), ["connected 1", "gone 0", "warmed 1"]);
        assert_eq!(values("relay_push_clients_warmed"), ["connected 0", "gone 0", "warmed 1"]);
        assert_eq!(values("gloo_mesh_safe_mode_active"), ["away 1", "connected 0", "gone 0", "warmed 0"]);
        assert_eq!(values("meshrelay_input_missing"), ["away 1", "connected 0", "gone 1", "warmed 0"]);
        assert_eq!(values("meshrelay_input_objects"), ["gone 7", "warmed 7"]);
        assert_eq!(values("meshrelay_output_objects").len(), 4);
        assert_eq!(values("meshrelay_agent_connected"), ["gone 0", "warmed 1"]);
        for halted in ["for=\"clusters\"} 1", "for=\"store\"} 1"] {
            assert!(found.iter().any(|line| line.strip_prefix("meshrelay_translation_halted{") == Some(halted)));
        }
        assert_eq!(found.len(), 27);
        let mut removed = status;
        removed.clusters.remove("away");
        assert!(series(removed).iter().all(|line| !line.contains("away")));
    }

    #[test]
    fn an_agent_is_connected_wherever_a_replica_says_so() {
        let cluster = ClusterStatus { registered: true, warm: true, ..ClusterStatus::default() };
        let clusters = ["both", "half", "nowhere"].map(|name| (name.into(), cluster.clone()));
        let streams = [
            ("both".into(), ReplicaStreams { push: true, pull: true }),
            ("half".into(), ReplicaStreams { push: true, pull: false }),
        ];
        let state = ReplicaState { clusters: streams.into(), ..ReplicaState::default() };
        let other = ReplicaStatus { state, ..ReplicaStatus::default() };
        let own = ReplicaStatus { this: true, ..other.clone() };
        let status = |replica: ReplicaStatus| ServerStatus {
            clusters: clusters.clone().into(),
            replicas: [("b".to_owned(), replica)].into(),
            ..ServerStatus::default()
        };
        let connected = |status| -> Vec<String> {
            let found = series(status).into_iter();
            found.filter(|line| line.starts_with("meshrelay_agent_connected{") && line.ends_with(" 1")).collect()
        };
        assert_eq!(connected(status(other)), ["meshrelay_agent_connected{cluster=\"both\"} 1"]);
        assert!(connected(status(own)).is_empty(), "of this one the streams themselves are looked at");
    }
}
