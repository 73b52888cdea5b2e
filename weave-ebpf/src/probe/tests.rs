//! What a probe is, and the frame that answers one.

use core::net::Ipv4Addr;

use weave_common::{
    probe::{ANNOUNCE, CHALLENGE, PROOF, REPLY},
    vxlan,
    wire::OuterHeader,
};

use super::*;

const ORIGIN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const HERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const REQUEST: Fields = Fields {
    receiver: [2, 0, 0, 0, 0, 2],
    origin: [2, 0, 0, 0, 0, 1],
    flags: 0,
    hops: 3,
    request_hops: 0,
    path: 7,
    size: 0,
    cookie: 0xdead_beef_0bad_cafe,
    clock: 12_345_678_901,
};

/// A frame's first bytes: an IP packet of `total` bytes from port 50,123 of the origin.
fn header(total: u16) -> [u8; OUTER_UDP_LEN] {
    let prepared = OuterHeader::prepare(ORIGIN, HERE, 6784, vxlan::PROBE_VNI).leaving_from(50_123);
    let mut frame = [0; OUTER_UDP_LEN];
    frame[..14].copy_from_slice(&[2, 0, 0, 0, 1, 2, 2, 0, 0, 0, 1, 1, 8, 0]);
    frame[14..34].copy_from_slice(&prepared.ipv4);
    frame[15] = 0x48;
    frame[16..18].copy_from_slice(&total.to_be_bytes());
    frame[18..20].copy_from_slice(&[0xab, 0xcd]);
    frame[22] = 61;
    frame[34..42].copy_from_slice(&prepared.udp);
    frame
}

#[test]
fn flags_tell_what_a_probe_is() {
    for flags in 0..=u8::MAX {
        let expected = if flags & REPLY != 0 {
            Kind::Reply
        } else if flags & (CHALLENGE | PROOF) != 0 {
            Kind::Contact
        } else {
            Kind::Request
        };
        assert_eq!(kind(flags), expected, "{flags:#x}");
    }
    assert_eq!(kind(ANNOUNCE), Kind::Request, "answered like any other");
}

#[test]
fn answer_is_short_and_goes_back_to_where_the_request_came_from() {
    for total in [74, 1500, 9000, u16::MAX] {
        let frame = answer(&header(total), &vxlan::header(vxlan::PROBE_VNI), &REQUEST);
        let mut expected = [0; ANSWER_LEN];
        expected[..14].copy_from_slice(&[2, 0, 0, 0, 1, 1, 2, 0, 0, 0, 1, 2, 8, 0]);
        let mut ip = [0x45, 0x48, 0, 74, 0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 2, 192, 0, 2, 1];
        let sum = checksum::ipv4_header(&ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        expected[14..34].copy_from_slice(&ip);
        expected[34..36].copy_from_slice(&6784_u16.to_be_bytes());
        expected[36..38].copy_from_slice(&50_123_u16.to_be_bytes());
        expected[38..40].copy_from_slice(&54_u16.to_be_bytes());
        expected[42..50].copy_from_slice(&vxlan::header(vxlan::PROBE_VNI));
        let told = Fields {
            receiver: REQUEST.origin,
            origin: REQUEST.receiver,
            flags: REPLY,
            hops: 0,
            request_hops: 3,
            size: total,
            ..REQUEST
        };
        expected[50..].copy_from_slice(&told.write());
        assert_eq!(frame, expected, "of {total} bytes");
    }
}
