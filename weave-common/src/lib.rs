//! What crosses the boundary between the controller and the kernel programs.
//!
//! Every type here has one layout on both sides: `repr(C)`, no padding, size asserted at compile time. Addresses are
//! kept as the bytes on the wire (big-endian), so that `bpftool map dump` shows them as a reader expects.
//!
//! Does not: allocate, know aya or the controller, or parse packets (that is `weave-ebpf`).
#![no_std]

pub mod addr;
pub mod bucket;
pub mod checksum;
pub mod config;
pub mod counters;
pub mod device;
pub mod dns;
pub mod drop;
pub mod endpoint;
pub mod local;
pub mod map;
pub mod probe;
pub mod route;
pub mod tunnel;
pub mod vxlan;
pub mod wire;
