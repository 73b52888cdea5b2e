//! Headers, right and wrong.

use weave_common::config::SCHEMA;

use super::*;

const CONFIG: Config = Config {
    schema: SCHEMA,
    vni: vxlan::VNI,
    data_port: 6784,
    pad: 0,
    socket_ifindex: 5,
    me: [2, 0, 0, 0, 0, 1],
    pad2: [0; 2],
    service: [0; 4],
    dns_ttl: 0,
    dns: 0,
};

fn inner(total: u16) -> [u8; IPV4_LEN] {
    let mut header = [0; IPV4_LEN];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&total.to_be_bytes());
    header[6..8].copy_from_slice(&0x40b9_u16.to_be_bytes());
    header[9] = IPPROTO_TCP;
    header[12..16].copy_from_slice(&[10, 32, 0, 1]);
    header[16..20].copy_from_slice(&[10, 40, 0, 2]);
    header
}

fn udp(source_port: u16, data_port: u16) -> [u8; OUTER_UDP_LEN] {
    let mut frame = [0; OUTER_UDP_LEN];
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&100_u16.to_be_bytes());
    frame[20] = 0x40;
    frame[22] = 61;
    frame[23] = IPPROTO_UDP;
    frame[26..30].copy_from_slice(&[192, 0, 2, 1]);
    frame[30..34].copy_from_slice(&[192, 0, 2, 2]);
    frame[34..36].copy_from_slice(&source_port.to_be_bytes());
    frame[36..38].copy_from_slice(&data_port.to_be_bytes());
    frame[40..42].copy_from_slice(&[0xab, 0xcd]);
    frame
}

#[test]
fn inner_header() {
    let ip = ipv4(&inner(60), 60, false).expect("well formed");
    let expected = Ipv4 {
        source: Ip4([10, 32, 0, 1]),
        destination: Ip4([10, 40, 0, 2]),
        protocol: 6,
        header_len: 20,
        fragment: 0x40b9,
    };
    assert_eq!(ip, expected);
    assert_eq!(transport_len(&ip), TransportLen::At(32));
    assert_eq!(transport_len(&Ipv4 { protocol: 17, ..ip }), TransportLen::Known(8));
    assert_eq!(tcp_header_len(0x8f), 32);
}

#[test]
fn inner_lengths_must_agree() {
    let malformed = Err(DropReason::Malformed);
    assert_eq!(ipv4(&inner(61), 60, false), malformed, "longer than the frame");
    assert_eq!(ipv4(&inner(19), 60, false), malformed, "shorter than the header");
    assert!(ipv4(&inner(0), 60_000, true).is_ok(), "a super-packet's length may have wrapped");
    for (first, available) in [(0x44, 60), (0x65, 60), (0x05, 60), (0x4f, 59)] {
        let mut header = inner(40);
        header[0] = first;
        assert_eq!(ipv4(&header, available, false), malformed, "{first:#x} of {available}");
    }
}

#[test]
fn inner_frames() {
    let frame = |ethertype: u16, ip: [u8; IPV4_LEN]| {
        let mut frame = [0; ETH_LEN + IPV4_LEN];
        frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
        frame[14..].copy_from_slice(&ip);
        frame
    };
    assert_eq!(super::inner(&frame(0x800, inner(60)), 60, false), ipv4(&inner(60), 60, false));
    assert_eq!(super::inner(&frame(0x800, inner(61)), 60, false), Err(DropReason::Malformed));
    assert_eq!(super::inner(&frame(0x806, inner(60)), 60, false), Err(DropReason::NotIpv4));
    let mut group = inner(60);
    group[16] = 224;
    assert_eq!(super::inner(&frame(0x800, group), 60, false), Err(DropReason::Multicast));
}

#[test]
fn group_addresses() {
    assert!(is_group(Ip4([224, 0, 0, 1])) && is_group(Ip4([255; 4])));
    assert!(!is_group(Ip4([223, 255, 255, 255])));
    for (addr, routable) in [
        ([0, 255, 255, 255], false),
        ([1, 0, 0, 0], true),
        ([126, 255, 255, 255], true),
        ([127, 0, 0, 1], false),
        ([128, 0, 0, 0], true),
        ([223, 255, 255, 255], true),
        ([224, 0, 0, 0], false),
    ] {
        assert_eq!(is_routable(Ip4(addr)), routable, "{addr:?}");
    }
    assert!(ethernet(&[1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 8, 6]).group);
    assert_eq!(ethernet(&[2, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 8, 6]), Ethernet { group: false, ethertype: 0x806 });
}

#[test]
fn outer_headers_to_and_from_the_data_port_alone() {
    let (source, destination) = (Ip4([192, 0, 2, 1]), Ip4([192, 0, 2, 2]));
    let expected =
        |port, source_port| Outer { source, destination, port, source_port, total_len: 100, ttl: 61, checksum: 0xabcd };
    assert_eq!(outer(&udp(50_000, 6784), &CONFIG), Some(expected(Port::Data, 50_000)));
    assert_eq!(outer(&udp(6784, 6784), &CONFIG), Some(expected(Port::Data, 6784)));
    assert_eq!(outer(&udp(6784, 50_000), &CONFIG), Some(expected(Port::Answer, 6784)));
    assert_eq!(outer(&udp(50_000, 6783), &CONFIG), None);
    for (at, byte) in [(12, 0x86), (14, 0x46), (14, 0x65), (20, 0x20), (21, 1), (23, 6)] {
        let mut frame = udp(50_000, 6784);
        frame[at] = byte;
        assert_eq!(outer(&frame, &CONFIG), None, "byte {at} = {byte:#x}");
    }
}

#[test]
fn macs_in_order() {
    assert_eq!(macs(Mac([1; 6]), Mac([2; 6])), [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
}

#[test]
fn names_are_the_addresses_of_the_inner_header() {
    let mut headers = [0; ETH_LEN + IPV4_LEN];
    headers[..12].copy_from_slice(&[2, 0, 0, 0, 0, 7, 2, 0, 0, 0, 0, 1]);
    assert_eq!(names(&headers), Names { receiver: [2, 0, 0, 0, 0, 7], origin: [2, 0, 0, 0, 0, 1] });
}
