//! Probes: what peers send each other's data port to learn whether it answers, how fast, and how large a packet may be.
//!
//! Layout after the VXLAN header, big-endian:
//!
//! ```text
//! magic 4 | version 1 | kind 1 | flags 2 | length 2 | cookie 8 | sender 6 | receiver 6 | sequence 8 | time 8 | nonce 8
//! ```
//! A request carries its receiver's cookie, which only those know who have its record, so strangers get no answer. A
//! reply carries back what the request said (sequence, time, nonce) and tells in `length` how large the request arrived;
//! the nonce is known to the two of them only, so nobody off the path can forge an answer. A receiver ignores flags that it
//! does not know.
//!
//! Who is asked at an address that nothing signed told of may be anybody: such a request has the flag [`PROVE`], and the
//! reply to it has a proof after the first [`LEN`] bytes: the address that the request came from (4) and a signature (64)
//! of that and of the reply. So it cannot be had by passing the request on.
//!
//! Bounds: [`LEN`] to [`MAX`] bytes. Whatever follows the first [`LEN`] is padding. A reply is never padded, so it is
//! never longer than its request; neither is a proof given to a request that is shorter.
//!
//! Does not: decide when to send one, or what an answer means (`paths`).

use std::{net::Ipv4Addr, time::Duration};

use weave_common::vxlan::HEADER_LEN;

use crate::proto::{
    key::{PublicKey, SIGNATURE_LEN, SecretKey},
    name::PeerName,
    time::Instant,
};

/// Length in bytes of a probe after the VXLAN header, without padding.
pub const LEN: usize = 4 + 1 + 1 + 2 + 2 + 8 + 6 + 6 + 8 + 8 + 8;
/// Longest probe in bytes after the VXLAN header: the shell carries none longer.
pub const MAX: usize = 9600;
/// Bytes of the outer IP packet before the probe: IPv4, UDP, VXLAN.
pub const OUTER: usize = 20 + 8 + HEADER_LEN;
const MAGIC: [u8; 4] = *b"WVPB";
const VERSION: u8 = 2;

/// Flag of a request: the reply is to prove who it comes from. Flag of a reply: it does.
pub const PROVE: u16 = 1;
/// Length in bytes of a probe with a proof.
pub const PROVEN_LEN: usize = LEN + 4 + SIGNATURE_LEN;
/// Set before what is signed, so that a signature of one kind is none of the other.
const CONTEXT: &[u8] = b"weave-ctl answer 1\0";

/// What a reply proves itself with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Where the question came from, as whoever answers saw it.
    pub seen: Ipv4Addr,
    /// Of the reply and of that.
    pub signature: [u8; SIGNATURE_LEN],
}

/// A question or its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Answer me.
    Request,
    /// Here is the answer.
    Reply,
}

/// One probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Question or answer.
    pub kind: Kind,
    /// [`PROVE`], or nothing.
    pub flags: u16,
    /// In a reply: bytes of the outer IP packet that brought the question. In a request: zero.
    pub length: u16,
    /// In a request: the receiver's cookie.
    pub cookie: u64,
    /// Who sends this.
    pub sender: PeerName,
    /// Who is meant.
    pub receiver: PeerName,
    /// Number of the question.
    pub sequence: u64,
    /// When the question was sent, on the asker's clock, in microseconds.
    pub sent_micros: u64,
    /// The asker's secret.
    pub nonce: u64,
}

impl Probe {
    /// The bytes of this probe.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let kind = match self.kind {
            Kind::Request => 1,
            Kind::Reply => 2,
        };
        let mut bytes = Vec::with_capacity(LEN);
        bytes.extend(MAGIC);
        bytes.extend([VERSION, kind]);
        bytes.extend(self.flags.to_be_bytes());
        bytes.extend(self.length.to_be_bytes());
        bytes.extend(self.cookie.to_be_bytes());
        bytes.extend(self.sender.bytes());
        bytes.extend(self.receiver.bytes());
        for field in [self.sequence, self.sent_micros, self.nonce] {
            bytes.extend(field.to_be_bytes());
        }
        bytes
    }

    /// The bytes of this probe, padded so that the outer IP packet has `outer` bytes: at least [`OUTER`] + [`LEN`], at
    /// most [`OUTER`] + [`MAX`].
    #[must_use]
    pub fn encode_padded(&self, outer: u32) -> Vec<u8> {
        let length = usize::try_from(outer).unwrap_or(MAX).saturating_sub(OUTER);
        let mut bytes = self.encode();
        bytes.resize(length.clamp(LEN, MAX), 0);
        bytes
    }

    /// The bytes of this reply with a proof by `key`, to a question that came from `seen`.
    #[must_use]
    pub fn encode_proven(&self, seen: Ipv4Addr, key: &SecretKey) -> Vec<u8> {
        let reply = Self { flags: self.flags | PROVE, ..*self };
        [reply.encode(), seen.octets().to_vec(), key.sign(&reply.text(seen)).to_vec()].concat()
    }

    /// True when `proof` is that of whoever has `key`.
    #[must_use]
    pub fn is_proven(&self, proof: &Proof, key: &PublicKey) -> bool {
        key.verifies(&self.text(proof.seen), &proof.signature)
    }

    fn text(&self, seen: Ipv4Addr) -> Vec<u8> {
        [CONTEXT, &self.encode(), &seen.octets()].concat()
    }

    /// The proof that follows this probe in `bytes`, if it has one.
    #[must_use]
    pub fn proof(&self, bytes: &[u8]) -> Option<Proof> {
        let mut rest = bytes.get(LEN..).filter(|_| self.flags & PROVE != 0)?;
        Some(Proof { seen: Ipv4Addr::from(take::<4>(&mut rest)?), signature: take(&mut rest)? })
    }

    /// The probe in `bytes`, or `None` when there is none. Longer input is padding.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let [magic @ .., version, kind] = take::<6>(&mut rest)?;
        if magic != MAGIC || version != VERSION {
            return None;
        }
        let kind = match kind {
            1 => Kind::Request,
            2 => Kind::Reply,
            _ => return None,
        };
        Some(Self {
            kind,
            flags: u16::from_be_bytes(take(&mut rest)?),
            length: u16::from_be_bytes(take(&mut rest)?),
            cookie: u64::from_be_bytes(take(&mut rest)?),
            sender: PeerName::from_bytes(take(&mut rest)?),
            receiver: PeerName::from_bytes(take(&mut rest)?),
            sequence: u64::from_be_bytes(take(&mut rest)?),
            sent_micros: u64::from_be_bytes(take(&mut rest)?),
            nonce: u64::from_be_bytes(take(&mut rest)?),
        })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (field, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*field)
}

/// Bytes of the outer IP packet that brought a probe of these `bytes`.
#[must_use]
pub fn outer_len(bytes: &[u8]) -> u16 {
    u16::try_from(bytes.len() + OUTER).unwrap_or(u16::MAX)
}

/// `now` as it is carried in a probe.
#[must_use]
pub fn micros(now: Instant) -> u64 {
    u64::try_from(now.since_start().as_micros()).unwrap_or(u64::MAX)
}

/// Time since a probe that carries `sent_micros`; `None` when that is not in the past.
#[must_use]
pub fn elapsed(sent_micros: u64, now: Instant) -> Option<Duration> {
    micros(now).checked_sub(sent_micros).map(Duration::from_micros)
}

#[cfg(test)]
mod tests;
