//! Probes on real wires: written by the prober, answered and relayed by the programs of hosts whose tables are written by
//! hand ([`weave_tests::lab::tables`]).

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::fd::AsRawFd as _,
    time::{Duration, Instant as Clock},
};

use weave_common::probe::{ANNOUNCE, Fields, REPLY};
use weave_ctl::{
    proto::{
        io::{Contact, Input, MapOp, PROOF_LEN, ProbeKind, ProbeReply, ProbeRequest},
        rng::Rng,
        time::Instant,
    },
    shell::prober::{Prober, ProberConfig},
};
use weave_tests::lab::{
    SETTLED,
    cmd::run,
    device::Kind,
    eventually,
    flood::{self, Probe, VNI_PROBE, vxlan},
    host::ping,
    tables::{DATA_PORT, Network, container, device_index, inside, peer},
    traffic::within,
    underlay,
};

/// How long an answer is waited for that must not come.
const SILENT: Duration = Duration::from_millis(300);

/// Hosts with programs, a prober on each, and the runtime that the probers wait in.
struct Scene {
    network: Network,
    probers: Vec<Prober>,
    _runtime: tokio::runtime::Runtime,
}

impl Scene {
    fn new(mut network: Network) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let hosts = network.datapaths.len();
        let probers = (1..=hosts).map(|at| prober(&mut network, at, &runtime)).collect();
        Self { network, probers, _runtime: runtime }
    }

    /// Host `at` asks host `to` by way of host `via`.
    fn ask(&mut self, (at, to, via): (usize, usize, usize), source_port: Option<u16>, size: u32, kind: ProbeKind) {
        let request = ProbeRequest {
            to: SocketAddrV4::new(underlay(via), DATA_PORT),
            egress: self.network.egress(at, via),
            source_port,
            receiver: peer(to),
            path_id: 7,
            kind,
            size,
            sent_at: Instant::from_start(Duration::from_millis(5)),
        };
        self.probers[at - 1].send(&[request]);
    }

    /// What the controller of host `at` gets within `limit`; the first.
    fn got(&mut self, at: usize, limit: Duration) -> Option<Input> {
        let mut got = Vec::new();
        eventually(limit, || {
            got.extend(self.probers[at - 1].take());
            !got.is_empty()
        });
        assert!(got.len() <= 1, "{got:?}");
        got.pop()
    }

    /// The controller of host `at` gets nothing.
    fn gets_nothing(&mut self, at: usize) {
        let got = self.got(at, SILENT);
        assert!(got.is_none(), "{got:?}");
    }

    /// Asks, and expects an answer that came `hops` relays far.
    fn answered(&mut self, path: (usize, usize, usize), source_port: Option<u16>, size: u32, hops: u8) {
        self.ask(path, source_port, size, ProbeKind::Request);
        let got = self.got(path.0, SETTLED);
        let Some(Input::ProbeReply(reply)) = got else {
            panic!("{path:?} from {source_port:?}, {size} bytes: {got:?}")
        };
        let ProbeReply { peer: from, path_id, size: received, hops: relays, .. } = reply;
        assert_eq!((from, path_id, u32::from(received), relays), (peer(path.1), 7, size, hops), "{path:?}");
    }

    fn counted(&self, at: usize, name: &str) -> u64 {
        self.network.counter(at, name).0
    }
}

fn prober(network: &mut Network, at: usize, runtime: &tokio::runtime::Runtime) -> Prober {
    let key = [at as u64, 77];
    let datapath = &mut network.datapaths[at - 1];
    datapath.set_probe_key(key).expect("a key");
    let (rings, device) = (datapath.take_rings().expect("rings"), datapath.socket_device());
    let config = ProberConfig { me: peer(at), data_port: DATA_PORT, key, started: Clock::now() };
    inside(network.lab.host(at), || {
        let _here = runtime.enter();
        Prober::start(config, rings, device, Rng::new([at as u8; 32])).expect("a prober")
    })
}

#[test]
#[ignore = "needs root"]
fn probes_measure_direct_and_relayed_paths() {
    let mut scene = Scene::new(Network::chain("lprb-paths"));
    for size in [74, 1200, 1500] {
        for source_port in [Some(DATA_PORT), None] {
            scene.answered((1, 2, 2), source_port, size, 0);
            scene.answered((1, 3, 2), source_port, size, 1);
        }
    }
    // Each relayed one passed host 2 twice.
    let counted = [(1, "probe-sent"), (1, "probe-reply"), (2, "echo"), (3, "echo"), (2, "probe-relay")];
    assert_eq!(counted.map(|(at, name)| scene.counted(at, name)), [12, 12, 6, 6, 12]);
    // Nothing of it was for a controller.
    for at in [2, 3] {
        scene.gets_nothing(at);
    }
}

#[test]
#[ignore = "needs root"]
fn probes_larger_than_a_path_are_lost() {
    let mut scene = Scene::new(Network::narrow_chain("lprb-narrow", 1450, 1400));
    scene.answered((1, 3, 2), None, 1400, 1);
    scene.ask((1, 3, 2), None, 1401, ProbeKind::Request);
    scene.gets_nothing(1);
    assert_eq!(scene.network.drops(2, "too-big"), 1);
    // The device's own limit holds for what no relay judges.
    scene.ask((1, 2, 2), None, 1600, ProbeKind::Request);
    scene.gets_nothing(1);
}

#[test]
#[ignore = "needs root"]
fn controllers_get_contacts_challenges_and_proofs() {
    let mut scene = Scene::new(Network::new("lprb-ctl", 2));
    let contact = |scene: &mut Scene| match scene.got(2, SETTLED) {
        Some(Input::Contact(Contact { from, origin, kind })) => (*from.ip(), from.port(), origin, kind),
        other => panic!("{other:?}"),
    };
    let from_one = |kind| (underlay(1), DATA_PORT, peer(1), kind);
    let port = Some(DATA_PORT);
    // Answered, and shown.
    scene.ask((1, 2, 2), port, 74, ProbeKind::Announce);
    assert_eq!(contact(&mut scene), from_one(ProbeKind::Announce));
    assert!(matches!(scene.got(1, SETTLED), Some(Input::ProbeReply(_))));
    // Shown alone.
    scene.ask((1, 2, 2), port, 142, ProbeKind::Challenge(77));
    assert_eq!(contact(&mut scene), from_one(ProbeKind::Challenge(77)));
    let proof = Box::new([0xa5; PROOF_LEN]);
    scene.ask((1, 2, 2), port, 142, ProbeKind::Proof(78, proof.clone()));
    assert_eq!(contact(&mut scene), from_one(ProbeKind::Proof(78, proof)));
    // A stranger's request.
    scene.network.apply(2, &MapOp::DelSender(underlay(1)));
    scene.ask((1, 2, 2), port, 74, ProbeKind::Request);
    assert_eq!(contact(&mut scene), from_one(ProbeKind::Request));
    scene.gets_nothing(1);
}

#[test]
#[ignore = "needs root"]
fn all_pass_the_socket_device_without_the_underlays_program() {
    let mut scene = Scene::new(Network::chain("lprb-sock"));
    scene.network.without_underlay_program(2);
    for source_port in [Some(DATA_PORT), None] {
        // Its own answer, and what it relays there and back.
        scene.answered((1, 2, 2), source_port, 74, 0);
        scene.answered((1, 2, 2), source_port, 1500, 0);
        scene.answered((1, 3, 2), source_port, 1500, 1);
    }
    assert_eq!(["echo", "probe-relay"].map(|name| scene.counted(2, name)), [4, 4]);
    // Its own probes are answered to the data port alone: it takes no others.
    scene.answered((2, 1, 1), Some(DATA_PORT), 74, 0);
    scene.ask((1, 2, 2), Some(DATA_PORT), 142, ProbeKind::Challenge(9));
    assert!(matches!(scene.got(2, SETTLED), Some(Input::Contact(Contact { kind: ProbeKind::Challenge(9), .. }))));
    // Data, for its container and for another's.
    let name = scene.network.name(1);
    assert!(ping(&name, container(2), 2) && ping(&name, container(3), 2), "no answer by the socket device");
    assert!(scene.counted(2, "relay") >= 4 && scene.counted(2, "decap") >= 2);
    // The same bounds as elsewhere.
    scene.network.apply(2, &MapOp::DelSender(underlay(1)));
    scene.ask((1, 3, 2), Some(DATA_PORT), 74, ProbeKind::Request);
    scene.gets_nothing(1);
    assert!(!ping(&name, container(2), 1) && !ping(&name, container(3), 1));
    assert!(scene.network.drops(2, "unknown-sender") >= 3);
    scene.ask((1, 2, 2), Some(DATA_PORT), 74, ProbeKind::Request);
    assert!(matches!(scene.got(2, SETTLED), Some(Input::Contact(Contact { kind: ProbeKind::Request, .. }))));
}

#[test]
#[ignore = "needs root"]
fn outer_fragments_of_a_probe_are_answered() {
    let mut scene = Scene::new(Network::chain("lprb-frag"));
    // The stack of host 1 cuts what a plain socket sends, since DF is clear; host 2's puts it together again.
    let socket =
        within(scene.network.lab.host(1).netns(), || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))).expect("a socket");
    let never = libc::IP_PMTUDISC_DONT;
    let (value, len) = ((&raw const never).cast(), size_of_val(&never) as libc::socklen_t);
    // SAFETY: the option takes an integer, which outlives the call.
    let set = unsafe { libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, value, len) };
    assert_eq!(set, 0);
    let request = |to: usize, clock: u64| {
        let cookie = weave_common::probe::cookie([1, 77], peer(to).bytes(), 7, clock);
        let fields = Fields {
            receiver: peer(to).bytes(),
            origin: peer(1).bytes(),
            flags: 0,
            hops: 0,
            request_hops: 0,
            path: 7,
            size: 0,
            cookie,
            clock,
        };
        let mut bytes = vxlan(VNI_PROBE, &fields.write());
        bytes.resize(3000, 0);
        bytes
    };
    let clock = u64::MAX / 2;
    socket.send_to(&request(2, clock), (underlay(2), DATA_PORT)).expect("sent");
    let Some(Input::ProbeReply(reply)) = scene.got(1, SETTLED) else { panic!("no answer") };
    assert_eq!((reply.peer, reply.size, reply.hops), (peer(2), 3028, 0));
    assert_eq!(scene.counted(2, "echo"), 1);
    // Larger than the path to host 3.
    socket.send_to(&request(3, clock), (underlay(2), DATA_PORT)).expect("sent");
    scene.gets_nothing(1);
    assert_eq!(scene.network.drops(2, "too-big"), 1);
}

#[test]
#[ignore = "needs root"]
fn forged_probes_change_nothing_and_are_counted() {
    let mut network = Network::new("lprb-forge", 3);
    network.tunnel(1, 2, 2, DATA_PORT);
    let mut scene = Scene::new(network);
    // Host 3 holds no key of host 1, and says all it can in host 2's name.
    let socket =
        within(scene.network.lab.host(3).netns(), || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))).expect("a socket");
    let probe = |flags, salt| Probe { receiver: peer(1).bytes(), origin: peer(2).bytes(), flags, salt }.bytes();
    for salt in 0..100 {
        socket.send_to(&probe(REPLY, salt), (underlay(1), DATA_PORT)).expect("sent");
    }
    assert!(eventually(SETTLED, || scene.network.drops(1, "bad-cookie") == 100));
    scene.gets_nothing(1);
    let heard = |scene: &mut Scene| {
        let all = scene.network.datapaths[0].activity(weave_ctl::shell::datapath::Look::All).expect("read");
        all.iter().any(|activity| activity.heard)
    };
    assert!(!heard(&mut scene), "a forged answer was taken for one of host 2");
    // Contacts are bounded, however many come.
    scene.network.apply(1, &MapOp::DelSender(underlay(3)));
    for salt in 0..1000 {
        let flags = [0, flood::flag::CHALLENGE, flood::flag::PROOF, ANNOUNCE][salt as usize % 4];
        socket.send_to(&probe(flags, salt), (underlay(1), DATA_PORT)).expect("sent");
    }
    let all = |scene: &Scene| scene.counted(1, "contact") + scene.network.drops(1, "contact-refused");
    assert!(eventually(SETTLED, || all(&scene) == 1000), "{}", all(&scene));
    let taken = scene.probers[0].take().len() as u64;
    assert_eq!(taken, scene.counted(1, "contact"));
    assert!((64..200).contains(&taken), "{taken} contacts");
    assert!(!heard(&mut scene));
    // Meanwhile and after that host 2 is answered.
    scene.answered((2, 1, 1), None, 74, 0);
}

#[test]
#[ignore = "needs root"]
fn a_probe_without_ethernet_header_is_answered_without_one() {
    const HERE: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
    const THERE: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 2);
    let mut network = Network::new("lprb-tun", 1);
    let device = network.lab.host(1).add_unrelated(Kind::Tun, 1500).expect("a tun device");
    run(&["ip", "-n", network.lab.host(1).netns(), "route", "add", &THERE.to_string(), "dev", "vpn0"]).expect("ip");
    let datapath = &mut network.datapaths[0];
    inside(network.lab.host(1), || {
        let locals = [(HERE, device_index("vpn0")), (underlay(1), device_index("eth0"))];
        datapath.set_locals(&locals.into()).expect("written");
        datapath.programs().attach_underlay(device_index("vpn0")).expect("attached");
    });
    network.apply(1, &MapOp::PutSender(THERE, peer(2)));

    let mut end = device.end.as_ref().expect("its other end");
    let request = Probe { receiver: peer(1).bytes(), origin: peer(2).bytes(), flags: 0, salt: 5 }.bytes();
    for padding in [0, 1000] {
        let payload = [&request[..], &vec![0; padding]].concat();
        let packet = udp(THERE, HERE, 50_000, &payload);
        end.write_all(&packet).expect("written");
        let answer = read(&mut end, HERE);
        assert_eq!(answer.len(), 74);
        assert_eq!(answer[12..20], [HERE.octets(), THERE.octets()].concat());
        assert_eq!(answer[20..24], [DATA_PORT.to_be_bytes(), 50_000_u16.to_be_bytes()].concat());
        let fields = Fields::read(answer[36..].try_into().expect("a probe")).expect("a probe");
        assert_eq!((fields.receiver, fields.origin), (peer(2).bytes(), peer(1).bytes()));
        assert_eq!((fields.flags, usize::from(fields.size)), (REPLY, packet.len()));
    }
    assert_eq!(network.counter(1, "echo").0, 2);
}

/// An IPv4 packet with a UDP datagram from `port` to the data port.
fn udp(source: Ipv4Addr, destination: Ipv4Addr, port: u16, payload: &[u8]) -> Vec<u8> {
    let total = u16::try_from(28 + payload.len()).expect("small");
    let mut header = [0_u8; 20];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&total.to_be_bytes());
    header[8..10].copy_from_slice(&[64, 17]);
    header[12..16].copy_from_slice(&source.octets());
    header[16..20].copy_from_slice(&destination.octets());
    let sum = weave_common::checksum::ipv4_header(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    let udp = [port.to_be_bytes(), DATA_PORT.to_be_bytes(), (total - 20).to_be_bytes(), [0, 0]].concat();
    [&header[..], &udp, payload].concat()
}

/// The next IPv4 packet of `source` that leaves by a tun device.
fn read(end: &mut &std::fs::File, source: Ipv4Addr) -> Vec<u8> {
    let start = Clock::now();
    loop {
        let mut waiting = [rustix::event::PollFd::new(*end, rustix::event::PollFlags::IN)];
        let limit = rustix::time::Timespec { tv_sec: 5, tv_nsec: 0 };
        let ready = rustix::event::poll(&mut waiting, Some(&limit)).expect("waited");
        assert!(ready > 0 && start.elapsed() < SETTLED, "no answer");
        let mut bytes = vec![0; 2000];
        let len = end.read(&mut bytes).expect("read");
        bytes.truncate(len);
        if bytes.first() == Some(&0x45) && bytes[12..16] == source.octets() {
            return bytes;
        }
    }
}
