//! Requests to other peers, and the responses: sent along control next hops, repeated until they are answered.
//!
//! ```text
//! wanted -> letter sent -- a response -> told to the module that wanted it
//!             |   ^
//!             +---+ each RESEND, while it is wanted
//! ```
//! Nothing is kept of a request at the peers between, and nothing of one that was answered: whether it was granted already
//! is read from the ring ([`Request::owned`]). Responses are sent once; a lost one is asked for by the next repetition.
//! A letter counts only if it is signed with the key of the record that this peer holds of its sender.
//! | timer | value | meaning |
//! |---|---|---|
//! | [`RESEND`] | 1 s | time between two letters of one request |
//!
//! Bounds: [`OPEN_MAX`] requests of this peer; [`RECEIVED_MAX`] requests of a peer at once and [`RECEIVED_RATE`] a second are
//! looked at; [`FORWARDED_MAX`] letters of a session at once and [`FORWARDED_RATE`] a second are forwarded. What is beyond
//! them is told as [`RequestEvent::Failed`].

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use super::{
    ids::SessionId,
    key::SecretKey,
    name::{PeerId, PeerName, PeerUid},
    queue,
    rng::Rng,
    throttle::Budget,
    time::Instant,
    wire::letter::{Content, Forwarded, HOPS_MAX, Letter, Reply, Request, Want},
};

/// Time between two letters of one request.
pub(crate) const RESEND: Duration = Duration::from_secs(1);
/// Most requests of this peer that are open.
pub(crate) const OPEN_MAX: usize = 96;
/// Requests of one peer that are looked at at once.
const RECEIVED_MAX: u32 = 32;
/// The same a second.
const RECEIVED_RATE: u32 = 16;
/// Letters of one session that are forwarded at once.
const FORWARDED_MAX: u32 = 256;
/// The same a second.
const FORWARDED_RATE: u32 = 64;
/// Letters without a response after which a request that is given up counts as failed: the first may have been under way.
const UNANSWERED: u32 = 3;
/// Most senders and sessions whose budgets are kept apart.
const BUDGETS_MAX: usize = 1024;

/// What the rest of the core must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RequestEvent {
    /// A peer asks; [`Requests::respond`] with this id.
    Received(PeerId, u64, Request),
    /// A peer answered what this one wanted of it.
    Answered(PeerName, Want, Reply),
    /// A request of a peer, which may be this one, was not carried out, and why.
    Failed(PeerName, MessageError, String),
}

/// Why a message of a peer was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessageError {
    /// It cannot be read, or says what no peer says that keeps to the rules.
    Malformed,
    /// It came when the peer had sent as many as are looked at.
    OverBound,
    /// No session leads to its receiver.
    NoNextHop,
    /// It made all its hops, or was given up without a response.
    Expired,
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Requests {
    me: PeerId,
    key: SecretKey,
    rng: Rng,
    open: BTreeMap<(Want, PeerName), Open>,
    /// More is wanted than may be open.
    full: bool,
    received: BTreeMap<PeerName, Budget>,
    forwarded: BTreeMap<SessionId, Budget>,
    out: VecDeque<Forwarded>,
    events: VecDeque<RequestEvent>,
}

#[derive(Debug)]
struct Open {
    id: u64,
    request: Request,
    resend_at: Instant,
    /// Letters sent.
    sent: u32,
}

impl Requests {
    pub(crate) fn new(me: PeerId, key: SecretKey, rng: Rng) -> Self {
        let (out, events) = (VecDeque::new(), VecDeque::new());
        let (open, received, forwarded) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { me, key, rng, open, full: false, received, forwarded, out, events }
    }

    pub(crate) fn poll_event(&mut self) -> Option<RequestEvent> {
        queue::pop(&mut self.events)
    }

    /// The next letter to send to its next hop.
    pub(crate) fn poll_send(&mut self) -> Option<Forwarded> {
        queue::pop(&mut self.out)
    }

    /// What this peer, which owns so many addresses, wants now, and of which peers. What is not wanted any more is not
    /// repeated, and a response to it is not told.
    pub(crate) fn want(&mut self, wanted: &BTreeSet<(Want, PeerName)>, owned: u64, now: Instant) {
        let (me, events) = (self.me.name, &mut self.events);
        self.open.retain(|open, Open { request, sent, .. }| {
            let is_wanted = wanted.contains(open);
            if !is_wanted && *sent >= UNANSWERED {
                let text = format!("peer {} did not answer a request, which is given up after {sent} letters", open.1);
                events.push_back(RequestEvent::Failed(me, MessageError::Expired, text));
            }
            is_wanted && request.owned == owned
        });
        for key @ (want, _) in wanted {
            if self.open.contains_key(key) || self.open.len() >= OPEN_MAX {
                continue;
            }
            let (id, request) = (self.rng.bits(), Request { want: *want, owned });
            self.open.insert(*key, Open { id, request, resend_at: now, sent: 0 });
        }
        let is_full = wanted.len() > self.open.len();
        if is_full && !self.full {
            let text =
                format!("{OPEN_MAX} requests are open, as many as can be: {} more wait", wanted.len() - OPEN_MAX);
            self.events.push_back(RequestEvent::Failed(me, MessageError::OverBound, text));
        }
        self.full = is_full;
        self.resend(now);
    }

    /// What `request` of a peer came to.
    pub(crate) fn respond(&mut self, to: PeerName, request: u64, reply: Reply) {
        self.send(to, request, Content::Response(reply));
    }

    /// A letter for another peer came from peer `from` by this session, and may make so many `hops`; how many it may make
    /// when it is forwarded. `None`: it is not.
    pub(crate) fn forwards(&mut self, session: SessionId, from: PeerName, hops: u8, now: Instant) -> Option<u8> {
        let (error, text) = match hops.min(HOPS_MAX).checked_sub(1) {
            None => (MessageError::Expired, "a letter made as many hops as it may".to_owned()),
            Some(hops) => {
                let full = || Budget::full(FORWARDED_MAX, FORWARDED_RATE, now);
                if take(&mut self.forwarded, session, full, now) {
                    return Some(hops);
                }
                let text =
                    format!("more letters to other peers than {FORWARDED_MAX} at once and {FORWARDED_RATE} a second");
                (MessageError::OverBound, text)
            }
        };
        self.events.push_back(RequestEvent::Failed(from, error, text));
        None
    }

    /// A letter for this peer. `holder` is the store whose record is held of a name.
    ///
    /// # Errors
    /// It is no letter, or not of the peer that it names; nothing changed.
    pub(crate) fn received(
        &mut self,
        letter: &Forwarded,
        holder: impl Fn(PeerName) -> Option<PeerUid>,
        now: Instant,
    ) -> Result<(), String> {
        let Letter { from, to, id, content } = Letter::open(&letter.letter).map_err(|e| e.to_string())?;
        if to != self.me.name || holder(from.name) != Some(from.uid) {
            return Err(format!("a letter of {} that is not its own, or not for this peer", from.name));
        }
        match content {
            Content::Request(request) => {
                let full = || Budget::full(RECEIVED_MAX, RECEIVED_RATE, now);
                if take(&mut self.received, from.name, full, now) {
                    self.events.push_back(RequestEvent::Received(from, id, request));
                } else {
                    let text = format!("more requests than {RECEIVED_MAX} at once and {RECEIVED_RATE} a second");
                    self.events.push_back(RequestEvent::Failed(from.name, MessageError::OverBound, text));
                }
            }
            Content::Response(reply) => {
                let open = self.open.iter().find(|((_, to), open)| open.id == id && *to == from.name);
                let Some(key @ (want, _)) = open.map(|(key, _)| *key) else { return Ok(()) };
                self.open.remove(&key);
                self.events.push_back(RequestEvent::Answered(from.name, want, reply));
            }
        }
        Ok(())
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.resend(now);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.open.values().map(|open| open.resend_at).min()
    }

    fn resend(&mut self, now: Instant) {
        let mut due = Vec::new();
        for ((_, to), open) in self.open.iter_mut().filter(|(_, open)| open.resend_at <= now) {
            open.resend_at = now + RESEND;
            open.sent = open.sent.saturating_add(1);
            due.push((*to, open.id, Content::Request(open.request)));
        }
        for (to, id, content) in due {
            self.send(to, id, content);
        }
    }

    fn send(&mut self, to: PeerName, id: u64, content: Content) {
        self.out.push_back(Letter { from: self.me, to, id, content }.sign(&self.key));
    }
}

/// Takes one from the budget of `of`; of more than [`BUDGETS_MAX`] all begin anew.
fn take<K: Ord>(budgets: &mut BTreeMap<K, Budget>, of: K, full: impl FnOnce() -> Budget, now: Instant) -> bool {
    if budgets.len() >= BUDGETS_MAX && !budgets.contains_key(&of) {
        budgets.clear();
    }
    budgets.entry(of).or_insert_with(full).take(now)
}

#[cfg(test)]
mod tests;
