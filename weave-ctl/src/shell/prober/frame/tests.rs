//! Frames are whole packets that a program can send as they are, and another can answer.

use std::net::Ipv4Addr;

use super::*;
use crate::proto::{
    io::{Egress, PROOF_LEN},
    name::PeerName,
    time::Instant,
};

const SENDER: Sender = Sender { me: [2, 0, 0, 0, 0, 1], key: [3, 4], source_port: 50_000, clock: 77 };

fn request(kind: ProbeKind, size: u32) -> ProbeRequest {
    ProbeRequest {
        to: "192.0.2.9:6784".parse().unwrap(),
        egress: Egress {
            ifindex: 0x0102_0304,
            next_hop: Ipv4Addr::new(192, 0, 2, 254),
            source: Ipv4Addr::new(192, 0, 2, 1),
            mtu: 1500,
        },
        source_port: None,
        receiver: PeerName::from_bytes([2, 0, 0, 0, 0, 9]),
        path_id: 7,
        kind,
        size,
        sent_at: Instant::default(),
    }
}

fn fields(frame: &[u8]) -> Fields {
    Fields::read(frame[ETH_LEN + OUTER_LEN..ETH_LEN + PACKET_LEN].try_into().unwrap()).unwrap()
}

#[test]
fn a_request_is_a_whole_packet_of_its_size() {
    for size in [0, 74, 1200, 9000] {
        let frame = frame(&request(ProbeKind::Request, size), &SENDER);
        let len = size.max(74) as usize;
        assert_eq!(frame.len(), ETH_LEN + len);
        assert_eq!(frame[2..6], [192, 0, 2, 254]);
        assert_eq!(frame[8..12], 0x0102_0304_u32.to_ne_bytes());
        let ip: [u8; IPV4_LEN] = frame[ETH_LEN..ETH_LEN + IPV4_LEN].try_into().unwrap();
        assert_eq!(usize::from(u16::from_be_bytes([ip[2], ip[3]])), len);
        let mut bare = ip;
        bare[10..12].fill(0);
        assert_eq!(checksum::ipv4_header(&bare).to_be_bytes(), ip[10..12]);
        assert_eq!(frame[34..38], [195, 80, 26, 128], "50000 to 6784");
        assert_eq!(vxlan::vni(frame[42..50].try_into().unwrap()), Some(vxlan::PROBE_VNI));
    }
}

#[test]
fn the_answer_to_a_request_has_a_genuine_cookie() {
    let keys = probe::ProbeKeys { current: SENDER.key, former: [0; 2] };
    for (kind, flags) in [(ProbeKind::Request, 0), (ProbeKind::Announce, probe::ANNOUNCE)] {
        let sent = fields(&frame(&request(kind, 0), &SENDER));
        assert_eq!((sent.flags, sent.path, sent.clock), (flags, 7, 77));
        assert!(sent.answer(74).is_genuine(&keys));
        assert!(!Fields { clock: 78, ..sent }.answer(74).is_genuine(&keys));
    }
}

#[test]
fn challenge_and_proof_are_of_one_length() {
    let challenge = frame(&request(ProbeKind::Challenge(5), 0), &SENDER);
    let proof = Box::new([9; PROOF_LEN]);
    let proof = frame(&request(ProbeKind::Proof(5, proof), 0), &SENDER);
    assert_eq!(challenge.len(), proof.len());
    assert_eq!((fields(&challenge).flags, fields(&challenge).cookie), (probe::CHALLENGE, 5));
    assert_eq!((fields(&proof).flags, fields(&proof).cookie), (probe::PROOF, 5));
    assert_eq!(proof[ETH_LEN + PACKET_LEN..], [9; PROOF_LEN]);
}
