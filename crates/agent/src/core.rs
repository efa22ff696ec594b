use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use meshrelay_cluster::{Cluster, ClusterView};
use meshrelay_process::VERSION;
use meshrelay_process::machine::{Clock, Tasks, blocking};
use meshrelay_process::readiness::{BlockReady, Readiness};
use meshrelay_relay::grpc::{Client, Progress, Reconnect, Transport};
use meshrelay_relay::{End, Held, Received, RefusalReason, Sent};
use meshrelay_snapshot::{Name, Snapshot};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::deletions::DeletionFiles;
use crate::discovery::Input;
use crate::held_output::HeldOutputFile;
use crate::in_force::{FollowRule, InForce};
use crate::input_version::{InputVersionFile, microseconds};
use crate::link::Link;
use crate::output::{Hold, Outputs};
use crate::takeover::Takeover;
use crate::{AgentStatus, Metrics, Settings};

/// How an agent gets to its servers. Messages of failures are for people.
pub trait Dial: Send + Sync {
    /// What a `host:port` stands for now.
    fn endpoints<'a>(&'a self, address: &'a str) -> BoxFuture<'a, Result<Vec<SocketAddr>, String>>;

    /// Connects to an endpoint, which `address` stands for.
    fn connect<'a>(
        &'a self,
        address: &'a str,
        endpoint: SocketAddr,
    ) -> BoxFuture<'a, Result<Arc<dyn Transport>, String>>;

    /// Gets what the agent has to show before streams are opened there.
    fn prepare<'a>(&'a self, _address: &'a str, _endpoint: SocketAddr) -> BoxFuture<'a, Result<(), String>> {
        std::future::ready(Ok(())).boxed()
    }

    /// A server did not accept what the agent showed.
    fn refused(&self) {}
}

/// What the core of an agent has around it.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The machine's clock.
    pub clock: Clock,
    /// Where its tasks run.
    pub tasks: Tasks,
    /// Counts what happens.
    pub metrics: Metrics,
    /// Says what is waited for.
    pub readiness: Readiness,
    /// Ends it in good order.
    pub stop: CancellationToken,
    /// Decides what is left to chance.
    pub seed: u64,
    /// How what is in force follows outputs.
    pub follow: FollowRule,
}

/// An agent without its edges, which are sockets, certificates, and the folder that it watches.
#[derive(Debug)]
pub struct Core {
    status: Arc<watch::Sender<AgentStatus>>,
    surroundings: Surroundings,
    acknowledged: BlockReady,
}

impl Core {
    /// A core that runs nothing yet.
    pub fn new(settings: &Settings, surroundings: Surroundings) -> Self {
        let acknowledged = surroundings.readiness.register_task("the server to hold the first input snapshot");
        let status = AgentStatus {
            cluster: settings.cluster.clone(),
            version: VERSION.to_owned(),
            servers: settings.server_address.as_slice().to_vec(),
            ..AgentStatus::default()
        };
        Self { status: Arc::new(watch::Sender::new(status)), surroundings, acknowledged }
    }

    /// What the agent can tell about itself, now and whenever it changes.
    pub fn status(&self) -> watch::Receiver<AgentStatus> {
        self.status.subscribe()
    }

    /// Goes on from what is in the state folder: pushes what the cluster holds, pulls and applies.
    pub async fn run<C: Cluster>(self, settings: &Settings, cluster: Arc<C>, client: Arc<Client>, dial: Arc<dyn Dial>) {
        let Self { status, surroundings, acknowledged } = self;
        let Surroundings { clock, tasks, metrics, readiness, stop, seed, follow } = surroundings;
        let name = Name::from(&settings.cluster);
        let (inputs, inputs_of) = watch::channel(None);
        let changed_at = Arc::new(Mutex::new(Instant::now()));
        tasks.spawn(follow_inputs(
            Input::new(name.clone(), settings.discovery()),
            cluster.watch(),
            inputs,
            Arc::clone(&changed_at),
            metrics.clone(),
            Arc::clone(&status),
            stop.clone(),
        ));

        let file = HeldOutputFile::new(&settings.state_directory, name.clone());
        let (held, in_force) = restore(&file, settings, &name).await;
        let addresses = settings.server_address.as_slice().to_vec();
        // With one server there is nothing to take over.
        let window = if addresses.len() > 1 { settings.takeover_window } else { 0 };
        let takeover = Takeover::open(&settings.state_directory, Duration::from_secs(window)).with_clock(clock.clone());
        let takeover = Arc::new(takeover);
        let deletions = DeletionFiles::new(&settings.state_directory, name);
        let applier = Outputs {
            cluster,
            file,
            in_force: tokio::sync::Mutex::new(in_force.with_rule(follow)),
            brake: settings.delete_brake.clone(),
            hold: Hold::load(&deletions, &clock).await,
            clock: clock.clone(),
            deletions,
            metrics: metrics.clone(),
            status: Arc::clone(&status),
            readiness,
            takeover: Arc::clone(&takeover),
            retry: Mutex::default(),
        };
        let link = Arc::new(Link::new(
            addresses,
            Arc::clone(&dial),
            Arc::clone(&client),
            takeover,
            metrics.clone(),
            Arc::clone(&status),
            stop.clone(),
            seed,
        ));
        tasks.spawn({
            let link = Arc::clone(&link);
            async move { link.prefer().await }
        });
        tasks.spawn({
            let mut version_file = InputVersionFile::open(&settings.state_directory);
            let acknowledged = Mutex::new(Some(acknowledged));
            let (client, stop, link) = (Arc::clone(&client), stop.clone(), Arc::clone(&link));
            let progress = Follow { dial: Arc::clone(&dial), metrics: metrics.clone(), status: Arc::clone(&status) };
            async move {
                let reconnect = Reconnect { client: &client, connections: &*link, stop };
                let versions = version_file.versions(microseconds(&clock));
                let on_progress = |event| {
                    if let Progress::Event(Sent::Given(version)) = &event {
                        version_file.given(*version);
                    }
                    if let Progress::Event(Sent::Acknowledged { kind: Some(_), .. }) = &event {
                        progress.metrics.push_time.observe(changed_at.lock().elapsed().as_secs_f64());
                    }
                    if let Progress::Event(Sent::Acknowledged { .. }) = &event {
                        acknowledged.lock().take();
                    }
                    progress.push(event);
                };
                reconnect.push(inputs_of, versions, || microseconds(&clock), on_progress).await;
            }
        });
        tasks.spawn({
            let progress = Follow { dial, metrics, status };
            async move {
                let reconnect = Reconnect { client: &client, connections: &*link, stop };
                let held = tokio::select! {
                    biased;
                    () = reconnect.stop.cancelled() => return,
                    held = applier.resumed(held) => held,
                };
                reconnect.pull(held, &applier, |event| progress.pull(event)).await;
            }
        });
    }
}

async fn restore(file: &HeldOutputFile, settings: &Settings, name: &Name) -> (Option<Held>, InForce) {
    let (reader, name) = (file.clone(), name.clone());
    let (folder, cluster) = (settings.state_directory.clone(), name.clone());
    let read = blocking(move || {
        let held = reader.load().unwrap_or_else(|error| {
            tracing::warn!(%error, "the last output cannot be read back; what is applied stays until the server speaks");
            None
        });
        let in_force = InForce::load(&folder, &cluster, held.as_ref());
        (held, in_force)
    });
    read.await.unwrap_or_else(|error| {
        tracing::error!(%error, "reading the last output failed");
        (None, InForce::load(&settings.state_directory, &name, None))
    })
}

async fn follow_inputs(
    mut input: Input,
    mut views: watch::Receiver<Arc<ClusterView>>,
    inputs: watch::Sender<Option<Arc<Snapshot>>>,
    changed_at: Arc<Mutex<Instant>>,
    metrics: Metrics,
    status: Arc<watch::Sender<AgentStatus>>,
    stop: CancellationToken,
) {
    loop {
        let view = Arc::clone(&views.borrow_and_update());
        let raw = view.snapshot.clone();
        let updated = blocking(move || {
            let snapshot = input.update(&raw);
            (input, snapshot)
        });
        let snapshot;
        match updated.await {
            Ok(after) => (input, snapshot) = after,
            Err(error) => {
                tracing::error!(%error, "discovery failed");
                return stop.cancel();
            }
        }
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        metrics.input_objects.set(count(snapshot.len()));
        metrics.problems.set(count(view.problems.len()));
        status.send_modify(|status| {
            status.input_objects = snapshot.len();
            status.problems = view.problems.iter().map(ToString::to_string).collect();
        });
        *changed_at.lock() = Instant::now();
        inputs.send_replace(Some(snapshot));
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = views.changed() => if changed.is_err() {
                // An input that never changes again would look like a cluster in which nothing happens.
                tracing::error!("nobody watches the cluster any more");
                return stop.cancel();
            },
        }
    }
}

/// Follows what happens on the two streams.
struct Follow {
    dial: Arc<dyn Dial>,
    metrics: Metrics,
    status: Arc<watch::Sender<AgentStatus>>,
}

impl Follow {
    fn push(&self, progress: Progress<Sent>) {
        match progress {
            Progress::Event(Sent::Opened(_)) => {
                self.metrics.push_connected.set(1);
                self.status.send_modify(|status| {
                    status.pushing = true;
                    status.last_error.clear();
                });
            }
            Progress::Event(Sent::Withheld(withheld)) => {
                self.metrics.withheld.set(i64::try_from(withheld.len()).unwrap_or(i64::MAX));
                for object in withheld.iter() {
                    tracing::error!(reason = object.reason(), "an object of the input does not travel; the rest does");
                }
            }
            Progress::Event(Sent::Nacked { reason, message }) => {
                tracing::warn!(code = reason.code(), message, "the server refused a transfer");
            }
            Progress::Event(_) => {}
            Progress::Ended(end) => {
                self.metrics.push_connected.set(0);
                self.ended(&end, &self.metrics.push_errors);
                self.status.send_modify(|status| status.pushing = false);
            }
        }
    }

    fn pull(&self, progress: Progress<Received>) {
        match progress {
            Progress::Event(Received::Opened(_)) => {
                self.metrics.pull_connected.set(1);
                self.status.send_modify(|status| status.pulling = true);
            }
            Progress::Event(Received::Rejected { reason, message }) => {
                tracing::warn!(code = reason.code(), message, "refused an output");
            }
            Progress::Event(Received::Committed(_)) => {}
            Progress::Ended(end) => {
                self.metrics.pull_connected.set(0);
                self.ended(&end, &self.metrics.pull_errors);
                self.status.send_modify(|status| status.pulling = false);
            }
        }
    }

    fn ended(&self, end: &End, errors: &prometheus_client::metrics::counter::Counter) {
        if let End::Refused(refusal) = end {
            self.metrics.refused(refusal.reason);
            if refusal.reason == RefusalReason::ExpiredCertificate {
                self.dial.refused();
            }
        }
        if !matches!(end, End::Finished | End::Drained(_) | End::Superseded) {
            errors.inc();
            self.status.send_modify(|status| status.last_error = end.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_agent_whose_cluster_is_not_watched_any_more_stops() {
        let stop = CancellationToken::new();
        let (watched, views) = watch::channel(Arc::default());
        let (inputs, mut input) = watch::channel(None);
        let following = tokio::spawn(follow_inputs(
            Input::new("one".into(), Settings::default().discovery()),
            views,
            inputs,
            Arc::new(Mutex::new(Instant::now())),
            Metrics::default(),
            Arc::new(watch::Sender::new(AgentStatus::default())),
            stop.clone(),
        ));
        input.wait_for(Option::is_some).await.unwrap();
        assert!(!stop.is_cancelled());
        drop(watched);
        following.await.unwrap();
        assert!(stop.is_cancelled());
    }
}
