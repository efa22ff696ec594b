//! The resources that users write, the internal ones that agents and the server exchange, and the Istio and Cilium
//! resources that translation emits, as Rust types.
//!
//! [`KINDS`] is the one table of our kinds: decoding ([`decode`], [`decode_any`]), the custom resource definitions
//! ([`crd`]) and everything that watches or permits kinds follow from it. Nothing here does I/O.

#[macro_use]
mod message;

pub mod admin;
pub mod certificates;
pub mod cilium;
pub mod client_mode;
pub mod conditions;
mod crd;
mod decode;
mod duration;
mod encoded_bytes;
mod inspect;
pub mod internal;
pub mod istio;
pub mod keepalive;
mod kinds;
pub mod labels;
pub mod lambda;
pub mod locality;
pub mod matchers;
pub mod networking;
mod output_kind;
pub mod phases;
pub mod portal;
pub mod rate_limits;
pub mod references;
pub mod regex;
pub mod resilience;
mod resource;
mod schema;
pub mod security;
pub mod selectors;
pub mod status;
pub mod traffic_control;

pub use crd::crd;
pub use decode::{DecodeError, Decoded, TypeMismatch, decode};
pub use duration::{Duration, ParseDurationError};
pub use encoded_bytes::EncodedBytes;
pub use inspect::{FieldProblem, FieldWarning};
pub use kinds::*;
pub use message::{Empty, OneofConflict};
pub use output_kind::OutputKind;
pub use resource::{Kind, KindInfo, Metadata, Resource, Scope, Written};
pub use schema::KindSchema;
