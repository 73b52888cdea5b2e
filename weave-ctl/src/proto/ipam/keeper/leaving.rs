//! Leaving: all ranges go to an heir, who says that it has them, before anything is forgotten here.
//!
//! ```text
//! asks a peer whether it is willing -- no: it leaves itself; or silence --> asks another
//!   | yes: it stays until it has everything
//!   v
//! hands everything over, and asks whether the heir knows -- yes --> left
//! ```
//! An heir that said yes and is then told to leave waits for those who count on it, and hands on what it got.

use std::collections::BTreeSet;

use super::{
    Asked, Keeper, KeeperEvent, Peers,
    timers::{ASK_WAIT, HEIR_WAIT},
};
use crate::proto::{
    ipam::{hint::Hint, ring::Ring},
    name::{PeerId, PeerName},
    time::Instant,
    wire::letter::Want,
};

/// A peer that leaves.
#[derive(Clone, Debug)]
pub(super) struct Leaving {
    heir: PeerId,
    /// The heir was willing, and owns everything by now.
    handed: bool,
    /// Who was not willing, or did not say.
    refused: BTreeSet<PeerName>,
    /// When another is asked.
    patience: Instant,
    until: Instant,
}

impl Leaving {
    /// When something is to be done.
    pub(super) fn due(&self) -> Instant {
        if self.handed { self.until } else { self.patience.min(self.until) }
    }
}

impl Keeper {
    /// Addresses that this peer owns.
    #[must_use]
    pub fn owned(&self) -> u64 {
        self.owned_by(self.me)
    }

    pub(super) fn owned_by(&self, store: PeerId) -> u64 {
        self.ring.as_ref().map_or(0, |ring| ring.owned(store))
    }

    /// True when a hand-over is not confirmed: also when this peer owns nothing, it must not forget that.
    #[must_use]
    pub fn unconfirmed(&self) -> bool {
        self.unconfirmed
    }

    /// Who could take everything over: somebody who is reached and stays, before others one that owns something.
    #[must_use]
    pub fn heir(&self, peers: Peers<'_>) -> Option<PeerId> {
        self.heirs(peers).next()
    }

    /// All who could, the best first.
    fn heirs(&self, peers: Peers<'_>) -> impl Iterator<Item = PeerId> {
        let owners = self.ring.as_ref().map(Ring::owners).unwrap_or_default();
        let stays = |hint: &Hint| self.ring.is_some() && !hint.leaving;
        let others = self.hints().filter(|(_, hint)| stays(hint)).map(|(id, _)| id);
        let others = others.filter(|id| id.name != self.me.name && (peers.reached)(id.name));
        let able = others.filter(|id| !self.conflicts.contains_key(&id.name) && !self.outcast(*id));
        let mut able: Vec<PeerId> = able.collect();
        able.sort_by_key(|id| (!owners.contains(id), *id));
        able.into_iter()
    }

    /// Who takes over from a peer that is removed: the lowest of those who own something and are reached, so that all who
    /// remove it at once, and reach each other, choose the same.
    #[must_use]
    pub fn successor(&self, peers: Peers<'_>) -> PeerId {
        let owners = self.ring.as_ref().map(Ring::owners).unwrap_or_default();
        let known = |id: &PeerId| self.hints.get(&id.name).is_some_and(|(uid, _)| *uid == id.uid);
        let able = owners.into_iter().filter(|id| *id == self.me || (known(id) && (peers.reached)(id.name)));
        able.filter(|id| !self.outcast(*id)).min().unwrap_or(self.me)
    }

    fn outcast(&self, id: PeerId) -> bool {
        self.ring.as_ref().is_some_and(|ring| ring.is_removed(id))
    }

    /// Hands everything to `heir`, or to another when that one leaves too; [`KeeperEvent::Left`] tells how that ended.
    pub fn hand_over(&mut self, heir: PeerId, now: Instant) {
        let until = now + HEIR_WAIT;
        self.asked.insert(Want::Willing, Asked::of(heir.name, until));
        let patience = now + ASK_WAIT;
        self.leaving = Some(Leaving { heir, handed: false, refused: BTreeSet::new(), patience, until });
    }

    /// True for one that stays, as far as it knows.
    pub(super) fn may_inherit(&self) -> bool {
        self.ring.is_some() && !self.removed() && self.leaving.is_none()
    }

    /// True when nothing is `from`'s any more, and this peer knows.
    pub(super) fn is_heir_of(&self, from: PeerId) -> bool {
        self.ring.as_ref().is_some_and(|ring| ring.owned(from) == 0)
    }

    /// True while others that leave count on this peer: it said that it was willing, and they were not told that it has
    /// everything.
    fn is_counted_on(&self, peers: Peers<'_>, now: Instant) -> bool {
        self.promised.iter().any(|(peer, until)| *until > now && (peers.reached)(peer.name))
    }

    /// Goes on, and ends when the heir has answered, or did not in time.
    pub(super) fn leave(&mut self, peers: Peers<'_>, now: Instant) {
        let Some(leaving) = self.leaving.clone() else { return };
        let late = now >= leaving.until;
        if !leaving.handed && !late {
            return self.find_heir(leaving, peers, now);
        }
        if self.owned() > 0 && leaving.handed && !late {
            // Somebody counted on this peer: what it got goes on to the heir, who stays until it has that, too.
            return self.hand_to(leaving, now);
        }
        let known = leaving.handed && self.owned() == 0 && self.answer_to(Want::Heir, &leaving).is_some();
        let counted_on = self.is_counted_on(peers, now);
        if !late && (!known || counted_on) {
            return;
        }
        self.unconfirmed = leaving.handed && !known;
        self.end_leaving(if known && !counted_on { Ok(()) } else { Err(why(&leaving, known)) });
    }

    fn find_heir(&mut self, mut leaving: Leaving, peers: Peers<'_>, now: Instant) {
        let answer = self.answer_to(Want::Willing, &leaving);
        let silent = leaving.patience <= now || !(peers.reached)(leaving.heir.name);
        match &answer {
            Some(Ok(())) => return self.hand_to(leaving, now),
            None if !silent => return,
            _ => {}
        }
        leaving.refused.insert(leaving.heir.name);
        let next = self.heirs(peers).find(|id| !leaving.refused.contains(&id.name));
        match next {
            Some(heir) => {
                self.asked.insert(Want::Willing, Asked::of(heir.name, leaving.until));
                self.leaving = Some(Leaving { heir, patience: now + ASK_WAIT, ..leaving });
            }
            // There is nobody else: it may say so yet.
            None if answer.is_none() => self.leaving = Some(Leaving { patience: leaving.until, ..leaving }),
            None => {
                let text = "every peer in reach is leaving too, or does not answer: nothing was forgotten here; try \
                            again, or use `reset --force` when no peer stays";
                self.end_leaving(Err(text.to_owned()));
            }
        }
    }

    fn hand_to(&mut self, leaving: Leaving, now: Instant) {
        let (me, heir) = (self.me, leaving.heir);
        self.change(|ring| ring.hand_over(me, heir));
        let until = now + HEIR_WAIT;
        self.asked.remove(&Want::Willing);
        self.asked.insert(Want::Heir, Asked::of(heir.name, until));
        self.leaving = Some(Leaving { handed: true, until, ..leaving });
    }

    fn answer_to(&self, want: Want, leaving: &Leaving) -> Option<Result<(), String>> {
        self.asked.get(&want)?.response_of(leaving.heir.name).cloned()
    }

    fn end_leaving(&mut self, result: Result<(), String>) {
        self.leaving = None;
        self.asked.remove(&Want::Willing);
        self.asked.remove(&Want::Heir);
        self.out.push_back(KeeperEvent::Left(result));
    }
}

/// Why a peer did not leave in time.
fn why(leaving: &Leaving, known: bool) -> String {
    let (heir, wait) = (leaving.heir.name, HEIR_WAIT.as_secs());
    let what = match (known, leaving.handed) {
        (true, _) => "a peer that leaves too hands its addresses to this one, and has not done so".to_owned(),
        (false, true) => format!("{heir} did not say within {wait} seconds that it has this peer's addresses"),
        (false, false) => format!("{heir} did not say within {wait} seconds that it takes this peer's addresses over"),
    };
    let gone = if leaving.handed && !known {
        format!(" and, if {heir} is gone for good, `rmpeer {heir}` on another peer")
    } else {
        String::new()
    };
    format!("{what}: nothing was forgotten here; try again, or use `reset --force`{gone}")
}
