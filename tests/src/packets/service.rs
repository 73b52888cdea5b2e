//! What becomes of packets to and from the service address.

use weave_common::{
    addr::{Ip4, Mac},
    bucket::{Bucket, QUESTIONS},
    checksum,
    config::Config,
    counters::Counter,
    dns::{ADDRS_MAX, NAME_LEN, NameAddrs, NameKey},
    drop::DropReason,
    endpoint::{ENDPOINT_GATEWAY, ENDPOINT_HOST, Endpoint},
    map::{PROG_CONTAINER, PROG_UNDERLAY},
    route::Route,
    wire::{IPPROTO_ICMP, IPPROTO_TCP},
};
use weave_ctl::shell::datapath::abi::Abi;

use super::{
    Ran, Rig, Row, Verdict,
    frames::{self, NEIGHBOUR, NOWHERE, OWN, OWN_IF, OWN_SECOND, REMOTE, SERVICE, Underlay, ipv4},
    same,
};

pub(super) const CASES: &[Row] = &[
    ("service: DNS and echo are let through", let_through),
    ("service: anything else is dropped", other_ports),
    ("service: the endpoint answers containers of this host alone", from_service),
    ("service: peers neither send to it nor from it", from_underlay),
    ("service: what the host forwards from outside does not reach it", from_outside),
    ("service: the host itself, as a gateway too, is answered", from_host),
    ("service: questions for names are answered, every byte of it", answered),
    ("service: as many addresses as a name may have, in changing order", many),
    ("service: names up to the longest are found, in any spelling", names),
    ("service: all other questions are left to the resolver", left),
    ("service: nothing is answered while that is off", off),
    ("service: the resolver gets so many of one container, and others theirs", limited),
    ("service: questions cut off at any length, or changed, break nothing", changed),
];

/// Headers before a message.
pub(super) const HEAD: usize = 42;
/// A question for `web.weave.local`, in a spelling of its own.
pub(super) const WEB: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03WeB\x05weave\x05local\0\0\x01\0\x01";
const OPT: &[u8] = b"\0\0\x29\x10\0\0\0\x80\0\0\0";
/// Messages that are changed at random.
const CHANGED: u32 = 20_000;

fn run(rig: &Rig, frame: &[u8]) -> Result<Ran, String> {
    rig.run(PROG_CONTAINER, frame)
}

/// A datagram of the container from this port to that one.
fn udp(destination: Ip4, from: u16, to: u16, message: &[u8]) -> Vec<u8> {
    let mut frame = frames::from_container(OWN, destination, 28 + message.len());
    let len = u16::try_from(8 + message.len()).unwrap_or(0);
    frame[34..42].copy_from_slice(&[from.to_be_bytes(), to.to_be_bytes(), len.to_be_bytes(), [0xab, 0xcd]].concat());
    frame[HEAD..].copy_from_slice(message);
    frame
}

pub(super) fn question(message: &[u8]) -> Vec<u8> {
    udp(SERVICE, 40_000, 53, message)
}

pub(super) fn name(rig: &mut Rig, name: &str, count: u32) -> Result<(), String> {
    let key = NameKey::of(name).ok_or("no key")?;
    let mut addrs = [[0; 4]; ADDRS_MAX];
    for (n, addr) in (1..=count).zip(&mut addrs) {
        *addr = [10, 40, 0, u8::try_from(n).unwrap_or(0)];
    }
    rig.names.insert(Abi(key), Abi(NameAddrs { count, addrs }), 0).map_err(|e| e.to_string())
}

/// The question went on to the resolver, as it was.
fn passed_on(ran: Ran, sent: &[u8]) -> Result<(), String> {
    let frame = ran.redirected_as(Counter::Local, sent.len())?;
    same("to", &frame[..6], &Mac::of_container(SERVICE.0).0[..])?;
    same("the rest", &frame[12..], &sent[12..])
}

fn let_through(rig: &mut Rig) -> Result<(), String> {
    let mut tcp = udp(SERVICE, 40_000, 53, &[0; 20]);
    tcp[23] = 6;
    let icmp = |kind: u8| {
        let mut packet = ipv4(OWN, SERVICE, IPPROTO_ICMP, 60);
        packet[20] = kind;
        frames::ethernet(Mac::of_container(SERVICE.0).0, frames::ANY_MAC, 0x0800, &packet)
    };
    for sent in [question(b"short"), tcp, icmp(8), icmp(3)] {
        passed_on(run(rig, &sent)?, &sent)?;
    }
    Ok(())
}

fn other_ports(rig: &mut Rig) -> Result<(), String> {
    let mut later = question(WEB);
    later[21] = 8;
    let mut first = question(WEB);
    first[20] = 0x20;
    let mut pong = frames::ethernet([2; 6], frames::ANY_MAC, 0x0800, &ipv4(OWN, SERVICE, IPPROTO_ICMP, 60));
    pong[34] = 0;
    let mut gre = question(WEB);
    gre[23] = 47;
    let cut = frames::from_container(OWN, SERVICE, 22);
    for sent in [udp(SERVICE, 53, 54, WEB), udp(SERVICE, 53, 8080, WEB), later, first, pong, gre, cut] {
        run(rig, &sent)?.dropped_for(DropReason::ServicePort)?;
    }
    Ok(())
}

fn from_service(rig: &mut Rig) -> Result<(), String> {
    // A container that pretends.
    run(rig, &frames::from_container(SERVICE, NEIGHBOUR, 60))?.dropped_for(DropReason::SourceAddress)?;
    let endpoint = Endpoint { ifindex: OWN_IF, ..frames::service() };
    rig.endpoint(SERVICE, endpoint)?;
    let sent = frames::from_container(SERVICE, NEIGHBOUR, 60);
    run(rig, &sent)?.redirected_as(Counter::Local, sent.len())?;
    run(rig, &frames::from_container(SERVICE, REMOTE, 60))?.dropped_for(DropReason::ServicePort)
}

fn from_underlay(rig: &mut Rig) -> Result<(), String> {
    let to = Underlay::data(SERVICE).frame();
    rig.run(PROG_UNDERLAY, &to)?.dropped_for(DropReason::ServiceFromUnderlay)?;
    let mut from = Underlay::data(OWN).frame();
    // Behind 50 bytes of headers and 14 of the inner Ethernet header.
    from[50 + 14 + 12..50 + 14 + 16].copy_from_slice(&SERVICE.0);
    rig.run(PROG_UNDERLAY, &from)?.dropped_for(DropReason::ServiceFromUnderlay)
}

/// The host's own address in the network.
const HOST: Ip4 = Ip4([10, 32, 0, 200]);

/// The host is the endpoint [`HOST`] on the device that frames come by, and forwards to and from outside the network.
fn expose(rig: &mut Rig) -> Result<(), String> {
    let flags = ENDPOINT_HOST | ENDPOINT_GATEWAY;
    rig.endpoint(HOST, Endpoint { flags, ..Endpoint::new(OWN_IF, Mac::of_container(HOST.0)) })?;
    rig.route((Ip4([0; 4]), 0), Route::to_host(HOST.0))
}

/// `sent`, from that address.
fn sent_by(source: Ip4, mut sent: Vec<u8>) -> Vec<u8> {
    let packet = ipv4(source, SERVICE, sent[23], sent.len() - 14);
    sent[14..34].copy_from_slice(&packet[..20]);
    sent
}

fn from_outside(rig: &mut Rig) -> Result<(), String> {
    name(rig, "web.weave.local", 1)?;
    expose(rig)?;
    let mut tcp = udp(SERVICE, 40_000, 53, &[0; 20]);
    tcp[23] = IPPROTO_TCP;
    let mut ping = frames::from_container(OWN, SERVICE, 60);
    (ping[23], ping[34]) = (IPPROTO_ICMP, 8);
    // Nobody checked who sends from there: an answer might go to whoever an attacker names.
    for sent in [question(WEB), question(b"short"), tcp, ping] {
        run(rig, &sent_by(NOWHERE, sent))?.dropped_for(DropReason::SourceAddress)?;
    }
    Ok(())
}

fn from_host(rig: &mut Rig) -> Result<(), String> {
    name(rig, "web.weave.local", 1)?;
    expose(rig)?;
    let sent = sent_by(HOST, question(WEB));
    let frame = run(rig, &sent)?.redirected_as(Counter::DnsAnswer, HEAD + WEB.len() + 16)?;
    same("addresses", &frame[26..34], &[SERVICE.0, HOST.0].concat()[..])?;
    same("answer", &frame[HEAD..], &expected(WEB, &[[10, 40, 0, 1]], false)[..])
}

/// The answer to `question` with these records.
fn expected(question: &[u8], records: &[[u8; 4]], opt: bool) -> Vec<u8> {
    let end = question.len() - if opt { OPT.len() } else { 0 };
    let mut answer = question[..end].to_vec();
    answer[2] = 0x84 | question[2] & 1;
    answer[3] = 0x80 | question[3] & 0x10;
    answer[7] = u8::try_from(records.len()).unwrap_or(0);
    for record in records {
        answer.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\x01\0\x04");
        answer.extend(record);
    }
    if opt {
        answer.extend([0, 0, 0x29, 0x04, 0xd0, 0, 0, question[end + 7], 0, 0, 0]);
    }
    answer
}

/// The message in an answer, whose headers are as they should be.
fn message(sent: &[u8], ran: Ran) -> Result<Vec<u8>, String> {
    let len = ran.frame.len();
    let frame = ran.redirected_as(Counter::DnsAnswer, len)?;
    same("MACs", &frame[..12], &[&sent[6..12], &sent[..6]].concat()[..])?;
    same("addresses", &frame[26..34], &[SERVICE.0, OWN.0].concat()[..])?;
    same("ports", &frame[34..38], &[&sent[36..38], &sent[34..36]].concat()[..])?;
    let words = |at: usize| usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
    same("lengths", &[words(16), words(38)], &[len - 14, len - 34])?;
    let mut header: [u8; 20] = frame[14..34].try_into().map_err(|_long| "no header")?;
    header[10..12].fill(0);
    same("checksum", &words(24), &usize::from(checksum::ipv4_header(&header)))?;
    Ok(frame[HEAD..].to_vec())
}

fn answered(rig: &mut Rig) -> Result<(), String> {
    name(rig, "web.weave.local", 1)?;
    let mut with_opt = [WEB, OPT].concat();
    with_opt[11] = 1;
    let mut without_do = with_opt.clone();
    without_do[WEB.len() + 7] = 0;
    let mut checked = WEB.to_vec();
    // AD and CD; no recursion.
    (checked[2], checked[3]) = (0, 0x30);
    for (asked, opt) in [(WEB.to_vec(), false), (with_opt, true), (without_do, true), (checked, false)] {
        let sent = question(&asked);
        let got = message(&sent, run(rig, &sent)?)?;
        same("answer", &got[..], &expected(&asked, &[[10, 40, 0, 1]], opt)[..])?;
    }
    // What a frame is padded with is no part of the question.
    let mut padded = question(WEB);
    padded.extend([0; 9]);
    let got = message(&padded, run(rig, &padded)?)?;
    same("answer", &got[..], &expected(WEB, &[[10, 40, 0, 1]], false)[..])
}

fn many(rig: &mut Rig) -> Result<(), String> {
    let count = ADDRS_MAX as u32;
    name(rig, "web.weave.local", count)?;
    let all: Vec<[u8; 4]> = (1..=count).map(|n| [10, 40, 0, u8::try_from(n).unwrap_or(0)]).collect();
    let sent = question(WEB);
    let mut firsts = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let got = message(&sent, run(rig, &sent)?)?;
        let first = usize::from(got.get(WEB.len() + 15).copied().unwrap_or(0)).saturating_sub(1);
        let rotated = [&all[first..], &all[..first]].concat();
        same("answer", &got[..], &expected(WEB, &rotated, false)[..])?;
        firsts.insert(first);
    }
    if firsts.len() > ADDRS_MAX / 2 { Ok(()) } else { Err(format!("always in the order of {firsts:?}")) }
}

fn names(rig: &mut Rig) -> Result<(), String> {
    let longest = format!("{}.{}", "A".repeat(30), "b".repeat(31));
    for spelt in ["a", "x_y.b-c.weave.local", &longest] {
        name(rig, &spelt.to_ascii_lowercase(), 2)?;
        let labels =
            spelt.split('.').flat_map(|label| [&[u8::try_from(label.len()).unwrap_or(0)], label.as_bytes()].concat());
        let asked: Vec<u8> = WEB[..12].iter().copied().chain(labels).chain([0, 0, 1, 0, 1]).collect();
        let sent = question(&asked);
        let got = message(&sent, run(rig, &sent)?)?;
        same("question", &got[12..asked.len()], &asked[12..])?;
        same("length", &got.len(), &(asked.len() + 32))?;
    }
    Ok(())
}

fn left(rig: &mut Rig) -> Result<(), String> {
    name(rig, "web.weave.local", 1)?;
    let change = |at: usize, to: u8| {
        let mut message = WEB.to_vec();
        message[at] = to;
        message
    };
    let opt = |opt: &[u8]| {
        let mut message = [WEB, opt].concat();
        message[11] = 1;
        message
    };
    let too_long = [&WEB[..12], &[[63; 1].to_vec(), vec![b'a'; 63]].concat(), &[0, 0, 1, 0, 1]].concat();
    let messages = [
        change(30, 28),                                 // AAAA
        change(30, 255),                                // ANY
        change(32, 3),                                  // class CH
        change(2, 0x81),                                // an answer
        change(2, 0x20),                                // opcode 4
        change(2, 0x02),                                // cut
        change(5, 2),                                   // two questions
        change(7, 1),                                   // an answer in it
        change(13, b'x'),                               // not in the map
        opt(b"\0\0\x29\x10\0\0\x01\0\0\0\0"),           // EDNS version 1
        opt(b"\0\0\x29\x10\0\0\0\0\0\0\x04\0\x0a\0\0"), // an option
        opt(b"\0\0\x29\x10\0\0\0\0\0\0\0\0"),           // something behind EDNS
        [&WEB[..12], b"\xc0\x0c\0\x01\0\x01"].concat(), // a compressed name
        WEB[..20].to_vec(),
        [WEB, b"\0"].concat(),
        too_long,
        vec![0; NAME_LEN * 3],
    ];
    for message in messages {
        let sent = question(&message);
        passed_on(run(rig, &sent)?, &sent).map_err(|e| format!("{message:02x?}: {e}"))?;
    }
    // IP options.
    let mut options = question(WEB);
    options[14] = 0x46;
    options.splice(34..34, [1, 1, 1, 1]);
    let total = u16::try_from(options.len() - 14).unwrap_or(0);
    options[16..18].copy_from_slice(&total.to_be_bytes());
    passed_on(run(rig, &options)?, &options)?;
    // A name of which the entry makes no sense.
    name(rig, "web.weave.local", 0)?;
    passed_on(run(rig, &question(WEB))?, &question(WEB))
}

fn off(rig: &mut Rig) -> Result<(), String> {
    name(rig, "web.weave.local", 1)?;
    rig.config.set(0, Abi(Config { dns: 0, ..frames::CONFIG }), 0).map_err(|e| e.to_string())?;
    let sent = question(WEB);
    passed_on(run(rig, &sent)?, &sent)
}

/// The container has asked the resolver nothing yet.
pub(super) fn refill(rig: &mut Rig) -> Result<(), String> {
    let (addr, own) = frames::endpoints()[0];
    rig.endpoint(addr, own)
}

fn limited(rig: &mut Rig) -> Result<(), String> {
    name(rig, "web.weave.local", 1)?;
    let sent = question(b"other");
    let (addr, own) = frames::endpoints()[0];
    // Filled far from now, whenever that is.
    let questions = Bucket { tokens: 3, filled_ns: u64::MAX, ..Bucket::FULL };
    rig.endpoint(addr, Endpoint { questions, ..own })?;
    for _ in 0..3 {
        passed_on(run(rig, &sent)?, &sent)?;
    }
    run(rig, &sent)?.dropped_for(DropReason::QuestionLimit)?;
    // Its second address has a bound of its own, and what the kernel answers has none.
    run(rig, &sent_by(OWN_SECOND, sent.clone()))?.redirected_as(Counter::Local, sent.len())?;
    let known = question(WEB);
    run(rig, &known)?.redirected_as(Counter::DnsAnswer, HEAD + WEB.len() + 16)?;
    refill(rig)?;
    passed_on(run(rig, &sent)?, &sent)
}

fn changed(rig: &mut Rig) -> Result<(), String> {
    name(rig, "web.weave.local", 3)?;
    let sent = question(WEB);
    for len in HEAD..sent.len() {
        let ran = run(rig, &sent[..len])?;
        // Its IP header says more than there is.
        ran.dropped_for(DropReason::Malformed)?;
    }
    // A linear congruential generator: the same messages in each run.
    let mut seed = 1_u32;
    let mut random = move |below: usize| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as usize % below
    };
    let mut opt = [WEB, OPT].concat();
    opt[11] = 1;
    for n in 0..CHANGED {
        if n % QUESTIONS.burst == 0 {
            refill(rig)?;
        }
        let mut message = if random(2) == 0 { WEB.to_vec() } else { opt.clone() };
        for _ in 0..=random(3) {
            let at = random(message.len());
            message[at] = u8::try_from(random(256)).unwrap_or(0);
        }
        message.truncate(message.len() - random(4) * random(8));
        let sent = question(&message);
        let ran = run(rig, &sent)?;
        let answered = ran.counted.iter().any(|(counter, _)| *counter == Counter::DnsAnswer);
        let fits = ran.verdict == Verdict::Redirect && ran.drops.is_empty();
        if !fits || (answered && ran.frame.len() > sent.len() + 48) {
            return Err(format!("{message:02x?}: {ran:02x?}"));
        }
        if answered {
            same("question", &ran.frame[HEAD + 12..HEAD + WEB.len()], &message[12..WEB.len()])?;
            same("id", &ran.frame[HEAD..HEAD + 2], &message[..2])?;
        } else {
            passed_on(ran, &sent)?;
        }
    }
    Ok(())
}
