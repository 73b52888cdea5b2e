//! Leaving (`reset`), and taking over from those who are gone for good (`rmpeer`).
//!
//! ```text
//! reset -> an heir in reach? -> interfaces of all containers removed -> all ranges handed to it -> it says so -> wiped
//!            | none within HEIR_SEARCH: refused, or wiped when forced
//! ```
//! Containers lose their interfaces before anybody else may give their addresses away.

use std::{collections::BTreeSet, time::Duration};

use super::{Node, addresses::with_peers};
use crate::proto::{
    command::{Answer, Refusal},
    io::{Output, RequestId, Severity, Shutdown},
    ipam::Ring,
    name::{PeerId, PeerName, PeerUid},
    time::Instant,
};

/// Time in which an heir may come into reach, where there are other peers: links may just be coming up.
const HEIR_SEARCH: Duration = Duration::from_secs(3);

/// A `reset` under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving {
    request: RequestId,
    force: bool,
    /// No heir was in reach yet, nothing was changed, and this is when that is given up.
    search: Option<Instant>,
}

impl Node {
    pub(super) fn reset(&mut self, id: RequestId, force: bool, now: Instant) {
        if self.leaving.is_some() {
            return self.reply(id, Err(Refusal("this peer is leaving the network already".to_owned())));
        }
        if self.keeper.owned() == 0 && !self.keeper.unconfirmed() {
            return self.wipe(id, Shutdown::Wipe);
        }
        let me = self.mesh.me().name;
        let alone = self.mesh.targets().is_empty() && self.mesh.known().all(|peer| peer == me);
        let until = if alone { now } else { now + HEIR_SEARCH };
        self.leaving = Some(Leaving { request: id, force, search: Some(until) });
    }

    /// True while a `reset` is under way that found an heir.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.is_some_and(|leaving| leaving.search.is_none())
    }

    /// When [`Self::turn_leaving`] has something to do by itself.
    pub(super) fn leaving_due(&self) -> Option<Instant> {
        self.leaving.and_then(|leaving| leaving.search)
    }

    /// False while there is none; when that has lasted until `until`, the reset ends.
    fn found_heir(&mut self, leaving: Leaving, until: Instant, now: Instant) -> bool {
        let Leaving { request, force, .. } = leaving;
        let found = with_peers(&self.mesh, |peers| self.keeper.heir(peers)).is_some();
        if found {
            self.leaving = Some(Leaving { search: None, ..leaving });
            self.endpoints.remove_all();
        } else if until <= now {
            self.leaving = None;
            if force {
                self.wipe(request, Shutdown::Wipe);
            } else {
                let owned = self.keeper.owned();
                let text = format!(
                    "no peer is in reach that could take this peer's {owned} addresses over: nothing was changed; \
                     connect to one, or use `reset --force` to forget them"
                );
                self.reply(request, Err(Refusal(text)));
            }
        }
        found
    }

    fn wipe(&mut self, id: RequestId, how: Shutdown) {
        self.reply(id, Ok(Answer::Done));
        self.out.push_back(Output::Shutdown(how));
    }

    /// Goes on when there is an heir, and when the containers' interfaces are gone.
    pub(super) fn turn_leaving(&mut self, now: Instant) {
        let Some(leaving @ Leaving { request, .. }) = self.leaving else { return };
        if leaving.search.is_some_and(|until| !self.found_heir(leaving, until, now)) {
            return;
        }
        if self.keeper.is_leaving() || self.endpoints.is_working() {
            return;
        }
        if self.keeper.owned() == 0 && !self.keeper.unconfirmed() {
            return;
        }
        let left = self.endpoints.allocator().containers().len();
        if left > 0 {
            self.leaving = None;
            let text = format!("the interfaces of {left} containers could not be removed: see the log, and try again");
            return self.reply(request, Err(Refusal(text)));
        }
        match with_peers(&self.mesh, |peers| self.keeper.heir(peers)) {
            Some(heir) => {
                let nickname = self.nickname(heir.name);
                let text = format!("hands {} addresses to {}({nickname})", self.keeper.owned(), heir.name);
                self.log(Severity::Info, text);
                self.keeper.hand_over(heir, now);
            }
            None => self.left(Err("the peer that was to take this one's addresses over is out of reach".to_owned())),
        }
    }

    /// The heir has everything, or did not say so.
    pub(super) fn left(&mut self, result: Result<(), String>) {
        let Some(Leaving { request, force, .. }) = self.leaving.take() else { return };
        match result {
            Err(text) if !force => self.reply(request, Err(Refusal(text))),
            _ => self.wipe(request, Shutdown::Leave),
        }
    }

    pub(super) fn remove_peer(&mut self, id: RequestId, text: &str, force: bool) {
        let answer =
            self.try_remove_peer(text, force).map(|(peer, addresses, heir)| Answer::Removed { peer, addresses, heir });
        self.reply(id, answer.map_err(|why| Refusal(format!("{why}; nothing was changed"))));
    }

    fn try_remove_peer(&mut self, text: &str, force: bool) -> Result<(PeerName, u64, PeerName), String> {
        let Some(ring) = self.keeper.ring() else {
            return Err("there is no ring yet, so no peer owns addresses".to_owned());
        };
        if self.keeper.removed() || self.leaving.is_some() {
            return Err("this peer is not part of the network any more, and can take nothing over".to_owned());
        }
        let owners = ring.owners();
        let me = PeerId { name: self.mesh.me().name, uid: self.mesh.me().uid };
        let name = self.name_of(text, &owners)?;
        let mut stores: BTreeSet<PeerId> = owners.into_iter().filter(|id| id.name == name).collect();
        if name == me.name {
            stores.remove(&me);
            if stores.is_empty() {
                return Err("this peer cannot remove itself: `reset` hands its addresses over".to_owned());
            }
        }
        if stores.is_empty() {
            return Err(format!("{name} owns no addresses (status ipam lists who does)"));
        }
        let alive = self.mesh.record(name).filter(|_| self.mesh.reached(name)).map(|record| record.uid);
        if let Some(uid) = alive {
            stores.retain(|id| id.uid != uid && id.uid != PeerUid(0));
        }
        stores.retain(|id| !self.mesh.alive(*id));
        if stores.is_empty() {
            return Err(format!(
                "{name}({}) is alive: run `weave-ctl reset` on its host instead, or stop it for good first",
                self.nickname(name)
            ));
        }
        if !force {
            self.most_are_reached(name)?;
        }
        let heir = with_peers(&self.mesh, |peers| self.keeper.successor(peers));
        let addresses = self.keeper.remove(&stores, heir);
        let (from, to) = (self.nickname(name), self.nickname(heir.name));
        let text = format!("{addresses} addresses of {name}({from}) were taken over by {}({to})", heir.name);
        self.log(Severity::Warn, text);
        Ok((name, addresses, heir.name))
    }

    /// Two parts of a split network cannot both reach more than half of the others who own something, so they do not both
    /// take over from `gone`.
    fn most_are_reached(&self, gone: PeerName) -> Result<(), String> {
        let owners = self.keeper.ring().map(Ring::owners).unwrap_or_default();
        let owners: BTreeSet<PeerName> = owners.into_iter().map(|id| id.name).filter(|name| *name != gone).collect();
        let me = self.mesh.me().name;
        let reached = owners.iter().filter(|name| **name == me || self.mesh.reached(**name)).count();
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
        let names: BTreeSet<PeerName> = owners.iter().map(|id| id.name).chain(self.mesh.known()).collect();
        let called: Vec<PeerName> = names.into_iter().filter(|name| self.nickname(*name) == text).collect();
        match called[..] {
            [] => Err(format!("no peer is called {text} (status ipam lists who owns addresses)")),
            [name] => Ok(name),
            _ => Err(format!("several peers are called {text}: {called:?}; name the one that is meant")),
        }
    }
}
