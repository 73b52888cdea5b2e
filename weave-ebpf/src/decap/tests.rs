//! What a packet to the data port is.

use weave_common::{addr::Ip4, config::SCHEMA};

use super::*;

const CONFIG: Config = Config { schema: SCHEMA, vni: vxlan::VNI, data_port: 6784, probe_port: 6785, socket_ifindex: 5 };

fn class_of(header: [u8; HEADER_LEN], port: Port) -> Result<Class, DropReason> {
    classify(&header, port, &CONFIG)
}

fn without_network() -> [u8; HEADER_LEN] {
    let mut header = vxlan::header(vxlan::VNI, 1);
    header[0] &= !vxlan::FLAG_VNI;
    header
}

#[test]
fn ours_is_ours_on_both_ports() {
    for port in [Port::Data, Port::Probe] {
        assert_eq!(class_of(vxlan::header(vxlan::VNI, 1), port), Ok(Class::Data));
        assert_eq!(class_of(vxlan::header(vxlan::PROBE_VNI, 1), port), Ok(Class::Probe));
    }
}

#[test]
fn all_else_is_refused_on_the_data_port_and_left_alone_on_the_other() {
    assert_eq!(class_of(vxlan::header(1, 1), Port::Data), Err(DropReason::WrongVni));
    assert_eq!(class_of(without_network(), Port::Data), Err(DropReason::Malformed));
    assert_eq!(class_of(vxlan::header(1, 1), Port::Probe), Ok(Class::Foreign));
    assert_eq!(class_of(without_network(), Port::Probe), Ok(Class::Foreign));
}

#[test]
fn outer_length_must_agree() {
    let (source, destination) = (Ip4([0; 4]), Ip4([0; 4]));
    let outer = |total_len| Outer { source, destination, port: Port::Data, total_len, ttl: 64, checksum: 0 };
    assert!(length_agrees(&outer(36), 36, false));
    assert!(length_agrees(&outer(36), 46, false), "the frame may be padded");
    assert!(!length_agrees(&outer(35), 100, false));
    assert!(!length_agrees(&outer(101), 100, false));
    assert!(length_agrees(&outer(1), 100, true));
}
