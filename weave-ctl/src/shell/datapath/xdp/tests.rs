//! XDP in the running kernel, on veths of a network namespace of the test's own.

use std::process::Command;

use super::{
    super::{
        Datapath,
        tests::{Dir, run},
    },
    *,
};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn make(name: &str) {
    run("ip", &["link", "add", name, "mtu", "9000", "type", "veth", "peer", "name", &format!("{name}-far")]);
}

fn shown(device: &str) -> String {
    let out = Command::new("ip").args(["-d", "link", "show", "dev", device]).output().expect("ip");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn ifindex(device: &str) -> u32 {
    shown(device).split(':').next().and_then(|index| index.parse().ok()).expect("an index")
}

/// Mode and id of the program on a device, as the kernel tells others.
fn attached(device: &str) -> Option<(XdpMode, u32)> {
    let shown = shown(device);
    let words: Vec<&str> = shown.split_whitespace().collect();
    let id = words.windows(3).find(|w| w[0] == "prog/xdp" && w[1] == "id").and_then(|w| w[2].parse().ok())?;
    Some((if words.contains(&"xdpgeneric") { XdpMode::Generic } else { XdpMode::Native }, id))
}

fn mode(device: &str) -> Option<XdpMode> {
    attached(device).map(|(mode, _)| mode)
}

fn wants(device: &str, mode: Option<XdpMode>) -> XdpDevice {
    let wanted = mode.map(|mode| XdpWanted { mode, mac: MAC, relays: mode == XdpMode::Native });
    XdpDevice { ifindex: ifindex(device), wanted }
}

fn set(datapath: &mut Datapath, devices: &[XdpDevice]) -> Vec<String> {
    datapath.programs().set_xdp(devices).iter().map(DatapathError::to_string).collect()
}

fn entries(datapath: &Datapath) -> Vec<(u32, u16)> {
    datapath
        .programs()
        .devices
        .all()
        .expect("read")
        .into_iter()
        .map(|(ifindex, device)| (ifindex, device.relays))
        .collect()
}

const NATIVE: Option<XdpMode> = Some(XdpMode::Native);
const GENERIC: Option<XdpMode> = Some(XdpMode::Generic);

#[test]
#[ignore = "needs root and BPF"]
fn what_is_wanted_is_attached_and_what_is_not_is_taken_off() {
    let dir = Dir::new("xdp");
    ["v.1", "v2", "v3"].into_iter().for_each(make);
    let (mut datapath, _) = dir.open();
    let none: [String; 0] = [];
    assert_eq!(set(&mut datapath, &[wants("v.1", NATIVE), wants("v2", GENERIC), wants("v3", None)]), none);
    assert_eq!([mode("v.1"), mode("v2"), mode("v3")], [NATIVE, GENERIC, None]);
    assert_eq!(entries(&datapath), [(ifindex("v.1"), 1), (ifindex("v2"), 0)]);
    let facts = datapath.xdp_attachments().expect("facts");
    let facts: Vec<_> = facts.iter().map(|a| (a.device.as_str(), a.mode)).collect();
    assert!(facts.contains(&("v.1", Some("native"))) && facts.contains(&("v2", Some("generic"))), "{facts:?}");

    // Again: nothing changes. Another mode: at once. One that is not named: stays.
    let before = attached("v.1");
    assert_eq!(set(&mut datapath, &[wants("v.1", NATIVE), wants("v2", NATIVE)]), none);
    assert_eq!((attached("v.1"), mode("v2")), (before, NATIVE));
    assert_eq!(set(&mut datapath, &[wants("v2", GENERIC), wants("v3", NATIVE)]), none);
    assert_eq!([mode("v.1"), mode("v2"), mode("v3")], [NATIVE, GENERIC, NATIVE]);
    assert_eq!(entries(&datapath), [(ifindex("v.1"), 1), (ifindex("v2"), 0), (ifindex("v3"), 1)]);
    assert_eq!(set(&mut datapath, &[wants("v.1", None), wants("v2", GENERIC)]), none);
    assert_eq!([mode("v.1"), mode("v2"), mode("v3")], [None, GENERIC, NATIVE]);

    // Where somebody removed the pin it is attached again.
    let pin = XdpPin { mode: XdpMode::Native, ifindex: ifindex("v3") };
    let released = link::release_late(&datapath.pins.xdp(pin));
    assert_eq!(set(&mut datapath, &[wants("v3", NATIVE)]), none);
    released.join().expect("released");
    assert_eq!(mode("v3"), NATIVE);

    datapath.programs().remove_xdp().expect("removed");
    assert_eq!([mode("v2"), mode("v3")], [None, None]);
    assert_eq!(entries(&datapath), []);
    assert_eq!(datapath.xdp_attachments().expect("facts").len(), 0);
}

#[test]
#[ignore = "needs root and BPF"]
fn it_outlives_the_controller_and_is_swapped_in_place() {
    let dir = Dir::new("xdp-links");
    ["v1", "v2"].into_iter().for_each(make);
    let (mut datapath, _) = dir.open();
    let wanted = [wants("v1", NATIVE), wants("v2", GENERIC)];
    assert_eq!(set(&mut datapath, &wanted).len(), 0);
    let before = [attached("v1"), attached("v2")];
    drop(datapath);
    assert_eq!([attached("v1"), attached("v2")], before);

    let (mut datapath, _) = dir.open();
    assert_eq!([mode("v1"), mode("v2")], [NATIVE, GENERIC]);
    let after = [attached("v1"), attached("v2")];
    assert!(after[0] != before[0] && after[1] != before[1], "swapped on opening");
    assert_eq!(set(&mut datapath, &wanted).len(), 0);
    assert_eq!([attached("v1"), attached("v2")], after);
    drop(datapath);

    Datapath::teardown(&dir.0).expect("torn down");
    let deadline = std::time::Instant::now() + super::super::tests::DETACH_WITHIN;
    while attached("v1").is_some() || attached("v2").is_some() {
        assert!(std::time::Instant::now() < deadline, "still attached");
        std::thread::yield_now();
    }
}

#[test]
#[ignore = "needs root and BPF"]
fn device_made_anew_is_attached_again_a_renamed_one_left() {
    let dir = Dir::new("xdp-anew");
    make("v1");
    let (mut datapath, _) = dir.open();
    assert_eq!(set(&mut datapath, &[wants("v1", NATIVE)]).len(), 0);
    let first = ifindex("v1");
    run("ip", &["link", "del", "v1"]);
    make("v1");
    assert_eq!(set(&mut datapath, &[wants("v1", NATIVE)]).len(), 0);
    assert_eq!(mode("v1"), NATIVE);
    assert!(ifindex("v1") != first && entries(&datapath) == [(ifindex("v1"), 1)]);

    let before = attached("v1");
    run("ip", &["link", "set", "v1", "name", "old"]);
    assert_eq!(set(&mut datapath, &[wants("old", NATIVE)]).len(), 0);
    assert_eq!((attached("old"), entries(&datapath)), (before, vec![(ifindex("old"), 1)]));
    let shown = datapath.xdp_attachments().expect("facts");
    assert_eq!(shown.iter().map(|a| a.device.as_str()).collect::<Vec<_>>(), ["old"]);

    let old = ifindex("old");
    run("ip", &["link", "del", "old"]);
    datapath.programs().forget_device(old).expect("forgotten");
    assert_eq!(datapath.xdp_attachments().expect("facts").len(), 0);

    make("v4");
    assert_eq!(set(&mut datapath, &[wants("v4", GENERIC)]).len(), 0);
    run("ip", &["link", "del", "v4"]);
    drop(datapath);
    let (datapath, _) = dir.open();
    assert_eq!(datapath.xdp_attachments().expect("facts").len(), 0, "a pin without its device goes on opening");
}

#[test]
#[ignore = "needs root and BPF"]
fn a_device_that_refuses_says_so_once() {
    let (dir, other) = (Dir::new("xdp-no"), Dir::beside("xdp-other"));
    ["v1", "v2"].into_iter().for_each(make);
    run("ip", &["link", "add", "name", "br0", "type", "bridge"]);
    let (mut first, _) = other.open();
    assert_eq!(set(&mut first, &[wants("v1", NATIVE)]).len(), 0);
    let theirs = attached("v1");

    let (mut datapath, _) = dir.open();
    let wanted = [wants("v1", NATIVE), wants("br0", NATIVE), wants("v2", NATIVE)];
    let said = set(&mut datapath, &wanted);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with("could not attach weave_xdp to v1 in native mode: "), "{}", said[0]);
    assert!(said[1].starts_with("could not attach weave_xdp to br0 in native mode: "), "{}", said[1]);
    assert_eq!((attached("v1"), mode("br0"), mode("v2")), (theirs, None, NATIVE));
    assert_eq!(entries(&datapath), [(ifindex("v2"), 1)]);
    assert_eq!(set(&mut datapath, &wanted).len(), 0, "not asked again");

    first.programs().remove_xdp().expect("removed");
    drop(datapath);
    let (mut datapath, _) = dir.open();
    assert_eq!(set(&mut datapath, &wanted).len(), 1, "asked again by the next controller: only the bridge refuses");
    assert_eq!(mode("v1"), NATIVE);
}
