//! What is counted: messages and bytes that controllers send, tunnels in the kernels' maps; and the bounds on what one
//! controller may do at once.
//!
//! Bytes are those on the underlay, headers included, so that they compare with what an operator's tools show.
//! Acknowledgements of TCP are left out.

use std::collections::BTreeMap;

use weave_ctl::proto::{datapath::Maps, io::MapOp, name::PeerName};

use super::{HostId, World, conns::Rate};

/// What a frame adds to its content: length and tag (20 bytes), TCP with timestamps, IPv4.
pub const FRAME_OVERHEAD: u64 = 20 + 32 + 20;
/// Most outputs of one input, and as many more for each host in the world.
pub const OUTPUTS_MAX: (usize, usize) = (400, 40);
/// Most frames that one end of a link sends within a second, and as many more for each host.
pub const FRAMES_MAX: (u64, u64) = (100, 20);
/// Most bytes of frames that one end of a link sends within a second, and as many more for each host.
pub const BYTES_MAX: (u64, u64) = (100_000, 50_000);
/// The same for each entry that hosts were made to say: a peer may send all that it holds at once.
pub const SAID_MAX: u64 = 256;

/// Messages and bytes of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Messages.
    pub messages: u64,
    /// Bytes on the underlay.
    pub bytes: u64,
}

impl Count {
    fn add(&mut self, bytes: u64) {
        self.messages += 1;
        self.bytes += bytes;
    }
}

/// What one controller sent since [`Meter::reset`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// On links.
    pub frames: Count,
    /// Those of them that are letters, also of others.
    pub letters: Count,
    /// Those of them that spread entries, comparisons among them.
    pub gossip: Count,
    /// To data ports.
    pub probes: Count,
}

/// See the head of this file.
#[derive(Default)]
pub struct Meter {
    sent: BTreeMap<HostId, Sent>,
    tunnels: usize,
    to: BTreeMap<PeerName, usize>,
    highest: Highest,
}

/// The largest figures seen, for setting bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Highest {
    /// Outputs of one input.
    pub outputs: usize,
    /// Frames of one end of a link within a second.
    pub frames: u64,
    /// Bytes of the same.
    pub bytes: u64,
}

impl Highest {
    /// The larger of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            outputs: self.outputs.max(other.outputs),
            frames: self.frames.max(other.frames),
            bytes: self.bytes.max(other.bytes),
        }
    }
}

impl Meter {
    /// Starts to count messages anew.
    pub fn reset(&mut self) {
        self.sent.clear();
    }

    /// What each host sent; those that sent nothing are not in it.
    pub fn sent(&self) -> impl Iterator<Item = (HostId, Sent)> + '_ {
        self.sent.iter().map(|(id, sent)| (*id, *sent))
    }

    /// Tunnels in all kernels.
    #[must_use]
    pub fn tunnels(&self) -> usize {
        self.tunnels
    }

    /// Kernels that have a tunnel to `peer`.
    #[must_use]
    pub fn tunnels_to(&self, peer: PeerName) -> usize {
        self.to.get(&peer).copied().unwrap_or(0)
    }

    /// The largest figures so far.
    #[must_use]
    pub fn highest(&self) -> Highest {
        self.highest
    }

    pub(super) fn frame(&mut self, from: HostId, frame: &[u8]) {
        let sent = self.sent.entry(from).or_default();
        let bytes = frame.len() as u64 + FRAME_OVERHEAD;
        sent.frames.add(bytes);
        // A message is a map of two whose first pair is its kind, a short text.
        let Some([header, body @ ..]) = frame.strip_prefix(b"\xa2\x64kind") else { return };
        match body.get(..usize::from(header & 0x1f)) {
            Some(b"letter") => sent.letters.add(bytes),
            Some(b"delta" | b"advertise" | b"request" | b"digest" | b"buckets" | b"page") => sent.gossip.add(bytes),
            _ => {}
        }
    }

    pub(super) fn probe(&mut self, from: HostId, len: u32) {
        self.sent.entry(from).or_default().probes.add(u64::from(len));
    }

    /// A change that is about to be made to `maps`.
    pub(super) fn map_op(&mut self, maps: &Maps, op: &MapOp) {
        match op {
            MapOp::PutTunnel(peer, _) if !maps.tunnels.contains_key(peer) => {
                self.tunnels += 1;
                *self.to.entry(*peer).or_default() += 1;
            }
            MapOp::DelTunnel(peer) if maps.tunnels.contains_key(peer) => self.lost(*peer),
            _ => {}
        }
    }

    /// A kernel that is about to lose its maps.
    pub(super) fn forget(&mut self, maps: &Maps) {
        maps.tunnels.keys().for_each(|peer| self.lost(*peer));
    }

    fn lost(&mut self, peer: PeerName) {
        self.tunnels -= 1;
        if let Some(count) = self.to.get_mut(&peer) {
            *count -= 1;
        }
    }
}

impl World {
    pub(super) fn bound_batch(&mut self, id: HostId, outputs: usize) {
        let highest = &mut self.meter.highest.outputs;
        *highest = (*highest).max(outputs);
        let (base, each) = OUTPUTS_MAX;
        if outputs > base + each * self.hosts.len() {
            self.fail("bounded outputs", &format!("h{id} answers one input with {outputs} outputs"));
        }
    }

    pub(super) fn bound_link(&mut self, id: HostId, link: u64, rate: Rate) {
        let highest = &mut self.meter.highest;
        highest.frames = highest.frames.max(rate.frames);
        highest.bytes = highest.bytes.max(rate.bytes);
        let hosts = self.hosts.len() as u64;
        let bytes_max = BYTES_MAX.0 + BYTES_MAX.1 * hosts + SAID_MAX * self.said;
        if rate.frames > FRAMES_MAX.0 + FRAMES_MAX.1 * hosts || rate.bytes > bytes_max {
            self.fail("bounded links", &format!("h{id} sends {rate:?} on link {link}"));
        }
    }
}
