//! Nanoseconds that the programs need for packets of all kinds.

use weave_common::{
    counters::Counter,
    drop::DropReason,
    map::{PROG_CONTAINER, PROG_SOCKET, PROG_UNDERLAY},
    probe::{Fields, REPLY},
    tunnel::Sender,
};

use super::{
    Ran, Rig, Verdict,
    frames::{self, FAR, NEIGHBOUR, OWN, REMOTE, REQUEST, Underlay, arp, from_container},
    probe::genuine_reply,
    service::{self, WEB},
};

/// One kind of packet.
pub struct Cost {
    /// Program and packet.
    pub title: &'static str,
    /// Its name in JSON.
    pub key: &'static str,
    /// Of each run.
    pub nanoseconds: Vec<f64>,
}

/// What must become of a packet for its figure to count.
type Expected = fn(Ran) -> Result<(), String>;

fn kinds() -> Vec<(&'static str, &'static str, &'static str, Vec<u8>, Expected)> {
    const SMALL: usize = 92;
    let (mut large, mut cut) = (from_container(OWN, REMOTE, 1500), from_container(OWN, REMOTE, 1500));
    (large[20], cut[20]) = (0x40, 0);
    let mut foreign = Underlay::data(OWN).frame();
    foreign[37] ^= 0x80;
    let stranger = Underlay::data(OWN).of_stranger();
    let large_probe = Underlay::probe_of(&REQUEST, 1500);
    let passing = Underlay::probe(&Fields { receiver: frames::FAR_PEER.name, ..REQUEST });
    let reply = Underlay::probe(&genuine_reply(frames::KEYS.current));
    let wrong = Underlay::probe(&Fields { flags: REPLY, ..REQUEST });
    vec![
        ("container: to a peer", "container_encap_ns", PROG_CONTAINER, from_container(OWN, REMOTE, SMALL), |ran| {
            ran.redirected_as(Counter::Encap, SMALL + 14).map(drop)
        }),
        (
            "container: to a neighbour",
            "container_local_ns",
            PROG_CONTAINER,
            from_container(OWN, NEIGHBOUR, SMALL),
            |ran| ran.redirected_as(Counter::Local, SMALL + 14).map(drop),
        ),
        ("container: ARP", "container_arp_ns", PROG_CONTAINER, arp(1, OWN, NEIGHBOUR), |ran| {
            ran.redirected_as(Counter::ArpReply, 42).map(drop)
        }),
        ("container: too big, DF clear", "container_slow_path_ns", PROG_CONTAINER, cut, |ran| {
            ran.redirected_as(Counter::SlowPath, 1514).map(drop)
        }),
        (
            "underlay: to a container",
            "underlay_decap_ns",
            PROG_UNDERLAY,
            Underlay::data_of(OWN, SMALL).frame(),
            |ran| ran.redirected_as(Counter::Decap, SMALL + 14).map(drop),
        ),
        ("underlay: on to a peer", "underlay_relay_ns", PROG_UNDERLAY, Underlay::data_of(FAR, SMALL).frame(), |ran| {
            ran.redirected_as(Counter::Relay, SMALL + 14).map(drop)
        }),
        ("underlay: of a stranger", "underlay_stranger_ns", PROG_UNDERLAY, stranger.frame(), |ran| {
            ran.dropped_for(DropReason::UnknownSender)
        }),
        ("underlay: not ours", "underlay_foreign_ns", PROG_UNDERLAY, foreign, |ran| {
            if ran.verdict == Verdict::Pass { Ok(()) } else { Err(format!("{ran:02x?}")) }
        }),
        ("socket device: refused", "socket_refused_ns", PROG_SOCKET, from_container(REMOTE, OWN, SMALL), |ran| {
            ran.dropped_for(DropReason::NotOnUnderlay)
        }),
        ("underlay: a probe, answered", "underlay_echo_ns", PROG_UNDERLAY, Underlay::probe(&REQUEST).frame(), |ran| {
            ran.redirected_as(Counter::Echo, 38).map(drop)
        }),
        ("underlay: a large probe, answered", "underlay_echo_large_ns", PROG_UNDERLAY, large_probe.frame(), |ran| {
            ran.redirected_as(Counter::Echo, 1464).map(drop)
        }),
        ("underlay: a probe, on to a peer", "underlay_probe_relay_ns", PROG_UNDERLAY, passing.frame(), |ran| {
            ran.redirected_as(Counter::ProbeRelay, 38).map(drop)
        }),
        ("underlay: the answer to a probe", "underlay_probe_reply_ns", PROG_UNDERLAY, reply.frame(), |ran| {
            ran.sent_as(Verdict::Drop, Counter::ProbeReply, 38).map(drop)
        }),
        ("underlay: a wrong answer to a probe", "underlay_bad_cookie_ns", PROG_UNDERLAY, wrong.frame(), |ran| {
            ran.dropped_for(DropReason::BadCookie)
        }),
        ("container: a question, answered", "container_dns_ns", PROG_CONTAINER, service::question(WEB), |ran| {
            ran.redirected_as(Counter::DnsAnswer, service::HEAD + WEB.len() + 16).map(drop)
        }),
        ("container: too big, DF set", "container_icmp_ns", PROG_CONTAINER, large, |ran| {
            ran.redirected_as(Counter::IcmpTooBig, 122).map(drop)
        }),
    ]
}

/// Runs the programs of `object` on each kind of packet, `runs` times.
///
/// # Errors
/// When they cannot be loaded, or do something else with a packet than they should.
pub fn measure(object: &[u8], runs: usize) -> Result<Vec<Cost>, String> {
    let mut rig = Rig::load(object)?;
    let mut costs = Vec::new();
    for (title, key, program, frame, expected) in kinds() {
        rig.reset()?;
        service::name(&mut rig, "web.weave.local", 1)?;
        expected(rig.run(program, &frame)?).map_err(|e| format!("{title}: {e}"))?;
        let mut nanoseconds = Vec::with_capacity(runs);
        while nanoseconds.len() < runs {
            // Else one ICMP message a millisecond is sent, and 10,000 probes a second are answered, or the ring is full.
            match key {
                "container_icmp_ns" => {
                    frames::endpoints().into_iter().try_for_each(|(addr, endpoint)| rig.endpoint(addr, endpoint))?;
                }
                "underlay_echo_ns" | "underlay_echo_large_ns" => rig.sender(Sender::new(frames::PEER))?,
                "underlay_probe_reply_ns" => drop(rig.replies()?),
                _ => {}
            }
            nanoseconds.push(rig.time(program, &frame)?);
        }
        costs.push(Cost { title, key, nanoseconds });
    }
    Ok(costs)
}
