//! What becomes of frames that arrive on an underlay device and are for a container of another peer.

use super::{
    Ran, Rig, Row,
    frames::{
        self, DATA_PORT, FAR, FAR_PEER, FAR_PORT, FAR_UNDERLAY, HERE_UNDERLAY, INNER_MTU, LOST, LOST_PEER, ME, NOWHERE,
        OWN, PEER, REMOTE, Underlay, VACANT, from_container, of_one_port,
    },
    same,
};
use weave_common::{
    addr::{Ip4, PeerKey},
    checksum,
    counters::Counter,
    drop::DropReason,
    map::{PROG_CONTAINER, PROG_UNDERLAY},
    route::Route,
    tunnel::Tunnel,
};

pub(super) const CASES: &[Row] = &[
    ("relay: on to the next peer, every byte of it", relayed),
    ("relay: by the receiver's name, wherever its container is", by_name),
    ("relay: what came for this peer, of which the range has moved, gets the owner's name", renamed),
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
    ("relay: a tunnel that carried a packet says so, and how large", used_by_relay),
    ("relay: the origin was heard", heard),
    ("container: a tunnel that carried a packet says so, and how large", used_by_container),
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

fn by_name(rig: &mut Rig) -> Result<(), String> {
    // Also to addresses that other peers, this host, or nobody has: the receiver knows better.
    for destination in [FAR, REMOTE, LOST, VACANT, NOWHERE] {
        let packet = Underlay::data(destination).named(FAR_PEER.name);
        let sent = packet.frame();
        let frame = run(rig, &sent)?.redirected_as(Counter::Relay, packet.inner.len())?;
        same("frame", &frame, &readdressed(&sent, 63))?;
        // And the other way round.
        run(rig, &Underlay::data(destination).named(LOST_PEER.name).frame())?.dropped_for(DropReason::NoTunnel)?;
        run(rig, &Underlay::data(destination).named(PEER.name).frame())?.dropped_for(DropReason::RelayBack)?;
    }
    Ok(())
}

fn renamed(rig: &mut Rig) -> Result<(), String> {
    let packet = Underlay::data(FAR).named(ME);
    let sent = packet.frame();
    let frame = run(rig, &sent)?.redirected_as(Counter::Relay, packet.inner.len())?;
    let mut expected = readdressed(&sent, 63);
    expected[50..56].copy_from_slice(&FAR_PEER.name);
    same("frame", &frame, &expected)?;
    // The bounds are those of any other.
    run(rig, &Underlay { ttl: 1, ..packet }.frame())?.dropped_for(DropReason::TtlExhausted)?;
    run(rig, &Underlay::data(REMOTE).named(ME).frame())?.dropped_for(DropReason::RelayBack)?;
    let large = Underlay::data_of(FAR, INNER_MTU + 1).named(ME);
    run(rig, &large.frame())?.dropped_for(DropReason::TooBig)
}

fn from_one_port(rig: &mut Rig) -> Result<(), String> {
    put(rig, of_one_port(frames::far_tunnel()))?;
    let packet = Underlay::data(FAR);
    let sent = packet.frame();
    let frame = run(rig, &sent)?.redirected_as(Counter::Relay, packet.inner.len())?;
    let mut expected = readdressed(&sent, 63);
    expected[34..36].copy_from_slice(&DATA_PORT.to_be_bytes());
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
    let packet = Underlay::data(FAR).of_stranger();
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
    rig.tunnel(FAR_PEER, tunnel)
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
        run(rig, &Underlay::data(destination).named(ME).frame())?.dropped_for(reason)?;
    }
    run(rig, &Underlay::data(LOST).frame())?.dropped_for(DropReason::NoTunnel)?;
    rig.route(frames::FAR_NET, Route { kind: 77, ..Route::LOCAL })?;
    run(rig, &Underlay::data(FAR).named(ME).frame())?.dropped_for(DropReason::NoRoute)
}

fn local_first(rig: &mut Rig) -> Result<(), String> {
    rig.route((OWN, 32), Route::to_peer(FAR_PEER))?;
    let packet = Underlay::data(OWN);
    run(rig, &packet.frame())?.redirected_as(Counter::Decap, packet.inner.len()).map(drop)
}

/// When the tunnel was last used: by any packet, by a large one.
fn used(rig: &Rig, peer: PeerKey) -> Result<[u64; 2], String> {
    rig.tunnel_now(peer).map(|tunnel| [tunnel.sent_ns, tunnel.big_ns])
}

/// Runs `program` on frames whose outer packet has 1,200 bytes, and one more, which leave by the tunnel to `peer`: its entry
/// is stamped, and no other.
fn stamps(
    rig: &mut Rig,
    program: &str,
    [small, big]: [Vec<u8>; 2],
    (peer, tunnel): (PeerKey, Tunnel),
) -> Result<(), String> {
    let other = if peer == PEER { FAR_PEER } else { PEER };
    same("the stamps", &[used(rig, peer)?, used(rig, other)?], &[[0, 0], [0, 0]])?;
    rig.run(program, &small)?;
    let [sent, large] = used(rig, peer)?;
    same("after a small one", &(sent != 0, large), &(true, 0))?;
    rig.run(program, &big)?;
    let [sent, large] = used(rig, peer)?;
    same("after a large one", &(sent != 0, large >= sent), &(true, true))?;
    same("the other", &used(rig, other)?, &[0, 0])?;
    // Not again before its time.
    let later = large + 3_600_000_000_000;
    rig.tunnel(peer, Tunnel { sent_ns: later, big_ns: later, ..tunnel })?;
    rig.run(program, &big)?;
    same("the stamps", &used(rig, peer)?, &[later, later])
}

fn used_by_relay(rig: &mut Rig) -> Result<(), String> {
    // What is not sent is no use.
    run(rig, &Underlay { ttl: 1, ..Underlay::data(FAR) }.frame())?.dropped_for(DropReason::TtlExhausted)?;
    run(rig, &Underlay::data_of(FAR, INNER_MTU + 1).frame())?.dropped_for(DropReason::TooBig)?;
    let frames = [1150, 1151].map(|len| Underlay::data_of(FAR, len).frame());
    stamps(rig, PROG_UNDERLAY, frames, (FAR_PEER, frames::far_tunnel()))?;
    // A super-packet is as large as its segments: 20 and 8 bytes of headers.
    rig.reset()?;
    let packet = Underlay::data_of(FAR, 3000).frame();
    rig.run_gso(PROG_UNDERLAY, &packet, 1150 - 28)?;
    let [sent, large] = used(rig, FAR_PEER)?;
    same("after small segments", &(sent != 0, large), &(true, 0))?;
    rig.run_gso(PROG_UNDERLAY, &packet, 1151 - 28)?;
    same("after large ones", &(used(rig, FAR_PEER)?[1] != 0), &true)
}

fn heard(rig: &mut Rig) -> Result<(), String> {
    run(rig, &Underlay::data(FAR).of_stranger().frame())?.dropped_for(DropReason::UnknownSender)?;
    same("of a stranger", &rig.tunnel_now(PEER)?.heard_ns, &0)?;
    run(rig, &Underlay::data(FAR).frame())?;
    same("of the peer", &(rig.tunnel_now(PEER)?.heard_ns != 0), &true)?;
    same("of the receiver", &rig.tunnel_now(FAR_PEER)?.heard_ns, &0)
}

fn used_by_container(rig: &mut Rig) -> Result<(), String> {
    let frames = [1150, 1151].map(|len| from_container(OWN, REMOTE, len));
    stamps(rig, PROG_CONTAINER, frames, (PEER, frames::tunnel()))
}
