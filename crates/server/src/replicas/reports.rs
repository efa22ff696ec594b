//! Reports in the store, one snapshot per cluster with an object per resource, so that a change of one report is a small write.
//! The replica that leads writes them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use meshrelay_api::status::Approval;
use meshrelay_process::machine::blocking;
use meshrelay_snapshot::{Name, Object, ObjectKey, Snapshot};
use meshrelay_store::{Epoch, Role, SnapshotId, SnapshotStore, StoreError, Stored};
use meshrelay_translate::{ReportDocument, Reports, ResourceRef, ResourceReport};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::leader::Leadership;
use super::versions::{Newest, put_newest};
use crate::ServerStatus;
use crate::hub::ServerHub;

/// Version and kind of the objects.
const API_VERSION: &str = "meshrelay.io/v1";
const KIND: &str = "ResourceReport";

/// After a failed call, when it is made again.
const RETRY: Duration = Duration::from_millis(500);

/// What was said about resources before this process translated.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EarlierReports {
    /// Resources with a report.
    pub resources: usize,
    /// Those that were not accepted.
    pub problem_resources: usize,
    /// What was found about them, as text; the first [`ServerStatus::FINDINGS`].
    pub findings: Vec<String>,
    /// The replicas that wrote this.
    pub written_by: BTreeSet<String>,
}

/// Reports as objects, made anew where they changed only.
#[derive(Default)]
struct Made {
    of: BTreeMap<ResourceRef, (Arc<ResourceReport>, ObjectKey)>,
    clusters: BTreeMap<Name, Snapshot>,
    /// Clusters whose snapshot is not in the store as it is.
    changed: BTreeSet<Name>,
}

impl Made {
    fn follow(&mut self, reports: &Reports) {
        let gone: Vec<_> = self.of.keys().filter(|resource| reports.get(resource).is_none()).cloned().collect();
        for resource in gone {
            if let Some((_, key)) = self.of.remove(&resource)
                && let Some(snapshot) = self.clusters.get_mut(&resource.cluster)
            {
                snapshot.remove(&key);
                self.changed.insert(resource.cluster);
            }
        }
        for (resource, report) in reports.iter() {
            if self.of.get(resource).is_some_and(|(made, _)| Arc::ptr_eq(made, report) || made == report) {
                continue;
            }
            let Some(object) = object(resource, report) else { continue };
            let key = object.key().clone();
            self.clusters.entry(resource.cluster.clone()).or_default().insert(Arc::new(object));
            self.of.insert(resource.clone(), (Arc::clone(report), key));
            self.changed.insert(resource.cluster.clone());
        }
    }
}

/// The report on a resource as an object, under a name that no other resource of the cluster has.
fn object(resource: &ResourceRef, report: &ResourceReport) -> Option<Object> {
    let ObjectKey { gvk, namespace, name } = &resource.key;
    let value = json!({
        "apiVersion": API_VERSION, "kind": KIND,
        "metadata": {"name": format!("{}.{}.{}/{name}", gvk.kind, gvk.version, gvk.group), "namespace": namespace},
        "resource": {
            "cluster": resource.cluster, "group": gvk.group, "version": gvk.version, "kind": gvk.kind,
            "namespace": namespace, "name": name,
        },
        "report": serde_json::to_value(ReportDocument::new(resource, report)).ok()?,
    });
    Object::from_value(&value).ok()
}

/// Writes the reports while this replica leads, and reads those of before when it starts.
pub(crate) struct StoredReports {
    store: Arc<dyn SnapshotStore>,
    replica: String,
    hub: Arc<ServerHub>,
    leader: Leadership,
    made: Made,
    /// Versions that this replica wrote under this token into this store.
    written: BTreeMap<Name, u64>,
    under: (Option<u64>, Option<Epoch>),
}

impl StoredReports {
    pub(crate) fn new(store: Arc<dyn SnapshotStore>, replica: &str, hub: Arc<ServerHub>, leader: Leadership) -> Self {
        let (made, written, under) = (Made::default(), BTreeMap::new(), (None, None));
        Self { store, replica: replica.to_owned(), hub, leader, made, written, under }
    }

    /// Runs until stopped; `reports` are the newest.
    pub(crate) async fn run(mut self, mut reports: watch::Receiver<Option<Arc<Reports>>>, stop: CancellationToken) {
        let (mut health, mut leader) = (self.store.health(), self.leader.clone());
        let mut last: Option<Arc<Reports>> = None;
        let steps = async {
            loop {
                let (newest, token) = (reports.borrow_and_update().clone(), *leader.borrow_and_update());
                let epoch = health.borrow_and_update().epoch.clone();
                let step = match (newest, token) {
                    (None, _) => self.show_earlier().await.map(|()| true),
                    (Some(newest), Some(token)) => {
                        if last.as_ref().is_none_or(|last| !Arc::ptr_eq(last, &newest)) {
                            self.made = follow(std::mem::take(&mut self.made), &newest).await;
                            last = Some(newest);
                        }
                        self.write(token, epoch).await
                    }
                    (Some(_), None) => {
                        // Another replica has them.
                        (self.made, last) = (Made::default(), None);
                        Ok(true)
                    }
                };
                if let Err(error) = &step {
                    self.hub.metrics.store_errors.inc();
                    tracing::debug!(%error, "the reports could not be written or read");
                }
                let again = Instant::now() + RETRY;
                tokio::select! {
                    biased;
                    changed = reports.changed() => if changed.is_err() { return },
                    Ok(()) = leader.changed() => {}
                    Ok(()) = health.changed() => {}
                    () = tokio::time::sleep_until(again), if !step.unwrap_or(false) => {}
                }
            }
        };
        stop.run_until_cancelled(steps).await;
    }

    /// Tells whether all is written, or another replica is to write it.
    async fn write(&mut self, token: u64, epoch: Option<Epoch>) -> Result<bool, StoreError> {
        let under = (Some(token), epoch);
        if self.under != under {
            // Another replica may have written meanwhile, or the store may be another one.
            self.written.clear();
            self.made.changed = self.made.clusters.keys().cloned().collect();
            for SnapshotId { cluster, .. } in
                self.store.heads().await?.into_keys().filter(|id| id.role == Role::Reports)
            {
                self.made.changed.insert(cluster);
            }
            self.under = under;
        }
        for cluster in self.made.changed.clone() {
            if *self.leader.borrow() != Some(token) {
                return Ok(true);
            }
            let id = SnapshotId::reports(cluster.clone());
            match self.made.clusters.get(&cluster).filter(|snapshot| !snapshot.is_empty()) {
                None => {
                    self.store.remove(&id).await?;
                    self.written.remove(&cluster);
                    self.made.clusters.remove(&cluster);
                }
                Some(snapshot) => {
                    let snapshot = Arc::new(snapshot.clone());
                    // A call that hung may come after those of the next leader, which are not to be written over.
                    let stored = |version| {
                        let leads = *self.leader.borrow() == Some(token);
                        leads.then(|| Stored::new(version, Arc::clone(&snapshot), Value::Null, &self.replica))
                    };
                    let known = self.written.get(&cluster).copied().unwrap_or_default();
                    let now = self.hub.inputs.clock.now();
                    match put_newest(&*self.store, &id, known, now, stored).await? {
                        Newest::Version(version) => drop(self.written.insert(cluster.clone(), version)),
                        Newest::Overtaken => continue,
                        Newest::Withdrawn => return Ok(true),
                    }
                }
            }
            self.made.changed.remove(&cluster);
        }
        Ok(self.made.changed.is_empty())
    }

    /// Shows what is in the store, once, as there is nothing of this process's own yet.
    async fn show_earlier(&self) -> Result<(), StoreError> {
        if self.hub.status.borrow().earlier_reports.is_some() {
            return Ok(());
        }
        let mut earlier = EarlierReports::default();
        for id in self.store.heads().await?.into_keys().filter(|id| id.role == Role::Reports) {
            let Some(stored) = self.store.load(&id, None).await? else { continue };
            earlier.add(&stored);
        }
        self.hub.status.send_if_modified(|status| {
            let is_news = earlier.resources > 0 && status.translations == 0;
            if is_news {
                status.earlier_reports = Some(earlier);
            }
            is_news
        });
        Ok(())
    }
}

impl EarlierReports {
    fn add(&mut self, stored: &Stored) {
        self.written_by.insert(stored.writer().to_owned());
        for object in stored.snapshot().sorted() {
            let report = &object.value()["report"];
            self.resources += 1;
            if report["approval"].as_str() == Some(Approval::Accepted.as_str()) {
                continue;
            }
            self.problem_resources += 1;
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            for message in report["messages"].as_array().map(Vec::as_slice).unwrap_or_default() {
                if self.findings.len() < ServerStatus::FINDINGS {
                    let (resource, severity) = (text(&report["resource"]), text(&message["severity"]));
                    self.findings.push(format!(
                        "{resource}: {severity} {}: {}",
                        text(&message["code"]),
                        text(&message["text"])
                    ));
                }
            }
        }
    }
}

/// Makes objects where it holds nobody up.
async fn follow(mut made: Made, reports: &Arc<Reports>) -> Made {
    let reports = Arc::clone(reports);
    let done = blocking(move || {
        made.follow(&reports);
        made
    });
    done.await.unwrap_or_else(|error| {
        tracing::error!(%error, "the reports could not be made ready for the store");
        Made::default()
    })
}

#[cfg(test)]
mod tests {
    use meshrelay_store::MemoryStore;
    use meshrelay_translate::{Inputs, Options, Translator};

    use super::*;
    use crate::replicas::testing::{StoreWithFaults, hub};

    /// Reports on workspaces of the management cluster, each accepted or not.
    fn reports(translator: &mut Translator, workspaces: &[(&str, bool)]) -> Arc<Reports> {
        let workspace = |(name, good): &(&str, bool)| {
            let clusters = if *good { json!([{"name": "*", "namespaces": [{"name": name}]}]) } else { json!("all") };
            let value = json!({
                "apiVersion": "admin.gloo.solo.io/v2", "kind": "Workspace",
                "metadata": {"name": name, "namespace": "gloo-mesh"}, "spec": {"workloadClusters": clusters},
            });
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            [value, namespace].map(|value| Arc::new(Object::from_value(&value).unwrap()))
        };
        let snapshot: Snapshot = workspaces.iter().flat_map(workspace).collect();
        let clusters = [("mgmt".into(), Arc::new(snapshot))].into();
        translator.translate(&Inputs { management_cluster: "mgmt".into(), clusters }).reports
    }

    struct Replica {
        hub: Arc<ServerHub>,
        reports: watch::Sender<Option<Arc<Reports>>>,
        leads: watch::Sender<Option<u64>>,
        _stop: tokio_util::sync::DropGuard,
        _folder: tempfile::TempDir,
    }

    fn start(name: &str, store: &MemoryStore, token: Option<u64>) -> Replica {
        start_in(name, Arc::new(store.clone()), token)
    }

    fn start_in(name: &str, store: Arc<dyn SnapshotStore>, token: Option<u64>) -> Replica {
        let (folder, stop) = (tempfile::tempdir().unwrap(), CancellationToken::new());
        let (hub, leads, reports) = (hub(folder.path()), watch::Sender::new(token), watch::Sender::new(None));
        let stored = StoredReports::new(store, name, Arc::clone(&hub), leads.subscribe());
        tokio::spawn(stored.run(reports.subscribe(), stop.clone()));
        Replica { hub, reports, leads, _stop: stop.drop_guard(), _folder: folder }
    }

    /// Waits until the reports in the store are by that replica, on so many resources; `None`: until there are none.
    async fn wait(store: &MemoryStore, wanted: Option<(&str, u64)>) -> Option<Stored> {
        let id = SnapshotId::reports("mgmt");
        let mut cursor = meshrelay_store::Cursor::default();
        let found = async {
            loop {
                use meshrelay_store::Changes::{CatchUp, News};
                let (News { cursor: next, .. } | CatchUp { cursor: next }) =
                    store.changes(&cursor, Duration::from_secs(60)).await.unwrap();
                cursor = next;
                let stored = store.load(&id, None).await.unwrap();
                let head = stored.as_ref().map(Stored::head);
                if head.as_ref().map(|head| (head.writer.as_str(), head.objects)) == wanted {
                    return stored;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), found).await.unwrap()
    }

    #[test]
    fn only_reports_that_changed_are_made_anew() {
        let mut translator = Translator::new(Options::default());
        let mut made = Made::default();
        made.follow(&reports(&mut translator, &[("a", true), ("b", true), ("c", true)]));
        assert_eq!(std::mem::take(&mut made.changed), ["mgmt".into()].into());
        let before = made.clusters["mgmt"].clone();
        assert_eq!(before.len(), 3);
        made.follow(&reports(&mut translator, &[("a", true), ("b", false)]));
        let delta = made.clusters["mgmt"].diff(&before);
        let named = |keys: Vec<&ObjectKey>| keys.iter().map(|key| key.name.to_string()).collect::<Vec<_>>();
        assert_eq!(
            named(delta.upserts.iter().map(|object| object.key()).collect()),
            ["Workspace.v2.admin.gloo.solo.io/b"]
        );
        assert_eq!(named(delta.removes.iter().collect()), ["Workspace.v2.admin.gloo.solo.io/c"]);
        made.changed.clear();
        made.follow(&reports(&mut translator, &[("a", true), ("b", false)]));
        assert!(made.changed.is_empty());
    }

    #[tokio::test]
    async fn the_leader_alone_writes_and_the_next_one_goes_on_above_it() {
        let (store, mut translator) = (MemoryStore::default(), Translator::new(Options::default()));
        let (a, b) = (start("a", &store, Some(1)), start("b", &store, None));
        // Another plane's leftovers, as of a cluster that is gone.
        store.put(&SnapshotId::reports("gone"), &Stored::new(1, Arc::default(), Value::Null, "x")).await.unwrap();
        let one = reports(&mut translator, &[("w", true)]);
        b.reports.send_replace(Some(Arc::clone(&one)));
        a.reports.send_replace(Some(one));
        let first = wait(&store, Some(("a", 1))).await.unwrap();
        a.leads.send_replace(None);
        a.reports.send_replace(Some(reports(&mut translator, &[("w", true), ("x", true), ("y", true)])));
        b.leads.send_replace(Some(2));
        b.reports.send_replace(Some(reports(&mut translator, &[("w", true), ("x", true)])));
        let second = wait(&store, Some(("b", 2))).await.unwrap();
        assert!(second.version() > first.version());
        assert!(store.load(&SnapshotId::reports("gone"), None).await.unwrap().is_none());
        b.reports.send_replace(Some(reports(&mut translator, &[])));
        wait(&store, None).await;
    }

    #[tokio::test]
    async fn a_write_that_hangs_until_another_replica_leads_leaves_its_reports_alone() {
        let (store, mut translator) = (MemoryStore::default(), Translator::new(Options::default()));
        let faulty = Arc::new(StoreWithFaults::over(store.clone()));
        let (folder, leads) = (tempfile::tempdir().unwrap(), watch::Sender::new(Some(1)));
        let replica = |name: &str, store: Arc<dyn SnapshotStore>, newest: Arc<Reports>| {
            let mut stored = StoredReports::new(store, name, hub(folder.path()), leads.subscribe());
            stored.made.follow(&newest);
            stored
        };
        let mut a = replica("a", Arc::<StoreWithFaults>::clone(&faulty), reports(&mut translator, &[("w", true)]));
        a.write(1, None).await.unwrap();
        a.made.follow(&reports(&mut translator, &[("w", true), ("old", true)]));
        faulty.hang(true);
        let mut late = Box::pin(a.write(1, None));
        assert!(futures::poll!(&mut late).is_pending());
        leads.send_replace(Some(2));
        let newer = reports(&mut translator, &[("w", true), ("x", true), ("y", true)]);
        let mut b = replica("b", Arc::new(store.clone()), newer);
        b.write(2, None).await.unwrap();
        let written = store.load(&SnapshotId::reports("mgmt"), None).await.unwrap().unwrap();
        assert_eq!((written.writer(), written.head().objects), ("b", 3));
        faulty.hang(false);
        late.await.unwrap();
        let now = store.load(&SnapshotId::reports("mgmt"), None).await.unwrap().unwrap();
        assert_eq!(now.head(), written.head());
    }

    #[tokio::test]
    async fn reports_that_others_overtake_again_and_again_are_written_at_last() {
        let (store, mut translator) = (MemoryStore::default(), Translator::new(Options::default()));
        let faulty = Arc::new(StoreWithFaults::over(store.clone()));
        faulty.overtake(7);
        let a = start_in("a", Arc::<StoreWithFaults>::clone(&faulty), Some(1));
        a.reports.send_replace(Some(reports(&mut translator, &[("good", true)])));
        wait(&store, Some(("a", 1))).await;
    }

    #[tokio::test]
    async fn a_replica_that_has_not_translated_shows_what_was_found_before() {
        let (store, mut translator) = (MemoryStore::default(), Translator::new(Options::default()));
        let a = start("a", &store, Some(1));
        a.reports.send_replace(Some(reports(&mut translator, &[("good", true), ("bad", false)])));
        wait(&store, Some(("a", 2))).await;
        assert_eq!(a.hub.status.borrow().earlier_reports, None);
        let b = start("b", &store, None);
        let mut status = b.hub.status.subscribe();
        let shown = status.wait_for(|status| status.earlier_reports.is_some());
        let shown = tokio::time::timeout(Duration::from_secs(60), shown).await.unwrap().unwrap().clone();
        let earlier = shown.earlier_reports.unwrap();
        assert_eq!((earlier.resources, earlier.problem_resources), (2, 1), "{:?}", earlier.findings);
        assert!(earlier.findings[0].contains("gloo-mesh/bad"), "{:?}", earlier.findings);
        assert_eq!(earlier.written_by, ["a".to_owned()].into());
    }
}
