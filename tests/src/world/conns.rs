//! TCP connections: both ends, what is under way on them, and what waits while nothing passes.
//!
//! Bounds: as the shell's, [`QUEUE_FRAMES`] frames and [`QUEUE_BYTES`] bytes wait for one end; whoever sends more loses the
//! connection.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use weave_ctl::proto::{
    io::{FRAME_MAX, SessionId},
    time::Instant,
};

use super::HostId;

/// Frames that wait for one end.
const QUEUE_FRAMES: usize = 1024;
/// Bytes that wait for one end.
const QUEUE_BYTES: usize = 8 * FRAME_MAX;

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Who dialled.
    Near,
    /// Who accepted.
    Far,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Near => Self::Far,
            Self::Far => Self::Near,
        }
    }

    /// What this end's controller calls connection `link`.
    pub(super) fn id(self, link: u64) -> SessionId {
        SessionId(link * 2 + self.index() as u64)
    }

    fn index(self) -> usize {
        match self {
            Self::Near => 0,
            Self::Far => 1,
        }
    }
}

/// What travels to an end.
#[derive(Clone, Debug)]
pub(super) enum Parcel {
    Frame(Vec<u8>),
    /// The connection is gone, and why.
    Closed(String),
}

/// What one end sent within the second that runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rate {
    second: u64,
    pub(super) frames: u64,
    pub(super) bytes: u64,
}

impl Rate {
    fn add(&mut self, now: Instant, bytes: usize) -> Self {
        let second = now.since_start().as_secs();
        if self.second != second {
            *self = Self { second, ..Self::default() };
        }
        self.frames += 1;
        self.bytes += bytes as u64;
        *self
    }
}

#[derive(Clone, Debug, Default)]
struct End {
    host: HostId,
    open: bool,
    /// Its controller has closed it: it sends no more.
    closing: bool,
    /// Nothing sent later arrives before this.
    last: Instant,
    waiting: (usize, usize),
    rate: Rate,
}

#[derive(Debug)]
struct Connection {
    ends: [End; 2],
    since: Instant,
    /// Since when nothing passes, and what waits for which end.
    stalled: Option<Instant>,
    parked: Vec<(Side, Parcel)>,
    /// What was parked arrives then; nothing before it.
    resumes: Instant,
}

/// All connections.
#[derive(Default)]
pub(super) struct Conns {
    all: BTreeMap<u64, Connection>,
    of: BTreeMap<HostId, BTreeSet<u64>>,
    next: u64,
}

/// A connection's end took too much to send.
pub(super) struct Full;

impl Conns {
    pub(super) fn open(&mut self, from: HostId, to: HostId, now: Instant) -> u64 {
        self.next += 1;
        let ends = [from, to].map(|host| End { host, open: true, ..End::default() });
        self.all.insert(self.next, Connection { ends, since: now, stalled: None, parked: Vec::new(), resumes: now });
        self.of.entry(from).or_default().insert(self.next);
        self.of.entry(to).or_default().insert(self.next);
        self.next
    }

    /// Connection and side of what host `id` calls `link`, while that end may send.
    pub(super) fn find(&self, link: SessionId, id: HostId) -> Option<(u64, Side)> {
        let side = if link.0.is_multiple_of(2) { Side::Near } else { Side::Far };
        let end = &self.all.get(&(link.0 / 2))?.ends[side.index()];
        (end.host == id && end.open && !end.closing).then_some((link.0 / 2, side))
    }

    /// The hosts at both ends, the one at `side` first.
    pub(super) fn hosts(&self, link: u64, side: Side) -> Option<(HostId, HostId)> {
        let ends = &self.all.get(&link)?.ends;
        Some((ends[side.index()].host, ends[side.other().index()].host))
    }

    pub(super) fn is_open(&self, link: u64, side: Side) -> bool {
        self.all.get(&link).is_some_and(|c| c.ends[side.index()].open)
    }

    /// The end at `side` sends no more.
    pub(super) fn closing(&mut self, link: u64, side: Side) {
        if let Some(connection) = self.all.get_mut(&link) {
            connection.ends[side.index()].closing = true;
        }
    }

    pub(super) fn close(&mut self, link: u64, side: Side) {
        let Some(connection) = self.all.get_mut(&link) else { return };
        connection.ends[side.index()].open = false;
        if connection.ends.iter().any(|end| end.open) {
            return;
        }
        for host in connection.ends.iter().map(|end| end.host) {
            if let Some(links) = self.of.get_mut(&host) {
                links.remove(&link);
            }
        }
        self.all.remove(&link);
    }

    /// Accounts for a frame that is sent from `side`; what was sent within this second.
    pub(super) fn sent(&mut self, link: u64, side: Side, bytes: usize, now: Instant) -> Result<Rate, Full> {
        let Some(connection) = self.all.get_mut(&link) else { return Ok(Rate::default()) };
        let end = &mut connection.ends[side.index()];
        let (frames, waiting) = (end.waiting.0 + 1, end.waiting.1 + bytes);
        if frames > QUEUE_FRAMES || waiting > QUEUE_BYTES || bytes > FRAME_MAX {
            return Err(Full);
        }
        end.waiting = (frames, waiting);
        Ok(end.rate.add(now, bytes))
    }

    /// A frame from `side` was taken by the other end.
    pub(super) fn taken(&mut self, link: u64, side: Side, bytes: usize) {
        if let Some(connection) = self.all.get_mut(&link) {
            let waiting = &mut connection.ends[side.index()].waiting;
            *waiting = (waiting.0.saturating_sub(1), waiting.1.saturating_sub(bytes));
        }
    }

    /// When something sent to `side` arrives: at `at`, or after what was sent before.
    pub(super) fn in_order(&mut self, link: u64, side: Side, at: Instant) -> Instant {
        let Some(connection) = self.all.get_mut(&link) else { return at };
        let last = &mut connection.ends[side.index()].last;
        *last = (*last).max(at);
        *last
    }

    /// Keeps what cannot pass now.
    pub(super) fn park(&mut self, link: u64, side: Side, parcel: Parcel, now: Instant) {
        if let Some(connection) = self.all.get_mut(&link) {
            connection.stalled.get_or_insert(now);
            connection.parked.push((side, parcel));
        }
    }

    /// True while something waits: what comes later must wait behind it.
    pub(super) fn stalled(&self, link: u64) -> bool {
        self.all.get(&link).is_some_and(|c| c.stalled.is_some())
    }

    /// Connections on which something waits and, so `passes` says, need not: with for how long.
    pub(super) fn waiting(&self, now: Instant, passes: impl Fn(HostId, HostId) -> bool) -> Vec<(u64, Duration)> {
        let waits = |c: &Connection| c.stalled.filter(|_| passes(c.ends[0].host, c.ends[1].host));
        self.all.iter().filter_map(|(link, c)| Some((*link, now.since(waits(c)?)))).collect()
    }

    /// Takes what waits on a connection: it arrives at `at`, and nothing before it.
    pub(super) fn resume(&mut self, link: u64, at: Instant) -> Vec<(Side, Parcel)> {
        let Some(connection) = self.all.get_mut(&link) else { return Vec::new() };
        connection.stalled = None;
        connection.resumes = at;
        for end in &mut connection.ends {
            end.last = end.last.max(at);
        }
        std::mem::take(&mut connection.parked)
    }

    /// Before this, nothing arrives on a connection that was stalled.
    pub(super) fn resumes(&self, link: u64) -> Instant {
        self.all.get(&link).map_or_else(Instant::default, |c| c.resumes)
    }

    /// Open ends of host `id`.
    pub(super) fn links_of(&self, id: HostId) -> Vec<(u64, Side)> {
        let links = self.of.get(&id).into_iter().flatten();
        let ends = links.flat_map(|link| [(*link, Side::Near), (*link, Side::Far)]);
        ends.filter(|(link, side)| {
            let end = self.all.get(link).map(|c| &c.ends[side.index()]);
            end.is_some_and(|end| end.host == id && end.open)
        })
        .collect()
    }

    /// Pairs of hosts with a connection whose ends are both open and may send, the lower number first, and since when.
    pub(super) fn pairs(&self) -> impl Iterator<Item = ((HostId, HostId), Instant)> + '_ {
        let whole = self.all.values().filter(|c| c.ends.iter().all(|end| end.open && !end.closing));
        whole.map(|c| {
            let (a, b) = (c.ends[0].host, c.ends[1].host);
            ((a.min(b), a.max(b)), c.since)
        })
    }
}

#[cfg(test)]
mod tests;
