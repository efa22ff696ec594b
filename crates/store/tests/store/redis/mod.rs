mod alone;
mod faults;
mod installations;
mod security;

use std::sync::Arc;

use meshrelay_store::{RedisSettings, RedisStore, SnapshotStore as _, Span};
use meshrelay_testbed::Redis;

use crate::conformance::{DEADLINE, FEED, Plane, cases, one_after_the_other};

pub(crate) use installations::OF_A_CLUSTER;
pub(crate) use security::PERMISSIONS;

/// Settings for a server: time-outs that a busy machine keeps.
fn settings(address: impl ToString) -> RedisSettings {
    let mut settings = RedisSettings { address: address.to_string(), feed_length: FEED, ..RedisSettings::default() };
    settings.connection.dial_timeout = Span(DEADLINE);
    settings.connection.read_timeout = Span(DEADLINE);
    settings.connection.write_timeout = Span(DEADLINE);
    settings
}

/// A store that is connected.
async fn connected(settings: &RedisSettings, plane: &str) -> Arc<RedisStore> {
    let store = Arc::new(RedisStore::start(settings.clone(), plane).unwrap());
    reaches(&store).await;
    store
}

async fn reaches(store: &RedisStore) {
    let mut health = store.health();
    let connected = tokio::time::timeout(DEADLINE, health.wait_for(|health| health.is_connected())).await;
    if connected.is_err() {
        panic!("waited in vain for a connection: {:?}", store.health().borrow());
    }
}

/// One server alone, with what its arguments say, and a store on it.
async fn alone(arguments: &[&str]) -> (Redis, Arc<RedisStore>) {
    let server = Redis::start(arguments);
    let store = connected(&settings(server.address()), "test").await;
    (server, store)
}

/// The whole suite with these settings, each case with a plane of its own.
async fn suite(settings: &RedisSettings) {
    let plane = async |name: &str| Plane {
        one: connected(settings, name).await,
        two: connected(settings, name).await,
        server: Box::new(()),
    };
    cases!(one_after_the_other, plane);
}
