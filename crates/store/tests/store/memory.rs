use std::sync::Arc;

use meshrelay_store::MemoryStore;

use crate::conformance::{FEED, Plane, cases, each_a_test};

async fn plane() -> Plane {
    let store = MemoryStore::with_feed(FEED);
    Plane { one: Arc::new(store.clone()), two: Arc::new(store), server: Box::new(()) }
}

cases!(each_a_test, plane);
