//! Questions to other peers, and the answers to theirs.

use std::{collections::BTreeSet, time::Duration};

use thin_vec::ThinVec;

use super::{Keeper, KeeperEvent, Peers};
use crate::proto::{
    ids::Severity,
    ipam::{
        allocator::{Allocator, Need},
        board::{ANSWERS_MAX, ASKS_MAX, Answer, Ask, REASON_MAX, Want},
    },
    name::{PeerId, PeerName},
    time::Instant,
};

/// Time for which one peer is asked before another is.
pub(super) const ASK_WAIT: Duration = Duration::from_secs(3);
/// Pause when nobody could be asked.
pub(super) const ASK_PAUSE: Duration = Duration::from_secs(2);

/// A question that is open.
#[derive(Debug)]
pub(super) struct Asked {
    id: u64,
    /// `None` while there is nobody to ask.
    to: Option<PeerName>,
    /// Who said no, or nothing, since the last pause.
    tried: BTreeSet<PeerName>,
    pub(super) until: Instant,
}

impl Asked {
    /// A question to one peer alone.
    pub(super) fn of(id: u64, to: PeerName, until: Instant) -> Self {
        Self { id, to: Some(to), tried: BTreeSet::new(), until }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }
}

impl Keeper {
    /// Peers that are asked now, and for what.
    pub fn asking(&self) -> impl Iterator<Item = (Want, Option<PeerName>)> + '_ {
        self.asked.iter().map(|(want, asked)| (*want, asked.to))
    }

    /// Opens, moves on and closes questions.
    pub(super) fn ask(&mut self, peers: Peers<'_>, now: Instant) {
        let wants = self.needs.iter().filter_map(|need| match need {
            Need::Ring => None,
            Need::Space(net) => Some(Want::Space(*net)),
            Need::Address(addr) => Some(Want::Address(*addr)),
        });
        let usable = self.ring.is_some() && !self.removed() && self.leaving.is_none();
        let wants: BTreeSet<Want> = wants.take(if usable { ASKS_MAX - 1 } else { 0 }).collect();
        self.asked.retain(|want, _| wants.contains(want) || want.is_of_leaving());
        for want in wants {
            let id = self.rng.bits();
            let new = || Asked { id, to: None, tried: BTreeSet::new(), until: now };
            let mut asked = self.asked.remove(&want).unwrap_or_else(new);
            let keep = match asked.to.and_then(|to| self.answer_of(to, asked.id)) {
                Some(Some(no)) => self.refused(want, &mut asked, &no, now),
                // The ring that says so is on its way, if it is not here yet.
                Some(None) => true,
                None => true,
            };
            if keep {
                if asked.until <= now {
                    self.next_donor(want, &mut asked, peers, now);
                }
                self.asked.insert(want, asked);
            }
        }
    }

    /// What `peer` answered to question `id` of ours.
    pub(super) fn answer_of(&self, peer: PeerName, id: u64) -> Option<Option<String>> {
        let answers = &self.boards.get(&peer)?.board().answers;
        let answer = answers.iter().find(|answer| answer.to == self.me.name && answer.id == id)?;
        Some(answer.no.clone())
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
        asked.id = self.rng.bits();
        asked.to = match want {
            // Asked even while it is not reached: the question stands until it is.
            Want::Address(addr) => self.ring.as_ref().and_then(|ring| ring.owner_of(addr)).map(|owner| owner.name),
            _ => self.donor(&asked.tried, peers),
        };
        if asked.to.is_none() {
            asked.tried.clear();
        }
        asked.until = now + if asked.to.is_some() { ASK_WAIT } else { ASK_PAUSE };
    }

    /// A peer with free space, the more the likelier.
    fn donor(&mut self, tried: &BTreeSet<PeerName>, peers: Peers<'_>) -> Option<PeerName> {
        let able = self.boards().filter(|(PeerId { name, .. }, board)| {
            board.free > 1 && !tried.contains(name) && *name != self.me.name && (peers.reached)(*name)
        });
        let able: Vec<(PeerName, u64)> = able.map(|(peer, board)| (peer.name, 1 << board.free.min(32))).collect();
        let mut pick = self.rng.below(able.iter().map(|(_, weight)| weight).sum());
        able.into_iter()
            .find(|(_, weight)| {
                let here = pick < *weight;
                pick = pick.saturating_sub(*weight);
                here
            })
            .map(|(peer, _)| peer)
    }

    pub(super) fn open_asks(&self) -> ThinVec<Ask> {
        let open = self.asked.iter().filter_map(|(want, asked)| Some(Ask { id: asked.id, to: asked.to?, what: *want }));
        open.collect()
    }

    pub(super) fn open_answers(&self) -> ThinVec<Answer> {
        let answer = |((to, id), no): (&(PeerName, u64), &Option<String>)| Answer { to: *to, id: *id, no: no.clone() };
        self.answers.iter().map(answer).collect()
    }

    /// Answers the questions on others' boards, and gives.
    pub(super) fn answer_others(&mut self, allocator: &Allocator) {
        let room = ANSWERS_MAX.saturating_sub(self.answers.len());
        let open: Vec<((PeerId, u64), Want)> = self.inbox.iter().take(room).map(|(key, want)| (*key, *want)).collect();
        for ((from, id), want) in open {
            let answer = match want {
                // Another may have taken over from this peer while it was down.
                Want::Willing | Want::Space(_) | Want::Address(_) if !self.met => None,
                Want::Willing => Some((!self.may_inherit()).then(|| "it takes nothing over: it is leaving".to_owned())),
                Want::Heir => self.is_heir_of(from).then_some(None),
                Want::Space(net) => Some(self.give_space(allocator, from, net)),
                Want::Address(addr) => Some(self.give_address(allocator, from, addr)),
            };
            if let Some(mut no) = answer {
                if let Some(text) = &mut no {
                    text.truncate(text.floor_char_boundary(REASON_MAX));
                }
                self.inbox.remove(&(from, id));
                self.answers.insert((from.name, id), no);
            }
        }
    }

    fn may_give(&self) -> bool {
        self.ring.as_ref().is_some_and(|ring| !self.holds_back(ring)) && !self.removed() && self.leaving.is_none()
    }

    fn give_space(&mut self, allocator: &Allocator, to: PeerId, net: ipnet::Ipv4Net) -> Option<String> {
        let Some(ring) = self.ring.as_ref().filter(|_| self.may_give()) else {
            return Some("it gives no addresses now".to_owned());
        };
        let Some(block) = allocator.spare(ring, net) else { return Some("it has no space to spare".to_owned()) };
        self.give(block.network(), block.broadcast(), to)
    }

    fn give_address(&mut self, allocator: &Allocator, to: PeerId, addr: std::net::Ipv4Addr) -> Option<String> {
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

    fn give(&mut self, first: std::net::Ipv4Addr, last: std::net::Ipv4Addr, to: PeerId) -> Option<String> {
        let me = self.me;
        if self.change(|ring| ring.give(first, last, me, to)) == 0 {
            return Some("the ring has no room for another piece".to_owned());
        }
        let text = format!("gave {first} to {last} to {}", to.name);
        self.out.push_back(KeeperEvent::Log(Severity::Info, text));
        None
    }
}
