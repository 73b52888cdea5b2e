//! What becomes of frames that arrive on an underlay device.

use weave_common::{
    addr::{Ip4, Mac},
    counters::Counter,
    drop::DropReason,
    local::LocalKey,
    map::{PROG_CONTAINER, PROG_UNDERLAY},
    tunnel::Tunnel,
    vxlan,
};
use weave_ctl::shell::datapath::abi::Abi;

use super::{
    Ran, Rig, Row, Verdict,
    frames::{
        self, ANY_MAC, FAR_PEER, HERE_UNDERLAY, HOST_MAC, NEIGHBOUR, OWN, OWN_SECOND, PEER, PEER_UNDERLAY, REMOTE,
        REQUEST, SHORTEST_IPV4, Underlay, VACANT, from_container,
    },
    same,
};

pub(super) const CASES: &[Row] = &[
    ("underlay: everything passes untouched before the controller has configured", not_configured),
    ("underlay: to a container, every byte of it", delivered),
    ("underlay: what a container sent comes out as it was", round_trip),
    ("underlay: from the data port, but no probe: passes untouched", from_data_port),
    ("underlay: what is not for the data port passes untouched", foreign),
    ("underlay: frames for other hosts pass untouched", other_host),
    ("underlay: what is not addressed to this host passes untouched, until it is", not_local),
    ("underlay: a UDP super-packet for a container is left to the socket device", super_packet),
    ("underlay: a stranger is refused", unknown_sender),
    ("underlay: another network is refused", wrong_vni),
    ("underlay: no network at all is malformed", no_vni),
    ("underlay: nobody there", no_endpoint),
    ("underlay: inner groups and other protocols are refused", inner_refused),
    ("underlay: inner lengths must agree", inner_malformed),
    ("underlay: a super-packet of a made-up type is refused by the kernel", kernel),
    ("underlay: cut off at any length", truncated),
    ("underlay: the origin was heard", heard),
    ("underlay: any one byte changed gives one verdict and at most one count", mutated),
];

fn run(rig: &Rig, frame: &[u8]) -> Result<Ran, String> {
    rig.run(PROG_UNDERLAY, frame)
}

fn not_configured(rig: &mut Rig) -> Result<(), String> {
    let config = weave_common::config::Config { schema: 0, ..frames::CONFIG };
    rig.config.set(0, Abi(config), 0).map_err(|e| e.to_string())?;
    for frame in [Underlay::data(OWN).frame(), Underlay::probe(&REQUEST).frame()] {
        run(rig, &frame)?.passed_untouched(&frame)?;
    }
    Ok(())
}

fn delivered(rig: &mut Rig) -> Result<(), String> {
    for (destination, mac) in [(OWN, OWN), (NEIGHBOUR, NEIGHBOUR), (OWN_SECOND, OWN)] {
        let packet = Underlay::data(destination);
        let frame = run(rig, &packet.frame())?.redirected_as(Counter::Decap, packet.inner.len())?;
        same("to", &frame[..6], &Mac::of_container(mac.0).0[..])?;
        same("from", &frame[6..12], &Mac::of_container(REMOTE.0).0[..])?;
        same("the rest", &frame[12..], &packet.inner[12..])?;
    }
    // Short frames are padded on the wire; the inner length tells what counts.
    let mut frame = Underlay::data(OWN).frame();
    frame.extend([0; 10]);
    run(rig, &frame)?.redirected_as(Counter::Decap, frame.len() - frames::OVERHEAD).map(drop)
}

fn round_trip(rig: &mut Rig) -> Result<(), String> {
    for len in [20, 61, 1450] {
        let sent = from_container(OWN, REMOTE, len);
        let mut frame = rig.run(PROG_CONTAINER, &sent)?.redirected_as(Counter::Encap, sent.len())?;
        // On the other host: from our address, for a container there, with the MACs of that link.
        frame[..12].copy_from_slice(&[HOST_MAC, ANY_MAC].concat());
        frame[26..30].copy_from_slice(&PEER_UNDERLAY.0);
        frame[30..34].copy_from_slice(&HERE_UNDERLAY.0);
        rig.endpoints
            .insert(
                Abi(weave_common::endpoint::EndpointKey::new(REMOTE)),
                Abi(weave_common::endpoint::Endpoint::new(frames::OTHER_IF, Mac::of_container(REMOTE.0))),
                0,
            )
            .map_err(|e| e.to_string())?;
        let frame = run(rig, &frame)?.redirected_as(Counter::Decap, sent.len())?;
        same("packet", &frame[12..], &sent[12..])?;
        same("to", &frame[..6], &Mac::of_container(REMOTE.0).0[..])?;
        rig.reset()?;
    }
    Ok(())
}

fn from_data_port(rig: &mut Rig) -> Result<(), String> {
    let from = |packet: Underlay| Underlay { source_port: frames::DATA_PORT, port: 50_000, ..packet }.frame();
    let mut no_vni = Underlay::data(OWN);
    no_vni.vxlan[0] &= !vxlan::FLAG_VNI;
    let other = Underlay { vxlan: vxlan::header(vxlan::VNI + 1), ..Underlay::data(OWN) };
    let whole = from(Underlay::data(OWN));
    for frame in [whole.clone(), from(no_vni), from(other), whole[..42].to_vec(), whole[..80].to_vec()] {
        run(rig, &frame)?.passed_untouched(&frame)?;
    }
    Ok(())
}

/// A frame to the data port with some bytes overwritten.
fn spoiled(bytes: &[(usize, u8)]) -> Vec<u8> {
    let mut frame = Underlay::data(OWN).frame();
    for (at, byte) in bytes {
        frame[*at] = *byte;
    }
    frame
}

fn foreign(rig: &mut Rig) -> Result<(), String> {
    let frames = [
        ("IPv6", spoiled(&[(12, 0x86), (13, 0xdd)])),
        ("ARP", spoiled(&[(12, 0x08), (13, 0x06)])),
        ("VLAN", spoiled(&[(12, 0x81), (13, 0x00)])),
        ("TCP", spoiled(&[(23, 6)])),
        ("another port", spoiled(&[(37, 0x81)])),
        ("a first fragment", spoiled(&[(20, 0x20)])),
        ("a later fragment", spoiled(&[(20, 0), (21, 0x10)])),
        ("IP options", spoiled(&[(14, 0x46)])),
        ("a small frame", vec![0; 20]),
    ];
    for (what, frame) in frames {
        run(rig, &frame)?.passed_untouched(&frame).map_err(|e| format!("{what}: {e}"))?;
    }
    Ok(())
}

fn other_host(rig: &mut Rig) -> Result<(), String> {
    for mac in [ANY_MAC, [0xff; 6], [1, 0, 0x5e, 0, 0, 1]] {
        let mut frame = Underlay::data(OWN).frame();
        frame[..6].copy_from_slice(&mac);
        run(rig, &frame)?.passed_untouched(&frame)?;
    }
    Ok(())
}

fn not_local(rig: &mut Rig) -> Result<(), String> {
    rig.locals.remove(&Abi(LocalKey::new(HERE_UNDERLAY))).map_err(|e| e.to_string())?;
    // Not even what would be dropped: it is routed on, or it is the stack's to refuse.
    let stranger = Underlay::data(OWN).of_stranger();
    for packet in [Underlay::data(OWN), Underlay::data(frames::FAR), Underlay::probe(&REQUEST), stranger] {
        run(rig, &packet.frame())?.passed_untouched(&packet.frame())?;
    }
    rig.local(HERE_UNDERLAY)?;
    let packet = Underlay::data(OWN);
    run(rig, &packet.frame())?.redirected_as(Counter::Decap, packet.inner.len()).map(drop)
}

fn super_packet(rig: &mut Rig) -> Result<(), String> {
    for destination in [OWN, NEIGHBOUR] {
        let packet = Underlay::data_of(destination, 3000);
        let sent = packet.frame();
        let ran = rig.run_gso(PROG_UNDERLAY, &sent, 1000)?;
        same("verdict", &ran.verdict, &Verdict::Pass)?;
        same("counted", &ran.counted, &vec![(Counter::ToSocket, packet.inner.len() as u64)])?;
        same("frame", &ran.frame, &sent)?;
    }
    // What would be dropped is dropped here as well.
    for (destination, reason) in [(VACANT, DropReason::NoEndpoint), (Ip4([224, 0, 0, 1]), DropReason::Multicast)] {
        rig.run_gso(PROG_UNDERLAY, &Underlay::data_of(destination, 3000).frame(), 1000)?.dropped_for(reason)?;
    }
    let stranger = Underlay::data_of(OWN, 3000).of_stranger();
    rig.run_gso(PROG_UNDERLAY, &stranger.frame(), 1000)?.dropped_for(DropReason::UnknownSender)
}

fn unknown_sender(rig: &mut Rig) -> Result<(), String> {
    let packet = Underlay::data(OWN).of_stranger();
    run(rig, &packet.frame())?.dropped_for(DropReason::UnknownSender)
}

fn wrong_vni(rig: &mut Rig) -> Result<(), String> {
    for vni in [0, vxlan::VNI + 1, vxlan::PROBE_VNI - 1, 0xff_ffff] {
        let packet = Underlay { vxlan: vxlan::header(vni), ..Underlay::data(OWN) };
        run(rig, &packet.frame())?.dropped_for(DropReason::WrongVni)?;
    }
    Ok(())
}

fn no_vni(rig: &mut Rig) -> Result<(), String> {
    let mut packet = Underlay::data(OWN);
    packet.vxlan[0] &= !vxlan::FLAG_VNI;
    run(rig, &packet.frame())?.dropped_for(DropReason::Malformed)
}

fn no_endpoint(rig: &mut Rig) -> Result<(), String> {
    run(rig, &Underlay::data(VACANT).frame())?.dropped_for(DropReason::NoEndpoint)
}

fn inner_refused(rig: &mut Rig) -> Result<(), String> {
    for destination in [Ip4([224, 0, 0, 1]), Ip4([255; 4])] {
        run(rig, &Underlay::data(destination).frame())?.dropped_for(DropReason::Multicast)?;
    }
    for ethertype in [[0x08, 0x06], [0x86, 0xdd], [0x81, 0x00]] {
        let mut packet = Underlay::data(OWN);
        packet.inner[12..14].copy_from_slice(&ethertype);
        run(rig, &packet.frame())?.dropped_for(DropReason::NotIpv4)?;
    }
    Ok(())
}

fn inner_malformed(rig: &mut Rig) -> Result<(), String> {
    for (at, byte) in [(14, 0x44), (14, 0x65), (16, 0x40), (17, 61), (17, 19)] {
        let mut packet = Underlay::data(OWN);
        packet.inner[at] = byte;
        run(rig, &packet.frame())?
            .dropped_for(DropReason::Malformed)
            .map_err(|e| format!("inner byte {at} = {byte:#x}: {e}"))?;
    }
    Ok(())
}

fn kernel(rig: &mut Rig) -> Result<(), String> {
    const TCP: u8 = 6;
    let mut packet = Underlay::data_of(OWN, 3000);
    packet.inner[23] = TCP;
    rig.run_gso(PROG_UNDERLAY, &packet.frame(), 1000)?.dropped_for(DropReason::Kernel)
}

/// Too short to be told from other traffic: passes. To the data port, but cut off: malformed.
fn truncated(rig: &mut Rig) -> Result<(), String> {
    for frame in [Underlay::data(OWN).frame(), Underlay::probe(&REQUEST).frame()] {
        for len in SHORTEST_IPV4..frame.len() {
            let cut = &frame[..len];
            let ran = run(rig, cut)?;
            let result = if len < 42 { ran.passed_untouched(cut) } else { ran.dropped_for(DropReason::Malformed) };
            result.map_err(|e| format!("of {len} bytes: {e}"))?;
        }
    }
    Ok(())
}

fn heard(rig: &mut Rig) -> Result<(), String> {
    let heard = |rig: &Rig, peer| rig.tunnel_now(peer).map(|tunnel| tunnel.heard_ns);
    let elsewhere = |rig: &Rig, peer| rig.tunnel_now(peer).map(|tunnel| tunnel.elsewhere_ns);
    run(rig, &Underlay::data(OWN).of_stranger().frame())?.dropped_for(DropReason::UnknownSender)?;
    same("of a stranger", &[heard(rig, PEER)?, heard(rig, FAR_PEER)?], &[0, 0])?;
    run(rig, &Underlay::data(OWN).frame())?;
    let first = heard(rig, PEER)?;
    same("of the peer, and of no other", &(first != 0, heard(rig, FAR_PEER)?), &(true, 0))?;
    // By the origin's name, not by the sender's address: this one was relayed.
    let mut relayed = Underlay::data(OWN);
    relayed.inner[6..12].copy_from_slice(&FAR_PEER.name);
    run(rig, &relayed.frame())?;
    same("of the far peer", &(elsewhere(rig, FAR_PEER)? != 0, heard(rig, FAR_PEER)?), &(true, 0))?;
    // Where packets for it go by that sender, the same packet shows that they can.
    rig.tunnel(FAR_PEER, Tunnel { via: PEER, ..frames::tunnel() })?;
    run(rig, &relayed.frame())?;
    same("by its relay", &(heard(rig, FAR_PEER)? != 0), &true)?;
    // Not again before its time.
    let later = first + 3_600_000_000_000;
    rig.tunnel(PEER, Tunnel { heard_ns: later, ..frames::tunnel() })?;
    run(rig, &Underlay::data(OWN).frame())?;
    same("the time", &heard(rig, PEER)?, &later)?;
    // An origin that no tunnel leads to is delivered all the same.
    let mut unknown = Underlay::data(OWN);
    unknown.inner[6..12].copy_from_slice(&[2, 7, 7, 7, 7, 7]);
    run(rig, &unknown.frame())?.redirected_as(Counter::Decap, unknown.inner.len()).map(drop)
}

fn mutated(rig: &mut Rig) -> Result<(), String> {
    let sent = Underlay::data(OWN).frame();
    for at in 0..sent.len() {
        for flip in [0x01, 0x10, 0x80, 0xff] {
            let mut frame = sent.clone();
            frame[at] ^= flip;
            let ran = run(rig, &frame)?;
            let one = match ran.verdict {
                Verdict::Redirect => ran.drops.is_empty() && ran.counted.len() == 1,
                Verdict::Drop => ran.drops.len() == 1 && ran.counted.is_empty(),
                Verdict::Pass => ran.drops.is_empty() && ran.counted.is_empty() && ran.frame == frame,
                Verdict::Transmit | Verdict::Other(_) => false,
            };
            if !one {
                return Err(format!("byte {at} ^ {flip:#x}: {ran:02x?}"));
            }
        }
    }
    Ok(())
}
