//! Probes that go on: to another peer, and those that the controller writes.

use weave_common::{
    counters::Counter,
    drop::DropReason,
    map::{PROG_PROBER, PROG_UNDERLAY},
    probe::{self, Fields},
    tunnel::Tunnel,
};

use super::{
    Ran, Rig, Row,
    frames::{
        self, DATA_PORT, FAR_PEER, FAR_PORT, FAR_UNDERLAY, HERE_UNDERLAY, INNER_MTU, LONG, LOST_PEER, OVERHEAD, OWN_IF,
        PEER, REQUEST, Underlay,
    },
    relay::readdressed_to,
    same,
};

pub(super) const CASES: &[Row] = &[
    ("probe: for another peer, on to it, every byte", relayed),
    ("probe: of a stranger it is not sent on", relay_of_stranger),
    ("probe: not sent on back, too far, too large, or nowhere", relay_refused),
    ("prober: what the controller writes is sent as it is", sent),
    ("prober: all else passes untouched", not_marked),
    ("prober: what is no such frame is malformed", sent_malformed),
];

/// Length of a frame with the shortest probe.
const FRAME_LEN: usize = 88;
/// Bytes of it that are counted.
const COUNTED: usize = 38;

fn run(rig: &Rig, frame: &[u8]) -> Result<Ran, String> {
    rig.run(PROG_UNDERLAY, frame)
}

/// What `sent` must be when it leaves for the far peer, one hop further.
fn sent_on(sent: &[u8]) -> Vec<u8> {
    let mut frame = readdressed_to(sent, 63, (HERE_UNDERLAY, FAR_UNDERLAY));
    // The answer must come back by this host, whose data port it is.
    frame[34..36].copy_from_slice(&DATA_PORT.to_be_bytes());
    frame[50 + 16] += 1;
    frame
}

fn relayed(rig: &mut Rig) -> Result<(), String> {
    // Requests, answers, what is for the far controller: a relay does not look.
    for flags in [0, probe::REPLY, probe::CHALLENGE, probe::PROOF, probe::ANNOUNCE, 0xff] {
        for (hops, len) in [(0, 74), (7, 142), (3, INNER_MTU + OVERHEAD)] {
            let packet = Underlay::probe_of(&Fields { receiver: FAR_PEER.name, flags, hops, ..REQUEST }, len);
            let sent = packet.frame();
            let frame = run(rig, &sent)?.redirected_as(Counter::ProbeRelay, len + 14 - OVERHEAD)?;
            same("frame", &frame, &sent_on(&sent))?;
        }
    }
    // Also from ports that are not answered, and by a path from data port to data port.
    rig.tunnel(FAR_PEER, frames::of_one_port(frames::far_tunnel()))?;
    let packet = Underlay { source_port: 7, ..Underlay::probe(&Fields { receiver: FAR_PEER.name, ..REQUEST }) };
    let sent = packet.frame();
    let frame = run(rig, &sent)?.redirected_as(Counter::ProbeRelay, COUNTED)?;
    same("frame", &frame, &sent_on(&sent))?;
    same("port", &frame[36..38], &FAR_PORT.to_be_bytes()[..])?;
    // A probe is no use of a tunnel.
    let Tunnel { sent_ns, big_ns, .. } = rig.tunnel_now(FAR_PEER)?;
    same("stamps", &[sent_ns, big_ns], &[0, 0])?;
    same("what went to the controller", &(rig.replies()?.len(), rig.contacts()?.len()), &(0, 0))
}

fn relay_of_stranger(rig: &mut Rig) -> Result<(), String> {
    for flags in [0, probe::REPLY, probe::CHALLENGE, probe::PROOF] {
        let packet = Underlay::probe(&Fields { receiver: FAR_PEER.name, flags, ..REQUEST }).of_stranger();
        run(rig, &packet.frame())?.dropped_for(DropReason::UnknownSender)?;
    }
    same("contacts", &rig.contacts()?.len(), &0)
}

fn relay_refused(rig: &mut Rig) -> Result<(), String> {
    let to_far = Fields { receiver: FAR_PEER.name, ..REQUEST };
    let refused = |rig: &Rig, packet: &Underlay, reason| run(rig, &packet.frame())?.dropped_for(reason);
    refused(rig, &Underlay::probe(&Fields { receiver: LOST_PEER.name, ..REQUEST }), DropReason::NoTunnel)?;
    refused(rig, &Underlay::probe(&Fields { receiver: PEER.name, ..REQUEST }), DropReason::RelayBack)?;
    for ttl in [0, 1] {
        refused(rig, &Underlay { ttl, ..Underlay::probe(&to_far) }, DropReason::TtlExhausted)?;
    }
    for hops in [8, 9, 255] {
        refused(rig, &Underlay::probe(&Fields { hops, ..to_far }), DropReason::TtlExhausted)?;
    }
    refused(rig, &Underlay::probe_of(&to_far, INNER_MTU + OVERHEAD + 1), DropReason::TooBig)?;
    let mut summed = Underlay::probe(&to_far);
    summed.checksum = frames::udp_checksum(&summed.frame());
    refused(rig, &summed, DropReason::Malformed)?;
    // Back to the peer as the next hop towards another, by whatever address, or to the address that it came from.
    rig.tunnel(FAR_PEER, Tunnel { via: PEER, ..frames::far_tunnel() })?;
    refused(rig, &Underlay::probe(&to_far), DropReason::RelayBack)?;
    rig.tunnel(FAR_PEER, Tunnel { via: FAR_PEER, ..frames::tunnel() })?;
    refused(rig, &Underlay::probe(&to_far), DropReason::RelayBack)
}

/// A frame of the controller: next hop and device in the place of addresses.
fn written(len: usize) -> Vec<u8> {
    let mut frame = Underlay::probe_of(&REQUEST, len).frame();
    frame[..6].copy_from_slice(&[0, 0, 192, 0, 2, 77]);
    frame[6..8].copy_from_slice(&[0, 0]);
    frame[8..12].copy_from_slice(&OWN_IF.to_ne_bytes());
    frame
}

fn sent(rig: &mut Rig) -> Result<(), String> {
    for len in [74, 142, 1500, LONG] {
        let frame = written(len);
        let ran = rig.run_marked(PROG_PROBER, &frame, probe::MARK)?;
        let out = ran.redirected_as(Counter::ProbeSent, len + 14 - OVERHEAD)?;
        same("frame", &out, &frame)?;
    }
    Ok(())
}

fn not_marked(rig: &mut Rig) -> Result<(), String> {
    let frame = written(74);
    for mark in [0, 1, !probe::MARK] {
        for frame in [&frame[..], &frame[..40], &Underlay::data(frames::FAR).frame()] {
            rig.run_marked(PROG_PROBER, frame, mark)?.passed_untouched(frame)?;
        }
    }
    Ok(())
}

fn sent_malformed(rig: &mut Rig) -> Result<(), String> {
    let frame = written(74);
    for len in [frames::SHORTEST_IPV4, FRAME_LEN - 1] {
        rig.run_marked(PROG_PROBER, &frame[..len], probe::MARK)?.dropped_for(DropReason::Malformed)?;
    }
    for ethertype in [[0x86, 0xdd], [0x88, 0xb5], [0x81, 0], [0, 74], [8, 6]] {
        let mut frame = frame.clone();
        frame[12..14].copy_from_slice(&ethertype);
        rig.run_marked(PROG_PROBER, &frame, probe::MARK)?.dropped_for(DropReason::Malformed)?;
    }
    Ok(())
}
