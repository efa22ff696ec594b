//! Identity, certificates, tokens and TLS configuration of the relay.
//!
//! The crate holds what decides who may talk to whom: the relay's certificate authority, the check of an agent's signing
//! request, registration tokens, the names read back from a peer's certificate, and rustls configurations whose
//! certificates and trusted authorities change while connections come and go. It knows nothing of gRPC. The current
//! time is a parameter everywhere; only the two adapters that rustls and the file poller need touch a clock.

pub mod agent_state;
pub mod authority;
pub mod certificate;
pub mod cluster_name;
pub mod csr;
pub mod error;
pub mod identity;
pub mod rate;
pub mod registration;
pub mod reload;
pub mod renewal;
pub mod secret_dir;
pub mod server_state;
pub mod tls;
pub mod tls_refusal;
pub mod token;
pub mod token_file;
pub mod token_store;
pub mod watch;

pub use agent_state::AgentState;
pub use authority::{Authority, IssuedCertificate, KeyedCertificate, ServerNames};
pub use cluster_name::ClusterName;
pub use csr::{CheckedCsr, CsrError, check_csr};
pub use error::PkiError;
pub use identity::{PeerIdentity, peer_identity};
pub use renewal::{ExpiryState, GraceRatio, Validity};
pub use server_state::{ServerOptions, ServerState};
pub use tls::{ClientTls, ServerTls, TlsMode};
pub use tls_refusal::TlsRefusal;
pub use token::Token;
