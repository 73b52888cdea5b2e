//! What containers send to the service address: questions for names are answered here when the answer is in the table of
//! names, all other DNS goes to the controller's resolver, and anything else but echo is dropped.
//!
//! Answered are questions for the addresses of one name, in UDP, without EDNS options; with the bytes that the resolver
//! answers (`weave-ctl/src/shell/dns/answer.rs`), but for the order of addresses. An answer goes back to the container that
//! asked, whose address was checked: nobody can have others flooded with answers.
//! The UDP checksum of an answer is zero, which RFC 768 allows in IPv4: the packet never leaves this host.

use weave_common::{
    checksum,
    dns::{MESSAGE_MAX, NAME_LEN, NameKey},
    wire::{ETH_LEN, IPV4_LEN, UDP_LEN},
};

/// Bytes of a header.
pub const HEADER_LEN: usize = 12;
/// Bytes behind the name of a question: type and class.
const TYPE_LEN: usize = 4;
/// Bytes of an OPT record without options (RFC 6891, section 6.1.2).
pub const OPT_LEN: usize = 11;
/// Bytes of an answer with an address.
pub const RECORD_LEN: usize = 16;
/// Headers before the message.
pub const HEAD_LEN: usize = ETH_LEN + IPV4_LEN + UDP_LEN;
/// Hop limit of an answer.
const TTL: u8 = 64;
/// Do not fragment.
const DF: u16 = 0x4000;

/// A question that may be answered here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Bytes of header and question.
    pub len: u32,
    /// It has an OPT record.
    pub opt: bool,
    /// With the DO bit (RFC 3225).
    pub dnssec: bool,
}

/// The byte of `message` at `at`, which is less than [`MESSAGE_MAX`].
#[inline(always)]
const fn byte(message: &[u8; MESSAGE_MAX], at: usize) -> u8 {
    // The mask changes nothing; it is what verifiers take for a bound.
    message[at & (MESSAGE_MAX - 1)]
}

/// A byte of each kind in all eight bytes of a word.
const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// The letters `A` to `Z` of a word in lower case, eight bytes at once.
#[inline(always)]
const fn lower(word: u64) -> u64 {
    let low = word & each(0x7f);
    let (from_a, beyond_z) = (low + each(0x80 - b'A'), low + each(0x7f - b'Z'));
    let upper = !word & (from_a ^ beyond_z) & each(0x80);
    word | (upper >> 2)
}

/// Writes the name behind the header to `key` in lower case, and zeros behind it; its length without the zero that ends it, or
/// `None` when that is not there.
///
/// Without branches, because each would double the paths that a verifier walks. Lengths of labels are below `A`. The first
/// zero ends the name: a label with one inside makes a key that no name has, as does a pointer (RFC 1035, section 4.1.4).
#[inline(always)]
fn lowered(message: &[u8; MESSAGE_MAX], key: &mut NameKey) -> Option<u32> {
    let (mut alive, mut len) = (u64::MAX, 0);
    let mut word = 0;
    while word < NAME_LEN / 8 {
        let at = HEADER_LEN + word * 8;
        let m = message;
        let found =
            u64::from_le_bytes([m[at], m[at + 1], m[at + 2], m[at + 3], m[at + 4], m[at + 5], m[at + 6], m[at + 7]]);
        // The lowest bit that is set is that of the first zero byte; those above it may be false.
        let zeros = found.wrapping_sub(each(1)) & !found & each(0x80);
        let before = ((zeros & zeros.wrapping_neg()) >> 7).wrapping_sub(1);
        let kept = alive & before;
        key.name[word * 8..word * 8 + 8].copy_from_slice(&(lower(found) & kept).to_le_bytes());
        len += ((kept & each(1)).wrapping_mul(each(1)) >> 56) as u32;
        let any = zeros | zeros >> 32;
        let any = any | any >> 16;
        let any = (any | any >> 8) >> 7 & 1;
        alive &= any.wrapping_sub(1);
        word += 1;
    }
    if alive == 0 { Some(len) } else { None }
}

/// Reads a question of `len` bytes, and its name to `key`; `None` when the resolver is to answer.
#[must_use]
#[inline(always)]
pub fn question(message: &[u8; MESSAGE_MAX], len: u32, key: &mut NameKey) -> Option<Question> {
    let m = message;
    // A question (QR, opcode, AA and TC are zero), reserved bits zero, one name, at most one more record.
    if m[2] & 0xfe != 0 || m[3] & 0xcf != 0 || m[4..10] != [0, 1, 0, 0, 0, 0] || m[10] != 0 || m[11] > 1 {
        return None;
    }
    let name_len = lowered(m, key)?;
    // With its end.
    let name_len = name_len + 1;
    let kind = HEADER_LEN + name_len as usize;
    let plain = byte(m, kind) == 0 && byte(m, kind + 1) == 1 && byte(m, kind + 2) == 0 && byte(m, kind + 3) == 1;
    let end = (HEADER_LEN + TYPE_LEN) as u32 + name_len;
    if !plain {
        return None;
    }
    if m[11] == 0 {
        return if len == end { Some(Question { len: end, opt: false, dnssec: false }) } else { None };
    }
    let at = end as usize;
    // Root, type 41, any size, no extended code, version 0, no flag but DO, no options.
    let opt = byte(m, at) == 0
        && byte(m, at + 1) == 0
        && byte(m, at + 2) == 41
        && byte(m, at + 5) == 0
        && byte(m, at + 6) == 0
        && byte(m, at + 7) & 0x7f == 0
        && byte(m, at + 8) == 0
        && byte(m, at + 9) == 0
        && byte(m, at + 10) == 0;
    if !opt || len != end + OPT_LEN as u32 {
        return None;
    }
    Some(Question { len: end, opt: true, dnssec: byte(m, at + 7) != 0 })
}

/// Flags and counts of the answer to a question with those: bytes 2 to 12 of its header.
#[must_use]
#[inline(always)]
pub fn header(message: &[u8; MESSAGE_MAX], count: u32) -> [u8; HEADER_LEN - 2] {
    // An answer with authority, RD and CD as asked, recursion is available.
    [0x84 | message[2] & 1, 0x80 | message[3] & 0x10, 0, 1, 0, count as u8, 0, 0, 0, message[11]]
}

/// One address: the name as a pointer to that of the question.
#[must_use]
#[inline(always)]
pub fn record(addr: [u8; 4], ttl: u32) -> [u8; RECORD_LEN] {
    let t = ttl.to_be_bytes();
    [0xc0, 0x0c, 0, 1, 0, 1, t[0], t[1], t[2], t[3], 0, 4, addr[0], addr[1], addr[2], addr[3]]
}

/// The OPT record of an answer: 1,232 bytes are taken.
#[must_use]
#[inline(always)]
pub const fn opt(dnssec: bool) -> [u8; OPT_LEN] {
    [0, 0, 41, 0x04, 0xd0, 0, 0, if dnssec { 0x80 } else { 0 }, 0, 0, 0]
}

/// Headers of the answer with a message of `len` bytes to what had the headers `h`.
#[must_use]
#[inline(always)]
pub fn head(h: &[u8; HEAD_LEN], len: u32) -> [u8; HEAD_LEN] {
    let mut head = *h;
    let udp = len as u16 + UDP_LEN as u16;
    head[0..6].copy_from_slice(&h[6..12]);
    head[6..12].copy_from_slice(&h[0..6]);
    let ip = &mut head[ETH_LEN..ETH_LEN + IPV4_LEN];
    ip[1] = 0;
    ip[2..4].copy_from_slice(&(udp + IPV4_LEN as u16).to_be_bytes());
    ip[4..6].copy_from_slice(&[0, 0]);
    ip[6..8].copy_from_slice(&DF.to_be_bytes());
    ip[8] = TTL;
    ip[12..16].copy_from_slice(&h[30..34]);
    ip[16..20].copy_from_slice(&h[26..30]);
    let word = |at: usize| u16::from_be_bytes([ip[at], ip[at + 1]]);
    let words = [word(0), word(2), word(6), word(8), word(12), word(14), word(16), word(18)];
    // That of a header of zeros is all ones.
    let sum = checksum::update_words(u16::MAX, [0; 8], words);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let at = ETH_LEN + IPV4_LEN;
    head[at..at + 2].copy_from_slice(&h[36..38]);
    head[at + 2..at + 4].copy_from_slice(&h[34..36]);
    head[at + 4..at + 6].copy_from_slice(&udp.to_be_bytes());
    head[at + 6..at + 8].copy_from_slice(&[0, 0]);
    head
}

#[cfg(target_arch = "bpf")]
mod live {
    use weave_common::{
        config::{Config, DNS_ANSWERED},
        counters::Counter,
        dns::{ADDRS_MAX, MESSAGE_MAX},
        drop::DropReason,
        endpoint::{Endpoint, EndpointKey},
        wire::{IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP, IPV4_LEN, UDP_LEN},
    };

    use super::{HEAD_LEN, HEADER_LEN, OPT_LEN, RECORD_LEN, head, header, opt, question, record};
    use crate::{
        Outcome,
        bound::hidden,
        maps,
        packet::Packet,
        parse::{IP_AT, Ipv4},
    };

    /// Port of DNS.
    const PORT: u16 = 53;
    /// More fragments, and the offset of a fragment.
    const FRAGMENT: u16 = 0x3fff;
    /// ICMP (RFC 792): an echo request; destination unreachable, by which a path's MTU is told.
    const ECHO: u8 = 8;
    const UNREACHABLE: u8 = 3;

    /// Decides what becomes of a packet of a container to the service endpoint.
    ///
    /// # Errors
    /// [`DropReason::ServicePort`] when it is neither DNS nor echo; [`DropReason::QuestionLimit`] when the container asks the
    /// resolver too much, whose queue is one for all; [`DropReason::Kernel`] when a helper refuses.
    #[inline(always)]
    pub fn to_service(packet: &Packet, ip: &Ipv4, service: &Endpoint, config: &Config) -> Result<Outcome, DropReason> {
        if ip.fragment & FRAGMENT != 0 {
            return Err(DropReason::ServicePort);
        }
        let at = IP_AT as u32 + ip.header_len;
        match ip.protocol {
            IPPROTO_UDP | IPPROTO_TCP => {
                let mut ports = [0; 4];
                if !packet.load(at, &raw mut ports) || u16::from_be_bytes([ports[2], ports[3]]) != PORT {
                    return Err(DropReason::ServicePort);
                }
            }
            IPPROTO_ICMP => match packet.byte(at) {
                Some(ECHO | UNREACHABLE) => {}
                _ => return Err(DropReason::ServicePort),
            },
            _ => return Err(DropReason::ServicePort),
        }
        let may_answer = config.dns & DNS_ANSWERED != 0 && packet.gso_size() == 0;
        if may_answer
            && ip.protocol == IPPROTO_UDP
            && ip.header_len == IPV4_LEN as u32
            && let Some(outcome) = answer(packet, config)?
        {
            return Ok(outcome);
        }
        if ip.protocol == IPPROTO_UDP && !maps::may_ask(EndpointKey::new(ip.source)) {
            return Err(DropReason::QuestionLimit);
        }
        let bytes = packet.frame_len();
        packet.deliver(service, ip.source)?;
        Ok(Outcome::Redirected { counter: Counter::Local, bytes })
    }

    /// Makes the packet the answer to the question in it and sends it back; `None`, and the packet as it was, when the
    /// resolver is to answer.
    #[inline(always)]
    fn answer(packet: &Packet, config: &Config) -> Result<Option<Outcome>, DropReason> {
        let mut length = [0; 2];
        if !packet.load(HEAD_LEN as u32 - 4, &raw mut length) {
            return Ok(None);
        }
        let len = u32::from(u16::from_be_bytes(length)).wrapping_sub(UDP_LEN as u32);
        if len <= HEADER_LEN as u32 || len > MESSAGE_MAX as u32 || packet.frame_len() < HEAD_LEN as u32 + len {
            return Ok(None);
        }
        let Some(scratch) = maps::scratch() else { return Ok(None) };
        // SAFETY: the kernel keeps an entry's memory for the program's run, in which no other has it.
        let (message, key) = unsafe { (&raw mut (*scratch).message, &mut (*scratch).key) };
        if !packet.load_some(HEAD_LEN as u32, message, len) {
            return Ok(None);
        }
        // SAFETY: as above.
        let message = unsafe { &*message };
        let Some(question) = question(message, len, key) else { return Ok(None) };
        let Some(name) = maps::name(key) else { return Ok(None) };
        let count = name.count;
        if count == 0 || count > ADDRS_MAX as u32 || !packet.pull(HEAD_LEN as u32) {
            return Ok(None);
        }
        let before = packet.read::<HEAD_LEN>(0).ok_or(DropReason::Malformed)?;
        let records = question.len + count * RECORD_LEN as u32;
        let whole = if question.opt { records + OPT_LEN as u32 } else { records };
        packet.truncate(HEAD_LEN as u32 + whole)?;
        if !packet.pull(HEAD_LEN as u32) {
            return Err(DropReason::Kernel);
        }
        packet.write(0, &head(&before, whole)).ok_or(DropReason::Malformed)?;
        packet.put(HEAD_LEN as u32 + 2, &header(message, count))?;
        // Another order for each answer: the places of the addresses are rotated, as verifiers follow the index of an entry.
        let first = HEAD_LEN as u32 + question.len;
        let start = maps::random() % count;
        let (mut of, end) = (0, hidden(count));
        while of < ADDRS_MAX {
            if of as u32 >= end {
                break;
            }
            let to = of as u32 + start;
            let to = if to >= count { to - count } else { to };
            packet.put(first + to * RECORD_LEN as u32, &record(name.addrs[of], config.dns_ttl))?;
            of += 1;
        }
        if question.opt {
            packet.put(HEAD_LEN as u32 + records, &opt(question.dnssec))?;
        }
        packet.redirect(packet.ifindex())?;
        Ok(Some(Outcome::Redirected { counter: Counter::DnsAnswer, bytes: HEAD_LEN as u32 + whole }))
    }
}

#[cfg(target_arch = "bpf")]
pub use live::to_service;

#[cfg(test)]
mod tests;
