//! Leaves the network (`reset`). Steps: docs/protocol.md, section 4.12. Containers lose their interfaces before another
//! peer may give their addresses away.

use std::time::Duration;

use super::{Node, alive::with_peers};
use crate::proto::{
    command::{Answer, Refusal},
    dns::EXTERN_OWNER,
    ids::{RequestId, Severity},
    io::{Output, Shutdown},
    time::Instant,
};

/// Time in which a successor may come into reach, where there are other peers: sessions may just be coming up.
const SUCCESSOR_SEARCH: Duration = Duration::from_secs(3);
/// Time between two attempts to remove interfaces that are still there, and most attempts after the first.
const REMOVE_AGAIN: Duration = Duration::from_secs(1);
const REMOVALS_MAX: u32 = 30;

/// Most containers that are named.
const SHOWN: usize = 8;

#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving {
    request: RequestId,
    force: bool,
    /// No successor was in reach yet, nothing was changed, and this is when that is given up.
    search: Option<Instant>,
    /// When interfaces that are left are removed again: those of attaches that were under way when the others were removed,
    /// and those whose removal failed.
    again: Option<Instant>,
    /// How often they were.
    removals: u32,
}

impl Leaving {
    /// When there is something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        self.search.or(self.again)
    }
}

impl Node {
    pub(super) fn reset(&mut self, id: RequestId, force: bool, now: Instant) {
        if self.leaving.is_some() {
            return self.reply(id, Err(Refusal("this peer is leaving the network already".to_owned())));
        }
        if self.keeper.owned() == 0 && !self.keeper.unconfirmed() {
            return self.shut_down(id, Shutdown::Wipe, now);
        }
        let alone = self.sessions.targets().is_empty() && self.membership.known() <= 1;
        let until = if alone { now } else { now + SUCCESSOR_SEARCH };
        self.leaving = Some(Leaving { request: id, force, search: Some(until), again: None, removals: 0 });
    }

    /// True while a `reset` is under way that found a successor.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.is_some_and(|leaving| leaving.search.is_none())
    }

    /// False while there is none; when that has lasted until `until`, the reset ends.
    fn found_successor(&mut self, leaving: Leaving, until: Instant, now: Instant) -> bool {
        let Leaving { request, force, .. } = leaving;
        let found = with_peers(self.witnesses(now), |peers| self.keeper.heir(peers)).is_some();
        if found {
            self.leaving = Some(Leaving { search: None, ..leaving });
            self.endpoints.remove_all();
            self.dns.release(EXTERN_OWNER);
        } else if until <= now {
            self.leaving = None;
            if force {
                self.shut_down(request, Shutdown::Wipe, now);
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

    pub(super) fn shut_down(&mut self, id: RequestId, how: Shutdown, now: Instant) {
        if matches!(how, Shutdown::Wipe | Shutdown::Leave) {
            self.depart(now);
        }
        self.reply(id, Ok(Answer::Done));
        self.out.push_back(Output::Shutdown(how));
    }

    /// Tells all peers in reach that this one is gone for good, before the sessions end: what it was granted ends too.
    fn depart(&mut self, now: Instant) {
        self.keeper.depart();
        while let Some(event) = self.keeper.poll_event() {
            self.keeper_event(event, now);
        }
        self.out.extend(std::iter::from_fn(|| self.sessions.poll_output()));
    }

    /// Goes on when there is a successor, and when the containers' interfaces are gone.
    pub(super) fn pump_leaving(&mut self, now: Instant) {
        let Some(leaving) = self.leaving else { return };
        if leaving.search.is_some_and(|until| !self.found_successor(leaving, until, now)) {
            return;
        }
        let leaving = Leaving { again: leaving.again.filter(|at| now < *at), search: None, ..leaving };
        self.leaving = Some(leaving);
        if self.keeper.is_leaving() || self.endpoints.is_working() {
            return;
        }
        if self.keeper.owned() == 0 && !self.keeper.unconfirmed() {
            return;
        }
        if !self.endpoints.allocator().reservations().is_empty() {
            return self.remove_again(leaving, now);
        }
        match with_peers(self.witnesses(now), |peers| self.keeper.heir(peers)) {
            Some(heir) => {
                let text = format!("hands {} addresses to {}", self.keeper.owned(), self.called(heir.name));
                self.log(Severity::Info, text);
                self.keeper.hand_over(heir, now);
            }
            None => {
                self.left(Err("the peer that was to take this one's addresses over is out of reach".to_owned()), now)
            }
        }
    }

    /// Removes the interfaces that are left: at once the first time, for most are of attaches that just ended.
    fn remove_again(&mut self, leaving: Leaving, now: Instant) {
        let Leaving { request, again, removals, .. } = leaving;
        if again.is_some() {
            return;
        }
        let left: Vec<String> = self.endpoints.allocator().reservations().keys().cloned().collect();
        if removals > REMOVALS_MAX {
            self.leaving = None;
            let names = left.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
            let text = format!(
                "the interfaces of {} containers could not be removed ({names}): they and this peer's addresses stay, all \
                 other containers were detached; see the log, and try again",
                left.len()
            );
            return self.reply(request, Err(Refusal(text)));
        }
        self.leaving = Some(Leaving { again: Some(now + REMOVE_AGAIN), removals: removals + 1, ..leaving });
        self.endpoints.remove_all();
    }

    /// The successor has everything, or did not confirm it.
    pub(super) fn left(&mut self, result: Result<(), String>, now: Instant) {
        let Some(Leaving { request, force, .. }) = self.leaving.take() else { return };
        match result {
            Err(text) if !force => self.reply(request, Err(Refusal(text))),
            _ => self.shut_down(request, Shutdown::Leave, now),
        }
    }
}
