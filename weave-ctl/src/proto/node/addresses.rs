//! Addresses: from what containers need to the ring, the election and the other peers, and back.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use super::{
    Node,
    alive::{Witnesses, with_peers},
};
use crate::proto::{
    command::{AddrRequest, Answer, Refusal},
    election::Vote,
    endpoints::{Means, Purpose},
    ids::{RequestId, SessionId, Severity},
    io::{Output, Record},
    ipam::{
        Keeper, Ring, Share,
        allocator::{Access, Need},
        keeper::KeeperEvent,
        ring::Part,
        special,
    },
    name::{PeerId, PeerName},
    params::Init,
    requests::MessageError,
    time::Instant,
    wire::{
        Message, RingMessage,
        entry::{Channel, Entry, EntryKey},
    },
};

/// Most rounds in which one module's events make others of another.
const ROUNDS_MAX: usize = 16;

/// With what addresses and interfaces are given now.
fn means(keeper: &Keeper, leaving: bool, mtu: u32, now: Instant) -> Means<'_> {
    Means { access: if leaving { Access::Leaving } else { keeper.access() }, mtu, now }
}

impl Node {
    /// Asks for addresses: to be held, or with the interface of a container.
    pub(super) fn ask_for(&mut self, id: RequestId, purpose: Purpose, addrs: Vec<AddrRequest>, now: Instant) {
        if let Err(refusal) = self.check_fixed(&addrs) {
            return self.reply(id, Err(refusal));
        }
        self.endpoints.set_granted(self.keeper.granted());
        let means = means(&self.keeper, self.is_leaving(), self.container_mtu(), now);
        self.endpoints.ask_for(id, purpose, addrs, &means);
    }

    /// Refuses what no container is given.
    fn check_fixed(&self, addrs: &[AddrRequest]) -> Result<(), Refusal> {
        for addr in addrs {
            let AddrRequest::Fixed(addr, length) = addr else { continue };
            let held = self.endpoints.allocator().holder(*addr).is_some();
            if let Some(why) = length.filter(|_| !held).and_then(|length| self.never_given(*addr, length)) {
                return Err(Refusal(format!("address {addr} is given to no container: {why}; nothing was changed")));
            }
        }
        Ok(())
    }

    /// Why an address outside the range is given to no container at all.
    fn never_given(&self, addr: Ipv4Addr, length: u8) -> Option<String> {
        if self.params.range.contains(&addr) {
            return None;
        }
        if let Some(why) = special(addr, length) {
            return Some(why);
        }
        if self.own_addrs.contains(&addr) {
            return Some("this host has it in the underlay".to_owned());
        }
        if let Some(net) = self.on_link.iter().find(|net| net.contains(&addr)) {
            return Some(format!("{} is a subnet of the underlay on this host", net.trunc()));
        }
        let of = self.membership.others().find(|record| record.addrs.contains(&addr)).map(|record| record.name)?;
        Some(format!("the host of peer {} has it in the underlay", self.called(of)))
    }

    /// The nickname of `peer`, also when it is gone.
    pub(super) fn nickname(&self, peer: PeerName) -> String {
        let current = self.membership.nickname(peer);
        if current.is_empty() { self.nicknames.get(&peer).cloned().unwrap_or_default() } else { current }
    }

    /// Those of all peers that have one.
    pub(super) fn nicknames(&self) -> BTreeMap<PeerName, String> {
        let current =
            self.membership.others().chain([self.membership.me()]).filter(|record| !record.nickname.is_empty());
        let current = current.map(|record| (record.name, record.nickname.clone()));
        self.nicknames.clone().into_iter().chain(current).collect()
    }

    /// Name and nickname, as operators read them.
    pub(super) fn called(&self, peer: PeerName) -> String {
        format!("{peer}({})", self.nickname(peer))
    }

    /// Carries needs, votes and changes of the ring between the modules until all are quiet.
    pub(super) fn pump_addresses(&mut self, now: Instant) {
        let mtu = self.container_mtu();
        for _ in 0..ROUNDS_MAX {
            self.look_for_ring(now);
            if std::mem::take(&mut self.ring_changed) || self.endpoints.freed() {
                self.endpoints.set_granted(self.keeper.granted());
                let means = means(&self.keeper, self.is_leaving(), mtu, now);
                self.endpoints.retry(&means);
            }
            let means = means(&self.keeper, self.is_leaving(), mtu, now);
            self.endpoints.restore_host(self.keeper.has_caught_up(), &means);
            self.pump_leaving(now);
            let Self { sessions, membership, topology, paths, keeper, endpoints, .. } = self;
            let witnesses = Witnesses { sessions, membership, topology, paths, now };
            let (allocator, needs) = (endpoints.allocator(), endpoints.needs());
            keeper.set_wanted(endpoints.fixed());
            with_peers(witnesses, |peers| keeper.turn(allocator, needs, peers, now));
            let mut quiet = !self.ring_changed;
            self.requests.want(&self.keeper.requests(), self.keeper.owned(), now);
            while let Some(event) = self.keeper.poll_event() {
                quiet = false;
                self.keeper_event(event, now);
            }
            if quiet {
                break;
            }
        }
    }

    pub(super) fn keeper_event(&mut self, event: KeeperEvent, now: Instant) {
        match event {
            KeeperEvent::Ring(ring) => {
                self.datapath.set_ring(&ring, self.me.name);
                self.forget_names_of_removed(&ring);
                self.out.push_back(Output::Persist(Record::Ring(ring)));
                self.ring_changed = true;
                if let Some(election) = &mut self.election {
                    election.over();
                }
            }
            KeeperEvent::Tell(part, except) => self.sessions.broadcast(&Message::Ring(message(part, false)), except),
            KeeperEvent::Send(session, part, whole) => {
                self.sessions.send(session, &Message::Ring(message(part, whole)))
            }
            KeeperEvent::SendSum(session, sum) => self.sessions.send(session, &Message::RingDigest(sum)),
            KeeperEvent::Compare(sum) => {
                if let Some(session) = self.sessions.any() {
                    self.sessions.send(session, &Message::RingDigest(sum));
                }
            }
            KeeperEvent::Hint(bytes) => self.membership.set_entry(Channel::Space, "", Some(&bytes), now),
            KeeperEvent::Respond(to, request, result) => self.requests.respond(to, request, result),
            KeeperEvent::Claim(addr, held) => {
                let value: Option<&[u8]> = if held { Some(&[]) } else { None };
                self.membership.set_entry(Channel::Claims, &addr.to_string(), value, now);
            }
            KeeperEvent::Denied(need, why) => self.endpoints.deny(need, &why),
            KeeperEvent::NoSpace(subnet) => self.endpoints.give_way(subnet),
            KeeperEvent::Grant(addr, Some(holder)) => self.out.push_back(Output::Persist(Record::Grant(addr, holder))),
            KeeperEvent::Grant(addr, None) => self.out.push_back(Output::Persist(Record::GrantGone(addr))),
            KeeperEvent::Inherited(all) => self.out.push_back(Output::Persist(Record::Inherited(all))),
            KeeperEvent::Granted => self.ring_changed = true,
            KeeperEvent::Released => self.refresh_exceptions(),
            KeeperEvent::Refused(from, what) => self.refused(from, &what, now),
            KeeperEvent::Left(result) => self.left(result, now),
            KeeperEvent::Log(severity, text) => self.log(severity, text),
        }
    }

    pub(super) fn ring_received(&mut self, session: SessionId, from: PeerName, message: RingMessage, now: Instant) {
        if !self.keeper.grants(from, now) {
            return self.dropped(from, MessageError::OverBound, "more messages of the ring than are looked at", now);
        }
        let RingMessage { range, origin, shares, limits, removed, whole } = message;
        let share = |(generation, epoch, owner, from)| Share { generation, epoch, owner, from };
        let shares = shares.into_iter().map(|(token, told)| (token, share(told))).collect();
        self.keeper.heard(session, from, &Part { range, origin, shares, limits, removed }, whole);
        self.ring_changed = true;
    }

    /// Passes an entry of another peer on to the module that reads its channel; without a value it is gone.
    pub(super) fn entry_received(&mut self, entry: &Entry, value: Option<&[u8]>) {
        let EntryKey { owner, channel, key } = &entry.key;
        let from = PeerId { name: *owner, uid: entry.uid };
        let read = match (channel, value) {
            (Channel::Peers | Channel::Unknown(_), _) | (Channel::Election, None) => Ok(()),
            (Channel::Election, Some(value)) => Vote::decode(value).map(|vote| {
                self.election.iter_mut().for_each(|election| election.heard(from, vote.clone()));
            }),
            (Channel::Space, value) => {
                self.remember_nickname(*owner);
                self.keeper.heard_hint(from, value)
            }
            // What this peer says itself is known.
            (Channel::Dns, _) if *owner == self.me.name => Ok(()),
            (Channel::Dns, value) => {
                let removed = self.keeper.ring().is_some_and(|ring| ring.is_removed(from));
                self.dns.received(*owner, key, value.filter(|_| !removed))
            }
            (Channel::Claims, value) => key.parse().map_err(|e| format!("{key}: {e}")).map(|addr| {
                let held = value.is_some() && !self.keeper.ring().is_some_and(|ring| ring.is_removed(from));
                if !held {
                    self.keeper.claim_gone(from, addr);
                }
                if self.keeper.claims_mut().received(*owner, addr, held) {
                    self.refresh_exception(addr);
                }
            }),
        };
        if let Err(error) = read {
            self.membership.channel_error(channel, &format!("of {owner}: {error}"));
        }
    }

    /// Peers that own something are known by nickname also when they are gone.
    fn remember_nickname(&mut self, peer: PeerName) {
        let nickname = self.membership.nickname(peer);
        if self.keeper.owns(peer) && !nickname.is_empty() && self.nicknames.get(&peer) != Some(&nickname) {
            self.nicknames.insert(peer, nickname);
            self.out.push_back(Output::Persist(Record::Nicknames(self.nicknames.clone())));
        }
    }

    fn refresh_exception(&mut self, addr: Ipv4Addr) {
        let elsewhere = self.keeper.claims().of(addr).filter(|_| self.endpoints.allocator().holder(addr).is_none());
        self.datapath.set_exception(addr, elsewhere);
    }

    pub(super) fn refresh_exceptions(&mut self) {
        let own: BTreeSet<_> = self.endpoints.allocator().exceptions().collect();
        let others = self.keeper.claims().iter().filter(|(addr, _)| !own.contains(addr));
        let others = others.collect();
        self.datapath.set_exceptions(others);
    }

    /// When a ring is needed: divides the range alone, or takes part in an election.
    fn look_for_ring(&mut self, now: Instant) {
        if self.keeper.ring().is_some() {
            return;
        }
        let needed = self.ring_wanted || self.endpoints.needs().contains(&Need::Ring);
        let alone = self.is_alone();
        if needed && alone && self.params.init == Init::Undeclared {
            self.begin_ring(&[self.me]);
        }
        if let Some(election) = &mut self.election {
            if needed {
                election.need();
            }
            let turn = election.turn(now);
            if let Some(vote) = turn.vote {
                let bytes = vote.encode();
                self.out.push_back(Output::Persist(Record::Vote(vote)));
                self.membership.set_entry(Channel::Election, "", Some(&bytes), now);
            }
            if let Some(origin) = turn.decided {
                self.begin_ring(&origin);
            }
        }
        let waiting = self.waiting_for_ring();
        self.keeper.set_waiting(waiting);
    }

    fn begin_ring(&mut self, origin: &[PeerId]) {
        match Ring::from_origin(self.params.range, origin) {
            Ok(ring) => {
                let names: Vec<PeerName> = ring.origin.iter().map(|id| id.name).collect();
                self.log(Severity::Info, format!("divided {} among {names:?}", ring.range));
                self.keeper.begin(ring);
            }
            Err(error) => self.log(Severity::Warn, format!("the range cannot be divided: {error}")),
        }
    }

    /// No target, no session.
    fn is_alone(&self) -> bool {
        self.sessions.targets().is_empty() && self.sessions.connected().is_empty()
    }

    /// What is waited for while there is no ring.
    pub(super) fn waiting_for_ring(&self) -> String {
        let Some(election) = &self.election else {
            return if self.is_alone() {
                "idle: this peer divides the range alone when the first address is needed".to_owned()
            } else {
                "awaiting the ring of another peer; when none has one, `stop` one peer and launch it again with \
                 --initial-peer-count 1"
                    .to_owned()
            };
        };
        match (election.trouble(), election.known()) {
            (Some(trouble), _) => trouble,
            (None, Some((known, quorum))) => {
                let count = if let Init::Election(count) = self.params.init { count } else { 0 };
                format!("awaiting consensus: {known} of {count} electors known (quorum: {quorum})")
            }
            (None, None) => "priming: awaiting the ring that the electors agree on".to_owned(),
        }
    }

    /// Answers a `consense`, once what it needs is under way.
    pub(super) fn consense(&mut self, id: RequestId, now: Instant) {
        self.ring_wanted = true;
        self.pump_addresses(now);
        let (ready, state) = (self.keeper.ring().is_some(), self.ipam_state(now));
        self.reply(id, Ok(Answer::Consense(ready, state)));
    }
}

fn message(part: Part, whole: bool) -> RingMessage {
    let Part { range, origin, shares, limits, removed } = part;
    let share = |Share { generation, epoch, owner, from }| (generation, epoch, owner, from);
    let shares = shares.into_iter().map(|(token, held)| (token, share(held))).collect();
    RingMessage { range, origin, shares, limits, removed, whole }
}
