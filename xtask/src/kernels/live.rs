//! The scripts that run inside a machine, as text.

/// The first process: makes the machine usable, runs what the kernel's command line asks for, and ends the machine.
pub(super) const INIT: &str = include_str!("init.sh");
/// Two real controllers with a container each, and traffic across.
pub(super) const LIVE: &str = include_str!("live.sh");
