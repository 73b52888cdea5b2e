//! What others remove or change in the kernel, and that it is put back.

use std::fs;

use ipnet::Ipv4Net;
use weave_common::map;

use super::{
    super::tests::{Dir, content, index, run},
    *,
};
use crate::proto::{
    io::{EndpointTo, RouteTo},
    name::PeerName,
};

fn read(datapath: &Datapath) -> BTreeSet<MapOp> {
    datapath.reader().read().expect("read").into_iter().map(as_read).collect()
}

fn mended(datapath: &mut Datapath) -> usize {
    let found = datapath.reader().read().expect("read");
    datapath.keep_tables(found).expect("mended")
}

#[test]
#[ignore = "needs root and BPF"]
fn changed_entries_are_put_back() {
    let dir = Dir::new("keep");
    let (mut datapath, _) = dir.open();
    for op in content() {
        datapath.apply(&op).expect("applied");
    }
    let right = read(&datapath);
    assert_eq!((right.len(), mended(&mut datapath)), (content().len(), 0));
    // Each is removed, by a hand other than the datapath's own.
    for op in content() {
        let before = datapath.tables.clone();
        datapath.apply(&removal(&op)).expect("applied");
        datapath.tables = before;
        assert_eq!((mended(&mut datapath), mended(&mut datapath)), (1, 0), "{op:?}");
        assert_eq!(read(&datapath), right, "{op:?}");
    }
    // Some are changed, and one is too many.
    let before = datapath.tables.clone();
    let [_, MapOp::PutEndpoint(host, to), ..] = content()[..] else { unreachable!("the host's own") };
    let demoted = MapOp::PutEndpoint(host, EndpointTo { gateway: false, ..to });
    let elsewhere = MapOp::PutRoute(Ipv4Net::default(), RouteTo::Host(Ipv4Addr::LOCALHOST));
    let changed = MapOp::PutRoute("10.40.0.0/16".parse().expect("a net"), RouteTo::Local);
    let surplus = MapOp::PutSender(Ipv4Addr::new(203, 0, 113, 7), PeerName::from_bytes([2; 6]));
    for op in [demoted, elsewhere, changed, surplus] {
        datapath.apply(&op).expect("applied");
    }
    datapath.tables = before;
    assert_eq!((mended(&mut datapath), read(&datapath)), (4, right.clone()));
    // What was read before a change of our own is not put back.
    let found = datapath.reader().read().expect("read");
    datapath.apply(&removal(&content()[0])).expect("applied");
    assert_eq!(datapath.keep_tables(found).expect("mended"), 0);
    assert_eq!(read(&datapath).len(), right.len() - 1);
}

#[test]
#[ignore = "needs root and BPF"]
fn removed_pins_are_made_again_and_adopted() {
    let dir = Dir::new("keep-pins");
    let (mut datapath, _) = dir.open();
    for op in content() {
        datapath.apply(&op).expect("applied");
    }
    assert_eq!(datapath.keep_pins().expect("pinned"), 0);
    fs::remove_file(datapath.pins.map(map::ROUTES)).expect("removed");
    assert_eq!(datapath.keep_pins().expect("pinned"), 1);
    Datapath::teardown(&dir.0).expect("all of them");
    assert_eq!(datapath.keep_pins().expect("pinned"), SHAPES.len());
    drop(datapath);
    assert_eq!(dir.open().1.maps.len(), content().len(), "a relaunch finds all");
}

#[test]
#[ignore = "needs root and BPF"]
fn detached_programs_are_attached_again() {
    let dir = Dir::new("keep-links");
    run("ip", &["link", "add", "v1", "type", "veth", "peer", "name", "v2"]);
    let (mut datapath, _) = dir.open();
    let (container, underlay) = (index("v1"), index("v2"));
    let keep = |datapath: &mut Datapath| {
        let mut programs = datapath.programs();
        [programs.keep_container(container), programs.keep_underlay(underlay)].map(|kept| kept.expect("kept"))
    };
    assert_eq!(keep(&mut datapath), [true, true]);
    assert_eq!(keep(&mut datapath), [false, false]);
    link::detach(&datapath.pins.link(LinkPin { role: Role::Container, ifindex: container })).expect("detached");
    assert_eq!(keep(&mut datapath), [true, false]);
    let released = link::release_late(&datapath.pins.link(LinkPin { role: Role::Underlay, ifindex: underlay }));
    assert_eq!(keep(&mut datapath), [false, true]);
    released.join().expect("released");
    assert_eq!(keep(&mut datapath), [false, false]);

    let config = datapath.maps.config().expect("read");
    datapath.maps.set_config(weave_common::config::Config { vni: 7, ..config }).expect("written");
    assert!(datapath.keep_config().expect("kept") && !datapath.keep_config().expect("kept"));
    assert_eq!(datapath.maps.config().expect("read"), config);
}
