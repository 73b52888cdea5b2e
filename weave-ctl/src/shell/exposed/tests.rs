//! Which devices are the host's own interface.

use rtnetlink::packet_route::link::InfoKind;

use super::*;

/// A veth whose other end has the index `peer`, in another namespace if that has a number.
fn veth(index: u32, name: &str, (peer, peer_netns): (u32, Option<i32>)) -> Device {
    let kind = Some(InfoKind::Veth);
    Device { index, name: name.to_owned(), kind, peer: Some(peer), peer_netns, up: true, ..Device::default() }
}

fn exposed(device: &Device, all: &[Device]) -> bool {
    is_exposed(device, |index| all.iter().find(|device| device.index == index))
}

#[test]
fn the_other_end_of_a_host_end_here_is_exposed() {
    let (own, end) = (veth(5, HOST_IF, (4, None)), veth(4, "wv12345678", (5, None)));
    let all = [own.clone(), end.clone()];
    assert!(exposed(&own, &all));
    assert!(!exposed(&end, &all), "the host end is a container's like any other");
    let renamed = Device { name: "net7".to_owned(), ..own.clone() };
    assert!(exposed(&renamed, &all), "whatever it is called");
    let renamed_end = Device { name: "x".to_owned(), other_names: vec!["wv.12345678".to_owned()], ..end };
    assert!(exposed(&own, &[own.clone(), renamed_end]), "whatever the host end is called");
}

#[test]
fn a_device_of_that_name_alone_is_not() {
    let end = veth(4, "wv12345678", (5, None));
    let dummy = Device { index: 5, name: HOST_IF.to_owned(), up: true, ..Device::default() };
    let others = [
        ("no veth", dummy),
        ("connected to another device", veth(5, HOST_IF, (9, None))),
        ("connected to a device that is not there", veth(5, HOST_IF, (8, None))),
        ("connected to another namespace", veth(5, HOST_IF, (4, Some(0)))),
        ("without the other end", Device { peer: None, ..veth(5, HOST_IF, (4, None)) }),
    ];
    for (what, device) in others {
        let all = [device.clone(), end.clone(), veth(9, "mine", (5, None))];
        assert!(!exposed(&device, &all), "{what}");
    }
    // The index of its other end is in use here, but that device is connected elsewhere.
    let own = veth(6, HOST_IF, (4, None));
    assert!(!exposed(&own, &[own.clone(), end]));
}
