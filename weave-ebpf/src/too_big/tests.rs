//! Which packets are answered, and what the answer says.

use weave_common::wire::IPPROTO_UDP;

use super::*;

const PACKET: Ipv4 = Ipv4 {
    source: Ip4([10, 32, 0, 1]),
    destination: Ip4([10, 40, 0, 5]),
    protocol: IPPROTO_UDP,
    header_len: 20,
    fragment: DF,
};

#[test]
fn fate_depends_on_df_and_offset() {
    const MF: u16 = 0x2000;
    for (fragment, expected) in [
        (0, Fate::SlowPath),
        (MF, Fate::SlowPath),
        (MF | 185, Fate::SlowPath),
        (185, Fate::SlowPath),
        (DF, Fate::Answer),
        (DF | MF, Fate::Answer),
        (DF | 1, Fate::Drop),
        (DF | MF | OFFSET, Fate::Drop),
    ] {
        assert_eq!(fate(&Ipv4 { fragment, ..PACKET }), expected, "{fragment:#x}");
    }
}

#[test]
fn icmp_errors_are_told_from_other_messages() {
    let icmp = Ipv4 { protocol: IPPROTO_ICMP, ..PACKET };
    for kind in 0..=u8::MAX {
        assert_eq!(is_icmp_error(&icmp, kind), [3, 4, 5, 11, 12].contains(&kind), "type {kind}");
        assert!(!is_icmp_error(&PACKET, kind), "not ICMP");
    }
}

#[test]
fn headers_are_those_of_a_router_at_the_destination() {
    for (mtu, told) in [(68, 68), (1350, 1350), (65_535, 65_535), (70_000, 65_535)] {
        let made = headers(&PACKET, mtu);
        let mut expected = [0; HEADERS_LEN];
        expected[..12].copy_from_slice(&[0x45, 0xc0, 0, 108, 0, 0, 0, 0, 64, 1, 0, 0]);
        expected[12..16].copy_from_slice(&PACKET.destination.0);
        expected[16..20].copy_from_slice(&PACKET.source.0);
        let sum = checksum::ipv4_header(expected.first_chunk().unwrap());
        expected[10..12].copy_from_slice(&sum.to_be_bytes());
        expected[20..22].copy_from_slice(&[3, 4]);
        expected[26..28].copy_from_slice(&u16::try_from(told).unwrap().to_be_bytes());
        assert_eq!(made, expected, "{mtu}");
    }
}
