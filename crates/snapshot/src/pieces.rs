use std::borrow::Cow;
use std::sync::Arc;

/// A run of bytes that is put together from pieces, some of which are shared with other runs.
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    own: Vec<u8>,
    /// Shared pieces, each with how many of its own bytes come before it.
    shared: Vec<(u32, Arc<[u8]>)>,
}

impl Pieces {
    /// Below this, a copy is hardly larger than what it takes to share a piece.
    const WORTH_SHARING: usize = 64;

    /// Adds bytes at the end.
    pub fn add(&mut self, bytes: &[u8]) {
        self.own.extend_from_slice(bytes);
    }

    /// Adds bytes at the end that others have too.
    pub fn share(&mut self, bytes: &Arc<[u8]>) {
        match u32::try_from(self.own.len()) {
            Ok(at) if bytes.len() >= Self::WORTH_SHARING => self.shared.push((at, Arc::clone(bytes))),
            _ => self.add(bytes),
        }
    }

    /// Adds what others are put together from.
    pub fn extend(&mut self, other: &Self) {
        let mut from = 0;
        for (at, bytes) in &other.shared {
            self.add(&other.own[from..*at as usize]);
            self.share(bytes);
            from = *at as usize;
        }
        self.add(&other.own[from..]);
    }

    /// Makes all bytes shared, for those who will be in many runs.
    #[must_use]
    pub fn into_shared(self) -> Self {
        let Self { own, shared } = self;
        let mut all = Self::default();
        let mut from = 0;
        for (at, bytes) in shared {
            all.share(&own[from..at as usize].into());
            all.share(&bytes);
            from = at as usize;
        }
        all.share(&own[from..].into());
        all
    }

    /// Gives back memory that is kept for more bytes.
    pub fn shrink(&mut self) {
        self.own.shrink_to_fit();
        self.shared.shrink_to_fit();
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.own.len() + self.shared.iter().map(|(_, bytes)| bytes.len()).sum::<usize>()
    }

    /// True if there is no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes in pieces, one after the other.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let ends = self.shared.iter().map(|(at, _)| *at as usize).chain([self.own.len()]);
        let starts = [0].into_iter().chain(self.shared.iter().map(|(at, _)| *at as usize));
        let own = starts.zip(ends).map(|(from, to)| &self.own[from..to]);
        let shared = self.shared.iter().map(|(_, bytes)| &**bytes).chain([&[][..]]);
        own.zip(shared).flat_map(|(own, shared)| [own, shared])
    }

    /// The bytes as one run.
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        if self.shared.is_empty() {
            return Cow::Borrowed(&self.own);
        }
        let mut bytes = Vec::with_capacity(self.len());
        self.iter().for_each(|piece| bytes.extend_from_slice(piece));
        Cow::Owned(bytes)
    }
}

impl From<Vec<u8>> for Pieces {
    fn from(own: Vec<u8>) -> Self {
        Self { own, shared: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_come_one_after_the_other(pieces in proptest::collection::vec((any::<bool>(), 0usize..150), 0..8)) {
            let (mut all, mut expected) = (Pieces::default(), Vec::new());
            for (index, (is_shared, length)) in pieces.into_iter().enumerate() {
                let piece = vec![u8::try_from(index).unwrap(); length];
                expected.extend_from_slice(&piece);
                if is_shared { all.share(&piece.into()) } else { all.add(&piece) }
            }
            let mut copy = Pieces::from(b"before".to_vec());
            copy.extend(&all);
            prop_assert_eq!(&copy.bytes()[..6], b"before");
            prop_assert_eq!(&copy.bytes()[6..], &*expected);
            prop_assert_eq!(all.len(), expected.len());
            prop_assert_eq!(all.is_empty(), expected.is_empty());
            prop_assert_eq!(&*all.bytes(), &*expected);
            let shared = all.into_shared();
            prop_assert_eq!(&*shared.bytes(), &*expected);
        }
    }
}
