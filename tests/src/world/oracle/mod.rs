//! What must hold: after every event, and when the network had time to settle.
//!
//! Judged from outside: by the kernels' interfaces and maps, the disks, and the answers that callers got, never by asking
//! the core whether it is right. Rooms: `addresses` (who has which, rings), `paths` (what packets do), `settled` (what is
//! as it should be in the end).
//! Bounds: a check after an event costs what that host holds, not what the world holds.

mod addresses;
mod paths;
mod settled;

pub use paths::REPAIR;
pub(super) use paths::islands;
pub use settled::SETTLE;

/// What callers were told, and what was seen to work once.
#[derive(Default)]
pub struct Oracle {
    pub(super) addresses: addresses::Addresses,
    pub(super) paths: paths::Paths,
}

#[cfg(test)]
mod tests;
