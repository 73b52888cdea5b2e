//! The contract between the command line and a running controller: HTTP and JSON on a unix socket.
//!
//! Paths start with `/v1/`; within a version, fields are only added. Names, networks and addresses are strings as people
//! write them, so that a reader needs nothing from this crate. A refusal is a body `{"error": "one sentence"}` with one
//! of the statuses below; a 404 means that the two sides speak different versions.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `POST /v1/connect` | [`types::Connect`] | [`types::Targets`] |
//! | `POST /v1/forget` | [`types::Forget`] | [`types::Targets`] |
//! | `POST /v1/attach` | [`types::Attach`] | [`types::Container`] |
//! | `POST /v1/detach` | [`types::Detach`] | [`types::Detached`] |
//! | `GET /v1/ps` | | list of [`types::Container`] |
//! | `GET /v1/status` | | [`types::Status`] |
//! | `GET /v1/report` | | [`types::Report`] |
//! | `POST /v1/stop` | [`types::Stop`] | [`types::Done`] |
//! | `POST /v1/reset` | [`types::Reset`] | [`types::Done`] |
//!
//! Statuses: 200 done; 400 and 413 a request that no version of this command sends; 409 refused, nothing was changed;
//! 503 the controller is stopping; 504 it gave no answer in time and the request was withdrawn.
//!
//! Does not: decide or render anything.

pub mod client;
pub mod types;

/// Version of the contract, as in the paths.
pub const API: u32 = 1;
/// Name of the socket in the run directory.
pub const SOCKET: &str = "weave.sock";
/// Version of this program, sent by both sides in the header [`VERSION_HEADER`].
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Header that carries [`VERSION`].
pub const VERSION_HEADER: &str = "weave-version";
/// Longest body of a request, in bytes.
pub const REQUEST_MAX: usize = 64 * 1024;
