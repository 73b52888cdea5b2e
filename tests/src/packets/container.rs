//! What becomes of frames that a container sends.

use weave_common::{
    addr::Mac,
    checksum,
    counters::Counter,
    drop::DropReason,
    endpoint::{Endpoint, EndpointKey},
    map::PROG_CONTAINER,
    route::Route,
    tunnel::{PATH_DIRECT, PATH_FIXED, PATH_RELAYED, Tunnel},
    vxlan,
    wire::{OuterHeader, Push},
};
use weave_ctl::shell::datapath::abi::Abi;

use super::{
    Rig, Row, Verdict,
    frames::{
        self, ANY_MAC, INNER_MTU, LOCAL_NET, LONG, LOST, NEIGHBOUR, NOWHERE, OVERHEAD, OWN, OWN_SECOND, PEER_UNDERLAY,
        REMOTE, SHORTEST, SHORTEST_IPV4, VACANT, arp, arp_reply, from_container, of_one_port,
    },
    same,
};

pub(super) const CASES: &[Row] = &[
    ("container: nothing passes before the controller has configured", not_configured),
    ("container: ARP for a neighbour on this host is answered", arp_local),
    ("container: ARP for an address of a peer is answered", arp_remote),
    ("container: ARP for what nobody holds is not answered", arp_unanswered),
    ("container: ARP of an impostor is not answered", arp_impostor),
    ("container: ARP cut off at any length is malformed", arp_truncated),
    ("container: to a neighbour on this host", local),
    ("container: to a peer, every byte of it", encapsulated),
    ("container: from one port to a peer, where the way asks for that", from_one_port),
    ("container: each kind of path has its counter", kinds),
    ("container: the largest packet fits, one byte more is told the size that fits", too_big),
    ("container: the answer quotes what sockets look for, also behind IP options", too_big_quote),
    ("container: one answer a millisecond and address", too_big_limited),
    ("container: no answer to later fragments, ICMP errors and tiny paths", too_big_unanswered),
    ("container: what may be cut is left to the socket device, with the peers' names", slow_path),
    ("container: what may be cut is dropped without a socket device, or for another port", no_slow_path),
    ("container: a super-packet is measured by its segments", too_big_segments),
    ("container: a source that is not its own is refused", source_address),
    ("container: every way not to find the destination", no_destination),
    ("container: groups are refused", multicast),
    ("container: other protocols are refused", other_protocols),
    ("container: cut off at any length is malformed", truncated),
    ("container: any one byte changed gives one verdict and one count", mutated),
];

fn run(rig: &Rig, frame: &[u8]) -> Result<super::Ran, String> {
    rig.run(PROG_CONTAINER, frame)
}

fn not_configured(rig: &mut Rig) -> Result<(), String> {
    for schema in [0, frames::CONFIG.schema + 1] {
        let config = weave_common::config::Config { schema, ..frames::CONFIG };
        rig.config.set(0, Abi(config), 0).map_err(|e| e.to_string())?;
        for frame in [from_container(OWN, REMOTE, 60), arp(1, OWN, REMOTE)] {
            run(rig, &frame)?.dropped_for(DropReason::NotConfigured)?;
        }
    }
    Ok(())
}

fn arp_local(rig: &mut Rig) -> Result<(), String> {
    let frame = run(rig, &arp(1, OWN, NEIGHBOUR))?.redirected_as(Counter::ArpReply, 42)?;
    same("reply", &frame, &arp_reply(OWN, NEIGHBOUR))
}

fn arp_remote(rig: &mut Rig) -> Result<(), String> {
    for (sender, target) in [(OWN, REMOTE), (OWN_SECOND, REMOTE), (OWN, LOST)] {
        let frame = run(rig, &arp(1, sender, target))?.redirected_as(Counter::ArpReply, 42)?;
        same("reply", &frame, &arp_reply(sender, target))?;
    }
    Ok(())
}

fn arp_unanswered(rig: &mut Rig) -> Result<(), String> {
    let none = weave_common::addr::Ip4([0; 4]);
    for (operation, sender, target) in [
        (1, OWN, OWN),        // announcement
        (1, OWN, OWN_SECOND), // another of its own
        (1, OWN, VACANT),
        (1, OWN, NOWHERE),
        (1, none, OWN), // duplicate address detection
        (1, none, REMOTE),
        (2, OWN, NEIGHBOUR), // a reply
        (3, OWN, NEIGHBOUR),
    ] {
        run(rig, &arp(operation, sender, target))?
            .dropped_for(DropReason::Arp)
            .map_err(|e| format!("{operation} {} {}: {e}", frames::dotted(sender), frames::dotted(target)))?;
    }
    Ok(())
}

fn arp_impostor(rig: &mut Rig) -> Result<(), String> {
    for sender in [NEIGHBOUR, REMOTE, VACANT] {
        run(rig, &arp(1, sender, LOST))?.dropped_for(DropReason::SourceAddress)?;
    }
    Ok(())
}

fn arp_truncated(rig: &mut Rig) -> Result<(), String> {
    let frame = arp(1, OWN, NEIGHBOUR);
    (SHORTEST..frame.len()).try_for_each(|len| run(rig, &frame[..len])?.dropped_for(DropReason::Malformed))
}

fn local(rig: &mut Rig) -> Result<(), String> {
    // Also larger than what fits to a peer: the path to a peer does not bound it.
    for len in [20, 60, INNER_MTU, LONG] {
        let sent = from_container(OWN, NEIGHBOUR, len);
        let frame = run(rig, &sent)?.redirected_as(Counter::Local, sent.len())?;
        same("to", &frame[..6], &Mac::of_container(NEIGHBOUR.0).0[..])?;
        same("from", &frame[6..12], &Mac::of_container(OWN.0).0[..])?;
        same("the rest", &frame[12..], &sent[12..])?;
    }
    // By its second address, which has the MAC of the first.
    let sent = from_container(OWN, OWN_SECOND, 60);
    let frame = run(rig, &sent)?.redirected_as(Counter::Local, sent.len())?;
    same("to", &frame[..6], &Mac::of_container(OWN.0).0[..])
}

fn from_one_port(rig: &mut Rig) -> Result<(), String> {
    let sent = from_container(OWN, REMOTE, 100);
    let mut expected = run(rig, &sent)?.redirected_as(Counter::Encap, sent.len())?;
    let tunnel = of_one_port(frames::tunnel());
    rig.tunnels.insert(Abi(frames::PEER), Abi(tunnel), 0).map_err(|e| e.to_string())?;
    expected[34..36].copy_from_slice(&frames::DATA_PORT.to_be_bytes());
    same("frame", &run(rig, &sent)?.redirected_as(Counter::EncapFixed, sent.len())?, &expected)
}

fn encapsulated(rig: &mut Rig) -> Result<(), String> {
    for len in [20, 61, 1000, INNER_MTU] {
        let sent = from_container(OWN, REMOTE, len);
        let frame = run(rig, &sent)?.redirected_as(Counter::Encap, sent.len())?;
        same("length", &frame.len(), &(sent.len() + OVERHEAD))?;
        same("ethertype", &frame[12..14], &[8, 0][..])?;
        let (ip, udp) = (&frame[14..34], &frame[34..42]);
        let prepared = frames::push().outer;
        same("version, TOS", &ip[..2], &prepared.ipv4[..2])?;
        same("total length", &be(&ip[2..4]), &(len + OVERHEAD))?;
        same("DF and TTL", &ip[6..9], &[0x40, 0, 64][..])?;
        let mut blank = *ip.first_chunk::<20>().ok_or("short header")?;
        blank[10..12].copy_from_slice(&[0, 0]);
        same("checksum", &ip[10..12], &checksum::ipv4_header(&blank).to_be_bytes()[..])?;
        same("addresses", &ip[12..20], &prepared.ipv4[12..20])?;
        if be(&udp[..2]) < 49152 {
            return Err(format!("source port {} is not dynamic", be(&udp[..2])));
        }
        same("destination port", &be(&udp[2..4]), &usize::from(frames::DATA_PORT))?;
        same("UDP length", &be(&udp[4..6]), &(len + OVERHEAD - 20))?;
        same("no UDP checksum", &udp[6..8], &[0, 0][..])?;
        same("VXLAN", &frame[42..50], &prepared.vxlan[..])?;
        same("receiver", &frame[50..56], &frames::PEER.name[..])?;
        same("origin", &frame[56..62], &frames::ME[..])?;
        same("inner packet", &frame[62..], &sent[12..])?;
    }
    Ok(())
}

fn kinds(rig: &mut Rig) -> Result<(), String> {
    for (kind, counter) in [
        (PATH_DIRECT, Counter::Encap),
        (PATH_FIXED, Counter::EncapFixed),
        (PATH_RELAYED, Counter::EncapRelayed),
        (0, Counter::Encap),
    ] {
        rig.tunnel(frames::PEER, Tunnel { kind, ..frames::tunnel() })?;
        let sent = from_container(OWN, REMOTE, 60);
        run(rig, &sent)?.redirected_as(counter, sent.len())?;
    }
    Ok(())
}

fn be(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |n, byte| n << 8 | usize::from(*byte))
}

/// A frame of the container whose IP flags and fragment offset are `fragment`.
fn flagged(len: usize, fragment: u16) -> Vec<u8> {
    let mut frame = from_container(OWN, REMOTE, len);
    frame[20..22].copy_from_slice(&fragment.to_be_bytes());
    fix_checksum(&mut frame);
    frame
}

/// Makes the IPv4 header's checksum right.
fn fix_checksum(frame: &mut [u8]) {
    frame[24..26].copy_from_slice(&[0, 0]);
    let sum = frame[14..].first_chunk().map_or(0, checksum::ipv4_header);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
}

/// Lets the container have another answer at once.
fn forget_answer(rig: &mut Rig) -> Result<(), String> {
    let (addr, endpoint) = frames::endpoints()[0];
    rig.endpoints.insert(Abi(EndpointKey::new(addr)), Abi(endpoint), 0).map_err(|e| e.to_string())
}

/// What the container must get for `sent`: ICMP 3/4 from the destination's address, which tells `mtu`.
fn answer(sent: &[u8], mtu: u16) -> Vec<u8> {
    const QUOTE: usize = 80;
    let mut icmp = vec![3, 4, 0, 0, 0, 0];
    icmp.extend(mtu.to_be_bytes());
    icmp.extend(&sent[14..14 + QUOTE]);
    let sum: u32 = icmp.chunks_exact(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    icmp[2..4].copy_from_slice(&(!checksum::fold(sum)).to_be_bytes());
    let mut frame = [&sent[6..12], &sent[..6], &[8, 0, 0x45, 0xc0]].concat();
    frame.extend(u16::try_from(20 + icmp.len()).unwrap_or(0).to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 1, 0, 0]);
    frame.extend(&sent[30..34]);
    frame.extend(&sent[26..30]);
    frame.extend(icmp);
    fix_checksum(&mut frame);
    frame
}

/// Runs on a frame that is too big, and compares the answer.
fn answered(rig: &mut Rig, sent: &[u8], gso_size: u32) -> Result<(), String> {
    let expected = answer(sent, INNER_MTU as u16);
    let ran = rig.run_gso(PROG_CONTAINER, sent, gso_size)?;
    let frame = ran.redirected_as(Counter::IcmpTooBig, expected.len())?;
    forget_answer(rig)?;
    same("answer", &frame, &expected)
}

fn too_big(rig: &mut Rig) -> Result<(), String> {
    const DF: u16 = 0x4000;
    let sent = flagged(INNER_MTU, DF);
    run(rig, &sent)?.redirected_as(Counter::Encap, sent.len())?;
    for len in [INNER_MTU + 1, 1500, LONG] {
        answered(rig, &flagged(len, DF), 0)?;
    }
    // First fragments too: the sender made them larger than the path.
    answered(rig, &flagged(1500, DF | 0x2000), 0)
}

fn too_big_quote(rig: &mut Rig) -> Result<(), String> {
    // Options up to the longest header leave 20 bytes of what follows.
    for words in [6_u8, 10, 15] {
        let mut sent = flagged(1500, 0x4000);
        sent[14] = 0x40 | words;
        answered(rig, &sent, 0)?;
    }
    Ok(())
}

fn too_big_limited(rig: &mut Rig) -> Result<(), String> {
    let sent = flagged(1500, 0x4000);
    answered(rig, &sent, 0)?;
    let (addr, endpoint) = frames::endpoints()[0];
    let put = |rig: &mut Rig, icmp_ns| {
        let entry = Endpoint { icmp_ns, ..endpoint };
        rig.endpoints.insert(Abi(EndpointKey::new(addr)), Abi(entry), 0).map_err(|e| e.to_string())
    };
    // Far from now, whenever that is: the last answer was just sent.
    put(rig, u64::MAX)?;
    run(rig, &sent)?.dropped_for(DropReason::TooBig)?;
    // Its second address has a time of its own.
    let mut second = from_container(OWN_SECOND, REMOTE, 1500);
    second[20] = 0x40;
    answered(rig, &second, 0)?;
    put(rig, 1)?;
    run(rig, &sent)?.redirected_as(Counter::IcmpTooBig, 122)?;
    let Abi(noted) = rig.endpoints.get(&Abi(EndpointKey::new(addr)), 0).map_err(|e| e.to_string())?;
    if noted.icmp_ns <= 1 {
        return Err("the time was not noted".to_owned());
    }
    same("the rest of the entry", &Endpoint { icmp_ns: 0, ..noted }, &endpoint)
}

fn too_big_unanswered(rig: &mut Rig) -> Result<(), String> {
    for fragment in [0x4000 | 1, 0x6000 | 185] {
        run(rig, &flagged(1500, fragment))?.dropped_for(DropReason::TooBig)?;
    }
    for kind in [3, 4, 5, 11, 12] {
        let mut sent = flagged(1500, 0x4000);
        sent[23] = 1;
        sent[34] = kind;
        run(rig, &sent)?.dropped_for(DropReason::TooBig)?;
        sent[34] = 8;
        answered(rig, &sent, 0)?;
    }
    // Nothing that an answer could say makes such a path usable, and what it would quote is not there.
    let narrow = Tunnel { inner_mtu: 67, ..frames::tunnel() };
    rig.tunnels.insert(Abi(frames::PEER), Abi(narrow), 0).map_err(|e| e.to_string())?;
    run(rig, &flagged(1500, 0x4000))?.dropped_for(DropReason::TooBig)?;
    let narrow = Tunnel { inner_mtu: 68, ..frames::tunnel() };
    rig.tunnels.insert(Abi(frames::PEER), Abi(narrow), 0).map_err(|e| e.to_string())?;
    run(rig, &flagged(79, 0x4000))?.dropped_for(DropReason::TooBig)?;
    run(rig, &flagged(80, 0x4000))?.redirected_as(Counter::IcmpTooBig, 122).map(drop)
}

fn slow_path(rig: &mut Rig) -> Result<(), String> {
    for (len, fragment) in [(INNER_MTU + 1, 0), (1500, 0), (LONG, 0), (1500, 0x2000), (1500, 0x20b9), (1500, 185)] {
        let sent = flagged(len, fragment);
        let frame = run(rig, &sent)?.redirected_as(Counter::SlowPath, sent.len())?;
        let expected = [&frames::PEER.name[..], &frames::ME, &sent[12..]].concat();
        same("frame", &frame, &expected)?;
    }
    let tunnel = rig.tunnel_now(frames::PEER)?;
    same("used, by large packets", &(tunnel.sent_ns != 0, tunnel.big_ns != 0), &(true, true))
}

fn no_slow_path(rig: &mut Rig) -> Result<(), String> {
    let other_port = Tunnel {
        push: Push {
            outer: OuterHeader::prepare(frames::HERE_UNDERLAY.into(), PEER_UNDERLAY.into(), 7001, vxlan::VNI),
            ..frames::push()
        },
        ..frames::tunnel()
    };
    rig.tunnels.insert(Abi(frames::PEER), Abi(other_port), 0).map_err(|e| e.to_string())?;
    run(rig, &flagged(1500, 0))?.dropped_for(DropReason::TooBig)?;
    rig.reset()?;
    let config = weave_common::config::Config { socket_ifindex: 0, ..frames::CONFIG };
    rig.config.set(0, Abi(config), 0).map_err(|e| e.to_string())?;
    run(rig, &flagged(1500, 0))?.dropped_for(DropReason::TooBig)
}

/// A super-packet that fits gets as far as the helper, which refuses one of a made-up type.
fn too_big_segments(rig: &mut Rig) -> Result<(), String> {
    const TCP: u8 = 6;
    for (protocol, transport) in [(TCP, 32), (17, 8)] {
        for df in [0x4000, 0] {
            let mut sent = flagged(LONG, df);
            sent[23] = protocol;
            sent[14 + 20 + 12] = 0x80;
            let fits = (INNER_MTU - 20 - transport) as u32;
            rig.run_gso(PROG_CONTAINER, &sent, fits)?.dropped_for(DropReason::Kernel)?;
            if df == 0 {
                rig.run_gso(PROG_CONTAINER, &sent, fits + 1)?.redirected_as(Counter::SlowPath, sent.len())?;
            } else {
                answered(rig, &sent, fits + 1)?;
            }
        }
    }
    Ok(())
}

fn source_address(rig: &mut Rig) -> Result<(), String> {
    for source in [NEIGHBOUR, VACANT, REMOTE, NOWHERE] {
        for destination in [NEIGHBOUR, REMOTE, NOWHERE] {
            run(rig, &from_container(source, destination, 60))?.dropped_for(DropReason::SourceAddress)?;
        }
    }
    Ok(())
}

fn no_destination(rig: &mut Rig) -> Result<(), String> {
    run(rig, &from_container(OWN, NOWHERE, 60))?.dropped_for(DropReason::NoRoute)?;
    run(rig, &from_container(OWN, VACANT, 60))?.dropped_for(DropReason::NoEndpoint)?;
    run(rig, &from_container(OWN, LOST, 60))?.dropped_for(DropReason::NoTunnel)?;
    rig.route(LOCAL_NET, Route { kind: 77, ..Route::LOCAL })?;
    run(rig, &from_container(OWN, VACANT, 60))?.dropped_for(DropReason::NoRoute)?;
    // The longest prefix decides: one address of our range has gone to the peer.
    rig.route((VACANT, 32), Route::to_peer(frames::PEER))?;
    let sent = from_container(OWN, VACANT, 60);
    run(rig, &sent)?.redirected_as(Counter::Encap, sent.len()).map(drop)
}

fn multicast(rig: &mut Rig) -> Result<(), String> {
    for destination in [[224, 0, 0, 251], [239, 1, 2, 3], [255, 255, 255, 255]] {
        run(rig, &from_container(OWN, weave_common::addr::Ip4(destination), 60))?.dropped_for(DropReason::Multicast)?;
    }
    let mut frame = from_container(OWN, REMOTE, 60);
    frame[..6].copy_from_slice(&[0xff; 6]);
    run(rig, &frame)?.dropped_for(DropReason::Multicast)
}

fn other_protocols(rig: &mut Rig) -> Result<(), String> {
    for ethertype in [0x86dd_u16, 0x8100, 0x88cc, 0, 60] {
        let mut frame = from_container(OWN, REMOTE, 60);
        frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
        run(rig, &frame)?.dropped_for(DropReason::NotIpv4)?;
    }
    Ok(())
}

fn truncated(rig: &mut Rig) -> Result<(), String> {
    for destination in [NEIGHBOUR, REMOTE] {
        let frame = from_container(OWN, destination, 90);
        (SHORTEST_IPV4..frame.len()).try_for_each(|len| run(rig, &frame[..len])?.dropped_for(DropReason::Malformed))?;
    }
    Ok(())
}

fn mutated(rig: &mut Rig) -> Result<(), String> {
    for frame in [from_container(OWN, REMOTE, 60), from_container(OWN, NEIGHBOUR, 60), arp(1, OWN, NEIGHBOUR)] {
        for at in 0..frame.len() {
            for flip in [0x01, 0x10, 0x80, 0xff] {
                let mut frame = frame.clone();
                frame[at] ^= flip;
                let ran = run(rig, &frame)?;
                let one = match ran.verdict {
                    Verdict::Redirect => ran.drops.is_empty() && ran.counted.len() == 1,
                    Verdict::Drop => ran.drops.len() == 1 && ran.counted.is_empty(),
                    Verdict::Pass | Verdict::Transmit | Verdict::Other(_) => false,
                };
                if !one {
                    return Err(format!("byte {at} ^ {flip:#x}: {ran:02x?}"));
                }
            }
        }
    }
    same("addresses of the table", &(ANY_MAC[0] & 1, PEER_UNDERLAY.0[0]), &(0, 127))
}
