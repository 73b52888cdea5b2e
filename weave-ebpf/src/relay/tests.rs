//! Who may send on, and what the header becomes.

use core::net::Ipv4Addr;

use weave_common::{
    addr::Ip4,
    tunnel::PATH_RELAYED,
    vxlan,
    wire::{Push, inner_ethernet},
};

use super::*;
use crate::parse::Port;

const FROM: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const HERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const THERE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 77);
const SENDER: PeerKey = PeerKey::new([2, 0, 0, 0, 0, 1]);
const VIA: PeerKey = PeerKey::new([2, 0, 0, 0, 0, 3]);

fn tunnel(to: Ipv4Addr, via: PeerKey) -> Tunnel {
    Tunnel {
        push: Push {
            outer: OuterHeader::prepare(HERE, to, 7001, vxlan::VNI),
            ethernet: inner_ethernet(VIA.name, [2, 0, 0, 0, 0, 2]),
            pad: [0; 2],
        },
        ifindex: 3,
        next_hop: to.octets(),
        inner_mtu: 1450,
        kind: PATH_RELAYED,
        via,
        pad: [0; 4],
        sent_ns: 0,
        big_ns: 0,
        heard_ns: 0,
        elsewhere_ns: 0,
    }
}

fn outer(ttl: u8, checksum: u16) -> Outer {
    Outer {
        source: Ip4(FROM.octets()),
        destination: Ip4(HERE.octets()),
        port: Port::Data,
        source_port: 50_000,
        total_len: 134,
        ttl,
        checksum,
    }
}

/// A frame's first bytes as they come from the peer at `FROM`.
fn header(ttl: u8, flags: u16) -> [u8; OUTER_UDP_LEN] {
    let mut prepared = OuterHeader::prepare(FROM, HERE, 6784, vxlan::VNI);
    prepared.ipv4[2..4].copy_from_slice(&134_u16.to_be_bytes());
    prepared.ipv4[6..8].copy_from_slice(&flags.to_be_bytes());
    prepared.ipv4[8] = ttl;
    prepared.ipv4[10..12].copy_from_slice(&[0, 0]);
    let sum = checksum::ipv4_header(&prepared.ipv4);
    prepared.ipv4[10..12].copy_from_slice(&sum.to_be_bytes());
    prepared.udp[0..2].copy_from_slice(&50_123_u16.to_be_bytes());
    prepared.udp[4..6].copy_from_slice(&114_u16.to_be_bytes());
    let mut frame = [0; OUTER_UDP_LEN];
    frame[12] = 8;
    frame[14..34].copy_from_slice(&prepared.ipv4);
    frame[34..42].copy_from_slice(&prepared.udp);
    frame
}

#[test]
fn the_last_hop_is_not_passed_on() {
    assert_eq!(check(&outer(2, 0), SENDER, &tunnel(THERE, VIA)), Ok(()));
    for ttl in [0, 1] {
        assert_eq!(check(&outer(ttl, 0), SENDER, &tunnel(THERE, VIA)), Err(DropReason::TtlExhausted));
    }
}

#[test]
fn nothing_goes_back_to_a_peer_by_any_of_its_addresses() {
    assert_eq!(check(&outer(64, 0), SENDER, &tunnel(FROM, VIA)), Err(DropReason::RelayBack));
    assert_eq!(check(&outer(64, 0), SENDER, &tunnel(THERE, SENDER)), Err(DropReason::RelayBack));
}

#[test]
fn a_udp_checksum_is_refused() {
    assert_eq!(check(&outer(64, 1), SENDER, &tunnel(THERE, VIA)), Err(DropReason::Malformed));
}

#[test]
fn the_header_is_readdressed_and_nothing_else() {
    let to = tunnel(THERE, VIA).push.outer;
    for ttl in [2, 3, 64, 255] {
        for flags in [DF, 0] {
            let before = header(ttl, flags);
            let mut after = before;
            after[REWRITE_AT..REWRITE_AT + REWRITE_LEN].copy_from_slice(&rewritten(&before, &to, 0));
            let mut expected = before;
            expected[20..22].copy_from_slice(&DF.to_be_bytes());
            expected[22] = ttl - 1;
            expected[26..30].copy_from_slice(&HERE.octets());
            expected[30..34].copy_from_slice(&THERE.octets());
            expected[36..38].copy_from_slice(&7001_u16.to_be_bytes());
            expected[24..26].copy_from_slice(&[0, 0]);
            let mut ip = [0; 20];
            ip.copy_from_slice(&expected[14..34]);
            expected[24..26].copy_from_slice(&checksum::ipv4_header(&ip).to_be_bytes());
            assert_eq!(after, expected, "hop limit {ttl}, flags {flags:#x}");
            // The flow's port is kept, unless the path or a probe asks for one.
            let again = rewritten(&before, &to, 6783);
            after[REWRITE_AT..REWRITE_AT + REWRITE_LEN].copy_from_slice(&again);
            expected[34..36].copy_from_slice(&6783_u16.to_be_bytes());
            assert_eq!(after, expected);
        }
    }
}
