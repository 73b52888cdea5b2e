//! Leaving: all ranges go to an heir, who says that it has them, before anything is forgotten here.

use std::time::Duration;

use super::{Asked, Keeper, KeeperEvent, Peers};
use crate::proto::{
    ipam::{board::Want, ring::Ring},
    name::PeerId,
    time::Instant,
};

/// Time that an heir is given to say that it has everything.
pub(super) const HEIR_WAIT: Duration = Duration::from_secs(10);

/// A peer that leaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving {
    heir: PeerId,
    until: Instant,
}

impl Leaving {
    pub(super) fn until(&self) -> Instant {
        self.until
    }
}

impl Keeper {
    /// Addresses that this peer owns.
    #[must_use]
    pub fn owned(&self) -> u64 {
        self.ring.as_ref().map_or(0, |ring| ring.owned(self.me))
    }

    /// Who could take everything over: somebody who is reached, before others one that owns something.
    #[must_use]
    pub fn heir(&self, peers: Peers<'_>) -> Option<PeerId> {
        let owners = self.ring.as_ref()?.owners();
        let others = self.boards.iter().map(|(name, (uid, _))| PeerId { name: *name, uid: *uid });
        let others = others.filter(|id| id.name != self.me.name && (peers.reached)(id.name));
        let able = others.filter(|id| !self.conflicts.contains_key(&id.name) && !self.outcast(*id));
        able.min_by_key(|id| (!owners.contains(id), *id))
    }

    /// Who takes over from a peer that is removed: the lowest of those who own something and are reached, so that all who
    /// remove it at once, and reach each other, choose the same.
    #[must_use]
    pub fn successor(&self, peers: Peers<'_>) -> PeerId {
        let owners = self.ring.as_ref().map(Ring::owners).unwrap_or_default();
        let known = |id: &PeerId| self.boards.get(&id.name).is_some_and(|(uid, _)| *uid == id.uid);
        let able = owners.into_iter().filter(|id| *id == self.me || (known(id) && (peers.reached)(id.name)));
        able.filter(|id| !self.outcast(*id)).min().unwrap_or(self.me)
    }

    fn outcast(&self, id: PeerId) -> bool {
        self.ring.as_ref().is_some_and(|ring| ring.removed.contains(&id))
    }

    /// Hands everything to `heir`; [`KeeperEvent::Left`] tells how that ended.
    pub fn hand_over(&mut self, heir: PeerId, now: Instant) {
        let (me, id) = (self.me, self.rng.bits());
        self.change(|ring| ring.hand_over(me, heir));
        let until = now + HEIR_WAIT;
        self.asked.insert(Want::Heir, Asked::of(id, heir.name, until));
        self.leaving = Some(Leaving { heir, until });
    }

    /// True when nothing is `from`'s any more, and this peer knows.
    pub(super) fn is_heir_of(&self, from: PeerId) -> bool {
        self.ring.as_ref().is_some_and(|ring| ring.owned(from) == 0)
    }

    /// Ends when the heir has answered, or did not in time.
    pub(super) fn leave(&mut self, now: Instant) {
        let Some(leaving) = self.leaving else { return };
        let id = self.asked.get(&Want::Heir).map_or(0, Asked::id);
        let answered = self.answer_of(leaving.heir.name, id).is_some();
        if !answered && now < leaving.until {
            return;
        }
        self.leaving = None;
        self.asked.remove(&Want::Heir);
        let late = format!(
            "{} did not say within {} seconds that it has this peer's addresses: nothing was forgotten here; try again, \
             or use `reset --force`",
            leaving.heir.name,
            HEIR_WAIT.as_secs()
        );
        self.out.push_back(KeeperEvent::Left(if answered { Ok(()) } else { Err(late) }));
    }
}
