//! Addresses: the ring that divides the range among peers, and the allocations of this peer from its own share.
//!
//! Rooms: `ring` (who owns what), `space` (what of it is free), `allocator` (what is given to which container), `hint`
//! (how much peers have left), `keeper` (the ring of this peer, and all that changes it). They meet in `keeper`.
//!
//! Terms: range (what all peers share), token (first address of a piece), owner (who may give addresses of a piece),
//! epoch (how often a piece changed hands), seed (a peer among which the range is divided at the start), donor (who gives
//! a part of its free space), heir (who takes everything over from a peer that leaves), exception (an address outside the
//! range that a container has all the same).
//! Rules: only the owner gives addresses of what it owns, and of ownership; what it gave is durable before anybody is
//! told; the network and broadcast addresses of a subnet are never given.
//! Bounds: [`ring::ENTRIES_MAX`] pieces, [`weave_common::map::ENDPOINTS_MAX`] addresses on a host.
//! Does not: talk to peers (the node carries rings, hints and requests to and from other peers) or know interfaces.

pub mod allocator;
pub mod hint;
pub mod keeper;
pub mod ring;
mod space;

pub use allocator::Allocator;
pub use keeper::Keeper;
pub use ring::{Ring, Share};
