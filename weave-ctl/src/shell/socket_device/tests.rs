//! VXLAN socket devices in namespaces of their own.

use std::{net::UdpSocket, time::Duration};

use super::{SocketDeviceError, index, make, name, prepare, raise, remove};
use crate::shell::netns::tests::TestNetns;

async fn ensure(name: &str, data_port: u16) -> Result<bool, SocketDeviceError> {
    let new = make(name, data_port).await?;
    raise(name, data_port).await?;
    Ok(new)
}

#[test]
fn names_fit_the_kernels_limit() {
    assert_eq!(name(6784), "weave-6784");
    assert!(name(u16::MAX).len() <= 15);
}

#[test]
#[ignore = "needs root"]
fn a_socket_device_is_made_adopted_and_removed() {
    let ns = TestNetns::new("socket-device");
    assert!(ns.block_on(ensure("weave-6784", 6784)).unwrap());
    let shown = ns.ip(&["-d", "link", "show", "weave-6784"]);
    for setting in
        ["external", "dstport 6784", "srcport 6784 6785", "nolearning", "mtu 65485", "UP", "addrgenmode none"]
    {
        assert!(shown.contains(setting), "{setting}: {shown}");
    }
    assert!(!shown.contains("gbp"), "{shown}");
    assert!(!ns.ip(&["addr", "show", "dev", "weave-6784"]).contains("inet"));
    let error = ns.inside(|| UdpSocket::bind("0.0.0.0:6784")).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);

    assert!(!ns.block_on(ensure("weave-6784", 6784)).unwrap(), "adopted");
    ns.ip(&["link", "set", "weave-6784", "down"]);
    assert!(!ns.block_on(ensure("weave-6784", 6784)).unwrap(), "adopted");
    assert!(ns.ip(&["link", "show", "weave-6784"]).contains("LOWER_UP"));

    ns.ip(&["link", "set", "weave-6784", "down"]);
    assert!(!ns.block_on(make("weave-6784", 6784)).unwrap());
    assert!(!ns.ip(&["link", "show", "weave-6784"]).contains("LOWER_UP"), "made, not raised");
    ns.block_on(remove("weave-6784")).unwrap();
    ns.block_on(remove("weave-6784")).unwrap();
    ns.inside(|| UdpSocket::bind("0.0.0.0:6784")).unwrap();
}

#[test]
#[ignore = "needs root"]
fn wrong_settings_are_replaced() {
    let ns = TestNetns::new("socket-device-old");
    for old in [&["id", "5"][..], &["external", "nolearning", "srcport", "6784", "6785", "gbp"]] {
        ns.ip(&[&["link", "add", "weave-6784", "type", "vxlan", "dstport", "6784"], old].concat());
        let before = ns.block_on(index("weave-6784")).unwrap();
        assert_eq!(ns.block_on(prepare("weave-6784", 6784)).ok(), before, "left alone until all else is ready");
        assert!(ns.block_on(ensure("weave-6784", 6784)).unwrap());
        let shown = ns.ip(&["-d", "link", "show", "weave-6784"]);
        assert!(["external", "srcport 6784 6785"].iter().all(|setting| shown.contains(setting)), "{shown}");
        assert!(!shown.contains("gbp"), "{shown}");
        assert_ne!(ns.block_on(index("weave-6784")).unwrap(), before);
        ns.block_on(remove("weave-6784")).unwrap();
    }
    let made = ns.block_on(prepare("weave-6784", 6784)).unwrap();
    assert!(!ns.block_on(make("weave-6784", 6784)).unwrap(), "made as wanted");
    assert_eq!(ns.block_on(index("weave-6784")).unwrap(), Some(made));
}

#[test]
#[ignore = "needs root"]
fn a_port_in_use_is_told() {
    let ns = TestNetns::new("socket-device-busy");
    let socket = ns.inside(|| UdpSocket::bind("0.0.0.0:6784")).unwrap();
    let error = ns.block_on(ensure("weave-6784", 6784)).unwrap_err();
    assert!(matches!(error, SocketDeviceError::PortInUse { port: 6784 }), "{error}");
    assert!(error.to_string().contains("6784") && error.to_string().contains("--port"), "{error}");
    drop(socket);
    // Another test may be between fork and exec, with a copy of the socket.
    let freed = (0..50).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        ns.block_on(ensure("weave-6784", 6784)).is_ok()
    });
    assert!(freed);
}

#[test]
#[ignore = "needs root"]
fn a_port_of_another_vxlan_device_is_in_use() {
    let ns = TestNetns::new("socket-device-vxlan");
    ns.ip(&["link", "add", "other", "type", "vxlan", "id", "5", "dstport", "6784"]);
    ns.ip(&["link", "set", "other", "up"]);
    let error = ns.block_on(ensure("weave-6784", 6784)).unwrap_err();
    assert!(matches!(error, SocketDeviceError::PortInUse { port: 6784 }), "{error}");
}

#[test]
#[ignore = "needs root"]
fn a_device_of_another_kind_is_left_alone() {
    let ns = TestNetns::new("socket-device-name");
    ns.ip(&["link", "add", "weave-6784", "type", "bridge"]);
    assert!(matches!(ns.block_on(prepare("weave-6784", 6784)), Err(SocketDeviceError::NameTaken { .. })));
    assert!(matches!(ns.block_on(ensure("weave-6784", 6784)), Err(SocketDeviceError::NameTaken { .. })));
    assert!(matches!(ns.block_on(remove("weave-6784")), Err(SocketDeviceError::NameTaken { .. })));
    assert!(ns.ip(&["-d", "link", "show", "weave-6784"]).contains("bridge"));
}
