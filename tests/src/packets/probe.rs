//! What becomes of probes for this host that arrive on an underlay device.

use weave_common::{
    bucket::Bucket,
    checksum,
    counters::Counter,
    drop::DropReason,
    map::PROG_UNDERLAY,
    probe::{self, Fields, PROOF_LEN, ProbeKeys, cookie},
    tunnel::{Sender, Tunnel},
    vxlan,
};
use weave_ctl::shell::datapath::abi::Abi;

use super::{
    Ran, Rig, Row, Verdict,
    frames::{
        self, ANY_MAC, DATA_PORT, FAR_PEER, HERE_UNDERLAY, HOST_MAC, KEYS, LONG, OVERHEAD, OWN_IF, PEER, PEER_UNDERLAY,
        REQUEST, STRANGER_UNDERLAY, Underlay, probe_bytes,
    },
    same,
};

pub(super) const CASES: &[Row] = &[
    ("probe: a request of a known sender is answered, every byte of it", answered),
    ("probe: nothing is answered before the controller has configured", not_configured),
    ("probe: with IP options, in a VLAN or a fragment it is the stack's", not_plain),
    ("probe: an announcement is answered and goes to the controller", announced),
    ("probe: an announcement is answered when no more go to the controller", announced_too_often),
    ("probe: no answer to ports below 1024", low_port),
    ("probe: no answer above the sender's limit", echo_limit),
    ("probe: no answer to a UDP checksum", checksum_refused),
    ("probe: a request of a stranger goes to the controller", stranger),
    ("probe: 64 contacts at once, and no more", contact_limit),
    ("probe: a full ring of contacts is counted", contacts_full),
    ("probe: an answer with the cookie of this run, or of the one before", genuine),
    ("probe: an answer with another cookie is refused", bad_cookie),
    ("probe: a full ring of answers is counted", replies_full),
    ("probe: challenges and proofs of anybody go to the controller", for_controllers),
    ("probe: a proof that is cut off is malformed", proof_cut_off),
    ("probe: an answer to a port of its own", own_port),
    ("probe: all else from the data port to another passes untouched", own_port_foreign),
    ("probe: cut off, of another kind, or merged it is malformed", malformed),
    ("probe: its origin was heard, unless anybody could have sent it", heard),
    ("probe: any one byte changed gives one verdict and one count", mutated),
];

/// Bytes of the shortest probe's frame that are counted.
const COUNTED: usize = 38;
/// Entries that the rings hold: 8 bytes of header before each, all in multiples of 8.
const REPLIES: u32 = (256 << 10) / 72;
const CONTACTS: u32 = (64 << 10) / 144;

fn run(rig: &Rig, frame: &[u8]) -> Result<Ran, String> {
    rig.run(PROG_UNDERLAY, frame)
}

fn counts(what: &str, counted: &[(Counter, u64)], expected: &[(Counter, usize)]) -> Result<(), String> {
    let expected: Vec<_> = expected.iter().map(|(counter, bytes)| (*counter, *bytes as u64)).collect();
    same(what, counted, &expected[..])
}

/// The frame that answers `packet`, written out.
fn answer(packet: &Underlay, request: &Fields) -> Vec<u8> {
    let size = u16::try_from(packet.frame().len() - 14).unwrap_or(0);
    let answer = Fields {
        receiver: request.origin,
        origin: request.receiver,
        flags: request.flags | 1,
        hops: 0,
        request_hops: request.hops,
        size,
        ..*request
    };
    let mut ip = [0x45, packet.tos, 0, 74, 0, 0, 0x40, 0, 64, 17, 0, 0].to_vec();
    ip.extend([HERE_UNDERLAY.0, packet.source.0].concat());
    let sum = ip.first_chunk().map_or(0, checksum::ipv4_header);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let udp = [DATA_PORT.to_be_bytes(), packet.source_port.to_be_bytes(), [0, 54], [0, 0]].concat();
    let vxlan = [8, 0, 0, 0, 0xff, 0xff, 0xfe, 0];
    [&ANY_MAC[..], &HOST_MAC, &[8, 0], &ip, &udp, &vxlan, &probe_bytes(&answer)].concat()
}

fn answered(rig: &mut Rig) -> Result<(), String> {
    for len in [74, 75, 76, 77, 1500, LONG] {
        for (source_port, tos, ttl) in [(DATA_PORT, 0, 64), (50_000, 0xb8, 1), (1024, 3, 255)] {
            let packet = Underlay { source_port, tos, ttl, ..Underlay::probe_of(&REQUEST, len) };
            let frame = run(rig, &packet.frame())?.redirected_as(Counter::Echo, len + 14 - OVERHEAD)?;
            same("answer", &frame, &answer(&packet, &REQUEST))?;
        }
    }
    // Padded on the wire.
    let packet = Underlay::probe(&REQUEST);
    let padded = [packet.frame(), vec![0; 10]].concat();
    let frame = run(rig, &padded)?.redirected_as(Counter::Echo, COUNTED + 10)?;
    same("answer", &frame, &answer(&packet, &REQUEST))?;
    // Whatever the origin has put in.
    let all_ones =
        Fields { hops: 0xff, request_hops: 0xff, path: 0xffff, size: 0xffff, cookie: !0, clock: !0, ..REQUEST };
    let packet = Underlay::probe(&all_ones);
    let frame = run(rig, &packet.frame())?.redirected_as(Counter::Echo, COUNTED)?;
    same("answer", &frame, &answer(&packet, &all_ones))?;
    same("what went to the controller", &(rig.replies()?.len(), rig.contacts()?.len()), &(0, 0))
}

fn not_configured(rig: &mut Rig) -> Result<(), String> {
    let config = weave_common::config::Config { schema: frames::CONFIG.schema - 1, ..frames::CONFIG };
    rig.config.set(0, Abi(config), 0).map_err(|e| e.to_string())?;
    for frame in [Underlay::probe(&REQUEST).frame(), Underlay::answer(&REQUEST).frame()] {
        run(rig, &frame)?.passed_untouched(&frame)?;
    }
    Ok(())
}

fn not_plain(rig: &mut Rig) -> Result<(), String> {
    let sent = Underlay::probe(&REQUEST).frame();
    let mut options = [&sent[..34], &[1; 4], &sent[34..]].concat();
    options[14] = 0x46;
    options[17] += 4;
    let vlan = [&sent[..12], &[0x81, 0, 0, 7], &sent[12..]].concat();
    let mut fragment = sent.clone();
    fragment[20] = 0x20;
    for frame in [options, vlan, fragment] {
        run(rig, &frame)?.passed_untouched(&frame)?;
    }
    Ok(())
}

fn announced(rig: &mut Rig) -> Result<(), String> {
    let request = Fields { flags: probe::ANNOUNCE, ..REQUEST };
    let packet = Underlay::probe_of(&request, 1200);
    let ran = run(rig, &packet.frame())?;
    counts("counted", &ran.counted, &[(Counter::Echo, 1164), (Counter::Contact, 1164)])?;
    same("verdict", &(ran.verdict, ran.drops.len()), &(Verdict::Redirect, 0))?;
    same("answer", &ran.frame, &answer(&packet, &request))?;
    let contacts = rig.contacts()?;
    let [contact] = &contacts[..] else { return Err(format!("{contacts:?}")) };
    same("probe", &contact.probe[..], &probe_bytes(&request)[..])?;
    same("proof", &contact.proof, &[0; PROOF_LEN])?;
    let arrival = contact.arrival;
    same("from", &(arrival.source, arrival.source_port), &(PEER_UNDERLAY.0, 50_000))?;
    same("length, device", &(arrival.outer_len, arrival.ifindex), &(1200, OWN_IF))
}

/// No more contacts until the end of time.
fn spend_contacts(rig: &mut Rig, tokens: u32) -> Result<(), String> {
    let bucket = Bucket { tokens, pad: 0, filled_ns: u64::MAX };
    rig.limits.set(0, Abi(bucket), 0).map_err(|e| e.to_string())
}

fn announced_too_often(rig: &mut Rig) -> Result<(), String> {
    spend_contacts(rig, 0)?;
    let request = Fields { flags: probe::ANNOUNCE, ..REQUEST };
    let packet = Underlay::probe(&request);
    let ran = run(rig, &packet.frame())?;
    counts("counted", &ran.counted, &[(Counter::Echo, COUNTED)])?;
    same("dropped", &ran.drops, &vec![DropReason::ContactRefused])?;
    same("answer", &ran.frame, &answer(&packet, &request))?;
    same("contacts", &rig.contacts()?.len(), &0)
}

fn low_port(rig: &mut Rig) -> Result<(), String> {
    for source_port in [0, 1, 53, 1023] {
        let packet = Underlay { source_port, ..Underlay::probe(&REQUEST) };
        run(rig, &packet.frame())?.dropped_for(DropReason::LowPort)?;
    }
    Ok(())
}

fn echo_limit(rig: &mut Rig) -> Result<(), String> {
    let frame = Underlay::probe(&REQUEST).frame();
    let put = |rig: &mut Rig, tokens, filled_ns| {
        rig.sender(Sender { echo: Bucket { tokens, pad: 0, filled_ns }, ..Sender::new(PEER) })
    };
    put(rig, 2, u64::MAX)?;
    for _ in 0..2 {
        run(rig, &frame)?.redirected_as(Counter::Echo, COUNTED)?;
    }
    for flags in [0, probe::ANNOUNCE] {
        let packet = Underlay::probe(&Fields { flags, ..REQUEST });
        run(rig, &packet.frame())?.dropped_for(DropReason::EchoLimit)?;
    }
    same("contacts", &rig.contacts()?.len(), &0)?;
    // After a pause there is a whole burst.
    put(rig, 0, 0)?;
    run(rig, &frame)?.redirected_as(Counter::Echo, COUNTED)?;
    let key = Abi(weave_common::tunnel::SenderKey::new(PEER_UNDERLAY));
    let Abi(left) = rig.senders.get(&key, 0).map_err(|e| e.to_string())?;
    same("peer", &left.peer, &PEER)?;
    same("left", &(left.echo.tokens, left.echo.filled_ns != 0), &(999, true))
}

fn checksum_refused(rig: &mut Rig) -> Result<(), String> {
    let mut packet = Underlay::probe(&REQUEST);
    packet.checksum = frames::udp_checksum(&packet.frame());
    run(rig, &packet.frame())?.dropped_for(DropReason::Malformed)
}

fn stranger(rig: &mut Rig) -> Result<(), String> {
    for (flags, source_port, len) in [(0, 50_000, 74), (probe::ANNOUNCE, DATA_PORT, 1200), (0, 7, 142)] {
        let request = Fields { flags, ..REQUEST };
        let packet = Underlay { source_port, ..Underlay::probe_of(&request, len) }.of_stranger();
        let frame = packet.frame();
        let ran = run(rig, &frame)?.sent_as(Verdict::Drop, Counter::Contact, len + 14 - OVERHEAD)?;
        same("frame", &ran, &frame)?;
        let contacts = rig.contacts()?;
        let [contact] = &contacts[..] else { return Err(format!("{contacts:?}")) };
        same("probe", &contact.probe[..], &probe_bytes(&request)[..])?;
        same("proof", &contact.proof, &[0; PROOF_LEN])?;
        let arrival = contact.arrival;
        same("from", &(arrival.source, arrival.source_port), &(STRANGER_UNDERLAY.0, source_port))?;
        same("length", &usize::from(arrival.outer_len), &len)?;
        same("time", &(arrival.at_ns != 0), &true)?;
    }
    Ok(())
}

fn contact_limit(rig: &mut Rig) -> Result<(), String> {
    let frame = Underlay::probe(&REQUEST).of_stranger().frame();
    // A fresh bucket is full; how much it gains meanwhile is a matter of milliseconds.
    run(rig, &frame)?.sent_as(Verdict::Drop, Counter::Contact, COUNTED)?;
    let Abi(left) = rig.limits.get(&0, 0).map_err(|e| e.to_string())?;
    same("left", &left.tokens, &63)?;
    spend_contacts(rig, 63)?;
    for _ in 0..63 {
        run(rig, &frame)?.sent_as(Verdict::Drop, Counter::Contact, COUNTED)?;
    }
    for flags in [0, probe::CHALLENGE, probe::PROOF] {
        let packet = Underlay::probe_of(&Fields { flags, ..REQUEST }, 142).of_stranger();
        run(rig, &packet.frame())?.dropped_for(DropReason::ContactRefused)?;
    }
    same("contacts", &rig.contacts()?.len(), &64)
}

fn contacts_full(rig: &mut Rig) -> Result<(), String> {
    let frame = Underlay::probe(&REQUEST).of_stranger().frame();
    for _ in 0..CONTACTS / 64 {
        spend_contacts(rig, 64)?;
        let ran = rig.repeat(PROG_UNDERLAY, &frame, 64)?;
        counts("counted", &ran.counted, &[(Counter::Contact, COUNTED * 64)])?;
        same("dropped", &ran.drops, &Vec::new())?;
    }
    spend_contacts(rig, 64)?;
    let rest = CONTACTS % 64;
    let ran = rig.repeat(PROG_UNDERLAY, &frame, rest + 5)?;
    counts("counted", &ran.counted, &[(Counter::Contact, COUNTED * rest as usize)])?;
    same("dropped", &ran.drops, &vec![DropReason::ContactRefused; 5])?;
    same("contacts", &rig.contacts()?.len(), &(CONTACTS as usize))?;
    run(rig, &frame)?.sent_as(Verdict::Drop, Counter::Contact, COUNTED).map(drop)
}

/// The peer's answer to a request that this host made with `key`.
pub(super) fn genuine_reply(key: [u64; 2]) -> Fields {
    let cookie = cookie(key, PEER.name, REQUEST.path, REQUEST.clock);
    Fields { flags: probe::REPLY, request_hops: 3, size: 1400, cookie, ..REQUEST }
}

fn genuine(rig: &mut Rig) -> Result<(), String> {
    for key in [KEYS.current, KEYS.former] {
        for (fields, len) in [
            (genuine_reply(key), 74),
            (genuine_reply(key), 200),
            (Fields { flags: probe::REPLY | probe::ANNOUNCE, ..genuine_reply(key) }, 74),
            (Fields { flags: probe::REPLY | probe::CHALLENGE | probe::PROOF, ..genuine_reply(key) }, 74),
        ] {
            // Also from an address that is no peer's: the cookie says enough.
            for packet in [Underlay::probe_of(&fields, len), Underlay::probe_of(&fields, len).of_stranger()] {
                let frame = packet.frame();
                let ran = run(rig, &frame)?.sent_as(Verdict::Drop, Counter::ProbeReply, len + 14 - OVERHEAD)?;
                same("frame", &ran, &frame)?;
                let replies = rig.replies()?;
                let [event] = &replies[..] else { return Err(format!("{replies:?}")) };
                same("probe", &event.probe[..], &probe_bytes(&fields)[..])?;
                let arrival = event.arrival;
                same("from", &(arrival.source, arrival.source_port), &(packet.source.0, 50_000))?;
                same("length", &usize::from(arrival.outer_len), &len)?;
                same("device, time", &(arrival.ifindex, arrival.at_ns != 0), &(OWN_IF, true))?;
            }
        }
    }
    same("contacts", &rig.contacts()?.len(), &0)
}

fn bad_cookie(rig: &mut Rig) -> Result<(), String> {
    let good = genuine_reply(KEYS.current);
    for bad in [
        Fields { cookie: good.cookie ^ 1, ..good },
        Fields { cookie: good.cookie ^ (1 << 63), ..good },
        Fields { cookie: 0, ..good },
        Fields { path: good.path ^ 1, ..good },
        Fields { clock: good.clock ^ 1, ..good },
        // Another peer than the one that was asked.
        Fields { origin: FAR_PEER.name, ..good },
        genuine_reply([0; 2]),
    ] {
        run(rig, &Underlay::probe(&bad).frame())?.dropped_for(DropReason::BadCookie)?;
    }
    // Without keys nothing is genuine, also not what zeros would make.
    rig.keys.set(0, Abi(ProbeKeys::default()), 0).map_err(|e| e.to_string())?;
    for fields in [good, genuine_reply([0; 2])] {
        run(rig, &Underlay::probe(&fields).frame())?.dropped_for(DropReason::BadCookie)?;
    }
    same("answers", &rig.replies()?.len(), &0)
}

fn replies_full(rig: &mut Rig) -> Result<(), String> {
    let frame = Underlay::probe(&genuine_reply(KEYS.current)).frame();
    let ran = rig.repeat(PROG_UNDERLAY, &frame, REPLIES + 7)?;
    counts("counted", &ran.counted, &[(Counter::ProbeReply, COUNTED * REPLIES as usize)])?;
    same("dropped", &ran.drops, &vec![DropReason::RingFull; 7])?;
    same("answers", &rig.replies()?.len(), &(REPLIES as usize))?;
    run(rig, &frame)?.sent_as(Verdict::Drop, Counter::ProbeReply, COUNTED).map(drop)
}

fn for_controllers(rig: &mut Rig) -> Result<(), String> {
    for flags in [probe::CHALLENGE, probe::PROOF, probe::CHALLENGE | probe::ANNOUNCE, probe::PROOF | probe::CHALLENGE] {
        for stranger in [false, true] {
            let fields = Fields { flags, ..REQUEST };
            let mut packet = Underlay { source_port: 80, ..Underlay::probe_of(&fields, 142) };
            packet.source = if stranger { STRANGER_UNDERLAY } else { PEER_UNDERLAY };
            run(rig, &packet.frame())?.sent_as(Verdict::Drop, Counter::Contact, COUNTED + 68)?;
            let contacts = rig.contacts()?;
            let [contact] = &contacts[..] else { return Err(format!("{contacts:?}")) };
            same("probe", &contact.probe[..], &probe_bytes(&fields)[..])?;
            same("from", &contact.arrival.source, &packet.source.0)?;
            let proof = if flags & probe::PROOF == 0 { &[0; PROOF_LEN][..] } else { &packet.inner[COUNTED..] };
            same("proof", &contact.proof[..], proof)?;
        }
    }
    same("answers", &rig.replies()?.len(), &0)
}

fn proof_cut_off(rig: &mut Rig) -> Result<(), String> {
    let fields = Fields { flags: probe::PROOF, ..REQUEST };
    for len in [74, 75, 141] {
        run(rig, &Underlay::probe_of(&fields, len).frame())?.dropped_for(DropReason::Malformed)?;
    }
    same("contacts", &rig.contacts()?.len(), &0)?;
    run(rig, &Underlay::probe_of(&fields, 143).frame())?.sent_as(Verdict::Drop, Counter::Contact, 107).map(drop)
}

fn own_port(rig: &mut Rig) -> Result<(), String> {
    let frame = Underlay::answer(&genuine_reply(KEYS.current)).frame();
    run(rig, &frame)?.sent_as(Verdict::Drop, Counter::ProbeReply, COUNTED)?;
    let replies = rig.replies()?;
    same("from", &replies.iter().map(|event| event.arrival.source_port).collect::<Vec<_>>(), &vec![DATA_PORT])?;
    let bad = Underlay::answer(&Fields { cookie: 7, ..genuine_reply(KEYS.current) });
    run(rig, &bad.frame())?.dropped_for(DropReason::BadCookie)?;
    let challenge = Underlay::answer(&Fields { flags: probe::CHALLENGE, ..REQUEST });
    run(rig, &challenge.frame())?.sent_as(Verdict::Drop, Counter::Contact, COUNTED).map(drop)
}

fn own_port_foreign(rig: &mut Rig) -> Result<(), String> {
    let good = genuine_reply(KEYS.current);
    let whole = Underlay::answer(&good);
    let mut frames = vec![
        Underlay::answer(&REQUEST).frame(),
        Underlay::answer(&Fields { flags: probe::PROOF, ..REQUEST }).frame(),
        Underlay::answer(&Fields { flags: probe::ANNOUNCE, ..REQUEST }).frame(),
        Underlay::answer(&Fields { receiver: FAR_PEER.name, ..good }).frame(),
        Underlay { vxlan: vxlan::header(vxlan::VNI), ..whole.clone() }.frame(),
        Underlay { vxlan: [0; 8], ..whole.clone() }.frame(),
        Underlay { inner: vec![7; 100], ..whole.clone() }.frame(),
        // Another service's.
        Underlay { source_port: DATA_PORT + 1, ..whole.clone() }.frame(),
    ];
    let whole = whole.frame();
    frames.extend((frames::SHORTEST_IPV4..whole.len()).map(|len| whole[..len].to_vec()));
    for frame in frames {
        run(rig, &frame)?.passed_untouched(&frame)?;
    }
    same("what went to the controller", &(rig.replies()?.len(), rig.contacts()?.len()), &(0, 0))
}

fn malformed(rig: &mut Rig) -> Result<(), String> {
    for (at, byte) in [(12, 0x08), (13, 0xb6), (14, 0), (14, 2)] {
        for packet in [Underlay::probe(&REQUEST), Underlay::probe(&REQUEST).of_stranger()] {
            let mut packet = packet;
            packet.inner[at] = byte;
            run(rig, &packet.frame())?.dropped_for(DropReason::Malformed)?;
        }
    }
    for len in 0..COUNTED {
        let mut packet = Underlay::probe(&REQUEST);
        packet.inner.truncate(len);
        run(rig, &packet.frame())?.dropped_for(DropReason::Malformed)?;
    }
    // What a frame is padded with is no part of the packet.
    for flags in [0, probe::REPLY, probe::PROOF] {
        let whole = Underlay::probe_of(&Fields { flags, ..genuine_reply(KEYS.current) }, 142);
        for len in [0, COUNTED - 1, COUNTED + 67] {
            let mut packet = whole.clone();
            packet.inner.truncate(len);
            if len < COUNTED || flags == probe::PROOF {
                let padded = [&packet.frame(), &whole.inner[len..]].concat();
                run(rig, &padded)?.dropped_for(DropReason::Malformed)?;
            }
        }
    }
    let sent = Underlay::probe_of(&REQUEST, LONG).frame();
    rig.run_gso(PROG_UNDERLAY, &sent, 1000)?.dropped_for(DropReason::Malformed)
}

fn heard(rig: &mut Rig) -> Result<(), String> {
    let fresh = |rig: &mut Rig, packet: &Underlay| {
        rig.reset()?;
        run(rig, &packet.frame())?;
        let Tunnel { sent_ns, big_ns, heard_ns, .. } = rig.tunnel_now(PEER)?;
        same("sent", &[sent_ns, big_ns], &[0, 0])?;
        same("of the far peer", &rig.tunnel_now(FAR_PEER)?.heard_ns, &0)?;
        Ok::<_, String>(heard_ns != 0)
    };
    let to_far = Fields { receiver: FAR_PEER.name, ..REQUEST };
    let genuine = Underlay::probe(&genuine_reply(KEYS.current));
    for (what, packet, expected) in [
        ("a request", Underlay::probe(&REQUEST), true),
        ("a request to send on", Underlay::probe(&to_far), true),
        ("an answer", genuine.clone(), true),
        ("an answer from another address", genuine.clone().of_stranger(), false),
        ("a wrong answer", Underlay::probe(&Fields { cookie: 7, ..genuine_reply(KEYS.current) }), false),
        ("a stranger's request", Underlay::probe(&REQUEST).of_stranger(), false),
        ("a stranger's request to send on", Underlay::probe(&to_far).of_stranger(), false),
        ("a challenge", Underlay::probe(&Fields { flags: probe::CHALLENGE, ..REQUEST }), false),
    ] {
        same(what, &fresh(rig, &packet)?, &expected)?;
    }
    Ok(())
}

fn mutated(rig: &mut Rig) -> Result<(), String> {
    let to_far = Fields { receiver: FAR_PEER.name, ..REQUEST };
    for packet in [
        Underlay::probe(&REQUEST),
        Underlay::probe(&genuine_reply(KEYS.current)),
        Underlay::probe(&to_far),
        Underlay::answer(&genuine_reply(KEYS.current)),
    ] {
        let sent = packet.frame();
        for at in 0..sent.len() {
            for flip in [0x01, 0x10, 0x80, 0xff] {
                let mut frame = sent.clone();
                frame[at] ^= flip;
                let ran = run(rig, &frame)?;
                let one = match ran.verdict {
                    // An announcement is counted twice.
                    Verdict::Redirect => ran.drops.is_empty() && (1..=2).contains(&ran.counted.len()),
                    Verdict::Drop => ran.drops.len() + ran.counted.len() == 1,
                    Verdict::Pass => ran.drops.is_empty() && ran.counted.is_empty() && ran.frame == frame,
                    Verdict::Transmit | Verdict::Other(_) => false,
                };
                if !one {
                    return Err(format!("byte {at} ^ {flip:#x}: {ran:02x?}"));
                }
                rig.replies()?;
                rig.contacts()?;
            }
        }
    }
    Ok(())
}
