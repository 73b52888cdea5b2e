//! What becomes of frames on an underlay device with XDP.
//!
//! The program sees the routes and neighbours of a namespace with two devices: frames come by the first, and leave by it
//! for one neighbour, by the other for another.

use std::{fs, process::Command, thread};

use rustix::net::{AddressFamily, SocketType, socket};
use weave_common::{
    addr::Ip4,
    counters::Counter,
    device::{Device, DeviceKey},
    drop::DropReason,
    probe::{self, Fields},
    tunnel::Tunnel,
    vxlan,
    wire::{OuterHeader, Push},
};
use weave_ctl::shell::datapath::abi::Abi;

use super::{
    Ran, Rig, Row, Verdict,
    frames::{
        self, ANY_MAC, FAR, FAR_PEER, FAR_PORT, INNER_MTU, ME, NEIGHBOUR, NOWHERE, OWN, PEER, REMOTE, REQUEST,
        Underlay, VACANT, of_one_port,
    },
    relay::readdressed_to,
    same,
};

pub(super) const CASES: &[Row] = &[
    ("xdp: everything passes before the controller has configured", not_configured),
    ("xdp: everything passes on a device that is not in the table", unlisted),
    ("xdp: what is for this host's containers passes untouched", local),
    ("xdp: probes pass untouched", probes),
    ("xdp: what is not ours passes untouched", foreign),
    ("xdp: a stranger is refused", unknown_sender),
    ("xdp: another network is refused, and none at all is malformed", wrong_vni),
    ("xdp: lengths must agree", malformed),
    ("xdp: what no relay may send on is refused", refused),
    ("xdp: back out of the same device, every byte of it", transmitted),
    ("xdp: from one port, where the way asks for that", from_one_port),
    ("xdp: out of another device, every byte of it", redirected),
    ("xdp: what the stack can do better passes untouched", left_to_the_stack),
    ("xdp: a tunnel that carried a packet says so, and how large", used),
    ("xdp: any one byte changed gives one verdict and at most one count", mutated),
];

/// Address of a device, and of the neighbour that it leads to.
struct Link {
    device: &'static str,
    mac: [u8; 6],
    own: Ip4,
    neighbour: Ip4,
    neighbour_mac: [u8; 6],
}

const FIRST: Link = Link {
    device: "in0",
    mac: [2, 0, 0, 0, 1, 1],
    own: Ip4([192, 0, 2, 1]),
    neighbour: Ip4([192, 0, 2, 9]),
    neighbour_mac: [2, 0, 0, 0, 1, 9],
};
const SECOND: Link = Link {
    device: "out0",
    mac: [2, 0, 0, 0, 2, 1],
    own: Ip4([198, 51, 100, 1]),
    neighbour: Ip4([198, 51, 100, 9]),
    neighbour_mac: [2, 0, 0, 0, 2, 9],
};

/// Where programs run: indexes of the devices.
struct Place {
    first: u32,
    second: u32,
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn ip(args: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(args).output().map_err(text)?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("ip {args:?}: {}", String::from_utf8_lossy(&output.stderr)))
    }
}

fn colons(mac: [u8; 6]) -> String {
    weave_common::addr::Mac(mac).to_string()
}

impl Link {
    /// Makes the device with its neighbour; its index.
    fn make(&self) -> Result<u32, String> {
        let Self { device, mac, own, neighbour, neighbour_mac } = self;
        ip(&["link", "add", device, "address", &colons(*mac), "type", "veth", "peer", "name", &format!("{device}p")])?;
        ip(&["link", "set", &format!("{device}p"), "up"])?;
        ip(&["addr", "add", &format!("{}/24", frames::dotted(*own)), "dev", device])?;
        ip(&["link", "set", device, "up"])?;
        let (to, at) = (frames::dotted(*neighbour).to_string(), colons(*neighbour_mac));
        ip(&["neigh", "add", &to, "lladdr", &at, "dev", device, "nud", "permanent"])?;
        let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).map_err(text)?;
        rustix::net::netdevice::name_to_index(socket, device).map_err(text)
    }

    fn tunnel(&self, ifindex: u32) -> Tunnel {
        let outer = OuterHeader::prepare(self.own.into(), self.neighbour.into(), FAR_PORT, vxlan::VNI);
        let push = Push { outer, ..frames::far_tunnel().push };
        Tunnel { push, ifindex, next_hop: self.neighbour.0, ..frames::far_tunnel() }
    }

    /// What `sent` must be when it leaves by this link.
    fn left(&self, sent: &[u8]) -> Vec<u8> {
        let mut frame = readdressed_to(sent, 63, (self.own, self.neighbour));
        frame[..6].copy_from_slice(&self.neighbour_mac);
        frame[6..12].copy_from_slice(&self.mac);
        frame
    }
}

/// Runs a row in a namespace of its own, on a thread of its own, with both devices fit for relaying.
fn inside(rig: &mut Rig, row: impl FnOnce(&mut Rig, &Place) -> Result<(), String> + Send) -> Result<(), String> {
    let work = || {
        // SAFETY: the thread has no file descriptors or memory that it shares by namespace.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.map_err(text)?;
        ip(&["link", "set", "lo", "up"])?;
        let place = Place { first: FIRST.make()?, second: SECOND.make()? };
        fs::write("/proc/sys/net/ipv4/conf/all/forwarding", "1").map_err(text)?;
        put_device(rig, place.first, FIRST.mac, 1)?;
        put_device(rig, place.second, SECOND.mac, 1)?;
        rig.local(FIRST.own)?;
        rig.local(SECOND.own)?;
        row(rig, &place)
    };
    thread::scope(|scope| scope.spawn(work).join().unwrap_or_else(|_| Err("the row panicked".to_owned())))
}

fn put_device(rig: &mut Rig, ifindex: u32, mac: [u8; 6], relays: u16) -> Result<(), String> {
    rig.devices.insert(Abi(DeviceKey { ifindex }), Abi(Device { mac, relays }), 0).map_err(text)
}

fn put_tunnel(rig: &mut Rig, tunnel: Tunnel) -> Result<(), String> {
    rig.tunnels.insert(Abi(FAR_PEER), Abi(tunnel), 0).map_err(text)
}

/// A frame as the first device gets it.
fn framed(packet: &Underlay) -> Vec<u8> {
    let mut frame = packet.frame();
    frame[..6].copy_from_slice(&FIRST.mac);
    frame
}

fn run(rig: &Rig, place: &Place, packet: &Underlay) -> Result<Ran, String> {
    rig.run_xdp(place.first, &framed(packet))
}

fn passes(rig: &Rig, place: &Place, packet: &Underlay) -> Result<(), String> {
    run(rig, place, packet)?.passed_untouched(&framed(packet))
}

fn not_configured(rig: &mut Rig) -> Result<(), String> {
    inside(rig, |rig, place| {
        let config = weave_common::config::Config { schema: 0, ..frames::CONFIG };
        rig.config.set(0, Abi(config), 0).map_err(text)?;
        let stranger = Underlay::data(FAR).of_stranger();
        [Underlay::data(OWN), Underlay::data(FAR), stranger].iter().try_for_each(|packet| passes(rig, place, packet))
    })
}

fn unlisted(rig: &mut Rig) -> Result<(), String> {
    inside(rig, |rig, place| {
        let stranger = Underlay::data(FAR).of_stranger();
        run(rig, place, &stranger)?.dropped_for(DropReason::UnknownSender)?;
        rig.devices.remove(&Abi(DeviceKey { ifindex: place.first })).map_err(text)?;
        passes(rig, place, &stranger)
    })
}

fn local(rig: &mut Rig) -> Result<(), String> {
    inside(rig, |rig, place| {
        for destination in [OWN, NEIGHBOUR] {
            passes(rig, place, &Underlay::data(destination))?;
            passes(rig, place, &Underlay { ttl: 1, ..Underlay::data(destination) })?;
        }
        Ok(())
    })
}

/// Requests, answers, what is for the controller or for another peer, of anybody, good and bad.
fn probes(rig: &mut Rig) -> Result<(), String> {
    inside(rig, |rig, place| {
        for flags in [0, probe::REPLY, probe::CHALLENGE, probe::PROOF, probe::ANNOUNCE] {
            for receiver in [ME, FAR_PEER.name, PEER.name, [2, 7, 7, 7, 7, 7]] {
                let fields = Fields { receiver, flags, ..REQUEST };
                for len in [74, 142, 1500] {
                    let packet = Underlay::probe_of(&fields, len);
                    passes(rig, place, &packet)?;
                    passes(rig, place, &Underlay { ttl: 1, checksum: 7, ..packet.clone() })?;
                    passes(rig, place, &packet.of_stranger())?;
                }
                passes(rig, place, &Underlay::answer(&fields))?;
            }
        }
        passes(rig, place, &Underlay { inner: Vec::new(), ..Underlay::probe(&REQUEST) })?;
        passes(rig, place, &Underlay { inner: vec![7; 38], ..Underlay::probe(&REQUEST) })
    })
}

fn foreign(rig: &mut Rig) -> Result<(), String> {
    inside(rig, |rig, place| {
        let stranger = Underlay::data(FAR).of_stranger();
        let spoiled = |bytes: &[(usize, u8)]| {
            let mut frame = framed(&stranger);
            bytes.iter().for_each(|(at, byte)| frame[*at] = *byte);
            frame
        };
        let mut other_host = framed(&stranger);
        other_host[..6].copy_from_slice(&ANY_MAC);
        let mut everybody = framed(&stranger);
        everybody[..6].copy_from_slice(&[0xff; 6]);
        // To be routed on by this host, which forwards.
        let mut routed = framed(&stranger);
        routed[30..34].copy_from_slice(&SECOND.neighbour.0);
        let answer = Underlay { source_port: frames::DATA_PORT, port: 50_000, ..stranger.clone() };
        let cut_off = framed(&answer)[..80].to_vec();
        let other_network = Underlay { vxlan: vxlan::header(vxlan::VNI + 1), ..answer.clone() };
        for (what, frame) in [
            ("IPv6", spoiled(&[(12, 0x86), (13, 0xdd)])),
            ("VLAN", spoiled(&[(12, 0x81), (13, 0x00)])),
            ("TCP", spoiled(&[(23, 6)])),
            ("another port", spoiled(&[(37, 0x81)])),
            ("a fragment", spoiled(&[(20, 0x20)])),
            ("IP options", spoiled(&[(14, 0x46)])),
            ("a small frame", vec![0; 20]),
            ("for another host", other_host),
            ("for everybody", everybody),
            ("to be routed on", routed),
            ("from the data port, but no probe", framed(&answer)),
            ("the same, cut off", cut_off),
            ("the same, of another network", framed(&other_network)),
        ] {
            rig.run_xdp(place.first, &frame)?.passed_untouched(&frame).map_err(|e| format!("{what}: {e}"))?;
        }
        Ok(())
    })
}

fn unknown_sender(rig: &mut Rig) -> Result<(), String> {
    inside(rig, |rig, place| {
        for destination in [OWN, VACANT, FAR, NOWHERE] {
            let packet = Underlay::data(destination).of_stranger();
            run(rig, place, &packet)?.dropped_for(DropReason::UnknownSender)?;
        }
        Ok(())
    })
}

fn wrong_vni(rig: &mut Rig) -> Result<(), String> {
    inside(rig, |rig, place| {
        for vni in [0, vxlan::VNI + 1, vxlan::PROBE_VNI - 1, 0xff_ffff] {
            let packet = Underlay { vxlan: vxlan::header(vni), ..Underlay::data(OWN) };
            run(rig, place, &packet)?.dropped_for(DropReason::WrongVni)?;
        }
        let mut packet = Underlay::data(OWN);
        packet.vxlan[0] &= !vxlan::FLAG_VNI;
        run(rig, place, &packet)?.dropped_for(DropReason::Malformed)
    })
}

/// Too short to be told from other traffic: passes. To the data port, but cut off: malformed.
fn malformed(rig: &mut Rig) -> Result<(), String> {
    inside(rig, |rig, place| {
        for whole in [framed(&Underlay::data(FAR)), framed(&Underlay::data(OWN)), framed(&Underlay::probe(&REQUEST))] {
            for len in frames::SHORTEST..whole.len() {
                let cut = &whole[..len];
                let ran = rig.run_xdp(place.first, cut)?;
                let result = if len < 42 { ran.passed_untouched(cut) } else { ran.dropped_for(DropReason::Malformed) };
                result.map_err(|e| format!("of {len} bytes: {e}"))?;
            }
        }
        for (at, byte) in [(14, 0x44), (14, 0x65), (16, 0x40), (17, 61), (17, 19)] {
            let mut packet = Underlay::data(FAR);
            packet.inner[at] = byte;
            run(rig, place, &packet)?.dropped_for(DropReason::Malformed)?;
        }
        Ok(())
    })
}

fn refused(rig: &mut Rig) -> Result<(), String> {
    inside(rig, |rig, place| {
        // Also where another than XDP would have to send it.
        for relays in [1, 0] {
            put_device(rig, place.first, FIRST.mac, relays)?;
            for (destination, reason) in [
                (VACANT, DropReason::NoEndpoint),
                (NOWHERE, DropReason::NoRoute),
                (frames::LOST, DropReason::NoTunnel),
                (REMOTE, DropReason::RelayBack),
                (Ip4([224, 0, 0, 1]), DropReason::Multicast),
            ] {
                run(rig, place, &Underlay::data(destination))?.dropped_for(reason)?;
                // To this peer, of which the range has moved.
                run(rig, place, &Underlay::data(destination).named(ME))?.dropped_for(reason)?;
            }
            for ttl in [0, 1] {
                run(rig, place, &Underlay { ttl, ..Underlay::data(FAR) })?.dropped_for(DropReason::TtlExhausted)?;
            }
            let mut packet = Underlay::data(FAR);
            packet.checksum = frames::udp_checksum(&packet.frame());
            run(rig, place, &packet)?.dropped_for(DropReason::Malformed)?;
            let mut packet = Underlay::data(FAR);
            packet.inner[12..14].copy_from_slice(&[0x86, 0xdd]);
            run(rig, place, &packet)?.dropped_for(DropReason::NotIpv4)?;
        }
        Ok(())
    })
}

/// Sends packets of all sizes on by `link`.
fn sent_on(rig: &mut Rig, place: &Place, link: &Link, verdict: Verdict) -> Result<(), String> {
    for len in [20, 61, 1000, INNER_MTU] {
        let packet = Underlay::data_of(FAR, len);
        let frame = run(rig, place, &packet)?.sent_as(verdict, Counter::Relay, packet.inner.len())?;
        same("frame", &frame, &link.left(&framed(&packet)))?;
        // By the receiver's name alone.
        let packet = Underlay::data_of(NOWHERE, len).named(FAR_PEER.name);
        let frame = run(rig, place, &packet)?.sent_as(verdict, Counter::Relay, packet.inner.len())?;
        same("frame", &frame, &link.left(&framed(&packet)))?;
        // For this peer, of which the range has moved.
        let packet = Underlay::data_of(FAR, len).named(ME);
        let frame = run(rig, place, &packet)?.sent_as(verdict, Counter::Relay, packet.inner.len())?;
        let mut expected = link.left(&framed(&packet));
        expected[50..56].copy_from_slice(&FAR_PEER.name);
        same("frame", &frame, &expected)?;
    }
    Ok(())
}

fn transmitted(rig: &mut Rig) -> Result<(), String> {
    inside(rig, |rig, place| {
        put_tunnel(rig, FIRST.tunnel(place.first))?;
        sent_on(rig, place, &FIRST, Verdict::Transmit)
    })
}

fn from_one_port(rig: &mut Rig) -> Result<(), String> {
    inside(rig, |rig, place| {
        put_tunnel(rig, of_one_port(FIRST.tunnel(place.first)))?;
        let packet = Underlay::data(FAR);
        let frame = run(rig, place, &packet)?.sent_as(Verdict::Transmit, Counter::Relay, packet.inner.len())?;
        let mut expected = FIRST.left(&framed(&packet));
        expected[34..36].copy_from_slice(&frames::DATA_PORT.to_be_bytes());
        same("frame", &frame, &expected)
    })
}

fn redirected(rig: &mut Rig) -> Result<(), String> {
    inside(rig, |rig, place| {
        put_tunnel(rig, SECOND.tunnel(place.second))?;
        sent_on(rig, place, &SECOND, Verdict::Redirect)
    })
}

fn left_to_the_stack(rig: &mut Rig) -> Result<(), String> {
    inside(rig, |rig, place| {
        let packet = Underlay::data(FAR);
        // Perhaps merged by the device.
        put_tunnel(rig, SECOND.tunnel(place.second))?;
        passes(rig, place, &Underlay::data_of(FAR, INNER_MTU + 1))?;
        // A neighbour that is not known, a way that is not the host's.
        put_tunnel(rig, Tunnel { next_hop: [198, 51, 100, 10], ..SECOND.tunnel(place.second) })?;
        passes(rig, place, &packet)?;
        put_tunnel(rig, Tunnel { ifindex: place.first, ..SECOND.tunnel(place.second) })?;
        passes(rig, place, &packet)?;
        put_tunnel(rig, Tunnel { ifindex: 77, ..SECOND.tunnel(place.second) })?;
        passes(rig, place, &packet)?;
        // Devices that are not fit for it.
        put_tunnel(rig, SECOND.tunnel(place.second))?;
        put_device(rig, place.second, SECOND.mac, 0)?;
        passes(rig, place, &packet)?;
        rig.devices.remove(&Abi(DeviceKey { ifindex: place.second })).map_err(text)?;
        passes(rig, place, &packet)?;
        put_tunnel(rig, FIRST.tunnel(place.first))?;
        put_device(rig, place.first, FIRST.mac, 0)?;
        passes(rig, place, &packet)
    })
}

fn used(rig: &mut Rig) -> Result<(), String> {
    inside(rig, |rig, place| {
        let times = |rig: &Rig, peer| {
            rig.tunnel_now(peer).map(|tunnel| [tunnel.sent_ns, tunnel.big_ns, tunnel.heard_ns].map(|time| time != 0))
        };
        put_tunnel(rig, FIRST.tunnel(place.first))?;
        passes(rig, place, &Underlay::data_of(FAR, INNER_MTU + 1))?;
        same("what passes is no use", &times(rig, FAR_PEER)?, &[false; 3])?;
        run(rig, place, &Underlay::data_of(FAR, 1150))?;
        same("a small one", &times(rig, FAR_PEER)?, &[true, false, false])?;
        same("of the peer", &times(rig, PEER)?, &[false, false, true])?;
        run(rig, place, &Underlay::data_of(FAR, 1151))?;
        same("a large one", &times(rig, FAR_PEER)?, &[true, true, false])
    })
}

fn mutated(rig: &mut Rig) -> Result<(), String> {
    inside(rig, |rig, place| {
        put_tunnel(rig, FIRST.tunnel(place.first))?;
        let sent = framed(&Underlay::data(FAR));
        for at in 0..sent.len() {
            for flip in [0x01, 0x10, 0x80, 0xff] {
                let mut frame = sent.clone();
                frame[at] ^= flip;
                let ran = rig.run_xdp(place.first, &frame)?;
                let one = match ran.verdict {
                    Verdict::Transmit => ran.drops.is_empty() && ran.counted.len() == 1,
                    Verdict::Drop => ran.drops.len() == 1 && ran.counted.is_empty() && ran.frame == frame,
                    Verdict::Pass => ran.drops.is_empty() && ran.counted.is_empty() && ran.frame == frame,
                    Verdict::Redirect | Verdict::Other(_) => false,
                };
                if !one {
                    return Err(format!("byte {at} ^ {flip:#x}: {ran:02x?}"));
                }
            }
        }
        Ok(())
    })
}
