//! What translation of one parent reads, condensed: equal fingerprints mean that translating again would give the same.

use std::fmt::{self, Debug, Formatter};
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use meshrelay_snapshot::ContentHash;

/// A [`Hasher`] that keeps all 256 bits, so that `#[derive(Hash)]` declares what a fingerprint covers.
struct Fingerprinter(blake3::Hasher);

impl Hasher for Fingerprinter {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let hash = self.0.finalize();
        hash.as_bytes().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

/// The fingerprint of a value. Only comparable within one process: `Hash` may differ between builds.
pub(crate) fn fingerprint<T: Hash + ?Sized>(value: &T) -> ContentHash {
    let mut hasher = Fingerprinter(blake3::Hasher::new());
    value.hash(&mut hasher);
    // 32 bytes always are a hash.
    ContentHash::from_slice(hasher.0.finalize().as_bytes()).unwrap_or_default()
}

/// A value that many inputs share; its fingerprint is made once.
#[derive(Debug)]
pub(crate) struct Shared<T>(Arc<(ContentHash, T)>);

impl<T: Hash> Shared<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Arc::new((fingerprint(&value), value)))
    }
}

impl<T: Hash + Default> Default for Shared<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.1
    }
}

impl<T> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.0 == other.0.0
    }
}

impl<T> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.0.hash(state);
    }
}

/// Something that follows from the rest of a value, made when it is first asked for; no part of the fingerprint.
pub(crate) struct Derived<T>(OnceLock<T>);

impl<T> Derived<T> {
    pub(crate) fn get(&self, make: impl FnOnce() -> T) -> &T {
        self.0.get_or_init(make)
    }
}

impl<T> Default for Derived<T> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

/// The copy makes it anew.
impl<T> Clone for Derived<T> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<T> Debug for Derived<T> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("derived")
    }
}

impl<T> Hash for Derived<T> {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_tell_values_apart() {
        assert_eq!(fingerprint(&("a", 1)), fingerprint(&("a", 1)));
        assert_ne!(fingerprint(&["ab", "c"]), fingerprint(&["a", "bc"]));
        assert_ne!(fingerprint(&vec![vec![1], vec![]]), fingerprint(&vec![vec![], vec![1]]));
        assert_eq!(fingerprint(&Shared::new("a")), fingerprint(&Shared::new("a")));
        assert_ne!(fingerprint(&Shared::new("a")), fingerprint(&Shared::new("b")));
    }
}
