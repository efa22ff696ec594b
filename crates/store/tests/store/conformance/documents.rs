use std::sync::Arc;

use meshrelay_store::{Document, DocumentWritten};
use serde_json::{Value, json};

use super::Plane;

fn revision(written: &DocumentWritten) -> u64 {
    match written {
        DocumentWritten::Stored(revision) => *revision,
        DocumentWritten::Conflict(there) => panic!("a conflict with {there:?}"),
    }
}

pub(crate) async fn a_document_is_written_only_over_what_was_expected(plane: &Plane) {
    let name = "allocations";
    let put = async |expected, value: &Value| plane.one.put_document(name, expected, value).await.unwrap();
    assert_eq!(plane.two.document(name).await.unwrap(), None);
    assert_eq!(put(Some(7), &json!(1)).await, DocumentWritten::Conflict(None));
    let first = revision(&put(Some(0), &json!({"a": [1, null]})).await);
    let document = Document { revision: first, value: Arc::new(json!({"a": [1, null]})) };
    assert_eq!(plane.two.document(name).await.unwrap(), Some(document.clone()));
    assert_eq!(put(Some(0), &json!(2)).await, DocumentWritten::Conflict(Some(document.clone())));
    assert_eq!(put(Some(first + 1), &json!(2)).await, DocumentWritten::Conflict(Some(document.clone())));
    let second = revision(&put(Some(first), &json!(2)).await);
    let third = revision(&put(None, &json!(3)).await);
    assert!(first < second && second < third);
    assert_eq!(plane.two.documents().await.unwrap(), [(name.to_owned(), third)].into());

    // After a removal an old revision must not come back: who remembers it would take the new document for the old one.
    let remove = async |expected| plane.two.remove_document(name, expected).await.unwrap();
    assert_eq!(remove(Some(second)).await.map(|there| there.revision), Some(third));
    assert_eq!(remove(Some(third)).await, None);
    assert_eq!(plane.one.document(name).await.unwrap(), None);
    assert_eq!(plane.one.documents().await.unwrap(), [].into());
    assert_eq!((remove(Some(third)).await, remove(None).await), (None, None));
    let fourth = revision(&put(Some(0), &json!(4)).await);
    assert!(fourth > third);
    assert_eq!(remove(None).await, None);
}

pub(crate) async fn documents_can_have_any_name_and_be_large(plane: &Plane) {
    // About 6 MB that do not compress to nothing, as the reports of a large cluster.
    let row = |number: u64| json!({"name": format!("{:x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)), "n": number});
    let large = Value::Array((0..120_000).map(row).collect());
    let names = ["reports/cluster1", "with space", "{braces}:colons*", "ü", "0"];
    for (name, value) in names.iter().zip([&large, &json!(null), &json!("text"), &json!({}), &json!(1.5)]) {
        assert!(matches!(plane.one.put_document(name, None, value).await.unwrap(), DocumentWritten::Stored(_)));
        assert_eq!(*plane.two.document(name).await.unwrap().unwrap().value, *value, "{name}");
    }
    assert_eq!(plane.two.documents().await.unwrap().len(), names.len());
}

pub(crate) async fn counters_in_one_document_lose_no_count(plane: &Plane) {
    const EACH: u64 = 40;
    let count = async |store: &dyn meshrelay_store::SnapshotStore| {
        for _ in 0..EACH {
            let mut there = store.document("count").await.unwrap();
            loop {
                let (expected, value) = there.map_or((0, 0), |there| (there.revision, there.value.as_u64().unwrap()));
                match store.put_document("count", Some(expected), &json!(value + 1)).await.unwrap() {
                    DocumentWritten::Stored(_) => break,
                    DocumentWritten::Conflict(newer) => there = newer,
                }
            }
        }
    };
    let (one, two) = (Arc::clone(&plane.one), Arc::clone(&plane.two));
    tokio::join!(count(&*one), count(&*two));
    assert_eq!(*plane.one.document("count").await.unwrap().unwrap().value, json!(2 * EACH));
}
