//! Names of pins, and the refusal of a directory that is not on bpffs.

use super::*;

fn pins() -> Pins {
    Pins { maps: "/b/v1/maps".into(), links: "/b/v1/links".into() }
}

#[test]
fn link_pin_names_program_and_device() {
    for ifindex in [1, 42, u32::MAX >> 1] {
        for role in Role::ALL {
            let pin = LinkPin { role, ifindex };
            let path = pins().link(pin);
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
            assert_eq!((parse_link(name), parse_xdp(name)), (Some(pin), None));
        }
        for mode in XdpMode::ALL {
            let pin = XdpPin { mode, ifindex };
            let path = pins().xdp(pin);
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
            assert_eq!((parse_xdp(name), parse_link(name)), (Some(pin), None));
        }
    }
    assert_eq!(parse_link("weave_other-2"), None);
    assert_eq!(parse_link("weave_container-eth0"), None);
    assert_eq!(parse_link("weave_container"), None);
}

#[test]
fn another_file_system_is_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().expect("a directory");
    let wanted = dir.path().join("deep/weave");
    let error = Pins::under(&wanted).expect_err("refused").to_string();
    assert!(error.contains("mount -t bpf bpf /sys/fs/bpf"), "{error}");
    assert!(!dir.path().join("deep").exists());
}
