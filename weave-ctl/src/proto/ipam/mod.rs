//! Addresses: the ring that divides the range among peers, and the allocations of this peer from its own share.
//!
//! Terms: range (what all peers share), token (first address of a piece), owner (who may give addresses of a piece),
//! seed (a peer among which the range is divided at the start), allocation (the addresses of one container).
//! Rules: only the owner gives addresses of what it owns; an allocation is durable before anybody is told of it; the
//! network and broadcast addresses of a subnet are never given.
//! Bounds: [`ring::ENTRIES_MAX`] pieces, [`weave_common::map::ENDPOINTS_MAX`] addresses on a host.
//! Does not: talk to peers (the node carries rings to and from the mesh) or know interfaces.

pub mod allocator;
pub mod ring;

pub use allocator::{Allocation, Allocator};
pub use ring::{Entry, Ring};
