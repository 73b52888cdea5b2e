//! Relaying in the kernel: three hosts without controllers, whose tables are written by hand. And where a controller puts
//! XDP.
//!
//! Host N has the container 10.32.N.1. Hosts 1 and 3 know each other only by way of host 2.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    time::Instant,
};

use ipnet::Ipv4Net;
use weave_common::{
    addr::Mac,
    config::{Config, SCHEMA},
    map::{PROG_UNDERLAY, PROG_XDP},
    vxlan,
};
use weave_ctl::{
    proto::{
        io::{Egress, MapOp, PathKind, RouteTo, TunnelTo},
        name::PeerName,
    },
    shell::{
        datapath::{Datapath, UnderlayRoute, XdpDevice, XdpMode, XdpWanted},
        netns::in_netns,
    },
};
use weave_tests::lab::{
    Host, Lab, Plan, SETTLED,
    cmd::run,
    eventually,
    host::ping,
    traffic::{UdpFlow, tcp, within},
    underlay, underlay_on,
};

const CONFIG: Config = Config { schema: SCHEMA, vni: vxlan::VNI, data_port: 6784, probe_port: 6783 };
/// Bytes that a TCP transfer moves.
const TCP_BYTES: u64 = 64 << 20;
/// A packet of this size crosses a device of 1500 bytes only as a super-packet.
const SUPER: u64 = 4000;
/// Hops of a packet that nobody stops.
const HOPS: u64 = 64;

fn peer(n: usize) -> PeerName {
    PeerName::from_bytes([2, 0, 0, 0, 0, u8::try_from(n).expect("small")])
}

fn container(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 32, u8::try_from(n).expect("small"), 1)
}

fn range(n: usize) -> Ipv4Net {
    Ipv4Net::new(container(n), 24).expect("a length").trunc()
}

/// Hosts with programs and containers, and nobody who decides.
struct Network {
    lab: Lab,
    datapaths: Vec<Datapath>,
    eth0: Vec<u32>,
}

impl Network {
    fn new(prefix: &str, hosts: usize) -> Self {
        let lab = Lab::new(Plan::of(prefix, hosts).containers(1)).expect("a lab");
        let made: Vec<(Datapath, u32)> = lab.hosts().iter().map(|host| inside(host, || build(host))).collect();
        let (datapaths, eth0) = made.into_iter().unzip();
        let mut network = Self { lab, datapaths, eth0 };
        for at in 1..=hosts {
            for n in 1..=hosts {
                let to = if n == at { RouteTo::Local } else { RouteTo::Peer(peer(n)) };
                network.apply(at, &MapOp::PutRoute { net: range(n), to });
                network.apply(at, &MapOp::PutSender { addr: underlay(n), peer: peer(n) });
            }
        }
        network
    }

    /// Hosts 1 and 3 with host 2 between them.
    fn chain(prefix: &str) -> Self {
        let mut network = Self::new(prefix, 3);
        for (at, to, via) in [(1, 2, 2), (1, 3, 2), (2, 1, 1), (2, 3, 3), (3, 2, 2), (3, 1, 2)] {
            network.tunnel(at, to, via, 6784);
        }
        network
    }

    fn apply(&mut self, at: usize, op: &MapOp) {
        self.datapaths[at - 1].apply(op).expect("applied");
    }

    fn tunnel(&mut self, at: usize, to: usize, via: usize, port: u16) {
        let remote = SocketAddrV4::new(underlay(via), port);
        let op = put_tunnel(to, via, remote, (self.eth0[at - 1], underlay(at)));
        self.apply(at, &op);
    }

    /// Takes host `at` off the first underlay's way to host `to`: both meet on the second.
    fn second_way(&mut self, at: usize, to: usize, via: usize) {
        let ifindex = inside(self.lab.host(at), || device_index("eth1"));
        let remote = SocketAddrV4::new(underlay_on(1, via), 6784);
        self.apply(at, &put_tunnel(to, via, remote, (ifindex, underlay_on(1, at))));
        self.apply(at, &MapOp::PutSender { addr: underlay_on(1, via), peer: peer(via) });
    }

    /// Puts XDP on a device of host `at`.
    fn xdp(&mut self, at: usize, device: &str, mode: XdpMode, relays: bool) {
        let host = self.lab.host(at);
        let (ifindex, mac) = inside(host, || (device_index(device), mac_of(host.netns(), device)));
        let wanted = Some(XdpWanted { mode, mac, relays });
        let device = XdpDevice { name: device.to_owned(), ifindex, wanted };
        let datapath = &mut self.datapaths[at - 1];
        let refused = inside(host, || datapath.set_xdp(std::slice::from_ref(&device)));
        assert!(refused.is_empty(), "{refused:?}");
    }

    /// XDP that leaves relaying to the stack, on the underlay of every host.
    fn xdp_on_all(&mut self, mode: XdpMode) {
        for at in 1..=self.datapaths.len() {
            self.xdp(at, "eth0", mode, false);
        }
    }

    /// Frames of MTU size with all their checksums, between devices that XDP can send by.
    fn like_cards(&self, devices: &[&str]) {
        for host in self.lab.hosts() {
            for (k, device) in devices.iter().enumerate() {
                ethtool(host.netns(), device, &["tx", "off", "gro", "on"]);
                let port = format!("p{k}-{}", host.number());
                ethtool(&self.lab.switch_netns(), &port, &["tx", "off", "gro", "on"]);
            }
        }
    }

    /// A veth that sends from XDP wakes its peer only when that has an XDP program itself: gives it one.
    fn wake_veth(&self, at: usize) -> Datapath {
        let switch = self.lab.switch_netns();
        let device = format!("p0-{at}");
        let work = || {
            let (mut datapath, _) = Datapath::open(&self.switch_dir(), CONFIG).expect("opens");
            let wanted = Some(XdpWanted { mode: XdpMode::Native, mac: [2; 6], relays: false });
            let ifindex = device_index(&device);
            let refused = datapath.set_xdp(&[XdpDevice { name: device.clone(), ifindex, wanted }]);
            assert!(refused.is_empty(), "{refused:?}");
            datapath
        };
        in_netns(format!("/run/netns/{switch}"), work).expect("a namespace")
    }

    fn switch_dir(&self) -> PathBuf {
        self.lab.host(1).bpf_dir().with_file_name(self.lab.switch_netns())
    }

    /// Leaves host 2 no other way to relay than XDP: with forwarding, as its look-up asks, its neighbours known, and
    /// without the program of traffic control.
    fn xdp_alone(&self, devices: &[&str], neighbours: &[Ipv4Addr]) {
        let host = self.lab.host(2);
        inside(host, || fs::write("/proc/sys/net/ipv4/conf/all/forwarding", "1")).expect("forwarding");
        for neighbour in neighbours {
            assert!(ping(host.netns(), *neighbour, 1), "no neighbour {neighbour}");
        }
        for device in devices {
            let pin = host.bpf_dir().join(format!("v{SCHEMA}/links/{PROG_UNDERLAY}-{device}"));
            fs::remove_file(&pin).expect("detached");
        }
    }

    /// Packets and bytes that host `at` counted under `name`.
    fn counter(&self, at: usize, name: &str) -> (u64, u64) {
        let facts = self.datapaths[at - 1].facts().expect("facts");
        let found = facts.counters.iter().find(|c| c.name == name).expect("a counter");
        (found.packets, found.bytes)
    }

    fn drops(&self, at: usize, reason: &str) -> u64 {
        let facts = self.datapaths[at - 1].facts().expect("facts");
        facts.drops.iter().find(|d| d.reason == reason).expect("a reason").packets
    }

    fn name(&self, at: usize) -> String {
        self.lab.host(at).container(1)
    }

    /// TCP in both directions between hosts 1 and 3, each byte checked; how large a packet at host 2 was on average.
    fn tcp_both_ways(&self, what: &str) -> u64 {
        let before = self.counter(2, "relay");
        let start = Instant::now();
        tcp(&self.name(1), &self.name(3), container(3), TCP_BYTES).expect("TCP there");
        tcp(&self.name(3), &self.name(1), container(1), TCP_BYTES).expect("TCP back");
        let rate = TCP_BYTES as f64 * 16.0 / start.elapsed().as_secs_f64() / 1e9;
        let after = self.counter(2, "relay");
        let (packets, bytes) = (after.0 - before.0, after.1 - before.1);
        println!("{what}: {rate:.1} Gbit/s, {packets} packets relayed, {} bytes each", bytes / packets.max(1));
        assert!(bytes > 2 * TCP_BYTES, "not all went by host 2: {bytes}");
        for at in [1, 3] {
            assert_eq!(bad_checksums(&self.name(at)), [0, 0, 0], "{what}, host {at}: IP, TCP, UDP");
        }
        bytes / packets
    }
}

/// The tunnel to `to` over `via` at `remote`, from that device and address.
fn put_tunnel(to: usize, via: usize, remote: SocketAddrV4, (ifindex, source): (u32, Ipv4Addr)) -> MapOp {
    let egress = Egress { ifindex, next_hop: *remote.ip(), source, mtu: 1500 };
    let kind = if to == via { PathKind::Direct } else { PathKind::Relayed };
    let tunnel = TunnelTo { remote, via: peer(via), kind, fixed: false, egress, path_mtu: 1500 };
    MapOp::PutTunnel { peer: peer(to), tunnel }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in self.lab.hosts() {
            Datapath::teardown(&host.bpf_dir()).ok();
        }
        Datapath::teardown(&self.switch_dir()).ok();
    }
}

fn inside<T: Send>(host: &Host, work: impl FnOnce() -> T + Send) -> T {
    in_netns(format!("/run/netns/{}", host.netns()), work).expect("a namespace")
}

/// What a controller would make: the anchor, the programs, the container's interface.
fn build(host: &Host) -> (Datapath, u32) {
    let (n, netns) = (host.number(), host.netns());
    let ip = |args: &[&str]| run(&[&["ip", "-n", netns], args].concat()).expect("ip");
    ip(&["link", "add", "weave-6784", "type", "vxlan", "external", "dstport", "6784", "nolearning", "gbp"]);
    let (mut datapath, _) = Datapath::open(&host.bpf_dir(), CONFIG).expect("opens");
    datapath.attach_anchor("weave-6784").expect("attached");
    ip(&["link", "set", "weave-6784", "up"]);
    datapath.attach_underlay("eth0").expect("attached");

    let (addr, name) = (container(n), host.container(1));
    let mac = Mac::of_container(addr.octets());
    ip(&["link", "add", "wv1", "mtu", "1450", "type", "veth", "peer", "name", "ethwe", "mtu", "1450", "netns", &name]);
    ip(&["link", "set", "wv1", "up"]);
    for args in [
        &["link", "set", "ethwe", "address", &mac.to_string(), "up"][..],
        &["addr", "add", &format!("{addr}/12"), "dev", "ethwe"],
    ] {
        run(&[&["ip", "-n", &name], args].concat()).expect("ip");
    }
    datapath.attach_container("wv1").expect("attached");
    let put = MapOp::PutEndpoint { addr, ifindex: device_index("wv1"), mac };
    datapath.apply(&put).expect("applied");
    (datapath, device_index("eth0"))
}

/// Index of a device of the calling thread's namespace.
fn device_index(device: &str) -> u32 {
    let name = std::ffi::CString::new(device).expect("a name");
    // SAFETY: the kernel reads the string up to its NUL.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    assert_ne!(index, 0, "no device {device}");
    index
}

fn mac_of(netns: &str, device: &str) -> [u8; 6] {
    let shown = run(&["ip", "-n", netns, "-j", "link", "show", "dev", device]).expect("ip");
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    let text = shown[0]["address"].as_str().expect("an address");
    let bytes: Vec<u8> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("a byte")).collect();
    bytes.try_into().expect("six bytes")
}

fn ethtool(netns: &str, device: &str, settings: &[&str]) {
    let net = format!("--net=/run/netns/{netns}");
    run(&[&["nsenter", &net, "ethtool", "-K", device], settings].concat()).expect("ethtool");
}

/// Packets with a bad checksum that IP, TCP and UDP of a namespace saw.
fn bad_checksums(netns: &str) -> [u64; 3] {
    let text = |file: &'static str| within(netns, move || fs::read_to_string(file)).expect("figures");
    let figure = |text: &str, kind: &str, name: &str| {
        let mut rows = text.lines().filter_map(|l| l.strip_prefix(kind)).map(str::split_whitespace);
        let (names, values) = (rows.next().expect("names"), rows.next().expect("values"));
        let found = names.zip(values).find(|(n, _)| *n == name).expect("a figure");
        found.1.parse::<u64>().expect("a number")
    };
    let (snmp, netstat) = (text("/proc/thread-self/net/snmp"), text("/proc/thread-self/net/netstat"));
    [
        figure(&netstat, "IpExt:", "InCsumErrors"),
        figure(&snmp, "Tcp:", "InCsumErrors"),
        figure(&snmp, "Udp:", "InCsumErrors"),
    ]
}

#[test]
#[ignore = "needs root"]
fn tcp_crosses_a_relay_in_super_packets_and_in_frames() {
    let mut network = Network::chain("lrly-tcp");
    assert!(ping(&network.name(1), container(3), 3), "no answer through host 2");
    let size = network.tcp_both_ways("veth, super-packets");
    assert!(size > SUPER, "super-packets were cut before the relay: {size} bytes each");

    // Frames of MTU size, made by the hosts, merged by each receiver.
    network.like_cards(&["eth0"]);
    let size = network.tcp_both_ways("frames, merged by the relay");
    assert!(size > SUPER, "the relay did not merge: {size} bytes each");

    // The same, merged by nobody.
    for host in network.lab.hosts() {
        ethtool(host.netns(), "eth0", &["gro", "off"]);
    }
    let size = network.tcp_both_ways("frames, one by one");
    assert!(size < SUPER, "{size} bytes each");

    let used: Vec<Vec<PeerName>> =
        network.datapaths.iter_mut().map(|datapath| datapath.used_tunnels().expect("read")).collect();
    assert_eq!(used, [vec![peer(3)], vec![peer(1), peer(3)], vec![peer(1)]], "tunnels that carried packets");
    for at in 1..=3 {
        assert_eq!(network.drops(at, "kernel") + network.drops(at, "too-big"), 0);
    }
}

#[test]
#[ignore = "needs root"]
fn data_crosses_to_the_port_that_probes_come_from() {
    let mut network = Network::chain("lrly-port");
    network.tunnel(1, 3, 2, CONFIG.probe_port);
    network.tunnel(2, 3, 3, CONFIG.probe_port);
    let size = network.tcp_both_ways("to the probe port");
    assert!(size > SUPER, "{size} bytes each");
}

#[test]
#[ignore = "needs root"]
fn a_packet_in_a_loop_ends_after_its_hops() {
    const PACKETS: u64 = 20;
    let mut network = Network::new("lrly-loop", 3);
    // Nobody has the range of a fourth; each holds the next for its way.
    for at in 1..=3 {
        network.apply(at, &MapOp::PutRoute { net: range(4), to: RouteTo::Peer(peer(4)) });
        network.tunnel(at, 4, at % 3 + 1, 6784);
    }
    let from = network.name(1);
    let socket = within(&from, || std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))).expect("a socket");
    let ended = |network: &Network| (1..=3).map(|at| network.drops(at, "ttl-exhausted")).sum::<u64>();
    for sent in 1..=PACKETS {
        socket.send_to(b"round and round", (container(4), 9)).expect("sent");
        assert!(eventually(SETTLED, || ended(&network) == sent), "{} of {sent} ended", ended(&network));
    }
    let relayed: u64 = (1..=3).map(|at| network.counter(at, "relay").0).sum();
    assert_eq!(relayed, PACKETS * (HOPS - 1));

    // Two that hold each other for the way give up at once.
    network.tunnel(1, 4, 2, 6784);
    network.tunnel(2, 4, 1, 6784);
    socket.send_to(b"there and back", (container(4), 9)).expect("sent");
    assert!(eventually(SETTLED, || network.drops(2, "relay-back") == 1));
}

#[test]
#[ignore = "needs root"]
fn a_change_of_way_under_traffic_loses_nothing() {
    let mut network = Network::chain("lrly-way");
    let flow = UdpFlow::start(&network.name(1), &network.name(3), container(3), 500, 200).expect("a flow");
    for round in 1..=10_u64 {
        let (via, port) = if round % 2 == 0 { (2, 6784) } else { (3, 6784) };
        network.tunnel(1, 3, via, port);
        let seen = flow.arrived();
        assert!(eventually(SETTLED, || flow.arrived() > seen + 20), "nothing arrives by host {via}");
    }
    let flow = flow.stop().expect("a count");
    assert!(flow.is_whole(), "{flow:?}");
    assert!(network.counter(2, "relay").0 > 50);
}

#[test]
#[ignore = "needs root"]
fn xdp_that_may_not_relay_leaves_it_to_the_stack() {
    const PINGS: u32 = 2;
    let mut network = Network::chain("lrly-pass");
    // What is nobody's ends there. Before any TCP: the last packets of a connection that ends would be counted too.
    network.apply(2, &MapOp::DelSender { addr: underlay(1) });
    for (mode, seen) in XdpMode::ALL.into_iter().zip(1..) {
        network.xdp_on_all(mode);
        assert!(!ping(&network.name(1), container(3), PINGS));
        assert_eq!(network.drops(2, "unknown-sender"), seen * u64::from(PINGS), "past {} XDP", mode.as_str());
    }
    network.apply(2, &MapOp::PutSender { addr: underlay(1), peer: peer(1) });
    for mode in XdpMode::ALL {
        network.xdp_on_all(mode);
        network.tcp_both_ways(&format!("past {} XDP", mode.as_str()));
    }
}

#[test]
#[ignore = "needs root"]
fn xdp_relays_out_of_the_same_device() {
    let mut network = Network::chain("lrly-tx");
    network.like_cards(&["eth0"]);
    network.xdp(2, "eth0", XdpMode::Native, true);
    let _peer = network.wake_veth(2);
    network.xdp_alone(&["eth0"], &[underlay(1), underlay(3)]);
    assert!(eventually(SETTLED, || ping(&network.name(1), container(3), 1)), "no answer through host 2");
    let size = network.tcp_both_ways("XDP, the same device");
    assert!(size < SUPER, "{size} bytes each");
    assert_eq!(network.datapaths[1].used_tunnels().expect("read"), [peer(1), peer(3)]);
}

#[test]
#[ignore = "needs root"]
fn xdp_relays_out_of_another_device() {
    let mut network = Network::chain("lrly-red");
    network.lab.add_underlay(&[1, 2, 3], 1500).expect("another underlay");
    for at in 1..=3 {
        let datapath = &mut network.datapaths[at - 1];
        inside(network.lab.host(at), || datapath.attach_underlay("eth1")).expect("attached");
    }
    network.second_way(2, 3, 3);
    network.second_way(3, 1, 2);
    network.like_cards(&["eth0", "eth1"]);
    assert!(ping(&network.name(1), container(3), 3), "no answer through host 2");
    network.xdp(2, "eth0", XdpMode::Native, true);
    network.xdp(2, "eth1", XdpMode::Native, true);
    network.xdp_alone(&["eth0", "eth1"], &[underlay(1), underlay_on(1, 3)]);
    assert!(eventually(SETTLED, || ping(&network.name(1), container(3), 1)), "no answer through host 2");
    let size = network.tcp_both_ways("XDP, another device");
    assert!(size < SUPER, "{size} bytes each");
}

/// Where `report` says that XDP is, and what the device itself shows.
fn xdp_of(host: &Host) -> (Vec<String>, Option<&'static str>) {
    let report = host.json(&["report"]).expect("report");
    let programs = report["status"]["dataplane"]["programs"].as_array().expect("programs").clone();
    let found = programs.iter().find(|program| program["name"] == PROG_XDP).expect("the program is loaded");
    let on = found["attached_to"].as_array().expect("devices").iter();
    (on.map(|device| device.as_str().expect("a name").to_owned()).collect(), shown_xdp(host))
}

fn shown_xdp(host: &Host) -> Option<&'static str> {
    let shown = run(&["ip", "-n", host.netns(), "-d", "link", "show", "dev", "eth0"]).expect("ip");
    let mode = if shown.contains(" xdpgeneric ") { "generic" } else { "native" };
    shown.contains("prog/xdp").then_some(mode)
}

#[test]
#[ignore = "needs root"]
fn a_launch_says_where_xdp_is() {
    let lab = Lab::new(Plan::of("lrly-ctl", 1).containers(0)).expect("a lab");
    let host = lab.host(1);
    let none: (Vec<String>, _) = (Vec::new(), None);
    let only = |mode: &'static str| (vec![format!("eth0 ({mode})")], Some(mode));
    lab.launch(1, &[]).expect("launch");
    assert_eq!(xdp_of(host), none, "auto leaves a veth alone");
    for (mode, expected) in
        [("native", only("native")), ("generic", only("generic")), ("native", only("native")), ("auto", none.clone())]
    {
        host.weave(&["stop"]).expect("stop");
        host.weave(&["launch", "--xdp", mode]).expect("launch");
        assert_eq!(xdp_of(host), expected, "--xdp {mode}");
    }
    host.weave(&["stop"]).expect("stop");
    host.weave(&["launch", "--xdp", "native"]).expect("launch");
    host.kill().expect("killed");
    assert_eq!(shown_xdp(host), Some("native"), "it stays without its controller");
    host.weave(&["launch", "--xdp", "off"]).expect("launch");
    assert_eq!(xdp_of(host), none, "--xdp off");

    host.weave(&["stop"]).expect("stop");
    host.weave(&["launch", "--xdp", "generic"]).expect("launch");
    host.weave(&["stop", "--teardown"]).expect("stop");
    assert!(eventually(SETTLED, || shown_xdp(host).is_none()), "still there after a teardown");
}

#[test]
#[ignore = "needs root"]
fn a_launch_that_insists_on_xdp_is_refused_where_there_is_another() {
    let lab = Lab::new(Plan::of("lrly-busy", 1).containers(0)).expect("a lab");
    let (host, dir) = (lab.host(1), lab.host(1).second().bpf_dir());
    let wanted = Some(XdpWanted { mode: XdpMode::Native, mac: [2; 6], relays: false });
    inside(host, || {
        let (mut other, _) = Datapath::open(&dir, CONFIG).expect("opens");
        let devices = [XdpDevice { name: "eth0".to_owned(), ifindex: device_index("eth0"), wanted }];
        assert!(other.set_xdp(&devices).is_empty());
    });
    for mode in ["native", "generic"] {
        let said = host.refused(&["launch", "--name", "::1", "--xdp", mode], 1).expect("a refusal");
        let start = format!("could not attach {PROG_XDP} to eth0 in {mode} mode: ");
        assert!(said.contains(&start) && said.ends_with("launch with --xdp auto or --xdp off"), "{said}");
        assert_eq!(shown_xdp(host), Some("native"), "the other program is untouched");
        assert!(!host.bpf_dir().exists(), "something was left behind");
    }
    host.weave(&["launch", "--name", "::1", "--xdp", "auto"]).expect("launch");
    Datapath::teardown(&dir).expect("torn down");
}
