//! What goes on in the mesh by itself, and when; what it sends on its links.

use super::{link::Need, links::Mesh, wire::Message};
use crate::proto::{
    io::{LinkId, Output},
    time::Instant,
};

impl Mesh {
    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.links_due.is_some_and(|at| at <= now) {
            self.keep_links(now);
        }
        if self.publish_at.is_some_and(|at| at <= now) {
            self.publish(now);
        }
        self.gossip.handle_timeout(now);
        self.paths.handle_timeout(now);
        self.settle(now);
    }

    /// Some link needs something at `due`.
    pub(super) fn look_at_links(&mut self, due: Instant) {
        self.links_due = self.links_due.into_iter().chain([due]).min();
    }

    /// Gives each link what it needs. Until the next point in time found here they are not looked at: what happens on a
    /// link only puts off what it needs.
    fn keep_links(&mut self, now: Instant) {
        for id in self.links.keys().copied().collect::<Vec<_>>() {
            match self.links.get_mut(&id).map_or(Need::Nothing, |link| link.need(now)) {
                Need::Nothing => {}
                Need::Close(reason) => self.close(id, &reason, now),
                Need::Ping => self.send(id, &Message::Ping),
            }
        }
        self.links_due = self.links.values().map(|link| link.poll_timeout()).min();
    }

    /// When [`Self::handle_timeout`] has something to do, or to look for it, and what.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let all = [
            self.links_due.map(|at| (at, "link")),
            self.dialer.poll_timeout(self.around()).map(|at| (at, "dial")),
            self.topology.poll_timeout().map(|at| (at, "topology")),
            self.paths.poll_timeout().map(|at| (at, "probe")),
            self.publish_at.map(|at| (at, "record")),
            Some((self.gossip.poll_timeout(), "gossip")),
        ];
        all.into_iter().flatten().min()
    }

    /// Sends `message` on every link past the hello, but not on `except`.
    pub fn tell_all(&mut self, message: &Message, except: Option<LinkId>) {
        let bytes = message.encode();
        let up = self.links.iter().filter(|(id, link)| link.up.is_some() && Some(**id) != except);
        self.out.extend(up.map(|(id, _)| Output::Send { link: *id, bytes: bytes.clone() }));
    }

    /// Sends `message` on one link.
    pub fn send(&mut self, link: LinkId, message: &Message) {
        self.out.push_back(Output::Send { link, bytes: message.encode() });
    }

    /// Somebody heard of may be worth an attempt, unless only targets are dialled.
    pub(super) fn look_for_peers(&mut self, now: Instant) {
        if self.discovery {
            self.dialer.look(now, &mut self.rng);
        }
    }
}
