//! The server's own view of the management cluster: which clusters are registered, and its resources as an input.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use meshrelay_api::admin::KubernetesClusterSpec;
use meshrelay_api::{Kind as _, decode};
use meshrelay_cluster::ClusterView;
use meshrelay_relay::grpc::RelayHandle;
use meshrelay_relay::{Refusal, RefusalReason};
use meshrelay_snapshot::{Gvk, Name, SanitizedMirror, Snapshot, SnapshotMeta, carry_over};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::hub::ServerHub;
use crate::warm::Registration;

/// Follows the management cluster until stopped.
pub(crate) async fn follow(
    mut views: watch::Receiver<Arc<ClusterView>>,
    namespace: String,
    hub: Arc<ServerHub>,
    relay: RelayHandle,
    stop: CancellationToken,
) {
    let mut mirror = SanitizedMirror::default();
    let mut registered = BTreeMap::new();
    let mut before = doubted(Snapshot::new(), "nothing was seen yet");
    loop {
        let view = Arc::clone(&views.borrow_and_update());
        let seen = if view.snapshot.is_empty() && view.snapshot.meta().completeness.is_empty() {
            // A folder that is not there, or not filled yet; all that it takes to deregister everybody otherwise.
            doubted(view.snapshot.clone(), "it holds nothing at all")
        } else {
            view.snapshot.clone()
        };
        // What cannot be read any more is as it was.
        let seen = carry_over((&before, 0), (&seen, 0)).unwrap_or(seen);
        mirror.update(&seen);
        let (mut found, complete) = registered_clusters(&seen, &namespace, hub.inputs.clock.now());
        before = seen;
        for (name, registration) in &mut found {
            // One that has no time of its own has been there since it was seen first.
            registration.since = registered.get(name).map_or(registration.since, |known: &Registration| known.since);
        }
        if complete {
            registered = found;
        } else {
            // What cannot be read may be registered: nobody is cut off because of a broken file.
            registered.extend(found);
        }
        let problems = view.problems.iter().map(ToString::to_string).collect();
        hub.status.send_modify(|status| {
            status.problems = problems;
            for cluster in registered.keys() {
                status.clusters.entry(cluster.clone()).or_default().registered = true;
            }
        });
        let known = hub.inputs.registered();
        let removed = hub.inputs.set_management(Arc::new(mirror.clean().clone()), registered.clone());
        for (name, cluster) in hub.inputs.registered().iter().filter(|(name, _)| !known.contains_key(*name)) {
            tracing::info!(cluster = %name, warm = cluster.warm, "a cluster is registered");
        }
        hub.keep_warm();
        hub.show_known();
        for cluster in removed {
            tracing::info!(%cluster, "the cluster is no longer registered");
            let message = format!("the KubernetesCluster {cluster} was removed from the management cluster");
            relay.disconnect(&cluster, &Refusal::new(RefusalReason::Deregistered, message));
            hub.forget(&cluster);
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = views.changed() => if changed.is_err() {
                // Resources that never change again would look like a management cluster in which nothing happens.
                tracing::error!("nobody watches the management cluster any more");
                return stop.cancel();
            },
        }
    }
}

fn doubted(mut snapshot: Snapshot, why: &str) -> Snapshot {
    let doubt = snapshot.meta().doubt.clone().unwrap_or_else(|| why.to_owned());
    snapshot.set_meta(SnapshotMeta { doubt: Some(doubt), ..snapshot.meta().clone() });
    snapshot
}

/// The kind whose objects are the registered clusters.
pub(crate) fn kubernetes_cluster() -> Gvk {
    let info = KubernetesClusterSpec::INFO;
    Gvk::new(info.group, info.version, info.kind)
}

/// The registered clusters, and whether these are all.
fn registered_clusters(snapshot: &Snapshot, namespace: &str, now: Timestamp) -> (BTreeMap<Name, Registration>, bool) {
    let gvk = kubernetes_cluster();
    let mut clusters = BTreeMap::new();
    for object in snapshot.iter().filter(|object| object.key().gvk == gvk && object.key().namespace == namespace) {
        // A resource with a bad field still registers its cluster; translation reports the field.
        let skip_warming =
            decode::<KubernetesClusterSpec>(&object.value()).is_ok_and(|decoded| decoded.value.spec.skip_warming);
        let registration = Registration::read(object, skip_warming, now);
        clusters.insert(object.key().name.clone(), registration);
    }
    (clusters, snapshot.meta().doubt_about(&gvk).is_none())
}
