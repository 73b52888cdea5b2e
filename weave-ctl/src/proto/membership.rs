//! Membership: knows all peers by signed records, signs this peer's own, and spreads both by gossip.
//!
//! A record gives a peer's addresses, sessions and paths; other modules put entries of their own into channels. `gossip`
//! spreads entries, `store` holds them. The own record is signed anew [`timers::PUBLISH_AFTER`] after something in it
//! changed, as often as [`Throttle`] allows. Bounds: those of `gossip` and `store`; the pause of a recovery doubles up to
//! [`DOUBLINGS_MAX`] times.
//!
//! Why not a gossip library: foca (SWIM) and chitchat (Scuttlebutt) assume that any member can send a datagram to any
//! other, and call a member dead that does not answer. Here a peer may be several hops away for good and accept no
//! connection. Neither signs what a member says. Kept of both: only the owner raises the version of its entries, and
//! rumours go to a few.

mod gossip;
mod store;
mod timers;

use std::{collections::VecDeque, fmt, mem, net::Ipv4Addr, sync::Arc, time::Duration};

use self::{
    gossip::Gossip,
    store::Alive,
    timers::{COPY_SHOWN, RECOVERY_PAUSE},
};
use super::{
    command::ChannelStatus,
    ids::{SessionId, Severity},
    key::SecretKey,
    name::{PeerId, PeerName},
    params::Identity,
    queue,
    rng::Rng,
    throttle::Throttle,
    time::Instant,
    wire::{
        Delta, EntryKey, Message, Version, clean,
        entry::{
            ADDRS_MAX, Entry, PEERS, PeerRecord, ReportedSession, SESSIONS_MAX, Verifier, sign, sign_record, signer,
        },
    },
};

/// Records sent to a peer that is refused for want of room.
const SAMPLE: usize = 16;

/// What the rest of the core must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MembershipEvent {
    /// A peer is new, or its record gives other addresses, ports or MTU.
    Moved(PeerName),
    /// The record of a peer may report other sessions and paths.
    Reports(PeerName),
    /// A peer has a new entry in a channel that a module of this peer reads.
    Channel(PeerId, &'static str, Vec<u8>),
    /// This peer's own record has a new version.
    Published,
    Log(Severity, String),
}

#[derive(Debug)]
pub(crate) struct Membership {
    /// This peer's record as its next version will have it.
    me: PeerRecord,
    key: SecretKey,
    /// The last version, signed.
    raw: Arc<[u8]>,
    publish_at: Option<Instant>,
    throttle: Throttle,
    gossip: Gossip,
    recovery: Recovery,
    /// Sequence of this peer's last entry in a channel.
    channel_sequence: u64,
    events: VecDeque<MembershipEvent>,
}

impl Membership {
    /// Only this peer. `port` is its control port, `channels` are those that other modules read.
    pub(crate) fn new(
        identity: Identity,
        port: u16,
        channels: Vec<&'static str>,
        verifier: Arc<dyn Verifier>,
        rng: Rng,
        now: Instant,
    ) -> Self {
        let me = PeerRecord {
            name: identity.name,
            uid: identity.uid,
            incarnation: identity.incarnation,
            nickname: clean(&identity.nickname),
            control_port: port,
            data_port: port.saturating_add(1),
            ..PeerRecord::default()
        };
        let mut membership = Self {
            gossip: Gossip::new(me.name, channels, verifier, rng, now),
            me,
            key: identity.key,
            raw: Arc::from([]),
            publish_at: None,
            throttle: Throttle::new(now),
            recovery: Recovery::default(),
            channel_sequence: 0,
            events: VecDeque::new(),
        };
        membership.publish(now);
        membership
    }

    pub(crate) fn poll_event(&mut self) -> Option<MembershipEvent> {
        while let Some((entry, before)) = self.gossip.poll_update() {
            if let Some(record) = entry.record() {
                let before = before.as_ref().and_then(|before| before.record());
                let moved = before.is_none_or(|before| !before.is_found_like(record));
                let event = if moved { MembershipEvent::Moved } else { MembershipEvent::Reports };
                self.events.push_back(event(record.name));
            }
            self.announce(&entry);
        }
        queue::pop(&mut self.events)
    }

    pub(crate) fn poll_send(&mut self) -> Option<(SessionId, Message)> {
        self.gossip.poll_send()
    }

    /// This peer's own record, as its next version will have it.
    pub(crate) fn me(&self) -> &PeerRecord {
        &self.me
    }

    /// The record of a peer; of this one its last version.
    pub(crate) fn record(&self, peer: PeerName) -> Option<&PeerRecord> {
        self.gossip.store.record(peer)
    }

    /// The records of all other peers, in no order that means anything, but the same in every run.
    pub(crate) fn others(&self) -> impl Iterator<Item = &PeerRecord> {
        self.gossip.store.records().filter(|record| record.name != self.me.name)
    }

    pub(crate) fn retained(&self) -> impl Iterator<Item = &PeerRecord> {
        self.gossip.store.retained()
    }

    /// Names of all peers known, this one among them, in no order that means anything.
    pub(crate) fn names(&self) -> impl Iterator<Item = PeerName> {
        self.gossip.store.names()
    }

    pub(crate) fn known(&self) -> usize {
        self.gossip.store.owners()
    }

    /// The nickname of a peer, or nothing.
    pub(crate) fn nickname(&self, peer: PeerName) -> String {
        let record = if peer == self.me.name { Some(&self.me) } else { self.record(peer) };
        record.map_or_else(String::new, |record| record.nickname.clone())
    }

    pub(crate) fn key_of(&self, peer: PeerName) -> Option<super::key::PublicKey> {
        let key = EntryKey { owner: peer, channel: PEERS.into() };
        self.gossip.store.get(&key).and_then(|held| signer(&held.raw))
    }

    pub(crate) fn channels(&self) -> Vec<ChannelStatus> {
        self.gossip.channels()
    }

    pub(crate) fn warning(&self, now: Instant) -> Option<String> {
        self.recovery.warning(now)
    }

    /// This host's underlay addresses, and the MTU in bytes of its devices.
    pub(crate) fn set_place(&mut self, addrs: &[Ipv4Addr], mtu: u32, now: Instant) {
        let addrs = &addrs[..addrs.len().min(ADDRS_MAX)];
        if self.me.addrs != addrs || self.me.mtu != mtu {
            (self.me.addrs, self.me.mtu) = (addrs.to_vec(), mtu);
            self.touch(now);
        }
    }

    /// This peer's sessions, and the peers to which it has a direct path that answers.
    pub(crate) fn set_adjacencies(
        &mut self,
        mut sessions: Vec<ReportedSession>,
        mut paths: Vec<PeerName>,
        now: Instant,
    ) {
        sessions.truncate(SESSIONS_MAX);
        paths.truncate(SESSIONS_MAX);
        if self.me.sessions != sessions || self.me.paths != paths {
            (self.me.sessions, self.me.paths) = (sessions, paths);
            self.touch(now);
        }
    }

    /// This peer's signed record, with its addresses as they are now: for a handshake.
    pub(crate) fn own_entry(&mut self, now: Instant) -> Arc<[u8]> {
        // Sessions are not published here: one may take another's place right now.
        let published = self.record(self.me.name);
        if published.is_none_or(|published| !published.is_found_like(&self.me)) {
            self.publish(now);
        }
        Arc::clone(&self.raw)
    }

    /// Puts `data` into `channel`, in place of this peer's former entry there.
    pub(crate) fn set_channel(&mut self, channel: &'static str, data: Vec<u8>, now: Instant) {
        self.channel_sequence += 1;
        let version = (self.me.incarnation, self.channel_sequence);
        let raw = sign(&self.key, self.me.name, channel, version, data);
        self.spread(&raw, format_args!("an entry of channel {channel}"), now);
    }

    /// An entry of `channel` could not be used: it is counted there, and changes nothing else.
    pub(crate) fn channel_error(&mut self, channel: &str, what: &str) {
        self.gossip.error(channel, what);
    }

    /// A session is up, to the peer whose record is `entry`.
    pub(crate) fn session_up(&mut self, session: SessionId, entry: Arc<Entry>, dialled: bool, now: Instant) {
        // The peer at the other end is alive: another store of its name does not keep it out.
        self.gossip.hold(entry, Some(session), &|_, _| false, now);
        self.gossip.session_up(session, dialled, now);
    }

    pub(crate) fn session_down(&mut self, session: SessionId) {
        self.gossip.sessions.remove(&session);
    }

    /// A peer is refused for want of room: its record is taken in all the same, because others may have room. Returns
    /// records of others for it.
    pub(crate) fn introduce(&mut self, session: SessionId, entry: Arc<Entry>, alive: Alive<'_>, now: Instant) -> Delta {
        self.gossip.hold(entry, Some(session), alive, now);
        self.gossip.sample(SAMPLE)
    }

    pub(crate) fn message(&mut self, session: SessionId, message: Message, alive: Alive<'_>, now: Instant) {
        self.gossip.message(session, message, alive, now);
        if let Some(version) = self.gossip.foreign.take() {
            self.recover(version, now);
        }
    }

    /// A peer is not part of the network any more: its entries are retained for a while.
    pub(crate) fn forget(&mut self, peer: PeerName, now: Instant) {
        self.gossip.store.forget(peer, now);
    }

    /// A peer whose entries are retained is part of the network again.
    pub(crate) fn restore(&mut self, peer: PeerName) {
        if !self.gossip.store.restore(peer) {
            return;
        }
        self.events.push_back(MembershipEvent::Moved(peer));
        for entry in self.gossip.store.of(peer).cloned().collect::<Vec<_>>() {
            self.announce(&entry);
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.publish_at.is_some_and(|at| at <= now) {
            self.publish(now);
        }
        self.gossip.handle_timeout(now);
    }

    pub(crate) fn poll_timeout(&self) -> Instant {
        self.gossip.poll_timeout().min(self.publish_at.unwrap_or_else(|| self.gossip.poll_timeout()))
    }

    /// This peer's record changed: sign and send it soon.
    fn touch(&mut self, now: Instant) {
        let at = (now + timers::PUBLISH_AFTER).max(self.throttle.next(self.known()));
        self.publish_at.get_or_insert(at);
    }

    fn publish(&mut self, now: Instant) {
        self.publish_at = None;
        let recovers = self.recovery.finish();
        // A session that came and went, or a change that was taken back, is nothing to send to all peers.
        if !recovers && self.record(self.me.name).is_some_and(|published| *published == self.me) {
            return;
        }
        self.throttle.step(self.known(), now);
        self.me.sequence += 1;
        self.raw = sign_record(&self.key, &self.me).into();
        self.spread(&Arc::clone(&self.raw), format_args!("this peer's own record"), now);
        self.events.push_back(MembershipEvent::Published);
        if recovers {
            for entry in self.gossip.store.of(self.me.name).cloned().collect::<Vec<_>>() {
                if let (Some(channel), Some(data)) = (self.gossip.reader(&entry.key.channel), entry.data()) {
                    self.set_channel(channel, data, now);
                }
            }
        }
    }

    /// Spreads an entry that this peer signed.
    fn spread(&mut self, raw: &[u8], what: fmt::Arguments<'_>, now: Instant) {
        match self.gossip.verifier.open(raw) {
            Ok(entry) => self.gossip.publish(entry, now),
            Err(error) => self.log(Severity::Warn, format!("{what} cannot be sent: {error}")),
        }
    }

    /// Others hold `version` under this peer's key, which it did not make in this run.
    fn recover(&mut self, version: Version, now: Instant) {
        let newer = (version.incarnation, version.sequence);
        (self.me.incarnation, self.me.sequence) = newer.max((self.me.incarnation, self.me.sequence));
        self.channel_sequence = self.channel_sequence.max(version.sequence);
        let Some(pause) = self.recovery.begin(now) else { return };
        self.publish_at = Some(now + pause);
        let text = "others hold a newer record of this peer than it sent in this run: its store is older, or a copy; \
                    continuing from the newest version";
        self.log(Severity::Warn, text.to_owned());
    }

    /// Passes an entry on to the module that reads its channel.
    fn announce(&mut self, entry: &Entry) {
        let Some(channel) = self.gossip.reader(&entry.key.channel) else { return };
        let Some(data) = entry.data() else { return };
        let from = PeerId { name: entry.key.owner, uid: entry.uid };
        self.events.push_back(MembershipEvent::Channel(from, channel, data));
    }

    fn log(&mut self, severity: Severity, text: String) {
        self.events.push_back(MembershipEvent::Log(severity, text));
    }
}

/// Most doublings of the pause.
const DOUBLINGS_MAX: u32 = 7;
/// Recoveries that are more than a restored store needs.
const SUSPICIOUS: u32 = 3;

/// Sequence recovery of this peer's own record (RFC 2328, section 13.4): others hold newer entries signed with its key than
/// it made in this run, because its store was restored from a backup, or another controller runs with a copy of it. They
/// ignore what this peer says until its version is higher, so it continues from the highest version received. Of two
/// controllers with one store each does, again and again: less and less often, and both warn.
#[derive(Debug, Default)]
struct Recovery {
    times: u32,
    last: Instant,
    /// All own entries are to be signed anew.
    pending: bool,
}

impl Recovery {
    /// A higher version was received: when to publish one above it. `None` while that is pending.
    fn begin(&mut self, now: Instant) -> Option<Duration> {
        if self.pending {
            return None;
        }
        if now.since(self.last) >= COPY_SHOWN {
            self.times = 0;
        }
        let pause = RECOVERY_PAUSE * (1 << self.times.min(DOUBLINGS_MAX));
        *self = Self { times: self.times.saturating_add(1), last: now, pending: true };
        Some(pause)
    }

    /// The record was published; true when all other own entries must be, too.
    fn finish(&mut self) -> bool {
        mem::take(&mut self.pending)
    }

    fn warning(&self, now: Instant) -> Option<String> {
        let text = "another controller uses this one's name and key, so its store is a copy: stop one of the two, and \
                    launch it with an empty --state-dir";
        (self.times >= SUSPICIOUS && now.since(self.last) < COPY_SHOWN).then(|| text.to_owned())
    }
}

#[cfg(test)]
mod tests;
