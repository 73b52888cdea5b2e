//! What becomes of frames that arrive on an underlay device and are for a container of another peer.

use weave_common::{
    addr::{Ip4, PeerKey},
    checksum,
    counters::Counter,
    drop::DropReason,
    map::{PROG_CONTAINER, PROG_UNDERLAY},
    route::{ROUTE_PEER, Route},
    tunnel::Tunnel,
};
use weave_ctl::shell::datapath::abi::Abi;

use super::{
    Ran, Rig, Row,
    frames::{
        self, FAR, FAR_PEER, FAR_PORT, FAR_UNDERLAY, HERE_UNDERLAY, INNER_MTU, LOST, NOWHERE, OWN, PEER, PROBE_PORT,
        REMOTE, STRANGER_UNDERLAY, Underlay, VACANT, from_container,
    },
    same,
};

pub(super) const CASES: &[Row] = &[
    ("relay: on to the next peer, every byte of it", relayed),
    ("relay: also what came to the controller's port", from_probe_port),
    ("relay: from one port, where the way asks for that", from_one_port),
    ("relay: a fragment may not be made of it", df_is_set),
    ("relay: a stranger is refused", unknown_sender),
    ("relay: a packet that came for the last time is not sent on", ttl_end),
    ("relay: nothing goes back to the peer that it came from", back),
    ("relay: the largest packet fits, one byte more does not", too_big),
    ("relay: a super-packet is measured by its segments", too_big_segments),
    ("relay: a UDP checksum is refused", checksum_refused),
    ("relay: every way not to find the destination", no_destination),
    ("relay: a container on this host comes first", local_first),
    ("relay: a tunnel that carried a packet says so", used_by_relay),
    ("container: a tunnel that carried a packet says so", used_by_container),
];

fn run(rig: &Rig, frame: &[u8]) -> Result<Ran, String> {
    rig.run(PROG_UNDERLAY, frame)
}

/// What `sent` must be when it leaves for the far peer.
fn readdressed(sent: &[u8], ttl: u8) -> Vec<u8> {
    readdressed_to(sent, ttl, (HERE_UNDERLAY, FAR_UNDERLAY))
}

/// What `sent` must be when it leaves for the far peer's port, between these addresses.
pub(super) fn readdressed_to(sent: &[u8], ttl: u8, (source, destination): (Ip4, Ip4)) -> Vec<u8> {
    let mut frame = sent.to_vec();
    frame[20..22].copy_from_slice(&[0x40, 0]);
    frame[22] = ttl;
    frame[26..30].copy_from_slice(&source.0);
    frame[30..34].copy_from_slice(&destination.0);
    frame[36..38].copy_from_slice(&FAR_PORT.to_be_bytes());
    frame[24..26].copy_from_slice(&[0, 0]);
    let sum = frame[14..].first_chunk().map_or(0, checksum::ipv4_header);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

fn relayed(rig: &mut Rig) -> Result<(), String> {
    for len in [20, 61, 1000, INNER_MTU] {
        for ttl in [2, 3, 64, 255] {
            let packet = Underlay { ttl, ..Underlay::data_of(FAR, len) };
            let sent = packet.frame();
            let frame = run(rig, &sent)?.redirected_as(Counter::Relay, packet.inner.len())?;
            same("frame", &frame, &readdressed(&sent, ttl - 1))?;
        }
    }
    Ok(())
}

fn from_probe_port(rig: &mut Rig) -> Result<(), String> {
    let packet = Underlay { port: PROBE_PORT, ..Underlay::data(FAR) };
    let sent = packet.frame();
    let frame = run(rig, &sent)?.redirected_as(Counter::Relay, packet.inner.len())?;
    same("frame", &frame, &readdressed(&sent, 63))
}

/// `tunnel` for packets that all leave from the probes' port.
pub(super) fn of_one_port(tunnel: Tunnel) -> Tunnel {
    Tunnel { outer: tunnel.outer.leaving_from(PROBE_PORT), ..tunnel }
}

fn from_one_port(rig: &mut Rig) -> Result<(), String> {
    put(rig, of_one_port(frames::far_tunnel()))?;
    let packet = Underlay::data(FAR);
    let sent = packet.frame();
    let frame = run(rig, &sent)?.redirected_as(Counter::Relay, packet.inner.len())?;
    let mut expected = readdressed(&sent, 63);
    expected[34..36].copy_from_slice(&PROBE_PORT.to_be_bytes());
    same("frame", &frame, &expected)
}

fn df_is_set(rig: &mut Rig) -> Result<(), String> {
    let packet = Underlay::data(FAR);
    let mut sent = packet.frame();
    sent[20] = 0;
    sent[24..26].copy_from_slice(&[0, 0]);
    let sum = sent[14..].first_chunk().map_or(0, checksum::ipv4_header);
    sent[24..26].copy_from_slice(&sum.to_be_bytes());
    let frame = run(rig, &sent)?.redirected_as(Counter::Relay, packet.inner.len())?;
    same("frame", &frame, &readdressed(&sent, 63))
}

fn unknown_sender(rig: &mut Rig) -> Result<(), String> {
    let packet = Underlay { source: STRANGER_UNDERLAY, ..Underlay::data(FAR) };
    run(rig, &packet.frame())?.dropped_for(DropReason::UnknownSender)
}

fn ttl_end(rig: &mut Rig) -> Result<(), String> {
    for ttl in [0, 1] {
        let packet = Underlay { ttl, ..Underlay::data(FAR) };
        run(rig, &packet.frame())?.dropped_for(DropReason::TtlExhausted)?;
        // Its own containers are reached all the same.
        let packet = Underlay { ttl, ..Underlay::data(OWN) };
        run(rig, &packet.frame())?.redirected_as(Counter::Decap, packet.inner.len())?;
    }
    Ok(())
}

fn put(rig: &mut Rig, tunnel: Tunnel) -> Result<(), String> {
    rig.tunnels.insert(Abi(FAR_PEER), Abi(tunnel), 0).map_err(|e| e.to_string())
}

fn back(rig: &mut Rig) -> Result<(), String> {
    // To the owner of the range itself,
    run(rig, &Underlay::data(REMOTE).frame())?.dropped_for(DropReason::RelayBack)?;
    // to it as the next hop towards another, by whatever address,
    put(rig, Tunnel { via: PEER, ..frames::far_tunnel() })?;
    run(rig, &Underlay::data(FAR).frame())?.dropped_for(DropReason::RelayBack)?;
    // or to the address it came from, whoever that is now.
    put(rig, Tunnel { via: FAR_PEER, ..frames::tunnel() })?;
    run(rig, &Underlay::data(FAR).frame())?.dropped_for(DropReason::RelayBack)
}

fn too_big(rig: &mut Rig) -> Result<(), String> {
    let packet = Underlay::data_of(FAR, INNER_MTU);
    run(rig, &packet.frame())?.redirected_as(Counter::Relay, packet.inner.len())?;
    // What a short frame is padded with does not count.
    let mut padded = packet.frame();
    padded.extend([0; 10]);
    run(rig, &padded)?.redirected_as(Counter::Relay, packet.inner.len() + 10)?;
    for len in [INNER_MTU + 1, 2000] {
        run(rig, &Underlay::data_of(FAR, len).frame())?.dropped_for(DropReason::TooBig)?;
    }
    Ok(())
}

fn too_big_segments(rig: &mut Rig) -> Result<(), String> {
    const TCP: u8 = 6;
    for (protocol, transport) in [(TCP, 32), (17, 8)] {
        let mut packet = Underlay::data_of(FAR, 3000);
        packet.inner[23] = protocol;
        packet.inner[14 + 20 + 12] = 0x80;
        let (sent, fits) = (packet.frame(), (INNER_MTU - 20 - transport) as u32);
        let frame = rig.run_gso(PROG_UNDERLAY, &sent, fits)?.redirected_as(Counter::Relay, packet.inner.len())?;
        same("frame", &frame, &readdressed(&sent, 63))?;
        rig.run_gso(PROG_UNDERLAY, &sent, fits + 1)?.dropped_for(DropReason::TooBig)?;
    }
    Ok(())
}

fn checksum_refused(rig: &mut Rig) -> Result<(), String> {
    let mut packet = Underlay::data(FAR);
    packet.checksum = frames::udp_checksum(&packet.frame());
    run(rig, &packet.frame())?.dropped_for(DropReason::Malformed)
}

fn no_destination(rig: &mut Rig) -> Result<(), String> {
    for (destination, reason) in
        [(VACANT, DropReason::NoEndpoint), (NOWHERE, DropReason::NoRoute), (LOST, DropReason::NoTunnel)]
    {
        run(rig, &Underlay::data(destination).frame())?.dropped_for(reason)?;
    }
    rig.route(frames::FAR_NET, Route { kind: 77, peer: PeerKey::new([0; 6]) })?;
    run(rig, &Underlay::data(FAR).frame())?.dropped_for(DropReason::NoRoute)
}

fn local_first(rig: &mut Rig) -> Result<(), String> {
    rig.route((OWN, 32), Route { kind: ROUTE_PEER, peer: FAR_PEER })?;
    let packet = Underlay::data(OWN);
    run(rig, &packet.frame())?.redirected_as(Counter::Decap, packet.inner.len()).map(drop)
}

fn used_ns(rig: &Rig, peer: PeerKey) -> Result<u64, String> {
    rig.tunnels.get(&Abi(peer), 0).map(|Abi(tunnel)| tunnel.used_ns).map_err(|e| e.to_string())
}

/// Runs `program` on `frame`, which leaves by the tunnel to `peer`: its entry is stamped, and no other.
fn stamps(rig: &mut Rig, program: &str, frame: &[u8], peer: PeerKey, tunnel: Tunnel) -> Result<(), String> {
    rig.run(program, frame)?;
    let stamp = used_ns(rig, peer)?;
    let others = [PEER, FAR_PEER].into_iter().filter(|other| *other != peer);
    let others: Vec<u64> = others.map(|other| used_ns(rig, other)).collect::<Result<_, _>>()?;
    if stamp == 0 || others != [0] {
        return Err(format!("used at {stamp}, the other at {others:?}"));
    }
    // Not again before its time.
    let later = stamp + 3_600_000_000_000;
    rig.tunnels.insert(Abi(peer), Abi(Tunnel { used_ns: later, ..tunnel }), 0).map_err(|e| e.to_string())?;
    rig.run(program, frame)?;
    same("stamp", &used_ns(rig, peer)?, &later)
}

fn used_by_relay(rig: &mut Rig) -> Result<(), String> {
    // What is not sent is no use.
    run(rig, &Underlay { ttl: 1, ..Underlay::data(FAR) }.frame())?.dropped_for(DropReason::TtlExhausted)?;
    run(rig, &Underlay::data_of(FAR, INNER_MTU + 1).frame())?.dropped_for(DropReason::TooBig)?;
    same("stamp", &used_ns(rig, FAR_PEER)?, &0)?;
    stamps(rig, PROG_UNDERLAY, &Underlay::data(FAR).frame(), FAR_PEER, frames::far_tunnel())
}

fn used_by_container(rig: &mut Rig) -> Result<(), String> {
    stamps(rig, PROG_CONTAINER, &from_container(OWN, REMOTE, 60), PEER, frames::tunnel())
}
