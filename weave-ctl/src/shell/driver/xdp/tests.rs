//! Every choice on every kind of device.

use super::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

fn of(choice: Xdp, nature: Nature, mac: Option<[u8; 6]>) -> Option<XdpWanted> {
    let device = Device { ifindex: 7, name: "eth0".to_owned(), mtu: 1500, mac, nature, addrs: Vec::new() };
    let XdpDevice { ifindex, wanted } = wanted(choice, &device);
    assert_eq!(ifindex, 7);
    wanted
}

#[test]
fn each_choice_on_each_kind() {
    use Nature::{OtherCard, PciCard, Software, Veth};
    let native = |relays| Some(XdpWanted { mode: XdpMode::Native, mac: MAC, relays });
    let generic = Some(XdpWanted { mode: XdpMode::Generic, mac: MAC, relays: false });
    for (choice, on_pci, on_other, on_veth, on_software) in [
        (Xdp::Auto, native(true), None, None, None),
        (Xdp::Native, native(true), native(true), native(false), None),
        (Xdp::Generic, generic, generic, generic, generic),
        (Xdp::Off, None, None, None, None),
    ] {
        let found = [PciCard, OtherCard, Veth, Software].map(|nature| of(choice, nature, Some(MAC)));
        assert_eq!(found, [on_pci, on_other, on_veth, on_software], "{choice}");
    }
}

#[test]
fn no_address_no_program() {
    assert_eq!(of(Xdp::Native, Nature::PciCard, None), None);
    assert_eq!(of(Xdp::Generic, Nature::Software, None), None);
}
