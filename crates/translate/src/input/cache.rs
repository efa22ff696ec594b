use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use meshrelay_snapshot::{ContentHash, Object};

use super::{Decode, Decoded, Input};
use crate::report::Finding;

/// Dead entries that are kept before the cache is swept.
const SLACK: usize = 1024;

/// Decoded objects by content, for as long as a cluster's input holds them.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    decoded: BTreeMap<ContentHash, Weak<dyn Any + Send + Sync>>,
    swept: usize,
}

impl Cache {
    /// The decoded object, from memory if an equal one was decoded before.
    ///
    /// # Errors
    /// As [`Decode::decode`].
    pub(crate) fn get<T: Decode>(&mut self, object: &Arc<Object>) -> Result<Arc<Input<T>>, Finding> {
        let known = self.decoded.get(&object.hash()).and_then(Weak::upgrade);
        if let Some(known) = known.and_then(|known| known.downcast::<Input<T>>().ok()) {
            return Ok(known);
        }
        let Decoded { spec, warnings, flaw } = T::decode(object)?;
        let input = Arc::new(Input { object: Arc::clone(object), spec, warnings, flaw });
        let erased: Arc<dyn Any + Send + Sync> = Arc::clone(&input) as _;
        self.decoded.insert(object.hash(), Arc::downgrade(&erased));
        Ok(input)
    }

    /// Forgets what nobody holds any more, once that is worth a walk over everything.
    pub(crate) fn sweep(&mut self) {
        if self.decoded.len() > 2 * self.swept + SLACK {
            self.decoded.retain(|_, decoded| decoded.strong_count() > 0);
            self.swept = self.decoded.len();
        }
    }
}
