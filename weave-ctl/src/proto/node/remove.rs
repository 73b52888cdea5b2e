//! Takes over from a peer that is gone for good (`rmpeer`), after asking whether it is alive.
//!
//! Steps: docs/protocol.md, section 4.12. A removal under way is a caller that waits: when the caller goes away, or this
//! controller ends, nothing happens.
//! Bounds: [`REMOVALS_MAX`] at once.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Node,
    alive::{Evidence, with_peers},
};
use crate::proto::{
    command::{Answer, Refusal},
    ids::{RequestId, SessionId, Severity},
    ipam::Ring,
    name::{PeerId, PeerName, PeerUid},
    time::Instant,
    wire::{AliveRequest, AliveResponse, Message},
};

/// Time for which is asked whether a peer is alive.
pub(super) const ASK_FOR: Duration = Duration::from_secs(3);
/// Time after which all are asked again: sessions may just be coming up.
const ASK_EVERY: Duration = Duration::from_millis(750);
/// Most removals under way.
const REMOVALS_MAX: usize = 16;

#[derive(Debug)]
pub(super) struct Removal {
    pub(super) request: RequestId,
    /// As the operator wrote it.
    text: String,
    peer: PeerName,
    force: bool,
    /// The questions to all peers, the last one at the end.
    questions: Vec<AliveRequest>,
    ask_at: Instant,
    until: Instant,
    /// Sessions that others have to the peer: their names, and the uid there.
    sessions: Vec<(PeerName, PeerUid, String)>,
    /// Where others say that its kernel answers.
    kernel: Option<(PeerName, String)>,
}

impl Removal {
    pub(super) fn due(&self) -> Instant {
        self.ask_at.min(self.until)
    }
}

impl Node {
    pub(super) fn remove_peer(&mut self, request: RequestId, text: String, force: bool, now: Instant) {
        if let Err(why) = self.begin_removal(request, text, force, now) {
            self.refuse_removal(request, &why);
        }
    }

    fn begin_removal(&mut self, request: RequestId, text: String, force: bool, now: Instant) -> Result<(), String> {
        let (peer, stores) = self.removable(&text)?;
        if self.removals.len() >= REMOVALS_MAX {
            return Err("too many peers are being removed".to_owned());
        }
        self.refuse_if_alive(peer, &stores, &[], now)?;
        if !force {
            self.most_are_reached(peer, now)?;
        }
        self.paths.ask(peer, now);
        let (ask_at, until, questions, sessions) = (now, now + ASK_FOR, Vec::new(), Vec::new());
        self.removals.push(Removal { request, text, peer, force, questions, ask_at, until, sessions, kernel: None });
        Ok(())
    }

    /// A session came up: its peer may know of those that are asked about.
    pub(super) fn ask_one(&mut self, session: SessionId) {
        for question in self.removals.iter().filter_map(|removal| removal.questions.last()) {
            self.sessions.send(session, &Message::AliveRequest(*question));
        }
    }

    pub(super) fn removal_answered(&mut self, response: AliveResponse) {
        let AliveResponse { id, by, session, kernel } = response;
        let asked = |removal: &&mut Removal| removal.questions.iter().any(|question| question.id == id);
        let Some(removal) = self.removals.iter_mut().find(asked) else { return };
        if let Some((uid, address)) = session.filter(|_| removal.sessions.len() < REMOVALS_MAX) {
            removal.sessions.push((by, uid, address));
        }
        if !kernel.is_empty() {
            removal.kernel.get_or_insert((by, kernel));
        }
    }

    /// Asks again, and ends the removals that are refused by now, or whose time is over.
    pub(super) fn pump_removals(&mut self, now: Instant) {
        for mut removal in std::mem::take(&mut self.removals) {
            match self.advance(&mut removal, now) {
                Ok(true) => self.removals.push(removal),
                Ok(false) => {}
                Err(why) => self.refuse_removal(removal.request, &why),
            }
        }
    }

    /// True while the removal is under way.
    fn advance(&mut self, removal: &mut Removal, now: Instant) -> Result<bool, String> {
        let (_, stores) = self.removable(&removal.text)?;
        let Removal { request, peer, force, .. } = *removal;
        self.refuse_if_alive(peer, &stores, &removal.sessions, now)?;
        if removal.until > now {
            if removal.ask_at <= now {
                removal.ask_at = now + ASK_EVERY;
                removal.questions.push(self.ask_all(peer, now));
            }
            return Ok(true);
        }
        if !force {
            self.refuse_if_forwarding(removal, &stores, now)?;
            self.most_are_reached(peer, now)?;
        }
        self.take_over(request, peer, &stores, now);
        Ok(false)
    }

    fn take_over(&mut self, request: RequestId, peer: PeerName, stores: &BTreeSet<PeerId>, now: Instant) {
        let heir = with_peers(self.witnesses(now), |peers| self.keeper.successor(peers));
        let addresses = self.keeper.remove(stores, heir);
        let text =
            format!("{addresses} addresses of {} were taken over by {}", self.called(peer), self.called(heir.name));
        self.log(Severity::Warn, text);
        self.reply(request, Ok(Answer::Removed { peer, addresses, heir: heir.name }));
    }

    fn refuse_removal(&mut self, request: RequestId, why: &str) {
        self.reply(request, Err(Refusal(format!("{why}; nothing was changed"))));
    }

    /// The peer that the operator means, and the identities of that name that own addresses.
    fn removable(&self, text: &str) -> Result<(PeerName, BTreeSet<PeerId>), String> {
        let Some(ring) = self.keeper.ring() else {
            return Err("there is no ring yet, so no peer owns addresses".to_owned());
        };
        if self.keeper.removed() || self.leaving.is_some() {
            return Err("this peer is not part of the network any more, and can take nothing over".to_owned());
        }
        let owners = ring.owners();
        let name = self.name_of(text, &owners)?;
        let mut stores: BTreeSet<PeerId> = owners.into_iter().filter(|id| id.name == name).collect();
        stores.extend(self.keeper.counted_on(name));
        if name == self.me.name {
            stores.remove(&self.me);
            if stores.is_empty() {
                return Err("this peer cannot remove itself: `reset` hands its addresses over".to_owned());
            }
        }
        if stores.is_empty() {
            return Err(format!("{name} owns no addresses, and none wait for it (status ipam lists the owners)"));
        }
        Ok((name, stores))
    }

    /// Refuses while the controller of one of `stores` has a session to this peer or another.
    fn refuse_if_alive(
        &self,
        peer: PeerName,
        stores: &BTreeSet<PeerId>,
        others: &[(PeerName, PeerUid, String)],
        now: Instant,
    ) -> Result<(), String> {
        let of = |uid: &PeerUid| stores.iter().any(|id| id.uid == *uid || id.uid == PeerUid(0));
        let how = stores.iter().find_map(|id| match self.witnesses(now).evidence(*id)? {
            Evidence::Session(address) => Some(format!("its controller at {address} has a session to this peer")),
            Evidence::Reported(by) => Some(format!("{} reports a session to it", self.called(by))),
            Evidence::Kernel(_) => None,
        });
        let answered = || {
            let (by, _, address) = others.iter().find(|(_, uid, _)| of(uid))?;
            Some(format!("{} has a session to it ({address})", self.called(*by)))
        };
        let Some(how) = how.or_else(answered) else { return Ok(()) };
        let peer = self.called(peer);
        Err(format!("{peer} is alive: {how}; run `weave-ctl reset` on its host instead, or stop it for good first"))
    }

    /// Refuses while the kernel of one of `stores` answers, its controller alone being gone.
    fn refuse_if_forwarding(&self, removal: &Removal, stores: &BTreeSet<PeerId>, now: Instant) -> Result<(), String> {
        let own = stores.iter().find_map(|id| match self.witnesses(now).evidence(*id)? {
            Evidence::Kernel(how) => Some(how),
            Evidence::Session(_) | Evidence::Reported(_) => None,
        });
        let known = self.membership.record(removal.peer).map(|record| record.uid);
        let ours = stores.iter().any(|id| id.uid == PeerUid(0) || known.is_none_or(|known| known == id.uid));
        let theirs = removal.kernel.as_ref().filter(|_| ours);
        let theirs = theirs.map(|(by, how)| format!("{how}, as {} says", self.called(*by)));
        let Some(how) = own.or(theirs) else { return Ok(()) };
        Err(format!(
            "no controller of {} answers, but {how}, so its containers still use their addresses: `stop --teardown` \
             there or power it off, or use `rmpeer --force`",
            self.called(removal.peer)
        ))
    }

    /// Two parts of a split network cannot both reach more than half of the other owners, so they do not both take over
    /// from `gone`.
    fn most_are_reached(&self, gone: PeerName, now: Instant) -> Result<(), String> {
        let owners = self.keeper.ring().map(Ring::owners).unwrap_or_default();
        let owners: BTreeSet<PeerName> = owners.into_iter().map(|id| id.name).filter(|name| *name != gone).collect();
        let witnesses = self.witnesses(now);
        let reached = owners.iter().filter(|name| **name == self.me.name || witnesses.reached(**name)).count();
        if owners.is_empty() || reached * 2 > owners.len() {
            return Ok(());
        }
        Err(format!(
            "only {reached} of the {} other peers that own addresses are reached from here, and another part of a split network \
             could take over as well: use `rmpeer --force` when the others are dead, on one peer only",
            owners.len()
        ))
    }

    /// The peer that the operator means, by name or by a nickname that one peer alone has.
    fn name_of(&self, text: &str, owners: &BTreeSet<PeerId>) -> Result<PeerName, String> {
        if let Ok(name) = text.parse::<PeerName>() {
            return Ok(name);
        }
        let names: BTreeSet<PeerName> = owners.iter().map(|id| id.name).chain(self.membership.names()).collect();
        let called: Vec<PeerName> = names.into_iter().filter(|name| self.nickname(*name) == text).collect();
        match called[..] {
            [] => Err(format!("no peer is called {text} (status ipam lists the owners of addresses)")),
            [name] => Ok(name),
            _ => Err(format!("several peers are called {text}: {called:?}; name the one that is meant")),
        }
    }
}
