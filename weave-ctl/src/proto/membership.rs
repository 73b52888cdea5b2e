//! Membership: knows all peers by signed records, signs this peer's own, and spreads both by gossip.
//!
//! A record gives a peer's addresses, sessions and paths; other modules put entries of their own into channels, one a key,
//! and delete them. `rumours` and `gossip` spread entries, `store` holds them. All entries of a peer, its record among them, are numbered
//! in one row ([`Point`]). The own record is signed anew [`timers::PUBLISH_AFTER`] after something in it changed, as often
//! as [`Throttle`] allows. Tombstones are kept for [`TOMBSTONES_FOR`]; then the record's floor rises above them.
//! [`FLOOR_AFTER`] a launch it rises above all that earlier launches said. Bounds: those of `gossip` and `store`; the pause
//! of a recovery doubles up to [`DOUBLINGS_MAX`] times.
//!
//! Why not a gossip library: foca (SWIM) and chitchat (Scuttlebutt) assume that any member can send a datagram to any
//! other, and call a member dead that does not answer. Here a peer may be several hops away for good and accept no
//! connection. Neither signs what a member says. Kept of both: only the owner raises the version of its entries, and
//! rumours go to a few.

mod gossip;
mod rumours;
mod store;
mod timers;

use std::{collections::VecDeque, fmt, mem, net::Ipv4Addr, sync::Arc, time::Duration};

use self::{
    gossip::{Gossip, Update},
    rumours::Source,
    store::Alive,
    timers::{COPY_SHOWN, FLOOR_AFTER, RECOVERY_PAUSE, TOMBSTONES_FOR},
};
use super::{
    ids::{SessionId, Severity},
    key::SecretKey,
    name::PeerName,
    params::Identity,
    queue,
    rng::Rng,
    status::ChannelStatus,
    throttle::Throttle,
    time::Instant,
    wire::{
        Delta, Message, clean,
        entry::{
            ADDRS_MAX, Channel, Entry, EntryKey, PeerRecord, Point, ReportedSession, SESSIONS_MAX, Verifier,
            record_key, sign, sign_record, signer,
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
    /// A peer has a new entry in a channel other than that of records; a tombstone when it deleted one.
    Entry(Arc<Entry>),
    /// An entry of a peer is gone.
    Gone(Arc<Entry>),
    /// Everything that a peer has said is held.
    Whole(PeerName),
    /// This peer's own record has a new version.
    Published,
    /// A peer sent entries that cannot be used.
    Refused(SessionId, String),
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
    /// That of this peer's last entry, whatever its channel.
    last: Point,
    /// Tombstones of this peer that are kept, oldest first.
    tombstones: VecDeque<(Instant, Point)>,
    floor_at: Instant,
    events: VecDeque<MembershipEvent>,
}

impl Membership {
    /// Only this peer. `port` is its control port.
    pub(crate) fn new(identity: Identity, port: u16, verifier: Arc<dyn Verifier>, rng: Rng, now: Instant) -> Self {
        let me = PeerRecord {
            name: identity.name,
            uid: identity.uid,
            point: Point(identity.incarnation, 0),
            nickname: clean(&identity.nickname),
            control_port: port,
            data_port: port.saturating_add(1),
            ..PeerRecord::default()
        };
        let mut membership = Self {
            gossip: Gossip::new(me.name, verifier, rng, now),
            last: me.point,
            me,
            key: identity.key,
            raw: Arc::from([]),
            publish_at: None,
            throttle: Throttle::new(now),
            recovery: Recovery::default(),
            tombstones: VecDeque::new(),
            floor_at: now + FLOOR_AFTER,
            events: VecDeque::new(),
        };
        membership.publish(now);
        membership
    }

    pub(crate) fn poll_event(&mut self) -> Option<MembershipEvent> {
        while let Some(update) = self.gossip.poll_update() {
            self.events.extend(event(update));
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

    /// The same, as their owners signed them: they can be held on to without a copy.
    pub(crate) fn other_entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.gossip.store.record_entries().filter(|entry| entry.key.owner != self.me.name)
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

    /// Entries of this peer and their bound; bytes of all entries and theirs.
    pub(crate) fn sizes(&self) -> [(usize, usize); 2] {
        let store = &self.gossip.store;
        [(store.of(self.me.name).count(), store::ENTRIES_MAX), (store.bytes(), store::BYTES_MAX)]
    }

    /// The nickname of a peer, or nothing.
    pub(crate) fn nickname(&self, peer: PeerName) -> String {
        let record = if peer == self.me.name { Some(&self.me) } else { self.record(peer) };
        record.map_or_else(String::new, |record| record.nickname.clone())
    }

    pub(crate) fn key_of(&self, peer: PeerName) -> Option<super::key::PublicKey> {
        self.gossip.store.get(&record_key(peer)).and_then(|held| signer(&held.raw))
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

    /// What `peer` says under `key`; nothing where it does not.
    pub(crate) fn value(&self, peer: PeerName, channel: Channel, key: &str) -> Option<&[u8]> {
        self.gossip.store.get(&EntryKey { owner: peer, channel, key: key.into() })?.value()
    }

    /// Says `value` under `key`, in place of this peer's former entry there; `None` deletes that.
    pub(crate) fn set_entry(&mut self, channel: Channel, key: &str, value: Option<&[u8]>, now: Instant) {
        let key = EntryKey { owner: self.me.name, channel, key: key.into() };
        let held = self.gossip.store.get(&key);
        let same = match (held, value) {
            (Some(held), Some(value)) => held.value() == Some(value),
            (Some(held), None) => held.is_tombstone(),
            (None, value) => value.is_none(),
        };
        if !same {
            self.sign(key, value, now);
        }
    }

    fn sign(&mut self, key: EntryKey, value: Option<&[u8]>, now: Instant) {
        self.last.1 += 1;
        if value.is_none() {
            self.tombstones.push_back((now, self.last));
        }
        let what = format!("the entry {} of channel {}", key.key, key.channel.name());
        let raw = sign(&self.key, key, self.last, value);
        self.spread(&raw, format_args!("{what}"), now);
    }

    /// An entry of `channel` could not be used: it is counted there, and changes nothing else.
    pub(crate) fn channel_error(&mut self, channel: &Channel, what: &str) {
        self.gossip.error(channel.name(), what);
    }

    /// A session is up, to the peer whose record is `entry`.
    pub(crate) fn session_up(&mut self, session: SessionId, entry: Arc<Entry>, dialled: bool, now: Instant) {
        // The peer at the other end is alive: another store of its name does not keep it out.
        let peer = entry.key.owner;
        self.gossip.hold(entry, Source::Session(session), false, &|_, _| false, now);
        self.gossip.session_up(session, peer, dialled, now);
    }

    pub(crate) fn session_down(&mut self, session: SessionId) {
        self.gossip.sessions.remove(&session);
    }

    /// A peer is refused for want of room: its record is taken in all the same, because others may have room. Returns
    /// records of others for it.
    pub(crate) fn introduce(&mut self, session: SessionId, entry: Arc<Entry>, alive: Alive<'_>, now: Instant) -> Delta {
        self.gossip.hold(entry, Source::Session(session), false, alive, now);
        self.gossip.sample(SAMPLE)
    }

    pub(crate) fn message(&mut self, session: SessionId, message: Message, alive: Alive<'_>, now: Instant) {
        self.gossip.message(session, message, alive, now);
        let refused = self.gossip.refused.take();
        self.events.extend(refused.map(|(session, what)| MembershipEvent::Refused(session, what)));
        if let Some(point) = self.gossip.foreign.take() {
            self.recover(point, now);
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
        let entries = self.gossip.store.of(peer).filter(|entry| entry.key.channel != Channel::Peers);
        self.events.extend(entries.cloned().map(MembershipEvent::Entry));
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.floor_due().is_some_and(|at| at <= now) {
            self.raise_floor(now);
        }
        if self.publish_at.is_some_and(|at| at <= now) {
            self.publish(now);
        }
        self.gossip.handle_timeout(now);
    }

    pub(crate) fn poll_timeout(&self) -> Instant {
        self.publish_at.into_iter().chain(self.floor_due()).fold(self.gossip.poll_timeout(), Instant::min)
    }

    fn floor_due(&self) -> Option<Instant> {
        let oldest = self.tombstones.front().map(|(since, _)| *since + TOMBSTONES_FOR);
        if self.me.floor.0 < self.last.0 { Some(self.floor_at) } else { oldest }
    }

    /// What earlier launches said was said anew by now, or not; and of tombstones the older half goes, because each new
    /// floor is a new record.
    fn raise_floor(&mut self, now: Instant) {
        let mut floor = Point(self.last.0, 0).max(self.me.floor);
        while let Some((_, point)) = self.tombstones.pop_front_if(|(since, _)| now.since(*since) >= TOMBSTONES_FOR / 2)
        {
            floor = floor.max(point);
        }
        self.me.floor = floor;
        self.touch(now);
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
        self.last.1 += 1;
        self.me.point = self.last;
        self.raw = sign_record(&self.key, &self.me).into();
        // The floor of the new record may end them.
        let again = if recovers { self.gossip.store.of(self.me.name).skip(1).cloned().collect() } else { Vec::new() };
        self.spread(&Arc::clone(&self.raw), format_args!("this peer's own record"), now);
        self.events.push_back(MembershipEvent::Published);
        for entry in again {
            self.sign(entry.key.clone(), entry.value(), now);
        }
    }

    /// Spreads an entry that this peer signed.
    fn spread(&mut self, raw: &[u8], what: fmt::Arguments<'_>, now: Instant) {
        match self.gossip.verifier.open(raw) {
            Ok(entry) => self.gossip.publish(entry, now),
            Err(error) => self.log(Severity::Warn, format!("{what} cannot be sent: {error}")),
        }
    }

    /// Others hold an entry of `point` under this peer's key, which it did not make in this run.
    fn recover(&mut self, point: Point, now: Instant) {
        self.last = self.last.max(point);
        // All own entries are signed anew: what is older is not this peer's word any more.
        self.me.floor = self.me.floor.max(self.last);
        let Some(pause) = self.recovery.begin(now) else { return };
        self.publish_at = Some(now + pause);
        let text = "others hold a newer record of this peer than it sent in this run: its store is older, or a copy; \
                    continuing from the newest version";
        self.log(Severity::Warn, text.to_owned());
    }

    fn log(&mut self, severity: Severity, text: String) {
        self.events.push_back(MembershipEvent::Log(severity, text));
    }
}

fn event(update: Update) -> Option<MembershipEvent> {
    let (entry, before) = match update {
        Update::New(entry, before) => (entry, before),
        Update::Dropped(entry) if entry.is_tombstone() => return None,
        Update::Dropped(entry) => return Some(MembershipEvent::Gone(entry)),
        Update::Whole(owner) => return Some(MembershipEvent::Whole(owner)),
    };
    if entry.key.channel != Channel::Peers {
        return Some(MembershipEvent::Entry(entry));
    }
    let record = entry.record()?;
    let before = before.as_ref().and_then(|before| before.record());
    let moved = before.is_none_or(|before| !before.is_found_like(record));
    Some(if moved { MembershipEvent::Moved(record.name) } else { MembershipEvent::Reports(record.name) })
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
