use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Code, Status};

use crate::{End, ProtocolError, Refusal, RefusalReason};

/// Metadata of a status that carries the error code, such as `MR0204`.
pub const CODE_HEADER: &str = "meshrelay-code";

/// A refusal as a gRPC status: a short message and the code, never more, because headers are limited.
pub fn to_status(refusal: &Refusal) -> Status {
    status(grpc_code(refusal.reason), refusal.reason.code(), &refusal.message)
}

/// The end of a session as a status for the client; `None` for an orderly end.
pub(super) fn status_of(end: &End) -> Option<Status> {
    match end {
        End::Finished | End::Drained(_) => None,
        End::Refused(refusal) => Some(to_status(refusal)),
        End::Closed { code, .. } if code.is_empty() => None,
        End::Violation(_) => Some(status(Code::InvalidArgument, end.code(), &end.to_string())),
        _ => Some(status(Code::Aborted, end.code(), &end.to_string())),
    }
}

fn status(code: Code, error: &str, message: &str) -> Status {
    let mut status = Status::new(code, message);
    if let Ok(value) = MetadataValue::<Ascii>::try_from(error) {
        status.metadata_mut().insert(CODE_HEADER, value);
    }
    status
}

/// The refusal that a status carries, if it is one of ours.
pub fn refusal_of(status: &Status) -> Option<Refusal> {
    let reason = RefusalReason::from_code(code_of(status)?)?;
    Some(Refusal::new(reason, status.message()))
}

/// What a status means for the session that it ended.
pub fn end_of(status: &Status) -> End {
    match code_of(status) {
        Some(code) => End::told(code.to_owned(), status.message().to_owned()),
        None => End::Lost(with_causes(status)),
    }
}

/// The message of a status with what caused it: the reason of a failed handshake is at the end of the chain.
fn with_causes(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}

/// What a status means that the transport gives instead of a client's frame: a client cannot send one.
pub(super) fn end_of_client(status: &Status) -> End {
    match status.code() {
        Code::Internal | Code::OutOfRange | Code::ResourceExhausted | Code::InvalidArgument => {
            End::Violation(ProtocolError::malformed("any", status.message()))
        }
        _ => End::Lost(with_causes(status)),
    }
}

fn code_of(status: &Status) -> Option<&str> {
    status.metadata().get(CODE_HEADER)?.to_str().ok()
}

fn grpc_code(reason: RefusalReason) -> Code {
    match reason {
        RefusalReason::WrongToken
        | RefusalReason::UsedToken
        | RefusalReason::ExpiredToken
        | RefusalReason::ForeignToken
        | RefusalReason::ExpiredCertificate
        | RefusalReason::NoCertificate => Code::Unauthenticated,
        RefusalReason::UnknownCluster | RefusalReason::ForeignCertificate | RefusalReason::Deregistered => {
            Code::PermissionDenied
        }
        RefusalReason::InvalidCluster | RefusalReason::MalformedCsr | RefusalReason::Handshake => Code::InvalidArgument,
        RefusalReason::Version => Code::FailedPrecondition,
        RefusalReason::SecondAgent => Code::AlreadyExists,
        RefusalReason::RateLimited | RefusalReason::AtCapacity => Code::ResourceExhausted,
        RefusalReason::Draining => Code::Unavailable,
        RefusalReason::Internal => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_passes_through_a_status() {
        for reason in RefusalReason::ALL {
            let refusal = Refusal::new(reason, "expected one thing, found “another”");
            assert_eq!(end_of(&to_status(&refusal)), End::Refused(refusal));
        }
        let foreign = Status::new(Code::Unavailable, "connection refused");
        assert_eq!(end_of(&foreign), End::Lost("connection refused".to_owned()));
    }
}
