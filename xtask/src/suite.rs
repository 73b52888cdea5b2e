//! Runs test binaries and single tests as processes, several at once, for the verbs `test` and `soak`.
//!
//! A [`Job`](job::Job) is one process: a whole binary, or one test of it that needs root. [`workers`] run jobs, [`process`]
//! runs one, [`durations`] puts the longest first.
//!
//! Does not: decide what runs, or judge a run: the verbs do.

pub(crate) mod artifacts;
pub(crate) mod durations;
pub(crate) mod job;
pub(crate) mod process;
pub(crate) mod workers;

#[cfg(test)]
mod tests;
