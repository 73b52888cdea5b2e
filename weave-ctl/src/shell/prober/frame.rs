//! The frames that the prober writes to the VXLAN socket device: pure.
//!
//! The program on the device's egress sends what follows the Ethernet header as it is, so each frame holds a complete
//! outer packet; the Ethernet addresses carry the neighbour and the device that it leaves by (`weave-ebpf/src/probe`).

use weave_common::{
    checksum,
    probe::{self, Fields, PACKET_LEN},
    vxlan,
    wire::{ETH_LEN, ETHERTYPE_IPV4, IPV4_LEN, OUTER_LEN, OuterHeader},
};

use crate::proto::io::{ProbeKind, ProbeRequest};

/// First two bytes of the Ethernet addresses: a unicast address, locally administered.
const UNICAST: [u8; 2] = [2, 0];
/// Length of the longest IPv4 packet.
const IP_MAX: usize = u16::MAX as usize;

/// What a frame says beside what the core asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender {
    /// This peer's name.
    pub(super) me: [u8; 6],
    /// Key of cookies.
    pub(super) key: [u64; 2],
    /// UDP source port.
    pub(super) source_port: u16,
    /// `sent_at` on the monotonic clock, in nanoseconds.
    pub(super) clock: u64,
}

/// The frame for one probe: `request.size` bytes behind the Ethernet header, or as many as its content needs.
pub(super) fn frame(request: &ProbeRequest, sender: &Sender) -> Vec<u8> {
    let receiver = request.receiver.bytes();
    let (flags, cookie, proof) = match &request.kind {
        ProbeKind::Request => (0, own_cookie(request, sender), None),
        ProbeKind::Announce => (probe::ANNOUNCE, own_cookie(request, sender), None),
        ProbeKind::Challenge(nonce) => (probe::CHALLENGE, *nonce, None),
        ProbeKind::Proof(nonce, proof) => (probe::PROOF, *nonce, Some(proof)),
    };
    let fields = Fields {
        receiver,
        origin: sender.me,
        flags,
        hops: 0,
        request_hops: 0,
        path: request.path_id,
        size: 0,
        cookie,
        clock: sender.clock,
    };
    // A challenge is as long as its proof, so that nobody gets more bytes out of a host than were sent to it.
    let content = if flags & (probe::CHALLENGE | probe::PROOF) == 0 { 0 } else { probe::PROOF_LEN };
    let len = (request.size as usize).clamp(PACKET_LEN + content, IP_MAX);
    let mut frame = vec![0; ETH_LEN + len];
    frame[0..2].copy_from_slice(&UNICAST);
    frame[2..6].copy_from_slice(&request.egress.next_hop.octets());
    frame[6..8].copy_from_slice(&UNICAST);
    frame[8..12].copy_from_slice(&request.egress.ifindex.to_ne_bytes());
    frame[12..14].copy_from_slice(&ETHERTYPE_IPV4.to_be_bytes());
    let probe_at = ETH_LEN + OUTER_LEN;
    frame[ETH_LEN..probe_at].copy_from_slice(&outer(request, sender.source_port, len));
    frame[probe_at..probe_at + probe::LEN].copy_from_slice(&fields.write());
    if let Some(proof) = proof {
        frame[probe_at + probe::LEN..probe_at + probe::LEN + probe::PROOF_LEN].copy_from_slice(&proof[..]);
    }
    frame
}

fn own_cookie(request: &ProbeRequest, sender: &Sender) -> u64 {
    probe::cookie(sender.key, request.receiver.bytes(), request.path_id, sender.clock)
}

/// IPv4, UDP and VXLAN headers of an IP packet of `len` bytes.
fn outer(request: &ProbeRequest, source_port: u16, len: usize) -> [u8; OUTER_LEN] {
    let (to, source) = (request.to, request.egress.source);
    let mut outer = OuterHeader::prepare(source, *to.ip(), to.port(), vxlan::PROBE_VNI).leaving_from(source_port);
    let total = len as u16;
    let sum = u16::from_be_bytes([outer.ipv4[10], outer.ipv4[11]]);
    outer.ipv4[2..4].copy_from_slice(&total.to_be_bytes());
    outer.ipv4[10..12].copy_from_slice(&checksum::update(sum, 0, total).to_be_bytes());
    outer.udp[4..6].copy_from_slice(&(total - IPV4_LEN as u16).to_be_bytes());
    bytemuck::cast(outer)
}

#[cfg(test)]
mod tests;
