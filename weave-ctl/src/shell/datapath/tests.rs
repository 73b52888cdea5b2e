//! The dataplane in the running kernel: each test in a network namespace and a pin directory of its own.

use std::{net::Ipv4Addr, path::PathBuf, process::Command};

use aya::programs::{SchedClassifier, TcAttachType};
use ipnet::Ipv4Net;
use weave_common::{addr::Mac, map, vxlan};

use super::{object::Role, *};
use crate::proto::io::{Egress, EndpointTo, PathKind, RouteTo};

const CONFIG: Config = Config {
    schema: SCHEMA,
    vni: vxlan::VNI,
    data_port: 6784,
    pad: 0,
    socket_ifindex: 0,
    me: [2, 0, 0, 0, 0, 77],
    pad2: [0; 2],
    service: [0; 4],
    dns_ttl: 0,
    dns: 0,
};
const ADDR: Ipv4Addr = Ipv4Addr::new(10, 32, 0, 1);
const HOST: Ipv4Addr = Ipv4Addr::new(10, 32, 0, 2);
const REMOTE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
const OTHER_REMOTE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const EGRESS: Egress = Egress { ifindex: 1, next_hop: REMOTE, source: REMOTE, mtu: 1500 };

/// The kernel lets go of a link some time after its pin is removed.
pub(super) const DETACH_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);

/// A pin directory on bpffs, removed with everything in it.
pub(super) struct Dir(pub(super) PathBuf);

impl Dir {
    /// Moves the calling thread to a new network namespace.
    pub(super) fn new(test: &str) -> Self {
        // SAFETY: the thread has no file descriptors or memory that it shares by namespace.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.expect("a namespace");
        if Pins::under("/sys/fs/bpf".as_ref()).is_err() {
            run("mount", &["-t", "bpf", "bpf", "/sys/fs/bpf"]);
        }
        Self(format!("/sys/fs/bpf/weave-test-{}-{test}", std::process::id()).into())
    }

    /// Another directory, in the namespace of the first.
    pub(super) fn beside(test: &str) -> Self {
        Self(format!("/sys/fs/bpf/weave-test-{}-{test}", std::process::id()).into())
    }

    pub(super) fn open(&self) -> (Datapath, Existing) {
        Datapath::open(&self.0, CONFIG).expect("opens")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        Datapath::teardown(&self.0).expect("torn down");
        assert!(!self.0.exists());
    }
}

pub(super) fn run(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).status().expect("starts");
    assert!(status.success(), "{program} {args:?}");
}

fn peer(last: u8) -> PeerName {
    PeerName::from_bytes([2, 0, 0, 0, 0, last])
}

fn tunnel(last: u8, remote: Ipv4Addr) -> MapOp {
    let remote = std::net::SocketAddrV4::new(remote, 6784);
    MapOp::PutTunnel(
        peer(last),
        TunnelTo { remote, via: peer(last), kind: PathKind::Direct, fixed: false, egress: EGRESS, path_mtu: 1500 },
    )
}

/// To a peer that another one relays for, over a path of its own size, to a port of its own.
fn relayed_tunnel() -> MapOp {
    let remote = std::net::SocketAddrV4::new(REMOTE, 7001);
    let egress = Egress { mtu: 1400, ..EGRESS };
    let kind = PathKind::Relayed;
    let tunnel = TunnelTo { remote, via: peer(1), kind, fixed: false, egress, path_mtu: 1400 };
    MapOp::PutTunnel(peer(2), tunnel)
}

fn net(text: &str) -> Ipv4Net {
    text.parse().expect("a network")
}

pub(super) fn content() -> Vec<MapOp> {
    vec![
        MapOp::PutEndpoint(ADDR, EndpointTo::container(3, Mac::of_container(ADDR.octets()))),
        MapOp::PutEndpoint(HOST, EndpointTo { host: true, gateway: true, ..EndpointTo::container(4, Mac([2; 6])) }),
        MapOp::PutRoute(Ipv4Net::default(), RouteTo::Host(HOST)),
        MapOp::PutRoute(net("10.32.0.0/16"), RouteTo::Local),
        MapOp::PutRoute(net("10.40.0.0/16"), RouteTo::Peer(peer(1))),
        tunnel(1, REMOTE),
        relayed_tunnel(),
        MapOp::PutSender(REMOTE, peer(1)),
        MapOp::PutSender(OTHER_REMOTE, peer(1)),
    ]
}

/// Ids of the programs on the ingress of `device`.
fn attached(device: &str) -> Vec<u32> {
    let (_, programs) = SchedClassifier::query_tcx(device, TcAttachType::Ingress).expect("a query");
    programs.iter().map(|info| info.id()).collect()
}

pub(super) fn index(name: &str) -> u32 {
    device::index(name).expect("a device")
}

fn filters(device: &str) -> String {
    let out = Command::new("tc").args(["filter", "show", "dev", device, "ingress"]).output().expect("tc");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
#[ignore = "needs root and BPF"]
fn what_was_written_is_adopted() {
    let dir = Dir::new("adopt");
    let (mut datapath, existing) = dir.open();
    assert_eq!(existing, Existing::default());
    for op in content() {
        datapath.apply(&op).expect("applied");
    }
    drop(datapath);
    let (mut datapath, mut existing) = dir.open();
    assert!(existing.adopted);
    existing.maps.sort();
    let mut expected = content();
    expected.sort();
    assert_eq!(existing.maps, expected);
    assert_eq!(datapath.maps.config().expect("read"), CONFIG);

    for op in [
        MapOp::DelEndpoint(ADDR),
        MapOp::DelEndpoint(HOST),
        MapOp::DelRoute(Ipv4Net::default()),
        MapOp::DelRoute(net("10.32.0.0/16")),
        MapOp::DelRoute(net("10.40.0.0/16")),
        MapOp::DelTunnel(peer(1)),
        MapOp::DelTunnel(peer(2)),
        MapOp::DelSender(REMOTE),
        MapOp::DelSender(OTHER_REMOTE),
    ] {
        // The second time there is nothing to delete.
        datapath.apply(&op).expect("applied");
        datapath.apply(&op).expect("applied again");
    }
    drop(datapath);
    assert_eq!(dir.open().1, Existing::default(), "empty maps prove no earlier run");
}

#[test]
#[ignore = "needs root and BPF"]
fn senders_are_apart_from_tunnels() {
    let dir = Dir::new("senders");
    let (mut datapath, _) = dir.open();
    datapath.apply(&tunnel(1, REMOTE)).expect("applied");
    // A peer may answer from another address than it is sent to at.
    let sender = MapOp::PutSender(OTHER_REMOTE, peer(2));
    datapath.apply(&sender).expect("applied");
    assert_eq!(datapath.maps.tables.senders().expect("read"), [(OTHER_REMOTE, peer(2))]);
    drop(datapath);
    let (mut datapath, found) = dir.open();
    assert!(found.maps.contains(&sender), "{found:?}");
    datapath.apply(&MapOp::DelSender(OTHER_REMOTE)).expect("applied");
    assert_eq!(datapath.maps.tables.senders().expect("read"), []);
    assert!(datapath.maps.tables.tunnel(peer(1)).expect("read").is_some());
}

/// What is told of a tunnel that carried a packet, small or large, and of a peer that was heard.
const fn activity(sent: bool, big: bool, heard: bool) -> Activity {
    Activity { peer: PeerName::from_bytes([2, 0, 0, 0, 0, 1]), sent, big, heard, elsewhere: false }
}

#[test]
#[ignore = "needs root and BPF"]
fn use_of_tunnels_is_told_once_and_survives_changes() {
    let dir = Dir::new("used");
    let (mut datapath, _) = dir.open();
    for last in [1, 2] {
        datapath.apply(&tunnel(last, REMOTE)).expect("applied");
    }
    let found = |datapath: &Datapath| datapath.maps.tables.tunnel(peer(1)).expect("read").expect("there");
    let times = |datapath: &Datapath| {
        let Tunnel { sent_ns, big_ns, heard_ns, .. } = found(datapath);
        [sent_ns, big_ns, heard_ns]
    };
    // As the programs do.
    let stamp = |datapath: &mut Datapath, [sent_ns, big_ns, heard_ns]: [u64; 3]| {
        let tunnel = Tunnel { sent_ns, big_ns, heard_ns, ..found(datapath) };
        datapath.maps.tables.put_tunnel(peer(1), tunnel).expect("written");
    };
    let told = |datapath: &mut Datapath| datapath.activity(Look::All).expect("read");
    assert_eq!(told(&mut datapath), []);
    stamp(&mut datapath, [7, 7, 0]);
    assert_eq!(told(&mut datapath), [activity(true, true, false)]);
    assert_eq!(told(&mut datapath), []);
    stamp(&mut datapath, [7, 7, 9]);
    assert_eq!(datapath.activity(Look::Active).expect("read"), [activity(false, false, true)]);

    // Another path to the same peer: what was not told yet is told then, and what was is not told again.
    datapath.apply(&tunnel(1, OTHER_REMOTE)).expect("applied");
    assert_eq!((times(&datapath), told(&mut datapath)), ([7, 7, 9], vec![]));
    stamp(&mut datapath, [8, 7, 9]);
    datapath.apply(&tunnel(1, REMOTE)).expect("applied");
    assert_eq!((times(&datapath), told(&mut datapath)), ([8, 7, 9], vec![activity(true, false, false)]));

    // The next controller writes no tunnel that is as it should be, and tells only what is used from then on.
    drop(datapath);
    let (mut datapath, _) = dir.open();
    datapath.apply(&tunnel(1, REMOTE)).expect("nothing to write");
    assert_eq!((times(&datapath), told(&mut datapath)), ([8, 7, 9], vec![]));
    stamp(&mut datapath, [9, 7, 9]);
    assert_eq!(told(&mut datapath), [activity(true, false, false)]);

    datapath.apply(&MapOp::DelTunnel(peer(1))).expect("applied");
    datapath.apply(&tunnel(1, REMOTE)).expect("applied");
    assert_eq!((times(&datapath), told(&mut datapath)), ([0; 3], vec![]));
}

#[test]
#[ignore = "needs root and BPF"]
fn local_addresses_follow_the_host_and_are_adopted() {
    let dir = Dir::new("locals");
    let entries = |datapath: &Datapath| datapath.maps.locals().expect("read");
    let (one, two, three) = ((ADDR, 3), (REMOTE, 3), (OTHER_REMOTE, 4));
    {
        let (mut datapath, _) = dir.open();
        assert!(entries(&datapath).is_empty());
        datapath.set_locals(&BTreeMap::from([one, two])).expect("written");
        assert_eq!(entries(&datapath), BTreeMap::from([one, two]));
    }
    let (mut datapath, _) = dir.open();
    assert_eq!(entries(&datapath), BTreeMap::from([one, two]), "a relaunch finds them");
    let moved = (REMOTE, 4);
    datapath.set_locals(&BTreeMap::from([moved, three])).expect("written");
    assert_eq!(entries(&datapath), BTreeMap::from([moved, three]));
    let many = (0..=map::LOCALS_MAX).map(|n| (Ipv4Addr::from(0xcb00_0000 + n), 5)).chain([moved]).collect();
    let error = datapath.set_locals(&many).expect_err("no room");
    assert!(matches!(error, DatapathError::Full { map: map::LOCALS, .. }), "{error}");
    assert!(entries(&datapath).contains_key(&REMOTE), "one that was there stays");
    datapath.set_locals(&BTreeMap::from([three])).expect("room again");
    assert_eq!(entries(&datapath), BTreeMap::from([three]));
}

#[test]
#[ignore = "needs root and BPF"]
fn the_socket_device_is_told_and_kept_at_a_relaunch() {
    let dir = Dir::new("socket");
    let told = |datapath: &Datapath| datapath.maps.config().expect("read").socket_ifindex;
    let (mut datapath, _) = dir.open();
    datapath.set_socket_device(7).expect("written");
    assert_eq!(told(&datapath), 7);
    drop(datapath);
    let (datapath, _) = Datapath::open(&dir.0, Config { socket_ifindex: 7, ..CONFIG }).expect("opens");
    assert_eq!(datapath.maps.config().expect("read"), Config { socket_ifindex: 7, ..CONFIG });
}

#[test]
#[ignore = "needs root and BPF"]
fn a_map_of_another_shape_is_refused() {
    let dir = Dir::new("shape");
    let (datapath, _) = dir.open();
    let pin = datapath.pins.map(map::ENDPOINTS);
    drop(datapath);
    std::fs::remove_file(&pin).expect("removed");
    let name = pin.display().to_string();
    run(
        "bpftool",
        &["map", "create", &name, "type", "hash", "key", "4", "value", "12", "entries", "7", "name", "other"],
    );
    let error = Datapath::open(&dir.0, CONFIG).err().expect("refused").to_string();
    assert!(error.contains(&name) && error.contains("7 entries") && error.contains("4096 entries"), "{error}");
    assert!(error.contains("nothing was changed"), "{error}");
}

#[test]
#[ignore = "needs root and BPF"]
fn links_outlive_the_controller_and_are_swapped_in_place() {
    let dir = Dir::new("links");
    run("ip", &["link", "add", "v.1", "type", "veth", "peer", "name", "v2"]);
    let (datapath, _) = dir.open();
    datapath.programs().attach_container(index("v.1")).expect("attached");
    datapath.programs().attach_container(index("v.1")).expect("attached again");
    datapath.programs().attach_underlay(index("v2")).expect("attached");
    let before = (attached("v.1"), attached("v2"));
    assert_eq!((before.0.len(), before.1.len()), (1, 1));
    drop(datapath);
    assert_eq!((attached("v.1"), attached("v2")), before);

    let (datapath, _) = dir.open();
    let after = (attached("v.1"), attached("v2"));
    assert_eq!((after.0.len(), after.1.len()), (1, 1));
    assert!(after.0 != before.0 && after.1 != before.1, "swapped on opening");
    let links = datapath.facts().expect("facts").links;
    let links: Vec<_> = links.iter().map(|link| (link.program, link.device.as_str())).collect();
    assert_eq!(links, [(map::PROG_CONTAINER, "v.1"), (map::PROG_UNDERLAY, "v2")]);
    let id = |role, name| datapath.programs().place(LinkPin { role, ifindex: index(name) }).map(|place| place.program);
    assert_eq!(id(Role::Container, "v.1"), Some(after.0[0]));
    assert_eq!(id(Role::Underlay, "v2"), Some(after.1[0]));
    drop(datapath);
    Datapath::teardown(&dir.0).expect("torn down");
    let deadline = std::time::Instant::now() + DETACH_WITHIN;
    while !(attached("v.1").is_empty() && attached("v2").is_empty()) {
        assert!(std::time::Instant::now() < deadline, "still attached: {:?} {:?}", attached("v.1"), attached("v2"));
        std::thread::yield_now();
    }
}

#[test]
#[ignore = "needs root and BPF"]
fn programs_stay_with_their_devices_through_renames() {
    let dir = Dir::new("names");
    let make = |name: &str| {
        run("ip", &["link", "add", name, "type", "veth"]);
        index(name)
    };
    let rename = |from, to| run("ip", &["link", "set", from, "name", to]);
    let shown = |datapath: &Datapath| {
        let links = datapath.facts().expect("facts").links;
        links.into_iter().map(|link| link.device).collect::<Vec<_>>()
    };
    let (one, two) = (make("v1"), make("v2"));
    let (datapath, _) = dir.open();
    datapath.programs().attach_container(one).expect("attached");
    datapath.programs().attach_underlay(two).expect("attached");
    let before = (attached("v1"), attached("v2"));
    // Both names are swapped, and a third device takes one of them.
    [("v1", "tmp0"), ("v2", "v1"), ("tmp0", "v2")].into_iter().for_each(|(from, to)| rename(from, to));
    datapath.programs().attach_container(one).expect("attached");
    datapath.programs().attach_underlay(two).expect("attached");
    assert_eq!((attached("v2"), attached("v1")), before);
    assert_eq!(shown(&datapath), ["v2", "v1"]);
    rename("v2", "old");
    let third = make("v2");
    datapath.programs().attach_container(third).expect("attached");
    assert_eq!((attached("old"), attached("v2").len()), (before.0, 1));
    drop(datapath);

    let (datapath, _) = dir.open();
    for name in ["old", "v1", "v2"] {
        assert_eq!(attached(name).len(), 1, "{name}");
    }
    run("ip", &["link", "del", "v1"]);
    datapath.programs().forget_device(one).expect("still there");
    datapath.programs().forget_device(two).expect("forgotten");
    assert_eq!(shown(&datapath), ["old", "v2"]);
}

#[test]
#[ignore = "needs root and BPF"]
fn device_that_was_made_anew_is_attached_again() {
    let dir = Dir::new("anew");
    let make = |more: &[&str]| {
        let args = ["link", "add", "v1"].iter().chain(more).chain(&["type", "veth", "peer", "name", "far"]);
        run("ip", &args.copied().collect::<Vec<_>>());
        index("v1")
    };
    let first = make(&[]);
    let (datapath, _) = dir.open();
    datapath.programs().attach_container(first).expect("attached");
    run("ip", &["link", "del", "v1"]);
    // Even one of the same index.
    assert_eq!(make(&["index", &first.to_string()]), first);
    let pin = LinkPin { role: Role::Container, ifindex: first };
    assert_eq!(datapath.programs().place(pin).expect("a link").ifindex, 0);
    datapath.programs().attach_container(first).expect("attached to the new one");
    assert_eq!(attached("v1").len(), 1);
    run("ip", &["link", "del", "v1"]);
    datapath.programs().forget_device(first).expect("forgotten");
    assert!(datapath.facts().expect("facts").links.is_empty());

    let lost = make(&[]);
    datapath.programs().attach_container(lost).expect("attached");
    run("ip", &["link", "del", "v1"]);
    assert_eq!(datapath.facts().expect("facts").links.len(), 1);
    let error = datapath.programs().attach_container(lost).expect_err("no such device").to_string();
    assert!(error.contains(&format!("#{lost}")) && error.contains("unchanged"), "{error}");
    assert!(datapath.facts().expect("facts").links.is_empty());

    let lost = make(&[]);
    datapath.programs().attach_container(lost).expect("attached");
    run("ip", &["link", "del", "v1"]);
    drop(datapath);
    assert!(dir.open().0.facts().expect("facts").links.is_empty(), "a pin without its device goes on opening");
}

#[test]
#[ignore = "needs root and BPF"]
fn detached_link_is_made_again() {
    let dir = Dir::new("torn");
    run("ip", &["link", "add", "v1", "type", "veth", "peer", "name", "v2"]);
    let (datapath, _) = dir.open();
    let ifindex = index("v1");
    let detach = |path: &Path| link::detach(path).expect("detached");
    let unpin = |path: &Path| std::fs::remove_file(path).expect("removed");
    for tear in [detach as fn(&Path), unpin] {
        datapath.programs().attach_container(ifindex).expect("attached");
        assert_eq!(attached("v1").len(), 1);
        tear(&datapath.pins.link(LinkPin { role: Role::Container, ifindex }));
        let deadline = std::time::Instant::now() + DETACH_WITHIN;
        while !attached("v1").is_empty() {
            assert!(std::time::Instant::now() < deadline, "still attached");
            std::thread::yield_now();
        }
    }
    datapath.programs().attach_container(ifindex).expect("attached");
    assert_eq!(attached("v1").len(), 1);
}

#[test]
#[ignore = "needs root and BPF"]
fn filters_do_where_there_are_no_links() {
    let dir = Dir::new("clsact");
    let (mut datapath, _) = dir.open();
    datapath.hook = Hook::Clsact;
    datapath.programs().hook = Hook::Clsact;
    datapath.programs().attach_container(index("lo")).expect("attached");
    let id = |datapath: &Datapath| datapath.facts().expect("facts").programs[0].id;
    assert!(filters("lo").contains(&format!("id {} ", id(&datapath))), "{}", filters("lo"));
    drop(datapath);
    assert_eq!(filters("lo").matches(" handle ").count(), 1, "{}", filters("lo"));

    let (mut datapath, _) = dir.open();
    datapath.hook = Hook::Clsact;
    datapath.programs().hook = Hook::Clsact;
    datapath.programs().replace_attached().expect("replaced");
    assert_eq!(filters("lo").matches(" handle ").count(), 1, "{}", filters("lo"));
    assert!(filters("lo").contains(&format!("id {} ", id(&datapath))), "swapped: {}", filters("lo"));
    assert_eq!(datapath.facts().expect("facts").links.len(), 1);
    datapath.programs().attach_container(index("lo")).expect("attached again");
    assert_eq!(filters("lo").matches(" handle ").count(), 1, "{}", filters("lo"));

    drop(datapath);
    attach::detach_clsact("lo");
    assert!(!filters("lo").contains("weave_"), "{}", filters("lo"));
}

#[test]
#[ignore = "needs root and BPF"]
fn a_full_table_says_so() {
    let dir = Dir::new("full");
    let (mut datapath, _) = dir.open();
    let put = |n: u32| MapOp::PutEndpoint(Ipv4Addr::from(n), EndpointTo::container(1, Mac([0; 6])));
    for n in 0..map::ENDPOINTS_MAX {
        datapath.apply(&put(n)).expect("fits");
    }
    let error = datapath.apply(&put(map::ENDPOINTS_MAX)).expect_err("full").to_string();
    assert!(error.contains("weave_endpoints is full (4096 entries)"), "{error}");
    datapath.apply(&put(7)).expect("one that is there is replaced");
}

#[test]
#[ignore = "needs root and BPF"]
fn this_kernel_has_what_is_needed() {
    let features = features::probe(&mut Loader::new()).expect("probed");
    println!("{features}");
    features.require().expect("enough");
}
