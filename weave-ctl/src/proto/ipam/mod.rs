//! Addresses: the ring that divides the range among peers, and the allocations of this peer from its own share.
//!
//! Rooms: `ring` (who owns what), `space` (what of it is free), `allocator` (what is given to which container), `hint`
//! (how much peers have left), `outside` (addresses that nobody is given), `keeper` (the ring of this peer, all that changes it,
//! and grants of addresses outside the range). They meet in `keeper`.
//!
//! Terms: range (what all peers share, and a part of it that one owns), token (first address of a range), owner (the peer that
//! may give addresses of a range), version (generation, raised by takeovers, and epoch, raised by the owner), grant (a peer
//! may have an address outside the range), position (of the range, that such an address hashes to), seed (a peer among which
//! the range is divided at the start), donor (who gives a part of its free space), heir (who takes everything over from a peer
//! that leaves), exception (an address outside the range that a container has all the same).
//! Rules: only the owner gives addresses of what it owns, and of ownership; what it gave is durable before anybody is
//! told; the network and broadcast addresses of a subnet are never given.
//! Bounds: [`ring::ENTRIES_MAX`] pieces, [`weave_common::map::ENDPOINTS_MAX`] addresses on a host.
//! Does not: talk to peers (the node carries rings, hints and requests to and from other peers) or know interfaces.

pub mod allocator;
pub mod hint;
pub mod keeper;
mod outside;
pub mod ring;
mod space;

pub use allocator::Allocator;
pub use keeper::Keeper;
pub use outside::special;
pub use ring::{Ring, Share};
pub use space::service_address;
