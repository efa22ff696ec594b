/// Why a receiver does not accept a transfer. Stable: error pages and the wire use these codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NackReason {
    /// The receiver does not hold what the transfer starts from.
    BaseMismatch,
    /// The result has another digest or number of objects than the commit says.
    DigestMismatch,
    /// A chunk does not decode.
    MalformedChunk,
    /// A chunk is larger than the limit, than it says, or than compression can explain.
    OversizeChunk,
    /// The transfer is larger than the receiver stages.
    OversizeTransfer,
    /// Objects are not acceptable; the rest is.
    RefusedObjects,
    /// A reason that this version does not know.
    Other,
}

impl NackReason {
    /// Every reason, in the order of their codes.
    pub const ALL: [Self; 7] = [
        Self::BaseMismatch,
        Self::DigestMismatch,
        Self::MalformedChunk,
        Self::OversizeChunk,
        Self::OversizeTransfer,
        Self::RefusedObjects,
        Self::Other,
    ];

    /// The error code, such as `MR0230`.
    pub fn code(self) -> &'static str {
        match self {
            Self::BaseMismatch => "MR0230",
            Self::DigestMismatch => "MR0231",
            Self::MalformedChunk => "MR0232",
            Self::OversizeChunk => "MR0233",
            Self::OversizeTransfer => "MR0234",
            Self::RefusedObjects => "MR0235",
            Self::Other => "MR0239",
        }
    }

    /// Value of the label `reason` in metrics.
    pub fn metric_label(self) -> &'static str {
        match self {
            Self::BaseMismatch => "base_mismatch",
            Self::DigestMismatch => "digest_mismatch",
            Self::MalformedChunk => "malformed_chunk",
            Self::OversizeChunk => "oversize_chunk",
            Self::OversizeTransfer => "oversize_transfer",
            Self::RefusedObjects => "refused_objects",
            Self::Other => "other",
        }
    }

    /// The reason with that code; [`NackReason::Other`] for codes of other versions.
    pub fn from_code(code: &str) -> Self {
        Self::ALL.into_iter().find(|reason| reason.code() == code).unwrap_or(Self::Other)
    }
}
