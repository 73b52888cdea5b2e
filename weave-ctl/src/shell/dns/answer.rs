//! Decides about one question: answered from the table of names, forwarded, refused, or dropped.
//!
//! Pure. What it answers about names of the domain has, but for the order of addresses, the bytes that the program on a
//! container's interface answers (`weave-ebpf/src/dns.rs`). RFC 1035, 2308 (negative answers), 6891 (EDNS), 8020 (names above
//! names).
//! A message that is itself an answer is dropped, so no two servers answer each other. An answer over UDP has at most
//! [`UDP_MAX`] bytes, and an error is no longer than the question and [`OPT_LEN`] bytes.

use std::net::Ipv4Addr;

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, PTR, SOA},
    },
};
use ipnet::Ipv4Net;

/// Longest answer in bytes over UDP without EDNS (RFC 1035, section 4.2.1).
const PLAIN_MAX: usize = 512;
/// Longest answer in bytes over UDP, and what is said in EDNS to fit (DNS flag day 2020).
pub(super) const UDP_MAX: u16 = 1232;
/// Longest message in bytes over TCP.
const TCP_MAX: usize = u16::MAX as usize;
/// Bytes of a header.
pub(super) const HEADER_LEN: usize = 12;
/// Bytes of an OPT record without options.
pub(super) const OPT_LEN: usize = 11;
/// Bytes of an answer with an address: the name as a pointer, type, class, TTL, length, address.
const A_LEN: usize = 16;
/// Seconds for which negative answers may be kept.
const NEGATIVE_TTL: u32 = 1;
/// Seconds in SOA records between looks of secondary servers, of which there are none.
const SOA_TIMES: [i32; 3] = [60, 60, 3600];
/// Names that an address is said to have, at most.
pub(super) const PTR_MAX: usize = 32;

/// What is known of names.
pub(super) trait Known {
    /// Addresses of a name; none of one that only has names below it; `None` where there is no such name.
    fn addresses(&self, name: &str) -> Option<Vec<Ipv4Addr>>;
    /// The first [`PTR_MAX`] names of an address, in order.
    fn names(&self, addr: Ipv4Addr) -> Vec<String>;
}

/// What is answered here.
#[derive(Clone, Debug)]
pub(super) struct Zone {
    /// The domain, lower case and without a dot at the end.
    pub(super) domain: String,
    /// Seconds for which positive answers may be kept.
    pub(super) ttl: u32,
    /// Addresses in it have no names but those known here.
    pub(super) range: Ipv4Net,
}

/// How a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Transport {
    /// In one datagram.
    Udp,
    /// On a connection.
    Tcp,
}

/// What becomes of a question.
#[derive(Debug)]
pub(super) enum Verdict {
    /// This is sent back.
    Answer(Vec<u8>),
    /// Others are asked; this is the question.
    Forward(Box<Message>),
    /// Nothing is sent.
    Drop,
}

/// Decides about `bytes`. `rotate` is random: the order of addresses begins there.
pub(super) fn decide(bytes: &[u8], transport: Transport, zone: &Zone, known: &impl Known, rotate: usize) -> Verdict {
    let Some(header) = bytes.first_chunk::<HEADER_LEN>() else { return Verdict::Drop };
    if header[2] & 0x80 != 0 {
        return Verdict::Drop;
    }
    let Ok(question) = Message::from_vec(bytes) else { return Verdict::Answer(malformed(header)) };
    let refused = |code| Verdict::Answer(encode(&reply(&question, code)).unwrap_or_else(|| malformed(header)));
    if question.metadata.op_code != OpCode::Query {
        return refused(ResponseCode::NotImp);
    }
    let [query] = &question.queries[..] else { return refused(ResponseCode::FormErr) };
    if question.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
        return refused(ResponseCode::BADVERS);
    }
    if query.query_class() != DNSClass::IN {
        return refused(ResponseCode::Refused);
    }
    match about(query, zone, known) {
        Some(about) => {
            let answer = answered(&question, about, transport, zone, rotate);
            Verdict::Answer(encode(&answer).unwrap_or_else(|| malformed(header)))
        }
        None if question.metadata.recursion_desired => Verdict::Forward(Box::new(question)),
        None => refused(ResponseCode::Refused),
    }
}

/// A refusal of `question` for reasons found later.
pub(super) fn refusal(question: &Message, code: ResponseCode) -> Option<Vec<u8>> {
    let mut answer = reply(question, code);
    answer.metadata.authoritative = false;
    encode(&answer)
}

/// What is said of a name of this network.
enum About {
    /// It has these addresses.
    Addresses(Vec<Ipv4Addr>),
    /// It has these records.
    Records(Vec<RData>),
    /// It is there, and has no such record; the zone that it is in.
    Empty(Name),
    /// It is not there.
    Unknown(Name),
}

/// What is said of the name that is asked for; `None` when others know.
fn about(query: &Query, zone: &Zone, known: &impl Known) -> Option<About> {
    let text = query.name().to_lowercase().to_ascii();
    let text = text.strip_suffix('.').unwrap_or(&text);
    let asked = |kind| query.query_type() == kind || query.query_type() == RecordType::ANY;
    if text == zone.domain || text.strip_suffix(&zone.domain).is_some_and(|rest| rest.ends_with('.')) {
        let apex = Name::from_ascii(&zone.domain).ok()?;
        return Some(match known.addresses(text) {
            Some(addrs) if !addrs.is_empty() && asked(RecordType::A) => About::Addresses(addrs),
            _ if text == zone.domain && asked(RecordType::SOA) => About::Records(vec![soa(&apex)]),
            None if text != zone.domain => About::Unknown(apex),
            _ => About::Empty(apex),
        });
    }
    let (net, below) = reversed(text)?;
    let names = if net.prefix_len() == 32 { known.names(net.addr()) } else { Vec::new() };
    if names.is_empty() && !zone.range.contains(&net) {
        return None;
    }
    let apex = reverse_zone(zone.range, net)?;
    Some(if below || net.prefix_len() == 32 && names.is_empty() {
        About::Unknown(apex)
    } else if !names.is_empty() && asked(RecordType::PTR) {
        let names = names.iter().filter_map(|name| Name::from_ascii(format!("{name}.")).ok());
        About::Records(names.map(|name| RData::PTR(PTR(name))).collect())
    } else {
        About::Empty(apex)
    })
}

/// The address, or the net of whole octets, whose reverse name (RFC 1035, section 3.5) `name` is; with true, the smallest
/// such net whose reverse name `name` is below.
fn reversed(name: &str) -> Option<(Ipv4Net, bool)> {
    let canonical =
        |label: &str| (label == "0" || !label.starts_with('0')) && label.bytes().all(|b| b.is_ascii_digit());
    let (mut bytes, mut count, mut below) = ([0; 4], 0, false);
    for label in name.strip_suffix(".in-addr.arpa")?.rsplit('.') {
        let octet = label.parse().ok().filter(|_| canonical(label));
        let (Some(octet), Some(byte)) = (octet, bytes.get_mut(usize::from(count))) else {
            // A number that is no octet belongs to no address.
            if octet.is_none() && label.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            below = true;
            break;
        };
        *byte = octet;
        count += 1;
    }
    Some((Ipv4Net::new(bytes.into(), count * 8).ok()?, below))
}

/// The reverse zone that `net` is in: the largest one with nothing but addresses of `range`, or that of the address.
fn reverse_zone(range: Ipv4Net, net: Ipv4Net) -> Option<Name> {
    let prefix = if range.contains(&net) { range.prefix_len() } else { net.prefix_len() };
    let octets = net.addr().octets();
    let labels = octets[..usize::from(prefix.div_ceil(8))].iter().rev().map(|octet| format!("{octet}."));
    Name::from_ascii(labels.collect::<String>() + "in-addr.arpa.").ok()
}

fn soa(zone: &Name) -> RData {
    let [refresh, retry, expire] = SOA_TIMES;
    let contact =
        Name::from_ascii("hostmaster").and_then(|name| name.append_domain(zone)).unwrap_or_else(|_| zone.clone());
    RData::SOA(SOA::new(zone.clone(), contact, 1, refresh, retry, expire, NEGATIVE_TTL))
}

/// An answer to `question` without records.
fn reply(question: &Message, code: ResponseCode) -> Message {
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.message_type = MessageType::Response;
    answer.metadata.authoritative = true;
    answer.metadata.recursion_desired = question.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.metadata.checking_disabled = question.metadata.checking_disabled;
    answer.metadata.response_code = code;
    answer.queries.clone_from(&question.queries);
    answer.edns = own_edns(question, code);
    answer
}

/// OPT record of this server, for a message about `question`: each hop says its own (RFC 6891, section 6.2.1).
pub(super) fn own_edns(question: &Message, code: ResponseCode) -> Option<Edns> {
    let asked = question.edns.as_ref()?;
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_MAX).set_dnssec_ok(asked.flags().dnssec_ok).set_rcode_high(code.high());
    Some(edns)
}

fn answered(question: &Message, about: About, transport: Transport, zone: &Zone, rotate: usize) -> Message {
    let code = if matches!(about, About::Unknown(_)) { ResponseCode::NXDomain } else { ResponseCode::NoError };
    let mut answer = reply(question, code);
    let Some(name) = question.queries.first().map(|query| query.name().clone()) else { return answer };
    match about {
        About::Addresses(mut addrs) => {
            if !addrs.is_empty() {
                let start = rotate % addrs.len();
                addrs.rotate_left(start);
            }
            let room = limit(question, transport).saturating_sub(taken(question)) / A_LEN;
            answer.metadata.truncation = addrs.len() > room;
            let records = addrs.into_iter().take(room).map(|addr| RData::A(A(addr)));
            answer.answers.extend(records.map(|data| Record::from_rdata(name.clone(), zone.ttl, data)));
        }
        About::Records(records) => {
            answer.answers.extend(records.into_iter().map(|data| Record::from_rdata(name.clone(), zone.ttl, data)));
            while encode(&answer).is_none_or(|bytes| bytes.len() > limit(question, transport)) {
                answer.metadata.truncation = true;
                if answer.answers.pop().is_none() {
                    break;
                }
            }
        }
        About::Empty(zone) | About::Unknown(zone) => {
            answer.authorities.push(Record::from_rdata(zone.clone(), NEGATIVE_TTL, soa(&zone)));
        }
    }
    answer
}

/// Most bytes that the sender of `question` takes.
pub(super) fn limit(question: &Message, transport: Transport) -> usize {
    match (transport, &question.edns) {
        (Transport::Tcp, _) => TCP_MAX,
        (Transport::Udp, None) => PLAIN_MAX,
        (Transport::Udp, Some(edns)) => usize::from(edns.max_payload().min(UDP_MAX)).max(PLAIN_MAX),
    }
}

/// Bytes of an answer beside its records.
fn taken(question: &Message) -> usize {
    // Each label with its length, and the end of the name; type and class.
    let name = |query: &Query| query.name().iter().map(|label| label.len() + 1).sum::<usize>() + 1;
    let query = question.queries.first().map_or(0, |query| name(query) + 4);
    HEADER_LEN + query + if question.edns.is_some() { OPT_LEN } else { 0 }
}

pub(super) fn encode(message: &Message) -> Option<Vec<u8>> {
    message.to_vec().ok()
}

/// The answer to what is no question: its header, and nothing else.
fn malformed(header: &[u8; HEADER_LEN]) -> Vec<u8> {
    let mut answer = vec![0; HEADER_LEN];
    answer[..2].copy_from_slice(&header[..2]);
    // An answer, with the opcode and RD of the question; RA; FORMERR.
    answer[2] = 0x80 | header[2] & 0x79;
    answer[3] = 0x81;
    answer
}

#[cfg(test)]
mod tests;
