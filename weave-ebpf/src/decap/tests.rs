//! What a packet to the data port is.

use weave_common::{addr::Ip4, config::SCHEMA};

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

fn class_of(header: [u8; HEADER_LEN], port: Port) -> Result<Class, DropReason> {
    classify(&header, port, &CONFIG)
}

fn without_network() -> [u8; HEADER_LEN] {
    let mut header = vxlan::header(vxlan::VNI);
    header[0] &= !vxlan::FLAG_VNI;
    header
}

#[test]
fn data_and_probes_to_the_data_port_are_ours() {
    assert_eq!(class_of(vxlan::header(vxlan::VNI), Port::Data), Ok(Class::Data));
    assert_eq!(class_of(vxlan::header(vxlan::PROBE_VNI), Port::Data), Ok(Class::Probe));
    assert_eq!(class_of(vxlan::header(1), Port::Data), Err(DropReason::WrongVni));
    assert_eq!(class_of(without_network(), Port::Data), Err(DropReason::Malformed));
}

#[test]
fn probes_alone_are_looked_at_on_other_ports() {
    assert_eq!(class_of(vxlan::header(vxlan::PROBE_VNI), Port::Answer), Ok(Class::Probe));
    for header in [vxlan::header(vxlan::VNI), vxlan::header(1), without_network()] {
        assert_eq!(class_of(header, Port::Answer), Ok(Class::Foreign));
    }
}

#[test]
fn outer_length_must_agree() {
    let (source, destination) = (Ip4([0; 4]), Ip4([0; 4]));
    let outer = |total_len| Outer {
        source,
        destination,
        port: Port::Data,
        source_port: 50_000,
        total_len,
        ttl: 64,
        checksum: 0,
    };
    assert!(length_agrees(&outer(36), 36, false));
    assert!(length_agrees(&outer(36), 46, false), "the frame may be padded");
    assert!(!length_agrees(&outer(35), 100, false));
    assert!(!length_agrees(&outer(101), 100, false));
    assert!(length_agrees(&outer(1), 100, true));
}
