use std::time::Duration;

use crate::{Refusal, RefusalReason};

/// Code of [`End::Superseded`], by which the older stream knows it.
const SUPERSEDED: &str = "MR0244";

/// What a peer did that the protocol does not allow. The session ends; what was committed stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A frame does not say what frames of its kind have to say.
    #[error("expected a well-formed {frame} frame, but {problem}")]
    Malformed {
        /// Name of the frame.
        frame: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A frame that the peer may not send, or not now.
    #[error("expected {expected}, found a {found} frame")]
    Unexpected {
        /// What would have been right.
        expected: &'static str,
        /// Name of the frame.
        found: &'static str,
    },
}

impl ProtocolError {
    /// The error code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "MR0220",
            Self::Unexpected { .. } => "MR0221",
        }
    }

    pub(crate) fn malformed(frame: &'static str, problem: impl ToString) -> Self {
        Self::Malformed { frame, problem: problem.to_string() }
    }
}

/// Why a session ended. Nothing that was committed before is lost by any of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// This side has nothing more to do, or stops.
    #[error("this side ended the stream")]
    Finished,
    /// The stream broke or the peer closed it without saying why.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// The peer said why it ends the stream.
    #[error("the peer ended the stream: {message}")]
    Closed {
        /// Error code of the reason, empty for an orderly end.
        code: String,
        /// The reason, for a person.
        message: String,
    },
    /// The server asked to connect to another replica.
    #[error("the server drains its connections: {0}")]
    Drained(String),
    /// Refused at the beginning, or later when the reason came up.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The peer broke the protocol.
    #[error(transparent)]
    Violation(#[from] ProtocolError),
    /// The peer said nothing for too long.
    #[error("expected a frame from the peer at least every {0:?}, found none; is it alive and reachable?")]
    PeerSilent(Duration),
    /// The peer does not read.
    #[error("expected the peer to read within {0:?}, but it does not; it can connect again and go on")]
    WriteStalled(Duration),
    /// The peer owes an answer or the rest of a transfer.
    #[error("expected {what} within {deadline:?}, found none")]
    AnswerOverdue {
        /// What was due.
        what: &'static str,
        /// How long it was waited for.
        deadline: Duration,
    },
    /// The same process connected again, so that this session is the older of two.
    #[error("replaced by a newer connection of the same process")]
    Superseded,
}

impl End {
    /// What it means that the peer gave this code and message for the end.
    pub(crate) fn told(code: String, message: String) -> Self {
        if code == SUPERSEDED {
            return Self::Superseded;
        }
        match RefusalReason::from_code(&code) {
            Some(reason) => Self::Refused(Refusal::new(reason, message)),
            None => Self::Closed { code, message },
        }
    }

    /// True if the server serves, but another replica of it should serve this agent.
    pub fn sends_away(&self) -> bool {
        match self {
            Self::Drained(_) => true,
            Self::Refused(refusal) => {
                matches!(refusal.reason, RefusalReason::Draining | RefusalReason::AtCapacity)
            }
            _ => false,
        }
    }

    /// The error code; empty for an orderly end.
    pub fn code(&self) -> &str {
        match self {
            Self::Finished | Self::Drained(_) => "",
            Self::Lost(_) => "MR0240",
            Self::Closed { code, .. } => code,
            Self::Refused(refusal) => refusal.reason.code(),
            Self::Violation(error) => error.code(),
            Self::PeerSilent(_) => "MR0241",
            Self::WriteStalled(_) => "MR0242",
            Self::AnswerOverdue { .. } => "MR0243",
            Self::Superseded => SUPERSEDED,
        }
    }

    /// Value of the label `reason` in metrics.
    pub fn metric_label(&self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Lost(_) => "lost",
            Self::Closed { .. } => "closed",
            Self::Drained(_) => "drained",
            Self::Refused(refusal) => refusal.metric_label(),
            Self::Violation(_) => "violation",
            Self::PeerSilent(_) => "peer_silent",
            Self::WriteStalled(_) => "write_stalled",
            Self::AnswerOverdue { .. } => "answer_overdue",
            Self::Superseded => "superseded",
        }
    }
}
