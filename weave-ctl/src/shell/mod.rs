//! The effects: clock, disk, sockets, kernel. Decides nothing; everything it learns goes to the core as an input.
//!
//! Tasks: the driver (owns the core, the store and the maps), one reader and one writer a session,
//! the API server, the host task, the resolver's sockets. All of them talk to the driver through bounded channels of [`QUEUE`] entries; a full
//! channel makes the sender wait, and a slow peer is cut off, never the driver.

pub mod control;
pub mod datapath;
pub mod dns;
pub mod driver;
pub mod endpoints;
pub mod exposed;
pub mod host;
pub mod identity;
pub mod links;
pub mod lock;
pub mod masquerade;
pub mod neighbours;
mod netlink;
pub mod netns;
pub mod overlap;
pub mod prober;
pub mod slow_path;
pub mod socket_device;
pub mod store;

/// Entries in each channel between tasks.
pub const QUEUE: usize = 1024;
