//! Hosts with programs and containers whose tables are written by hand: no controller decides.
//!
//! Host N has the container 10.32.N.1. Every host has routes to all ranges and accepts packets of all hosts; tunnels are
//! what a test makes.
//!
//! Made for tests alone: whatever cannot be done panics with what it was.

use std::{
    collections::BTreeMap,
    ffi::CString,
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    time::Instant,
};

use aya::programs::{SchedClassifier, TcAttachType};
use ipnet::Ipv4Net;
use weave_common::{
    addr::Mac,
    config::{Config, SCHEMA},
    map::PROG_UNDERLAY,
    vxlan,
};
use weave_ctl::{
    proto::{
        io::{Egress, EndpointTo, MapOp, PathKind, RouteTo, TunnelTo},
        name::PeerName,
    },
    shell::{
        datapath::{Datapath, XdpDevice, XdpMode, XdpWanted},
        netns::in_netns,
    },
};

use super::{
    Host, Lab, Plan, SETTLED,
    cmd::run,
    eventually,
    host::ping,
    traffic::{tcp, within},
    underlay, underlay_on,
};

/// UDP port of the data plane of every host.
pub const DATA_PORT: u16 = 6784;
/// The VXLAN socket device.
const SOCKET: &str = "weave-6784";
/// Host, destination, next: hosts 1 and 3 know each other only by way of host 2.
const CHAIN: [(usize, usize, usize); 6] = [(1, 2, 2), (1, 3, 2), (2, 1, 1), (2, 3, 3), (3, 2, 2), (3, 1, 2)];
/// Bytes that a TCP transfer moves.
const TCP_BYTES: u64 = 64 << 20;

/// Settings of host `n`.
#[must_use]
pub fn config(n: usize) -> Config {
    Config {
        schema: SCHEMA,
        vni: vxlan::VNI,
        data_port: DATA_PORT,
        pad: 0,
        socket_ifindex: 0,
        me: peer(n).bytes(),
        pad2: [0; 2],
        service: [0; 4],
        dns_ttl: 0,
        dns: 0,
    }
}

/// Name of host `n`.
#[must_use]
pub fn peer(n: usize) -> PeerName {
    PeerName::from_bytes([2, 0, 0, 0, 0, u8::try_from(n).expect("small")])
}

/// Address of the container of host `n`.
#[must_use]
pub fn container(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 32, u8::try_from(n).expect("small"), 1)
}

/// The range of host `n`.
#[must_use]
pub fn range(n: usize) -> Ipv4Net {
    Ipv4Net::new(container(n), 24).expect("a length").trunc()
}

/// See the head of this file.
pub struct Network {
    /// The namespaces and wires.
    pub lab: Lab,
    /// Programs and tables, in order of the hosts.
    pub datapaths: Vec<Datapath>,
    eth0: Vec<u32>,
}

impl Network {
    /// Hosts without tunnels, whose containers have interfaces with an MTU of 1450 bytes.
    ///
    /// # Panics
    /// When the kernel refuses something.
    #[must_use]
    pub fn new(prefix: &str, hosts: usize) -> Self {
        Self::with_mtu(prefix, hosts, 1450)
    }

    /// The same with another MTU of containers' interfaces.
    ///
    /// # Panics
    /// When the kernel refuses something.
    #[must_use]
    pub fn with_mtu(prefix: &str, hosts: usize, mtu: u32) -> Self {
        let lab = Lab::new(Plan::of(prefix, hosts).containers(1)).expect("a lab");
        let made: Vec<(Datapath, u32)> = lab.hosts().iter().map(|host| inside(host, || build(host, mtu))).collect();
        let (datapaths, eth0) = made.into_iter().unzip();
        let mut network = Self { lab, datapaths, eth0 };
        for at in 1..=hosts {
            for n in 1..=hosts {
                let to = if n == at { RouteTo::Local } else { RouteTo::Peer(peer(n)) };
                network.apply(at, &MapOp::PutRoute(range(n), to));
                network.apply(at, &MapOp::PutSender(underlay(n), peer(n)));
            }
        }
        network
    }

    /// Hosts 1 and 3 with host 2 between them.
    ///
    /// # Panics
    /// When the kernel refuses something.
    #[must_use]
    pub fn chain(prefix: &str) -> Self {
        let mut network = Self::new(prefix, 3);
        for (at, to, via) in CHAIN {
            network.tunnel(at, to, via, DATA_PORT);
        }
        network
    }

    /// Hosts 1 and 3 with host 2 between them, whose paths take outer packets of at most `path_mtu` bytes, whatever their
    /// devices and containers' interfaces (`mtu`) take.
    ///
    /// # Panics
    /// When the kernel refuses something.
    #[must_use]
    pub fn narrow_chain(prefix: &str, mtu: u32, path_mtu: u32) -> Self {
        let mut network = Self::with_mtu(prefix, 3, mtu);
        for (at, to, via) in CHAIN {
            let remote = SocketAddrV4::new(underlay(via), DATA_PORT);
            let tunnel = TunnelTo { path_mtu, ..tunnel(to, via, remote, (network.eth0[at - 1], underlay(at))) };
            network.apply(at, &MapOp::PutTunnel(peer(to), tunnel));
        }
        network
    }

    /// Changes the tables of host `at`.
    ///
    /// # Panics
    /// When it cannot be done.
    pub fn apply(&mut self, at: usize, op: &MapOp) {
        self.datapaths[at - 1].apply(op).expect("applied");
    }

    /// Host `at` sends to host `to` by way of host `via`, at that host's `port`.
    ///
    /// # Panics
    /// When it cannot be done.
    pub fn tunnel(&mut self, at: usize, to: usize, via: usize, port: u16) {
        let remote = SocketAddrV4::new(underlay(via), port);
        let tunnel = tunnel(to, via, remote, (self.eth0[at - 1], underlay(at)));
        self.apply(at, &MapOp::PutTunnel(peer(to), tunnel));
    }

    /// Attaches the program for what a container sends to a host end at host `at`.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn attach_container(&mut self, at: usize, ifindex: u32) {
        let host = self.lab.host(at).clone();
        let datapath = &mut self.datapaths[at - 1];
        inside(&host, || datapath.programs().attach_container(ifindex)).expect("attached");
    }

    /// How host `at` sends to host `to` on the first underlay.
    #[must_use]
    pub fn egress(&self, at: usize, to: usize) -> Egress {
        Egress { ifindex: self.eth0[at - 1], next_hop: underlay(to), source: underlay(at), mtu: 1500 }
    }

    /// Leaves what comes to host `at` by its underlay to the VXLAN socket device.
    ///
    /// # Panics
    /// When it cannot be done.
    pub fn without_underlay_program(&self, at: usize) {
        let host = self.lab.host(at);
        let pin = host.bpf_dir().join(format!("v{SCHEMA}/links/{PROG_UNDERLAY}-{}", self.eth0[at - 1]));
        fs::remove_file(&pin).expect("detached");
        let attached =
            || inside(host, || SchedClassifier::query_tcx("eth0", TcAttachType::Ingress)).expect("a query").1.len();
        // The kernel lets go of it a moment later.
        assert!(eventually(SETTLED, || attached() == 0), "still attached");
    }

    /// Host `at` sends to host `to` by way of host `via`, all from its data port.
    ///
    /// # Panics
    /// When it cannot be done.
    pub fn fixed_tunnel(&mut self, at: usize, to: usize, via: usize) {
        let remote = SocketAddrV4::new(underlay(via), DATA_PORT);
        let by_flow = tunnel(to, via, remote, (self.eth0[at - 1], underlay(at)));
        let kind = if to == via { PathKind::Fixed } else { PathKind::Relayed };
        self.apply(at, &MapOp::PutTunnel(peer(to), TunnelTo { kind, fixed: true, ..by_flow }));
    }

    /// Takes host `at` off the first underlay's way to host `to`: both meet on the second.
    ///
    /// # Panics
    /// When it cannot be done.
    pub fn second_way(&mut self, at: usize, to: usize, via: usize) {
        let ifindex = inside(self.lab.host(at), || device_index("eth1"));
        let remote = SocketAddrV4::new(underlay_on(1, via), DATA_PORT);
        let tunnel = tunnel(to, via, remote, (ifindex, underlay_on(1, at)));
        self.apply(at, &MapOp::PutTunnel(peer(to), tunnel));
        self.apply(at, &MapOp::PutSender(underlay_on(1, via), peer(via)));
    }

    /// Puts XDP on a device of host `at`.
    ///
    /// # Panics
    /// When it cannot be done.
    pub fn xdp(&mut self, at: usize, device: &str, mode: XdpMode, relays: bool) {
        let host = self.lab.host(at);
        let (ifindex, mac) = inside(host, || (device_index(device), mac_of(host.netns(), device)));
        let wanted = Some(XdpWanted { mode, mac, relays });
        let device = XdpDevice { ifindex, wanted };
        let datapath = &mut self.datapaths[at - 1];
        let refused = inside(host, || datapath.programs().set_xdp(std::slice::from_ref(&device)));
        assert!(refused.is_empty(), "{refused:?}");
    }

    /// XDP that leaves relaying to the stack, on the underlay of every host.
    ///
    /// # Panics
    /// When it cannot be done.
    pub fn xdp_on_all(&mut self, mode: XdpMode) {
        for at in 1..=self.datapaths.len() {
            self.xdp(at, "eth0", mode, false);
        }
    }

    /// Frames of MTU size with all their checksums, between devices that XDP can send by.
    ///
    /// # Panics
    /// When it cannot be done.
    pub fn like_cards(&self, devices: &[&str]) {
        for host in self.lab.hosts() {
            for (k, device) in devices.iter().enumerate() {
                ethtool(host.netns(), device, &["tx", "off", "gro", "on"]);
                let port = format!("p{k}-{}", host.number());
                ethtool(&self.lab.switch_netns(), &port, &["tx", "off", "gro", "on"]);
            }
        }
    }

    /// A veth that sends from XDP wakes its peer only when that has an XDP program itself: gives it one.
    ///
    /// # Panics
    /// When it cannot be done.
    #[must_use]
    pub fn wake_veth(&self, at: usize) -> Datapath {
        let switch = self.lab.switch_netns();
        let device = format!("p0-{at}");
        let work = || {
            let (datapath, _) = Datapath::open(&self.switch_dir(), config(0)).expect("opens");
            let wanted = Some(XdpWanted { mode: XdpMode::Native, mac: [2; 6], relays: false });
            let ifindex = device_index(&device);
            let refused = datapath.programs().set_xdp(&[XdpDevice { ifindex, wanted }]);
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
    ///
    /// # Panics
    /// When it cannot be done.
    pub fn xdp_alone(&self, devices: &[&str], neighbours: &[Ipv4Addr]) {
        let host = self.lab.host(2);
        inside(host, || fs::write("/proc/sys/net/ipv4/conf/all/forwarding", "1")).expect("forwarding");
        for neighbour in neighbours {
            assert!(ping(host.netns(), *neighbour, 1), "no neighbour {neighbour}");
        }
        for device in devices {
            let ifindex = inside(host, || device_index(device));
            let pin = host.bpf_dir().join(format!("v{SCHEMA}/links/{PROG_UNDERLAY}-{ifindex}"));
            fs::remove_file(&pin).expect("detached");
        }
    }

    /// Packets and bytes that host `at` counted under `name`.
    ///
    /// # Panics
    /// When it cannot be done.
    #[must_use]
    pub fn counter(&self, at: usize, name: &str) -> (u64, u64) {
        let facts = self.datapaths[at - 1].facts().expect("facts");
        let found = facts.counters.iter().find(|c| c.name == name).expect("a counter");
        (found.packets, found.bytes)
    }

    /// Packets that host `at` dropped for `reason`.
    ///
    /// # Panics
    /// When it cannot be done.
    #[must_use]
    pub fn drops(&self, at: usize, reason: &str) -> u64 {
        let facts = self.datapaths[at - 1].facts().expect("facts");
        facts.drops.iter().find(|d| d.reason == reason).expect("a reason").packets
    }

    /// Name of the container of host `at`.
    #[must_use]
    pub fn name(&self, at: usize) -> String {
        self.lab.host(at).container(1)
    }

    /// TCP in both directions between hosts 1 and 3, each byte checked; how large a packet at host 2 was on average.
    ///
    /// # Panics
    /// When it cannot be done.
    pub fn tcp_both_ways(&self, what: &str) -> u64 {
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

/// The tunnel to `to` by way of `via` at `remote`, from that device and address.
fn tunnel(to: usize, via: usize, remote: SocketAddrV4, (ifindex, source): (u32, Ipv4Addr)) -> TunnelTo {
    let egress = Egress { ifindex, next_hop: *remote.ip(), source, mtu: 1500 };
    let kind = if to == via { PathKind::Direct } else { PathKind::Relayed };
    TunnelTo { remote, via: peer(via), kind, fixed: false, egress, path_mtu: 1500 }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in self.lab.hosts() {
            Datapath::teardown(&host.bpf_dir()).ok();
        }
        Datapath::teardown(&self.switch_dir()).ok();
    }
}

/// Does `work` in the namespace of `host`.
///
/// # Panics
/// When there is none.
pub fn inside<T: Send>(host: &Host, work: impl FnOnce() -> T + Send) -> T {
    in_netns(format!("/run/netns/{}", host.netns()), work).expect("a namespace")
}

/// What a controller would make: the VXLAN socket device, the programs, the container's interface.
fn build(host: &Host, mtu: u32) -> (Datapath, u32) {
    let (n, netns) = (host.number(), host.netns());
    let ip = |args: &[&str]| run(&[&["ip", "-n", netns], args].concat()).expect("ip");
    ip(&[
        "link",
        "add",
        SOCKET,
        "mtu",
        "65485",
        "type",
        "vxlan",
        "external",
        "dstport",
        "6784",
        "srcport",
        "6784",
        "6785",
        "nolearning",
    ]);
    let (mut datapath, _) = Datapath::open(&host.bpf_dir(), config(n)).expect("opens");
    datapath.programs().attach_socket_device(device_index(SOCKET)).expect("attached");
    datapath.set_socket_device(device_index(SOCKET)).expect("written");
    ip(&["link", "set", SOCKET, "up"]);
    let eth0 = device_index("eth0");
    datapath.set_locals(&BTreeMap::from([(underlay(n), eth0)])).expect("written");
    datapath.programs().attach_underlay(device_index("eth0")).expect("attached");

    let (addr, name) = (container(n), host.container(1));
    let mac = Mac::of_container(addr.octets());
    let mtu = mtu.to_string();
    ip(&["link", "add", "wv1", "mtu", &mtu, "type", "veth", "peer", "name", "ethwe", "mtu", &mtu, "netns", &name]);
    ip(&["link", "set", "wv1", "up"]);
    for args in [
        &["link", "set", "ethwe", "address", &mac.to_string(), "up"][..],
        &["addr", "add", &format!("{addr}/12"), "dev", "ethwe"],
    ] {
        run(&[&["ip", "-n", &name], args].concat()).expect("ip");
    }
    datapath.programs().attach_container(device_index("wv1")).expect("attached");
    let put = MapOp::PutEndpoint(addr, EndpointTo::container(device_index("wv1"), mac));
    datapath.apply(&put).expect("applied");
    (datapath, eth0)
}

/// Index of a device of the calling thread's namespace.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn device_index(device: &str) -> u32 {
    let name = CString::new(device).expect("a name");
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

/// Changes the offloads of a device.
///
/// # Panics
/// When they cannot be.
pub fn ethtool(netns: &str, device: &str, settings: &[&str]) {
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
