//! Probes of paths: their layout, the keyed value by which a program knows an answer, and the events that programs give
//! to the controller.
//!
//! A probe is a VXLAN frame of network [`crate::vxlan::PROBE_VNI`] on the data port. The program of the peer that it is for
//! answers it; the programs of relays pass it on by the receiver's name. All numbers are big-endian:
//!
//! ```text
//!  0 receiver's name 6 |  6 origin's name 6 | 12 EtherType 2 | 14 version 1 | 15 flags 1 | 16 hops so far 1
//! 17 reply: hops of the request 1 | 18 path id 2 | 20 reply: size received 2 | 22 cookie 8 | 30 origin's clock 8 (ns)
//! ```

use bytemuck::{Pod, Zeroable};

use crate::{
    vxlan::HEADER_LEN,
    wire::{IPV4_LEN, UDP_LEN},
};

/// EtherType of a probe's frame: IEEE 802 local experimental. No kernel merges such frames.
pub const ETHERTYPE: u16 = 0x88b5;
/// Version of the layout.
pub const VERSION: u8 = 1;
/// Length of a probe, after the VXLAN header.
pub const LEN: usize = 38;
/// Length of the shortest IP packet with a probe, and of every answer.
pub const PACKET_LEN: usize = IPV4_LEN + UDP_LEN + HEADER_LEN + LEN;
/// Length of what a [`PROOF`] carries behind the probe: the address seen and an ed25519 signature.
pub const PROOF_LEN: usize = 4 + 64;
/// Relays that a probe may pass: the bound of loops, since routers lower the hop limit of the outer header too.
pub const HOPS_MAX: u8 = 8;
/// Mark (`SO_MARK`) of frames that the controller writes to the VXLAN socket device for the egress program to send.
pub const MARK: u32 = 0x7765_7670;
/// Source ports below this are never answered: nobody but a forger asks from there.
pub const PORT_MIN: u16 = 1024;

/// Flag: an answer.
pub const REPLY: u8 = 1;
/// Flag: a controller asks for a proof of identity; for controllers, answered by no program.
pub const CHALLENGE: u8 = 2;
/// Flag: the proof, with [`PROOF_LEN`] more bytes; for controllers.
pub const PROOF: u8 = 4;
/// Flag: a request whose sender is behind a stateful filter or NAT: answered, and the controller sees it too.
pub const ANNOUNCE: u8 = 8;

/// Offsets in a probe.
pub mod at {
    /// Name of the peer that the probe is for.
    pub const RECEIVER: usize = 0;
    /// Name of the peer that made the probe.
    pub const ORIGIN: usize = 6;
    /// [`super::ETHERTYPE`].
    pub const ETHERTYPE: usize = 12;
    /// [`super::VERSION`].
    pub const VERSION: usize = 14;
    /// Flags.
    pub const FLAGS: usize = 15;
    /// Relays passed so far.
    pub const HOPS: usize = 16;
    /// In an answer: relays that the request passed.
    pub const REQUEST_HOPS: usize = 17;
    /// The origin's number for the path; echoed.
    pub const PATH: usize = 18;
    /// In an answer: bytes of the IP packet that the request came in.
    pub const SIZE: usize = 20;
    /// [`super::cookie`] in a request and its answer, a nonce in a challenge and its proof; echoed.
    pub const COOKIE: usize = 22;
    /// Nanoseconds of the origin's clock; echoed.
    pub const CLOCK: usize = 30;
}

/// A probe's bytes.
pub type Probe = [u8; LEN];

/// The parts of a probe, host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// Name of the peer that the probe is for.
    pub receiver: [u8; 6],
    /// Name of the peer that made the probe.
    pub origin: [u8; 6],
    /// [`REPLY`], [`CHALLENGE`], [`PROOF`], [`ANNOUNCE`]; none in a plain request.
    pub flags: u8,
    /// Relays passed so far.
    pub hops: u8,
    /// In an answer: relays that the request passed.
    pub request_hops: u8,
    /// The origin's number for the path.
    pub path: u16,
    /// In an answer: bytes of the IP packet that the request came in.
    pub size: u16,
    /// Cookie or nonce.
    pub cookie: u64,
    /// Nanoseconds of the origin's clock.
    pub clock: u64,
}

impl Fields {
    /// Reads a probe; `None` when it has another EtherType or version.
    #[must_use]
    #[inline(always)]
    pub const fn read(probe: &Probe) -> Option<Self> {
        let p = probe;
        if u16::from_be_bytes([p[12], p[13]]) != ETHERTYPE || p[14] != VERSION {
            return None;
        }
        Some(Self {
            receiver: [p[0], p[1], p[2], p[3], p[4], p[5]],
            origin: [p[6], p[7], p[8], p[9], p[10], p[11]],
            flags: p[at::FLAGS],
            hops: p[at::HOPS],
            request_hops: p[at::REQUEST_HOPS],
            path: u16::from_be_bytes([p[18], p[19]]),
            size: u16::from_be_bytes([p[20], p[21]]),
            cookie: u64::from_be_bytes([p[22], p[23], p[24], p[25], p[26], p[27], p[28], p[29]]),
            clock: u64::from_be_bytes([p[30], p[31], p[32], p[33], p[34], p[35], p[36], p[37]]),
        })
    }

    /// The probe's bytes.
    #[must_use]
    pub fn write(&self) -> Probe {
        let mut probe = [0; LEN];
        probe[at::RECEIVER..at::RECEIVER + 6].copy_from_slice(&self.receiver);
        probe[at::ORIGIN..at::ORIGIN + 6].copy_from_slice(&self.origin);
        probe[at::ETHERTYPE..at::ETHERTYPE + 2].copy_from_slice(&ETHERTYPE.to_be_bytes());
        probe[at::VERSION] = VERSION;
        probe[at::FLAGS] = self.flags;
        probe[at::HOPS] = self.hops;
        probe[at::REQUEST_HOPS] = self.request_hops;
        probe[at::PATH..at::PATH + 2].copy_from_slice(&self.path.to_be_bytes());
        probe[at::SIZE..at::SIZE + 2].copy_from_slice(&self.size.to_be_bytes());
        probe[at::COOKIE..at::COOKIE + 8].copy_from_slice(&self.cookie.to_be_bytes());
        probe[at::CLOCK..at::CLOCK + 8].copy_from_slice(&self.clock.to_be_bytes());
        probe
    }

    /// The answer to this request, which came in an IP packet of `size` bytes.
    #[must_use]
    #[inline(always)]
    pub const fn answer(&self, size: u16) -> Self {
        Self {
            receiver: self.origin,
            origin: self.receiver,
            flags: self.flags | REPLY,
            hops: 0,
            request_hops: self.hops,
            size,
            ..*self
        }
    }

    /// True when this answer has the cookie that one of `keys` makes for it.
    #[must_use]
    #[inline(always)]
    pub const fn is_genuine(&self, keys: &ProbeKeys) -> bool {
        self.fits(keys.current) || self.fits(keys.former)
    }

    #[inline(always)]
    const fn fits(&self, key: [u64; 2]) -> bool {
        // The peer that was asked is the one that made the answer.
        (key[0] | key[1]) != 0 && self.cookie == cookie(key, self.origin, self.path, self.clock)
    }
}

/// Keys of cookies: the one entry (key 0) of [`crate::map::KEYS`]. All zero is no key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ProbeKeys {
    /// That of requests sent now.
    pub current: [u64; 2],
    /// That of requests sent by an earlier run, whose answers may still come; cleared by the controller after 10 s.
    pub former: [u64; 2],
}

/// The keyed value that a request for the peer `asked` carries and its answer must bring back, so that nobody who did not
/// see the request can make an answer: SipHash-1-3 (Aumasson and Bernstein) of name, path and clock as they lie in the
/// probe.
#[must_use]
#[inline(always)]
pub const fn cookie(key: [u64; 2], asked: [u8; 6], path: u16, clock: u64) -> u64 {
    let [a0, a1, a2, a3, a4, a5] = asked;
    let [p0, p1] = path.to_be_bytes();
    siphash13(key, [u64::from_le_bytes([a0, a1, a2, a3, a4, a5, p0, p1]), clock.swap_bytes()])
}

/// SipHash-1-3 of 16 bytes, given as the two little-endian words that they make.
#[inline(always)]
const fn siphash13(key: [u64; 2], words: [u64; 2]) -> u64 {
    /// What stands for the message's length in its last word.
    const LENGTH: u64 = 16 << 56;
    let mut v = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    v = compress(v, words[0]);
    v = compress(v, words[1]);
    v = compress(v, LENGTH);
    v[2] ^= 0xff;
    v = round(round(round(v)));
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

#[inline(always)]
const fn compress(mut v: [u64; 4], word: u64) -> [u64; 4] {
    v[3] ^= word;
    v = round(v);
    v[0] ^= word;
    v
}

#[inline(always)]
const fn round([mut a, mut b, mut c, mut d]: [u64; 4]) -> [u64; 4] {
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    [a, b, c, d]
}

/// Where and when a probe arrived that the controller gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Arrival {
    /// Source address of the IP packet.
    pub source: [u8; 4],
    /// UDP source port, host byte order; zero when the packet came by the VXLAN socket device, which does not tell.
    pub source_port: u16,
    /// Bytes of the IP packet.
    pub outer_len: u16,
    /// Index of the device that it came by.
    pub ifindex: u32,
    /// Always zero.
    pub pad: [u8; 4],
    /// Nanoseconds of the monotonic clock (`CLOCK_MONOTONIC`).
    pub at_ns: u64,
}

/// Entry of [`crate::map::REPLIES`]: an answer to one of our probes, whose cookie was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ReplyEvent {
    /// Where and when.
    pub arrival: Arrival,
    /// The answer.
    pub probe: Probe,
    /// Always zero.
    pub pad: [u8; 2],
}

/// Entry of [`crate::map::CONTACTS`]: a request of an address that is no peer's, an announcement, a challenge or a proof.
/// Anybody can send one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ContactEvent {
    /// Where and when.
    pub arrival: Arrival,
    /// The probe.
    pub probe: Probe,
    /// What a [`PROOF`] carries behind it; zero for all others.
    pub proof: [u8; PROOF_LEN],
    /// Always zero.
    pub pad: [u8; 6],
}

const _: () = assert!(PACKET_LEN == 74);
const _: () = assert!(size_of::<Arrival>() == 24);
const _: () = assert!(size_of::<ReplyEvent>() == 64);
const _: () = assert!(size_of::<ContactEvent>() == 136);
const _: () = assert!(size_of::<ProbeKeys>() == 32);

#[cfg(test)]
mod tests;
