//! What follows from news: whom packets are accepted from, and which way they leave.
//!
//! ```text
//! straight, while the peer's data port answers
//! else straight as before, where that worked, and no path of links reaches the peer, or its host ended its last link and
//!      nothing was heard of it since: that host was there, so its controller is gone alone
//! else through the first hop of established links, unless its word may be old ([`super::doubts`])
//! else through the relay in use, while that one answers, if it lost its link to the peer and nothing else for all it tells
//! else straight, where that ever worked and was not disproved ([`DISPROVED_AFTER`]), or through the first hop of links that
//!      those who answer nobody told of last: controllers may be gone alone, and their kernels go on. First straight to
//!      whom others hear of, as it may only stand still; first through the hop to whom nobody hears of. A hop to which no
//!      straight way ever worked is sent to at the first address that it tells
//! else as before
//! else straight to the first address it tells: better than nowhere
//! ```
//! So trouble of control never takes a way away: only one that is known to work replaces it.
//! Bounds: [`HEARD_MAX`] addresses a peer beside those that it tells.

use std::{collections::BTreeSet, net::SocketAddrV4, time::Duration};

use weave_common::vxlan;

use super::{
    entry::{PEERS, PeerRecord, RecordLink, signer},
    gossip::News,
    hello::COLLISION_SHOWN,
    links::{Mesh, MeshEvent},
    paths::{Claim, Direct, PathEvent, PathState, PeerFacts},
    routes::{Hop, smaller},
    wire::Key,
};
use crate::proto::{
    io::{Output, Severity, TunnelTo},
    name::PeerName,
    time::Instant,
};

/// Where packets for a peer are sent to: the part of a tunnel that does not depend on this host's routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathTo {
    /// Underlay address and data port.
    pub remote: SocketAddrV4,
    /// This host's short id.
    pub short_id: u16,
    /// The receiver at `remote`: the peer itself, or a relay.
    pub via: PeerName,
    /// Packets leave from the port that probes leave from, because a NAT lets in only answers to those.
    pub translated: bool,
    /// Largest outer IP packet in bytes that was measured to pass; zero while none was.
    pub path_mtu: u32,
}

impl PathTo {
    /// The path that an earlier run wrote into the kernel.
    #[must_use]
    pub fn installed(tunnel: &TunnelTo, short_id: u16) -> Self {
        let TunnelTo { remote, via, fixed, path_mtu, .. } = *tunnel;
        Self { remote, short_id, via, translated: fixed, path_mtu }
    }
}

/// How packets for a peer leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// As the kernel is told.
    pub(super) tunnel: PathTo,
    /// It is the last straight way that worked.
    pub(super) worked: bool,
    /// It leads through a relay that told of a link to the peer over which data passes, and never that it does not.
    pub(super) adjacent: bool,
}

/// Time after which a way over established links disproves an older straight one: the peer answers others, so its
/// controller does not stand still. Of one that does, those with a link to it know within 11 s, and others some seconds
/// later.
pub(super) const DISPROVED_AFTER: Duration = Duration::from_secs(30);

/// Addresses that a peer was last heard from, beside those that it tells.
const HEARD_MAX: usize = 4;

impl Mesh {
    /// Carries news between the parts of the mesh until all are quiet.
    pub(super) fn settle(&mut self, now: Instant) {
        while let Some(News { entry, before }) = self.gossip.poll_news() {
            if let Some(record) = entry.record() {
                self.hear_record(record, before.as_ref().and_then(|before| before.record()), now);
            }
            self.heard(&entry);
        }
        if let Some(stamp) = self.gossip.take_outbid() {
            self.go_on_from(stamp, now);
        }
        while let Some(event) = self.paths.poll_event() {
            self.path_event(event, now);
        }
        if self.topology.is_due(now) {
            self.compute(now);
        }
        self.dial(now);
        while let Some((link, message)) = self.gossip.poll_send() {
            self.send(link, &message);
        }
        while let Some((to, bytes)) = self.paths.poll_probe() {
            self.out.push_back(Output::Probe { to, bytes });
        }
    }

    /// A record came, in place of the one `before`.
    fn hear_record(&mut self, record: &PeerRecord, before: Option<&PeerRecord>, now: Instant) {
        if before.is_none_or(|before| !before.is_found_like(record)) {
            return self.learn(record.name, now);
        }
        self.hear_own_address(record.name);
        // Most tell of other links alone: what those change is computed for all records together.
        self.records_changed(now);
        if self.unsteady.contains(&record.name) {
            self.refresh_way(record.name, now);
        }
    }

    /// At which address `peer` sees this host: one that is not its own is a translator's.
    fn hear_own_address(&mut self, peer: PeerName) {
        let inbound = |link: &&RecordLink| link.peer == self.me.name && !link.outbound;
        let links = self.record(peer).and_then(|record| record.links.iter().find(inbound));
        let seen = links.and_then(|link| link.address.parse::<SocketAddrV4>().ok());
        if seen.is_some_and(|seen| !self.me.addrs.is_empty() && !self.me.addrs.contains(seen.ip())) {
            self.translated_for.insert(peer);
        } else {
            self.translated_for.remove(&peer);
        }
        self.paths.set_translated(!self.translated_for.is_empty());
    }

    /// Who reaches whom may be different, and there may be somebody to dial.
    fn records_changed(&mut self, now: Instant) {
        self.topology.changed(self.gossip.store().owners(), now);
        self.look_for_peers(now);
    }

    /// The record of `peer` is new or changed.
    pub(super) fn learn(&mut self, peer: PeerName, now: Instant) {
        let Some(record) = self.gossip.store().record(peer) else { return };
        let short_id = record.short_id;
        let before = self.ways.get(&peer).map(|way| way.tunnel).filter(|way| way.via == peer && !way.translated);
        let facts = PeerFacts {
            cookie: record.cookie,
            candidates: self.told_by(record).collect(),
            before: before.map(|way| way.remote),
            probe_port: record.control_port,
            mtu: if record.mtu == 0 { 0 } else { record.mtu.saturating_add(vxlan::OVERHEAD) },
        };
        self.paths.set_peer(peer, facts, now);
        self.hear_own_address(peer);
        self.tell_senders(peer);
        self.refresh_way(peer, now);
        self.records_changed(now);
        if short_id == self.me.short_id && peer < self.me.name {
            self.choose_short_id(now);
        }
    }

    /// True when that reply was signed with the key of the peer that it names, and the question was not passed on to it by
    /// somebody else.
    pub(super) fn is_true(&self, claim: &Claim) -> bool {
        let key = Key { owner: claim.reply.sender, channel: PEERS.into() };
        let signer = self.gossip.store().get(&key).and_then(|held| signer(&held.raw));
        let ours = self.me.addrs.contains(&claim.proof.seen);
        ours && signer.is_some_and(|signer| claim.reply.is_proven(&claim.proof, &signer))
    }

    /// Where a peer's data port is as its record tells.
    fn told_by(&self, record: &PeerRecord) -> impl Iterator<Item = SocketAddrV4> {
        // Every host may have the same bridge of its container engine.
        let addrs = record.addrs.iter().filter(|addr| !self.me.addrs.contains(addr));
        addrs.map(|addr| SocketAddrV4::new(*addr, record.data_port))
    }

    /// Where a link shows that the data port of `peer` should be.
    fn shown_by_link(&self, peer: PeerName) -> Option<SocketAddrV4> {
        let mut ups = self.links.values().filter_map(|link| link.up.as_ref());
        ups.find(|up| up.peer == peer).map(|up| up.data)
    }

    fn tell_senders(&mut self, peer: PeerName) {
        // Not only where it is found now: what a link showed once outlives the link, as the translation behind it does.
        let mut from = self.paths.addresses(peer);
        if let Some(heard) = self.heard_from.get_mut(&peer) {
            heard.retain(|addr| !from.contains(addr));
            from.extend(heard.iter());
        }
        self.events.push_back(MeshEvent::Senders(peer, from));
    }

    fn path_event(&mut self, event: PathEvent, now: Instant) {
        let peer = match event {
            PathEvent::Heard(peer, addr) => {
                let heard = self.heard_from.entry(peer).or_default();
                heard.retain(|other| *other != addr);
                heard.push(addr);
                heard.drain(..heard.len().saturating_sub(HEARD_MAX));
                return self.tell_senders(peer);
            }
            PathEvent::Up(peer) | PathEvent::Down(peer) | PathEvent::Changed(peer) => peer,
        };
        match event {
            PathEvent::Down(_) => self.doubts.fell(peer, now),
            _ => self.doubts.over(peer),
        }
        if let (PathEvent::Up(_), Some(direct)) = (&event, self.paths.direct(peer)) {
            self.log(Severity::Info, format!("data port {} of {peer} answers", direct.remote));
        }
        if let PathEvent::Down(_) = event {
            let answered = match self.paths.state(peer, now) {
                PathState::Down { silent, .. } => now.since_start().checked_sub(silent).map(Instant::from_start),
                PathState::Up(_) | PathState::Untested => None,
            };
            if self.ended.get(&peer).is_some_and(|(at, _)| answered.is_some_and(|answered| answered > *at)) {
                self.ended.remove(&peer);
            }
            self.log(Severity::Info, format!("the data port of {peer} does not answer any more"));
        }
        let narrow = self.paths.narrow(peer);
        let before = match narrow {
            Some(mtu) => self.narrow.insert(peer, mtu),
            None => self.narrow.remove(&peer),
        };
        self.refresh_way(peer, now);
        if self.linked().contains(&peer) {
            // Others may be reached through it, and must be told.
            self.touch(now);
            self.refresh_ways(now);
        } else if narrow != before {
            // Those who send through here to it must not send more.
            self.touch(now);
        }
    }

    fn compute(&mut self, now: Instant) {
        let changes = self.topology.compute(&self.me, self.gossip.store_mut(), now);
        for peer in changes.gone {
            self.dialer.forgotten(peer);
            // Packets may come from there still, until the way to it is forgotten too.
            self.heard_from.entry(peer).or_default().extend(self.paths.addresses(peer));
            self.paths.remove_peer(peer);
            self.doubts.over(peer);
            self.unsteady.remove(&peer);
            self.narrow.remove(&peer);
            self.hear_own_address(peer);
            self.log(Severity::Info, format!("peer {peer} is forgotten: no path of links reached it"));
            self.events.push_back(MeshEvent::PeerGone(peer));
        }
        for peer in changes.back {
            self.learn(peer, now);
            self.heard_again(peer);
        }
        self.dialer.lost(&changes.lost.iter().copied().collect(), now, &mut self.rng);
        if !changes.lost.is_empty() {
            self.look_for_peers(now);
        }
        self.refresh_ways(now);
    }

    /// Decides anew how packets leave for those whose way may depend on others.
    fn refresh_ways(&mut self, now: Instant) {
        for peer in self.unsteady.iter().copied().collect::<Vec<_>>() {
            self.refresh_way(peer, now);
        }
    }

    /// Decides anew how packets for `peer` leave.
    pub(super) fn refresh_way(&mut self, peer: PeerName, now: Instant) {
        let before = self.ways.get(&peer).map(|way| way.tunnel);
        if self.relayed.get(&peer).is_some_and(|since| now.since(*since) >= DISPROVED_AFTER) {
            self.worked.remove(&peer);
        }
        let way = self.way(peer, before);
        let follows = |way: &PathTo| self.topology.hop(peer).is_some_and(|hop| hop.via == way.via);
        if way.is_some_and(|way| way.via != peer && follows(&way)) {
            self.relayed.entry(peer).or_insert(now);
        } else {
            self.relayed.remove(&peer);
        }
        self.ask_relay(peer);
        let works = self.paths.direct(peer).is_some();
        let last = self.last_that_worked(peer);
        // Where nothing else ever was seen to work, what is kept is the first way, whatever links do. One through a relay
        // follows links: there may be no address at which the peer could ever be tried.
        let straight = way.is_some_and(|way| way.via == peer);
        let steady = works || (straight && last.is_none() && !self.is_down(peer));
        if steady {
            self.unsteady.remove(&peer);
        } else {
            self.unsteady.insert(peer);
        }
        let Some(way) = way else { return };
        let worked = works || last.is_some_and(|last| PathTo { short_id: way.short_id, ..last } == way);
        match last.filter(|_| !worked) {
            Some(last) => self.worked.insert(peer, last),
            None => self.worked.remove(&peer),
        };
        let adjacent = way.via != peer && self.is_adjacent(way.via, peer);
        self.ways.insert(peer, Way { tunnel: way, worked, adjacent });
        if before == Some(way) {
            return;
        }
        if before.is_some_and(|before| before.via != way.via) {
            let text = if way.via == peer {
                format!("packets for {peer} go straight to {}", way.remote)
            } else {
                format!("packets for {peer} go through {} at {}", way.via, way.remote)
            };
            self.log(Severity::Info, text);
        }
        self.events.push_back(MeshEvent::Way(peer, way));
    }

    /// Nothing is sent to `peer` any more.
    pub fn forget_way(&mut self, peer: PeerName) {
        self.ways.remove(&peer);
        self.worked.remove(&peer);
        self.relayed.remove(&peer);
        self.unsteady.remove(&peer);
        self.ended.remove(&peer);
        self.heard_from.remove(&peer);
    }

    /// The last link to `peer` was ended from its side, or by its kernel.
    pub(super) fn ended_its_last_link(&mut self, peer: PeerName, now: Instant) {
        if let Some(record) = self.record(peer) {
            self.ended.insert(peer, (now, (record.incarnation, record.version)));
        }
    }

    /// True when the controller of `peer` most likely ended, and its kernel goes on: the data port answered up to the end
    /// of the last link, and nothing was heard of the peer since.
    fn is_without_controller(&self, peer: PeerName) -> bool {
        let told = self.record(peer).map(|record| (record.incarnation, record.version));
        self.ended.get(&peer).is_some_and(|(_, version)| told.is_none_or(|told| told == *version))
    }

    fn way(&self, peer: PeerName, before: Option<PathTo>) -> Option<PathTo> {
        if peer == self.me.name {
            return None;
        }
        if let Some(direct) = self.straight(peer, false) {
            return Some(direct);
        }
        let (short_id, reached) = (self.me.short_id, self.topology.reached(peer));
        if before.is_some_and(|before| before.via == peer)
            && (!reached || self.is_without_controller(peer))
            && let Some(straight) = self.straight(peer, true)
        {
            return Some(straight);
        }
        let relay = before.map(|before| before.via).filter(|relay| *relay != peer);
        let relays = before.is_none() || relay.is_some() || self.is_down(peer);
        let serves = relay.is_some_and(|relay| self.is_adjacent(relay, peer) && self.paths.direct(relay).is_some());
        let hop = self.topology.hop(peer);
        let through = |hop: Hop, first: Option<PathTo>| {
            first.map(|first| PathTo { path_mtu: smaller(hop.path_mtu, first.path_mtu), ..first })
        };
        let known = hop.filter(|hop| relays && !self.is_doubted(hop.via, peer));
        let known = known.and_then(|hop| through(hop, self.straight(hop.via, false)));
        if known.is_some() {
            return known;
        }
        if hop.is_none() && !serves {
            let straight = || self.straight(peer, true);
            let told = self.topology.last_hop(peer).filter(|_| relays);
            let last = || told.and_then(|hop| through(hop, self.straight(hop.via, true)));
            // Who is heard of and answers nobody most likely stands still, and its kernel goes on.
            let likely = if reached { straight().or_else(last) } else { last().or_else(straight) };
            // Others count on this hop, whatever worked in this run of the controller.
            let likely = likely.or_else(|| told.and_then(|hop| through(hop, self.first(hop.via))));
            if likely.is_some() {
                return likely;
            }
        }
        before.or_else(|| self.first(peer)).map(|way| PathTo { short_id, ..way })
    }

    /// The straight way to where a link shows that `peer` is, or to the first address that it tells.
    fn first(&self, peer: PeerName) -> Option<PathTo> {
        let remote = self.shown_by_link(peer).or_else(|| self.told_by(self.record(peer)?).next())?;
        Some(PathTo { remote, short_id: self.me.short_id, via: peer, translated: false, path_mtu: 0 })
    }

    /// True when `relay` had a link to `peer` over which data passed, and has not told that data does not: it may have lost
    /// no more than the link.
    fn is_adjacent(&self, relay: PeerName, peer: PeerName) -> bool {
        let mut links = self.record(relay).into_iter().flat_map(|record| &record.links);
        let before = self.ways.get(&peer).is_some_and(|way| way.tunnel.via == relay && way.adjacent);
        links.find(|link| link.peer == peer).map_or(before, |link| link.established)
    }

    /// The straight way to `peer`, while it works; or the last that did, where there is nothing better to go by.
    fn straight(&self, peer: PeerName, last: bool) -> Option<PathTo> {
        let now = self.paths.direct(peer);
        let works = now.map(|Direct { remote, translated, path_mtu, .. }| PathTo {
            remote,
            short_id: self.me.short_id,
            via: peer,
            translated,
            path_mtu,
        });
        works.or_else(|| {
            let last = self.last_that_worked(peer).filter(|_| last)?;
            Some(PathTo { short_id: self.me.short_id, ..last })
        })
    }

    /// The last straight way to `peer` that worked.
    fn last_that_worked(&self, peer: PeerName) -> Option<PathTo> {
        let in_use = self.ways.get(&peer).filter(|way| way.worked).map(|way| way.tunnel);
        in_use.or_else(|| self.worked.get(&peer).copied())
    }

    /// True when the data port of `peer` was tried and does not answer.
    fn is_down(&self, peer: PeerName) -> bool {
        matches!(self.paths.state(peer, Instant::default()), PathState::Down { .. })
    }

    fn choose_short_id(&mut self, now: Instant) {
        let others = self.gossip.store().records();
        let taken: BTreeSet<u16> = others.filter(|r| r.name != self.me.name).map(|r| r.short_id).collect();
        let start = self.rng.bits() as u16;
        let free = (0..=u16::MAX).map(|n| start.wrapping_add(n)).find(|id| !taken.contains(id));
        if let Some(id) = free {
            self.me.short_id = id;
            self.events.push_back(MeshEvent::ShortId(id));
            self.touch(now);
            for peer in self.others().map(|record| record.name).collect::<Vec<_>>() {
                self.refresh_way(peer, now);
            }
        }
    }

    /// Troubles to show.
    #[must_use]
    pub fn warnings(&self, now: Instant) -> Vec<String> {
        let shown = self.collisions.values().filter(|(_, at)| now.since(*at) < COLLISION_SHOWN);
        let mut warnings: Vec<String> = shown.map(|(text, _)| text.clone()).collect();
        let (me, uid) = (self.me.name, self.me.uid);
        if let Some(at) = self.topology.rival(me, uid) {
            let text =
                format!("another peer at {at} is called {me} like this one: relaunch one of them with another --name");
            warnings.push(text);
        }
        for (name, at) in self.topology.collisions().filter(|(name, _)| *name != me) {
            let at = at.join(" and ");
            warnings
                .push(format!("several peers are called {name}, at {at}: relaunch all but one with another --name"));
        }
        warnings.extend(self.copied(now));
        if self.unreadable > 0 {
            warnings.push(format!("{} unreadable messages from peers were skipped", self.unreadable));
        }
        warnings
    }
}

#[cfg(test)]
mod tests;
