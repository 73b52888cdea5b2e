//! Probes of paths: answered here, given to the controller, or sent on to another peer.
//!
//! A request of a known sender is answered in the packet that it came in: short, whatever the request's size, and out of
//! the device that it came by. Answers to this host's own probes go up by one ring, if their cookie is right; what only
//! controllers can judge (first contacts of unknown senders, announcements, challenges, proofs) by another, at a bounded
//! rate. A probe for another peer goes on by the table of tunnels, one hop further, without any state here: its answer is a
//! probe for its origin, and comes back in the same manner.
//!
//! Bounds: [`weave_common::bucket::ECHO`] a sender, [`weave_common::bucket::CONTACT`] in all,
//! [`weave_common::probe::HOPS_MAX`] relays.

use weave_common::{
    checksum,
    probe::{self, Fields, PACKET_LEN},
    vxlan::HEADER_LEN,
    wire::{ETH_LEN, IPV4_LEN, OUTER_TTL, UDP_LEN},
};

use crate::parse::{OUTER_UDP_LEN, VXLAN_AT};

/// Length of the frame with an answer.
pub const ANSWER_LEN: usize = ETH_LEN + PACKET_LEN;

/// What a probe that is for this peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An answer to one of ours.
    Reply,
    /// For the controller.
    Contact,
    /// To be answered.
    Request,
}

/// Tells by its flags what a probe is.
#[must_use]
#[inline(always)]
pub const fn kind(flags: u8) -> Kind {
    if flags & probe::REPLY != 0 {
        Kind::Reply
    } else if flags & (probe::CHALLENGE | probe::PROOF) != 0 {
        Kind::Contact
    } else {
        Kind::Request
    }
}

/// The frame that answers `request`, which came in a frame that begins with `header`: back to where it came from.
#[must_use]
#[inline(always)]
pub fn answer(header: &[u8; OUTER_UDP_LEN], vxlan: &[u8; HEADER_LEN], request: &Fields) -> [u8; ANSWER_LEN] {
    const DF: u16 = 0x4000;
    let h = header;
    let received = u16::from_be_bytes([h[16], h[17]]);
    let mut frame = [0; ANSWER_LEN];
    frame[0..6].copy_from_slice(&h[6..12]);
    frame[6..12].copy_from_slice(&h[0..6]);
    frame[12..14].copy_from_slice(&h[12..14]);
    let mut ip = [0; IPV4_LEN];
    ip[0] = 0x45;
    ip[1] = h[15];
    ip[2..4].copy_from_slice(&(PACKET_LEN as u16).to_be_bytes());
    ip[6..8].copy_from_slice(&DF.to_be_bytes());
    ip[8] = OUTER_TTL;
    ip[9] = h[23];
    ip[12..16].copy_from_slice(&h[30..34]);
    ip[16..20].copy_from_slice(&h[26..30]);
    let word = |at: usize| u16::from_be_bytes([ip[at], ip[at + 1]]);
    let words = [word(0), word(2), word(6), word(8), word(12), word(14), word(16), word(18)];
    // That of a header of zeros is all ones.
    let sum = checksum::update_words(u16::MAX, [0; 8], words);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    frame[ETH_LEN..ETH_LEN + IPV4_LEN].copy_from_slice(&ip);
    let udp = ETH_LEN + IPV4_LEN;
    frame[udp..udp + 2].copy_from_slice(&h[36..38]);
    frame[udp + 2..udp + 4].copy_from_slice(&h[34..36]);
    frame[udp + 4..udp + 6].copy_from_slice(&((PACKET_LEN - IPV4_LEN) as u16).to_be_bytes());
    frame[VXLAN_AT..VXLAN_AT + HEADER_LEN].copy_from_slice(vxlan);
    frame[VXLAN_AT + HEADER_LEN..].copy_from_slice(&request.answer(received).write());
    frame
}

const _: () = assert!(OUTER_UDP_LEN == ETH_LEN + IPV4_LEN + UDP_LEN);

#[cfg(target_arch = "bpf")]
mod live;

#[cfg(target_arch = "bpf")]
pub use live::{from_socket, from_underlay, to_network};

#[cfg(test)]
mod tests;
