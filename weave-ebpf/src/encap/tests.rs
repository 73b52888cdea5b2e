//! The completed headers.

use core::net::Ipv4Addr;

use weave_common::{
    checksum,
    tunnel::PATH_DIRECT,
    vxlan,
    wire::{OuterHeader, inner_ethernet},
};

use super::*;

const RECEIVER: [u8; 6] = [2, 0, 0, 0, 0, 7];
const ORIGIN: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn prepared() -> Push {
    let outer = OuterHeader::prepare(Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2), 6784, vxlan::VNI);
    Push { outer, ethernet: inner_ethernet(RECEIVER, ORIGIN), pad: [0; 2] }
}

fn pushed(ip_len: u32, hash: u32) -> Push {
    headers(&prepared(), ip_len, hash)
}

#[test]
fn lengths_and_checksum() {
    for ip_len in [20, 84, 1450, 8950, 65_485] {
        let outer = pushed(ip_len, 0).outer;
        let total = u16::try_from(ip_len + 50).expect("fits");
        assert_eq!(outer.ipv4[2..4], total.to_be_bytes());
        assert_eq!(outer.udp[4..6], (total - 20).to_be_bytes());
        let mut blank = outer.ipv4;
        blank[10..12].copy_from_slice(&[0, 0]);
        assert_eq!(outer.ipv4[10..12], checksum::ipv4_header(&blank).to_be_bytes(), "of {ip_len} bytes");
    }
}

#[test]
fn a_super_packet_beyond_16_bits_wraps() {
    let outer = pushed(65_535, 0).outer;
    assert_eq!(outer.ipv4[2..4], 49_u16.to_be_bytes());
    assert_eq!(outer.udp[4..6], 29_u16.to_be_bytes());
}

#[test]
fn source_port_is_dynamic_and_follows_the_flow() {
    let port = |hash| u16::from_be_bytes([pushed(84, hash).outer.udp[0], pushed(84, hash).outer.udp[1]]);
    for hash in [0, 1, 0x3fff, 0x4000, 0xffff_ffff, 0xdead_beef] {
        assert!(port(hash) >= PORT_FIRST);
    }
    assert_ne!(port(1), port(2));
    assert_ne!(port(1 << 20), port(2 << 20));
}

#[test]
fn a_prepared_source_port_is_that_of_all_flows() {
    let prepared = Push { outer: prepared().outer.leaving_from(6784), ..prepared() };
    for hash in [0, 1, 0xdead_beef] {
        let outer = headers(&prepared, 84, hash).outer;
        assert_eq!(outer.source_port(), 6784);
        assert_eq!(outer.udp[2..8], pushed(84, hash).outer.udp[2..8], "all else is as ever");
    }
}

#[test]
fn what_was_prepared_stays() {
    let push = pushed(84, 7);
    let before = prepared().outer;
    assert_eq!(push.outer.vxlan, before.vxlan);
    assert_eq!(
        (push.outer.udp[2..4].as_ref(), push.outer.udp[6..8].as_ref()),
        (&6784_u16.to_be_bytes()[..], &[0, 0][..])
    );
    assert_eq!(push.outer.ipv4[12..20], before.ipv4[12..20]);
    assert_eq!(push.ethernet, [2, 0, 0, 0, 0, 7, 2, 0, 0, 0, 0, 1, 8, 0], "receiver, origin");
}

#[test]
fn each_kind_of_path_has_its_counter() {
    assert_eq!(counter(PATH_DIRECT), Counter::Encap);
    assert_eq!(counter(PATH_FIXED), Counter::EncapFixed);
    assert_eq!(counter(PATH_RELAYED), Counter::EncapRelayed);
}
