//! Requests to other peers, and what is responded to theirs.

use std::{collections::BTreeSet, mem, net::Ipv4Addr};

use super::{
    INBOX_MAX, Keeper, KeeperEvent, Peers, WANTS_MAX,
    grants::position,
    timers::{ASK_PAUSE, ASK_WAIT, CLAIM_WAIT, PROMISED_FOR},
};
use crate::proto::{
    ids::Severity,
    ipam::{
        allocator::{Allocator, Need},
        hint::Hint,
    },
    name::{PeerId, PeerName},
    time::Instant,
    wire::letter::{Reply, Request, Want},
};

/// Something that is wanted of another peer.
#[derive(Debug)]
pub(super) struct Asked {
    /// `None` while there is nobody to ask.
    to: Option<PeerName>,
    /// Who said no, or nothing, since the last pause.
    tried: BTreeSet<PeerName>,
    /// What it responded.
    response: Option<Result<(), String>>,
    pub(super) until: Instant,
}

impl Asked {
    /// Wanted of one peer alone.
    pub(super) fn of(to: PeerName, until: Instant) -> Self {
        Self { to: Some(to), tried: BTreeSet::new(), response: None, until }
    }

    /// What `peer` responded.
    pub(super) fn response_of(&self, peer: PeerName) -> Option<&Result<(), String>> {
        self.response.as_ref().filter(|_| self.to == Some(peer))
    }
}

impl Keeper {
    /// Peers that are asked now, and for what.
    pub fn asking(&self) -> impl Iterator<Item = (Want, Option<PeerName>)> + '_ {
        self.asked.iter().map(|(want, asked)| (*want, asked.to))
    }

    /// What is to be requested now, and of which peers.
    pub fn requests(&self) -> BTreeSet<(Want, PeerName)> {
        let open = self.asked.iter().filter(|(_, asked)| asked.response.is_none());
        let open = open.filter_map(|(want, asked)| Some((*want, asked.to?))).filter(|(_, to)| *to != self.me.name);
        open.chain(self.grants.asking.iter().copied()).collect()
    }

    /// A peer responded to what was wanted of it.
    pub fn responded(&mut self, from: PeerName, want: Want, reply: Reply) {
        if self.grants.asking.remove(&(want, from)) {
            return self.grants.replies.push_back((from, want, reply));
        }
        let result = if let Reply::Refused(why) = reply { Err(why) } else { Ok(()) };
        if let Some(asked) = self.asked.get_mut(&want).filter(|asked| asked.to == Some(from)) {
            asked.response = Some(result);
        }
    }

    /// A peer requests something. Of more than [`INBOX_MAX`] that wait it asks again.
    pub fn requested(&mut self, from: PeerId, id: u64, request: Request) {
        let waits = self.inbox.iter().any(|(of, other, _)| (*of, *other) == (from, id));
        if !waits && self.inbox.len() < INBOX_MAX {
            self.inbox.push_back((from, id, request));
        }
    }

    /// Opens, moves on and closes requests.
    pub(super) fn ask(&mut self, allocator: &Allocator, peers: Peers<'_>, now: Instant) {
        let wants = self.needs.iter().filter_map(|need| match need {
            Need::Ring => None,
            Need::Space(net) => Some(Want::Space(*net)),
            Need::Address(addr) => Some(Want::Address(*addr)),
            Need::Claim(addr) => (!self.granted.contains_key(addr)).then_some(Want::Claim(*addr)),
        });
        let usable = self.ring.is_some() && !self.removed() && self.leaving.is_none();
        let wants: BTreeSet<Want> = wants.take(if usable { WANTS_MAX - 1 } else { 0 }).collect();
        self.asked.retain(|want, _| wants.contains(want) || want.is_of_leaving());
        for want in wants {
            if let Want::Claim(addr) = want {
                self.ask_claim(addr, allocator, peers, now);
                continue;
            }
            let new = || Asked { to: None, tried: BTreeSet::new(), response: None, until: now };
            let mut asked = self.asked.remove(&want).unwrap_or_else(new);
            // Where it is granted, the ring that says so is on its way, if it is not here yet.
            let refusal = asked.response.as_ref().and_then(|response| response.clone().err());
            let keep = refusal.is_none_or(|no| self.refused(want, &mut asked, &no, now));
            if keep {
                if asked.until <= now {
                    self.next_donor(want, &mut asked, peers, now);
                }
                self.asked.insert(want, asked);
            }
        }
    }

    /// Asks the peer that decides about an address outside the range, until it has answered, or does not in time.
    fn ask_claim(&mut self, addr: Ipv4Addr, allocator: &Allocator, peers: Peers<'_>, now: Instant) {
        let position = position(self.range, addr);
        let Some(owner) = self.ring.as_ref().and_then(|ring| ring.owner_of(position)) else { return };
        let new = || Asked::of(owner.name, now + CLAIM_WAIT);
        let mut asked = self.asked.remove(&Want::Claim(addr)).unwrap_or_else(new);
        if asked.to != Some(owner.name) {
            // The range moved meanwhile.
            (asked.to, asked.response) = (Some(owner.name), None);
        }
        let response = match asked.response.take() {
            _ if owner == self.me => self.grant(owner, addr, allocator, peers, now).map(|reply| match reply {
                Reply::Refused(why) => Err(why),
                _ => Ok(()),
            }),
            // Another store of that name does not decide.
            response => response.filter(|_| self.is_current(owner)),
        };
        let denied = match response {
            Some(Ok(())) => {
                self.granted.insert(addr, owner);
                return self.out.push_back(KeeperEvent::Granted);
            }
            Some(Err(why)) => why,
            None if asked.until > now => return drop(self.asked.insert(Want::Claim(addr), asked)),
            None => {
                let what = match (peers.reached)(owner.name) {
                    _ if owner == self.me => {
                        "has not heard from another one since it was launched what happened before"
                    }
                    true => "does not answer",
                    false => "is out of reach",
                };
                format!("peer {}, which decides about it, {what}", owner.name)
            }
        };
        let text = format!("address {addr} is outside the range and cannot be given: {denied}");
        self.out.push_back(KeeperEvent::Denied(Need::Claim(addr), text));
    }

    /// A peer said no; false when that settles it.
    fn refused(&mut self, want: Want, asked: &mut Asked, no: &str, now: Instant) -> bool {
        match want {
            Want::Address(addr) => {
                let owner = asked.to.map_or_else(String::new, |to| to.to_string());
                let text = format!("address {addr} is owned by other peer {owner}, which does not give it: {no}");
                self.out.push_back(KeeperEvent::Denied(Need::Address(addr), text));
                false
            }
            _ => {
                asked.until = now;
                true
            }
        }
    }

    fn next_donor(&mut self, want: Want, asked: &mut Asked, peers: Peers<'_>, now: Instant) {
        asked.tried.extend(asked.to.take());
        asked.response = None;
        asked.to = match want {
            // Asked even while it is not reached: the question stands until it is.
            Want::Address(addr) => self.ring.as_ref().and_then(|ring| ring.owner_of(addr)).map(|owner| owner.name),
            _ => self.donor(&asked.tried, peers),
        };
        if asked.to.is_none() {
            asked.tried.clear();
            if let Want::Space(net) = want {
                self.out.push_back(KeeperEvent::NoSpace(net));
            }
        }
        asked.until = now + if asked.to.is_some() { ASK_WAIT } else { ASK_PAUSE };
    }

    /// A peer with free space, the more the likelier.
    fn donor(&mut self, tried: &BTreeSet<PeerName>, peers: Peers<'_>) -> Option<PeerName> {
        let able = self.hints().filter(|(PeerId { name, .. }, hint)| {
            hint.free > 1 && !tried.contains(name) && *name != self.me.name && (peers.reached)(*name)
        });
        let able: Vec<(PeerName, u64)> = able.map(|(peer, Hint { free, .. })| (peer.name, 1 << free.min(32))).collect();
        let mut pick = self.rng.below(able.iter().map(|(_, weight)| weight).sum());
        able.into_iter()
            .find(|(_, weight)| {
                let here = pick < *weight;
                pick = pick.saturating_sub(*weight);
                here
            })
            .map(|(peer, _)| peer)
    }

    /// Answers what others request, and gives. What cannot be answered yet is requested again.
    pub(super) fn answer_others(&mut self, allocator: &Allocator, peers: Peers<'_>, now: Instant) {
        self.promised.retain(|_, until| *until > now);
        for (from, id, request) in mem::take(&mut self.inbox) {
            let space = |no: Option<String>| Some(no.map_or(Reply::Done, Reply::Refused));
            let answer = match request.want {
                // Another may have taken over from this peer while it was down.
                Want::Willing | Want::Space(_) | Want::Address(_) if !self.met => None,
                Want::Willing if self.may_inherit() => {
                    self.promised.insert(from, now + PROMISED_FOR);
                    Some(Reply::Done)
                }
                Want::Willing => space(Some("it takes nothing over: it is leaving".to_owned())),
                Want::Heir => (self.is_heir_of(from) && self.has_grants_of(from)).then(|| {
                    self.promised.remove(&from);
                    Reply::Done
                }),
                // The response to the same request was lost.
                Want::Space(_) if self.owned_by(from) > request.owned => Some(Reply::Done),
                Want::Space(net) => space(self.give_space(allocator, from, net)),
                Want::Address(addr) => space(self.give_address(allocator, from, addr)),
                Want::Claim(addr) => self.grant(from, addr, allocator, peers, now),
                Want::Held(addr) => Some(self.has_or_wants(addr, allocator)),
                Want::Grants(positions, after) => self.former_grants(&positions, after),
                Want::Taken(positions) => self.grants_taken(&positions),
                Want::Claims(positions) => self.own_claims(&positions, allocator),
            };
            if let Some(reply) = answer {
                self.out.push_back(KeeperEvent::Respond(from.name, id, reply));
            } else if self.is_found_out(from, request.want) {
                self.inbox.push_back((from, id, request));
            }
        }
    }

    /// True when another peer is asked for what this request waits for.
    fn is_found_out(&self, from: PeerId, want: Want) -> bool {
        match want {
            Want::Heir => self.is_heir_of(from) && !self.has_grants_of(from),
            Want::Claim(addr) => self.is_audited(addr),
            _ => false,
        }
    }

    pub(super) fn may_give(&self) -> bool {
        self.ring.as_ref().is_some_and(|ring| !self.holds_back(ring)) && !self.removed() && self.leaving.is_none()
    }

    fn give_space(&mut self, allocator: &Allocator, to: PeerId, net: ipnet::Ipv4Net) -> Option<String> {
        let Some(ring) = self.ring.as_ref().filter(|_| self.may_give()) else {
            return Some("it gives no addresses now".to_owned());
        };
        let Some(block) = allocator.spare(ring, net) else { return Some("it has no space to spare".to_owned()) };
        self.give(block.network(), block.broadcast(), to)
    }

    fn give_address(&mut self, allocator: &Allocator, to: PeerId, addr: Ipv4Addr) -> Option<String> {
        let me = self.me;
        if !self.may_give() {
            return Some("it gives no addresses now".to_owned());
        }
        match self.ring.as_ref().and_then(|ring| ring.owner_of(addr)) {
            Some(owner) if owner == to => return None,
            Some(owner) if owner == me => {}
            _ => return Some("it does not own it either".to_owned()),
        }
        match allocator.holder(addr) {
            Some(holder) => Some(format!("it is in use by {holder}")),
            None => self.give(addr, addr, to),
        }
    }

    fn give(&mut self, first: Ipv4Addr, last: Ipv4Addr, to: PeerId) -> Option<String> {
        let me = self.me;
        if self.change(|ring| ring.give(first, last, me, to)) == 0 {
            return Some("the ring has no room for another piece".to_owned());
        }
        let text = format!("gave {first} to {last} to {}", to.name);
        self.out.push_back(KeeperEvent::Log(Severity::Info, text));
        None
    }
}
