//! The connection to Redis, kept by one task: it connects, waits for changes, looks whether the store is still the same,
//! and connects again. Calls use what it has, and tell it when it broke.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use jiff::Timestamp;
use meshrelay_snapshot::ContentHash;
use parking_lot::Mutex;
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::connect::{self, Connection};
use super::failure;
use super::keys::Keys;
use super::script::{self, Reply, Script};
use crate::model::{Epoch, Health, Reach};
use crate::settings::RedisSettings;
use crate::{SnapshotId, StoreError};

/// How long one question for changes waits in Redis.
const BLOCK: Duration = Duration::from_secs(1);
/// How often to look whether the store is still the same, while nothing else would tell.
const PROBE: Duration = Duration::from_secs(1);
/// Entries of one answer to the question whether there are changes: only the last one counts.
const ENTRIES: usize = 1000;
/// Layout that we write and understand.
const FORMAT: &str = "1";

/// When a call has to have ended, and by which setting.
#[derive(Clone, Copy)]
pub(super) struct Deadline {
    end: Instant,
    after: Duration,
    setting: &'static str,
}

/// A connection that answered, and which store was behind it then.
pub(super) struct Link {
    connection: Connection,
    pub(super) epoch: Epoch,
    /// The store's own part of the epoch.
    pub(super) store: String,
    /// Tells this link from those before.
    generation: u64,
}

/// What is known to be stored of a snapshot, so that only what differs has to be sent.
pub(super) struct Known {
    pub(super) rank: String,
    pub(super) digests: Vec<ContentHash>,
}

/// What the task and the calls share.
pub(super) struct Session {
    pub(super) settings: RedisSettings,
    pub(super) keys: Keys,
    link: Mutex<Option<Arc<Link>>>,
    pub(super) health: watch::Sender<Health>,
    /// Number of the newest change that was heard of.
    pub(super) newest: watch::Sender<u64>,
    suspicions: mpsc::Sender<(u64, StoreError)>,
    pub(super) known: Mutex<BTreeMap<SnapshotId, Arc<Known>>>,
}

/// What a look at the store finds.
struct Found {
    epoch: Epoch,
    store: String,
    number: u64,
}

impl Session {
    /// A session that is not connected yet, and what its task needs beside it.
    pub(super) fn new(settings: RedisSettings, keys: Keys) -> (Self, mpsc::Receiver<(u64, StoreError)>) {
        let address = settings.address.clone();
        let error = StoreError::Unreachable { address, reason: "no attempt has ended yet".to_owned() };
        let health = Health { reach: Reach::Away { since: Timestamp::now(), error }, epoch: None };
        // One is enough: the first suspicion ends the link, and others are about the same one.
        let (suspicions, suspected) = mpsc::channel(1);
        let session = Self {
            settings,
            keys,
            link: Mutex::new(None),
            health: watch::Sender::new(health),
            newest: watch::Sender::new(0),
            suspicions,
            known: Mutex::new(BTreeMap::new()),
        };
        (session, suspected)
    }

    /// The link, or why there is none.
    pub(super) fn link(&self) -> Result<Arc<Link>, StoreError> {
        if let Some(link) = &*self.link.lock() {
            return Ok(Arc::clone(link));
        }
        Err(match &self.health.borrow().reach {
            Reach::Away { error, .. } => error.clone(),
            Reach::Connected => self.unreachable("the connection has just been lost"),
        })
    }

    fn unreachable(&self, reason: &str) -> StoreError {
        StoreError::Unreachable { address: self.settings.address.clone(), reason: reason.to_owned() }
    }

    /// Runs a script, again if that may help, within the time-out.
    pub(super) async fn call(
        &self,
        script: &Script,
        keys: &[String],
        arguments: &[Vec<u8>],
        deadline: Deadline,
    ) -> Result<(Arc<Link>, Reply), StoreError> {
        let mut waits = self.waits();
        loop {
            let error = match self.attempt(script, keys, arguments, deadline).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match waits.next() {
                Some(wait) if failure::is_passing(&error) && Instant::now() + wait < deadline.end => sleep(wait).await,
                _ => return Err(error),
            }
        }
    }

    /// The deadline of a call that reads, from now.
    pub(super) fn reading(&self) -> Deadline {
        let after = self.settings.connection.read_timeout.0;
        Deadline { end: Instant::now() + after, after, setting: "readTimeout" }
    }

    /// The deadline of a call that writes, from now.
    pub(super) fn writing(&self) -> Deadline {
        let after = self.settings.connection.write_timeout.0;
        Deadline { end: Instant::now() + after, after, setting: "writeTimeout" }
    }

    /// Waits between attempts of one call.
    fn waits(&self) -> impl Iterator<Item = Duration> + use<> {
        let retries = usize::try_from(self.settings.connection.max_retries).unwrap_or(0);
        self.backoff().with_max_times(retries).build()
    }

    fn backoff(&self) -> ExponentialBuilder {
        let connection = &self.settings.connection;
        ExponentialBuilder::new()
            .with_min_delay(connection.min_retry_backoff.0)
            .with_max_delay(connection.max_retry_backoff.0.max(connection.min_retry_backoff.0))
            .with_jitter()
    }

    async fn attempt(
        &self,
        script: &Script,
        keys: &[String],
        arguments: &[Vec<u8>],
        deadline: Deadline,
    ) -> Result<(Arc<Link>, Reply), StoreError> {
        let link = self.link()?;
        let answer = timeout_at(deadline.end, evaluate(&link.connection, script, keys, arguments)).await;
        let error = match answer {
            Ok(Ok(value)) => return Ok((link, self.reply(value)?)),
            Ok(Err(error)) => failure::classify(&error, &self.settings.address),
            Err(_) => self.timeout(deadline),
        };
        if failure::is_of_connection(&error) {
            self.suspect(&link, error.clone());
        }
        Err(error)
    }

    fn timeout(&self, Deadline { after, setting, .. }: Deadline) -> StoreError {
        StoreError::Timeout { address: self.settings.address.clone(), after, setting }
    }

    fn reply(&self, value: Value) -> Result<Reply, StoreError> {
        Reply::new(value).map_err(|reason| StoreError::Refused { reason })
    }

    /// Says that a link is of no use any more.
    pub(super) fn suspect(&self, link: &Link, error: StoreError) {
        // Full means that somebody else said so already.
        let _ = self.suspicions.try_send((link.generation, error));
    }

    /// Keeps the connection for as long as the store lives.
    pub(super) async fn keep(self: Arc<Self>, mut suspected: mpsc::Receiver<(u64, StoreError)>) {
        let mut waits = self.backoff().without_max_times().build();
        let mut generation = 0;
        loop {
            generation += 1;
            let lost = match self.connect(generation).await {
                Ok((link, waiting, number)) => {
                    let start = Instant::now();
                    let lost = self.attend(link, waiting, number, &mut suspected).await;
                    // A connection that broke is replaced at once; one on which something else fails again and again
                    // is not.
                    if matches!(lost, StoreError::Unreachable { .. }) || start.elapsed() > BLOCK {
                        waits = self.backoff().without_max_times().build();
                    }
                    lost
                }
                Err(error) => error,
            };
            self.away(lost);
            sleep(waits.next().unwrap_or(self.settings.connection.max_retry_backoff.0)).await;
        }
    }

    async fn connect(&self, generation: u64) -> Result<(Link, Connection, u64), StoreError> {
        let (calls, waits) = connect::open(&self.settings, BLOCK + self.settings.connection.read_timeout.0).await?;
        let Found { epoch, store, number } = self.look(&calls).await?;
        Ok((Link { connection: calls, epoch, store, generation }, waits, number))
    }

    /// Finds out which store is behind a connection.
    async fn look(&self, connection: &Connection) -> Result<Found, StoreError> {
        let (keys, arguments) = ([self.keys.store()], [fresh().into_bytes()]);
        let asking = evaluate(connection, &script::PROBE, &keys, &arguments);
        let value = match timeout(self.settings.connection.read_timeout.0, asking).await {
            Ok(value) => value.map_err(|error| failure::classify(&error, &self.settings.address))?,
            Err(_) => return Err(self.timeout(self.reading())),
        };
        let unreadable = |problem| StoreError::Unreadable { what: self.keys.store(), problem };
        let mut reply = self.reply(value)?;
        let mut text = || reply.text().map_err(unreadable);
        let (store, run, number, format) = (text()?, text()?, text()?, text()?);
        if format != FORMAT {
            return Err(unreadable(format!("expected layout {FORMAT}, found {format}; another version wrote it")));
        }
        let number = number.parse().map_err(|_| unreadable(format!("its number {number:?} is none")))?;
        Ok(Found { epoch: Epoch::new(format!("{store}/{run}")), store, number })
    }

    /// Waits for changes and looks at the store, until the connection is lost; tells why.
    async fn attend(
        &self,
        link: Link,
        waiting: Connection,
        mut number: u64,
        suspected: &mut mpsc::Receiver<(u64, StoreError)>,
    ) -> StoreError {
        let mut link = self.connected(link, number);
        let mut looked = Instant::now();
        loop {
            let heard = tokio::select! {
                Some((generation, error)) = suspected.recv() => {
                    if generation == link.generation {
                        return error;
                    }
                    continue;
                }
                heard = self.wait(&waiting, number) => heard,
            };
            match heard {
                Ok(Some(newest)) => {
                    number = newest;
                    self.newest.send_replace(number);
                }
                Ok(None) => {}
                Err(error) => return error,
            }
            if looked.elapsed() >= PROBE {
                let found = match self.look(&link.connection).await {
                    Ok(found) => found,
                    Err(error) => return error,
                };
                looked = Instant::now();
                if found.epoch != link.epoch {
                    let Found { epoch, store, number: newest } = found;
                    let (connection, generation) = (link.connection.clone(), link.generation);
                    number = newest;
                    link = self.connected(Link { connection, epoch, store, generation }, number);
                }
            }
        }
    }

    /// Waits a while for entries of the feed after this one; gives the number of the newest.
    async fn wait(&self, waiting: &Connection, after: u64) -> Result<Option<u64>, StoreError> {
        let mut command = redis::cmd("XREAD");
        let block = u64::try_from(BLOCK.as_millis()).unwrap_or(u64::MAX);
        command.arg("COUNT").arg(ENTRIES).arg("BLOCK").arg(block);
        command.arg("STREAMS").arg(self.keys.feed()).arg(format!("{after}-0"));
        let value = match timeout(BLOCK + self.settings.connection.read_timeout.0, waiting.query(&command)).await {
            Ok(value) => value.map_err(|error| failure::classify(&error, &self.settings.address))?,
            Err(_) => return Err(self.timeout(self.reading())),
        };
        Ok(last_id(&value).filter(|number| *number > after))
    }

    /// Lets calls use a link, and tells everybody which store is behind it.
    fn connected(&self, link: Link, number: u64) -> Arc<Link> {
        let link = Arc::new(link);
        *self.link.lock() = Some(Arc::clone(&link));
        let before = self.health.send_replace(Health { reach: Reach::Connected, epoch: Some(link.epoch.clone()) });
        let (address, epoch) = (&self.settings.address, &link.epoch);
        if before.epoch.as_ref().is_some_and(|before| before != epoch) {
            tracing::warn!(%address, %epoch, "redis is connected, and is another store than before");
        } else {
            tracing::info!(%address, %epoch, "redis is connected");
        }
        // Whoever waits for changes has to look which store it is now.
        self.newest.send_replace(number);
        link
    }

    fn away(&self, error: StoreError) {
        *self.link.lock() = None;
        self.health.send_modify(|health| match &mut health.reach {
            Reach::Connected => {
                tracing::warn!(%error, "redis is away");
                health.reach = Reach::Away { since: Timestamp::now(), error };
            }
            Reach::Away { error: before, .. } => {
                if before != &error {
                    tracing::warn!(%error, "redis is away");
                }
                *before = error;
            }
        });
    }
}

/// A name that nobody gave to anything yet: of a store that has none, of a call.
pub(super) fn fresh() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Runs a script by its hash; with its text if Redis does not know it.
async fn evaluate(
    connection: &Connection,
    script: &Script,
    keys: &[String],
    arguments: &[Vec<u8>],
) -> Result<Value, RedisError> {
    let command = |name: &str, script: &str| -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(script).arg(keys.len()).arg(keys);
        for argument in arguments {
            command.arg(argument.as_slice());
        }
        command
    };
    match connection.query(&command("EVALSHA", &script.hash)).await {
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
            connection.query(&command("EVAL", script.code)).await
        }
        answer => answer,
    }
}

/// Number of the last entry in an answer to `XREAD` of one stream.
fn last_id(value: &Value) -> Option<u64> {
    let Value::Array(streams) = value else { return None };
    let Some(Value::Array(stream)) = streams.first() else { return None };
    let Some(Value::Array(entries)) = stream.get(1) else { return None };
    let Some(Value::Array(entry)) = entries.last() else { return None };
    let Some(Value::BulkString(id)) = entry.first() else { return None };
    number_of(id)
}

/// The number in the id of an entry.
pub(super) fn number_of(id: &[u8]) -> Option<u64> {
    std::str::from_utf8(id).ok()?.split('-').next()?.parse().ok()
}
