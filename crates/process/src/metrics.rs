//! Metrics that are registered and documented in one place.

use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Metric, Registry};

/// What the reference says about one metric.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MetricInfo {
    /// Name as Prometheus shows it; counters end in `_total`.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Labels, in the order in which they are written.
    pub labels: &'static [&'static str],
    /// One line for people.
    pub help: &'static str,
}

/// Registers metrics and remembers what they are.
#[derive(Debug)]
pub struct Documented<'a> {
    registry: &'a mut Registry,
    infos: Vec<MetricInfo>,
}

impl<'a> Documented<'a> {
    /// Registers into `registry`.
    pub fn new(registry: &'a mut Registry) -> Self {
        Self { registry, infos: Vec::new() }
    }

    /// Registers one metric.
    pub fn add(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        metric: &(impl Metric + Clone),
    ) {
        let metric = metric.clone();
        let (kind, suffix) = match metric.metric_type() {
            MetricType::Counter => ("counter", "_total"),
            MetricType::Histogram => ("histogram", ""),
            MetricType::Gauge => ("gauge", ""),
            _ => ("unknown", ""),
        };
        self.infos.push(MetricInfo { name: format!("{name}{suffix}"), kind, labels, help });
        self.registry.register(name, help, metric);
    }

    /// What was registered.
    pub fn into_infos(self) -> Vec<MetricInfo> {
        self.infos
    }
}
