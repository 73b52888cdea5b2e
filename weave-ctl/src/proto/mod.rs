//! The pure core: every decision the controller takes.
//!
//! One machine, [`node::Node`], fed with [`io::Input`]s and drained of [`io::Output`]s. Effects are data; the driver in
//! `shell` carries them out, after it has made the `Persist`s among them durable.
//!
//! Modules with state, which meet in `node` alone: `session`, `membership`, `topology`, `path`, `election`, `ipam`,
//! `endpoints`, `dns`, `service`, `datapath`. Vocabulary that all may use: `ids`, `name`, `key`, `target`, `params`, `domain`, `reservation`,
//! `wire`, `command`, `status`, `io`.
//!
//! Does not: read a clock, open a socket, touch a disk, ask the OS for randomness, spawn or await. Ordered collections
//! only, so that one seed gives one trace (`cargo xtask tidy` and the World check it).

pub mod boot;
pub mod cbor;
pub mod command;
pub mod datapath;
mod dns;
pub mod domain;
pub mod election;
pub mod endpoints;
#[cfg(test)]
mod fixture;
pub mod ids;
pub mod io;
pub mod ipam;
pub mod key;
mod membership;
pub mod name;
pub mod node;
pub mod params;
mod path;
mod queue;
mod requests;
pub mod reservation;
pub mod rng;
mod service;
mod session;
pub mod status;
pub mod target;
mod throttle;
pub mod time;
pub mod topology;
pub mod wire;
