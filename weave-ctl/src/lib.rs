//! The controller and its command line, as a library.
//!
//! Direction: `main -> cli -> api <- shell -> proto -> weave-common`. `proto` decides and has no effects; `shell` has the
//! effects and decides nothing; `api` is the contract between the command line and a running controller, and takes what a
//! status consists of from `proto::status`, and nothing else from there; `config` turns flags and environment into validated
//! settings and is the only reader of the environment.
//! `cargo xtask tidy` fails on any other arrow.

pub mod api;
pub mod cli;
pub mod config;
pub mod proto;
pub mod shell;
