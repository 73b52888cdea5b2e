//! The kernel programs' logic: what a packet is, and what becomes of it.
//!
//! `parse`, `arp`, `encap`, `decap`, `dns`, `relay`, `probe` and `too_big` hold pure functions over bytes, which also compile for the host and
//! are tested there; their parts that touch a live packet are compiled for the kernel alone, as is all of `xdp`. `packet` is
//! the one place with pointers and helpers for the packets of traffic control, `frame` that for the frames of XDP, `maps`
//! the one with maps, `source` the one that says who may use an address, `stats` the one that counts.
//!
//! Bounds: no loops but two of `dns`, of 64 and 16 rounds, no recursion; 512 bytes of stack; helpers of kernel 5.15 only, of 5.18 in `xdp`.
//! Does not: learn, time out or allocate. All state comes from the controller's maps.
#![no_std]

pub mod arp;
pub mod decap;
pub mod dns;
pub mod encap;
pub mod parse;
pub mod probe;
pub mod relay;
pub mod too_big;

#[cfg(target_arch = "bpf")]
pub mod bound;
#[cfg(target_arch = "bpf")]
pub mod frame;
#[cfg(target_arch = "bpf")]
pub mod maps;
#[cfg(target_arch = "bpf")]
pub mod packet;
#[cfg(target_arch = "bpf")]
pub mod source;
#[cfg(target_arch = "bpf")]
pub mod stats;
#[cfg(target_arch = "bpf")]
pub mod xdp;

use weave_common::counters::Counter;

/// What became of a packet that was not dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Redirected; a helper has told the kernel where to.
    Redirected {
        /// Counted under this.
        counter: Counter,
        /// Length of the inner frame.
        bytes: u32,
    },
    /// Ours, and goes on to this host's stack.
    PassedUp {
        /// Counted under this.
        counter: Counter,
        /// Length of the frame.
        bytes: u32,
    },
    /// Ours, and ends here: the controller has what it needs of it.
    Taken {
        /// Counted under this.
        counter: Counter,
        /// Length of the inner frame.
        bytes: u32,
    },
    /// None of our business: untouched, uncounted.
    NotOurs,
}
