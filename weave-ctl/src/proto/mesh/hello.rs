//! What to do with a peer that says hello: who it is, whether it can prove that, and whether there is room.
//!
//! ```text
//! hello -> versions -> entry -> proof -> ourselves? -> name in use? -> duplicate? -> room? -> welcome
//! ```
//! With `--conn-limit` links up, a peer that no other path reaches is let in for a link that can be spared; any other is
//! refused, and told of a few peers that may have room. Those in turn hear of it: it may be one that can be dialled by
//! peers that nobody can dial.

use std::{
    net::{IpAddr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use super::{
    entry::{self, Entry, PeerRecord},
    link::Up,
    links::{COLLISIONS_MAX, Mesh, MeshEvent},
    routes::{self, Graph},
    wire::{self, Hello, Message},
};
use crate::proto::{
    io::{LinkId, Severity},
    time::Instant,
};

/// Peers told of when one is refused for want of room.
const SAMPLE: usize = 16;
/// Time for which a refused name is shown.
pub(super) const COLLISION_SHOWN: Duration = Duration::from_secs(300);

/// What to do with a peer that said hello.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Welcome,
    /// Welcome, and these links are closed for the reason.
    Instead(Vec<LinkId>, &'static str),
    Ourselves,
    Refuse(String),
    /// For want of room.
    Full,
    Collision(String),
}

impl Mesh {
    pub(super) fn hello(&mut self, id: LinkId, hello: &Hello, now: Instant) {
        let Some(link) = self.links.get(&id) else { return };
        let (remote, nonces) = (link.remote, (link.nonce, hello.nonce));
        let opened = self.open_hello(id, hello);
        let (entry, record) = match opened {
            Ok(opened) => opened,
            Err(reason) => return self.refuse(id, &reason, now),
        };
        match self.judge(remote, nonces, &record) {
            Verdict::Welcome => self.welcome(id, nonces, hello, entry, &record, now),
            Verdict::Instead(others, why) => {
                self.welcome(id, nonces, hello, entry, &record, now);
                for other in others {
                    self.refuse(other, why, now);
                }
            }
            Verdict::Ourselves => {
                let reason = "cannot connect to ourself";
                self.dialer.ourselves(id, reason, now, &mut self.rng);
                self.close(id, reason, now);
            }
            Verdict::Collision(text) => {
                self.collisions.retain(|_, (_, at)| now.since(*at) < COLLISION_SHOWN);
                if self.collisions.len() < COLLISIONS_MAX || self.collisions.contains_key(&record.name) {
                    self.collisions.insert(record.name, (text.clone(), now));
                }
                self.log(Severity::Warn, text.clone());
                self.refuse(id, &text, now);
            }
            Verdict::Full => {
                let topology = &self.topology;
                self.gossip.introduce(id, entry, &|peer, uid| topology.alive(peer, uid), now);
                let sample = self.gossip.sample(SAMPLE);
                self.send(id, &sample);
                self.refuse(id, &format!("connection limit reached ({})", self.conn_limit), now);
            }
            Verdict::Refuse(reason) => {
                // Whoever was dialled is found, if by another link: its entry rests.
                self.dialer.identified(id, record.name, now, &mut self.rng);
                self.refuse(id, &reason, now);
            }
        }
    }

    /// Who says hello, proven.
    fn open_hello(&self, id: LinkId, hello: &Hello) -> Result<(Arc<Entry>, PeerRecord), String> {
        let (min, max) = wire::VERSIONS;
        if hello.min_version > max || hello.max_version < min {
            let theirs = format!("[{},{}]", hello.min_version, hello.max_version);
            return Err(format!(
                "remote version range {theirs} is incompatible with ours [{min},{max}]: upgrade the older one"
            ));
        }
        let entry = self.gossip.open(&hello.entry).map_err(|error| format!("its hello holds {error}"))?;
        let record = entry.record().cloned().ok_or("its hello holds no record that this version can read")?;
        let dialled = self.links.get(&id).is_some_and(|link| !link.outbound());
        let binding = self.links.get(&id).map(|link| link.binding).unwrap_or_default();
        let key = entry::signer(&hello.entry);
        if key.is_some_and(|key| entry::hello_proven(&key, &binding, dialled, &hello.proof)) {
            return Ok((entry, record));
        }
        Err(format!("it cannot prove that it is {}: its hello is not of this connection", record.name))
    }

    fn judge(&self, remote: SocketAddr, nonces: (u64, u64), them: &PeerRecord) -> Verdict {
        if them.name == self.me.name {
            return self.judge_namesake(remote, nonces.1, them);
        }
        let others = self.links.iter().filter_map(|(id, l)| l.up.as_ref().map(|up| (*id, l.remote, up)));
        let same: Vec<_> = others.filter(|(_, _, up)| up.peer == them.name).collect();
        let linked = same.iter().find(|(_, _, up)| up.uid != them.uid).map(|(_, at, _)| at.to_string());
        if let Some(at) = linked.or_else(|| self.topology_rival(them)) {
            return Verdict::Collision(format!(
                "two peers are called {}: one at {at}, one at {remote}: relaunch one of them with another --name",
                them.name
            ));
        }
        if !matches!(remote.ip(), IpAddr::V4(_)) {
            return Verdict::Refuse(format!("{remote} is not an IPv4 address; the data plane needs one"));
        }
        let order = (nonces.0.min(nonces.1), nonces.0.max(nonces.1));
        let better =
            |up: &Up| up.incarnation > them.incarnation || (up.incarnation == them.incarnation && up.order < order);
        if same.iter().any(|(_, _, up)| better(up)) {
            return Verdict::Refuse(format!("another link to {} is kept", them.name));
        }
        if !same.is_empty() {
            let older = same.iter().map(|(id, _, _)| *id).collect();
            return Verdict::Instead(older, "superseded by another link to the same peer");
        }
        if self.linked().len() < self.conn_limit {
            return Verdict::Welcome;
        }
        let spare = if self.topology.reached(them.name) { None } else { self.spare_link() };
        match spare {
            Some(spare) => {
                Verdict::Instead(vec![spare], "connection limit reached: a peer that nobody else reaches came")
            }
            None => Verdict::Full,
        }
    }

    fn judge_namesake(&self, remote: SocketAddr, nonce: u64, them: &PeerRecord) -> Verdict {
        if them.uid != self.me.uid {
            return Verdict::Collision(format!(
                "local {} and remote {} ({remote}) peer names collision: relaunch one of them with another --name",
                self.me.name, them.name
            ));
        }
        if self.nonces.contains(&nonce) {
            return Verdict::Ourselves;
        }
        Verdict::Collision(format!(
            "the peer at {remote} runs with a copy of this one's store: stop it, and launch it with an empty --state-dir"
        ))
    }

    /// Where another store of this name lives, for all that is known.
    fn topology_rival(&self, them: &PeerRecord) -> Option<String> {
        let held = self.record(them.name).filter(|held| held.uid != them.uid)?;
        let alive = self.topology.alive(held.name, held.uid);
        let at = held.addrs.first().map_or_else(|| "an address not told".to_owned(), ToString::to_string);
        alive.then(|| self.topology.rival(held.name, them.uid).map_or(at, str::to_owned))
    }

    /// A link to a peer that other paths reach as well; if there is one, to a peer that nobody named.
    fn spare_link(&self) -> Option<LinkId> {
        let graph = Graph::new(&self.me, self.gossip.store().records());
        let ups = self.links.iter().filter_map(|(id, link)| Some((link.up.as_ref()?.peer, *id)));
        let ups: Vec<_> = ups.collect();
        let (named, others): (Vec<_>, Vec<_>) =
            ups.iter().map(|(peer, _)| *peer).partition(|peer| self.dialer.is_target(*peer));
        let spare = routes::first_spare(&graph, others.into_iter().chain(named))?;
        ups.into_iter().find(|(peer, _)| *peer == spare).map(|(_, id)| id)
    }

    fn welcome(
        &mut self,
        id: LinkId,
        nonces: (u64, u64),
        hello: &Hello,
        entry: Arc<Entry>,
        record: &PeerRecord,
        now: Instant,
    ) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let (IpAddr::V4(ip), remote) = (link.remote.ip(), link.remote) else { return };
        let data = SocketAddrV4::new(ip, record.data_port);
        let version = hello.max_version.min(wire::VERSIONS.1);
        let order = (nonces.0.min(nonces.1), nonces.0.max(nonces.1));
        let (peer, uid, incarnation) = (record.name, record.uid, record.incarnation);
        let dialled = link.outbound();
        link.up = Some(Up { peer, uid, incarnation, order, version, data });
        let due = link.poll_timeout();
        self.look_at_links(due);
        self.dialer.identified(id, peer, now, &mut self.rng);
        self.collisions.remove(&peer);
        self.ended.remove(&peer);
        self.log(Severity::Info, format!("link to {peer} ({}) at {remote} is up", record.nickname));
        // Whoever stands at the other end lives: another store of that name does not keep it out.
        self.gossip.introduce(id, entry, &|_, _| false, now);
        self.gossip.link_up(id, dialled, now);
        // Packets from there are the peer's too.
        self.paths.observed(peer, data, now);
        self.learn(peer, now);
        self.relink(now);
        self.touch(now);
        self.events.push_back(MeshEvent::LinkUp(id));
    }

    /// Closes a link, and tells the other side why: its operator may be the one who can mend it.
    fn refuse(&mut self, id: LinkId, reason: &str, now: Instant) {
        self.send(id, &Message::Bye(reason.to_owned()));
        self.close(id, reason, now);
    }
}

#[cfg(test)]
mod tests;
