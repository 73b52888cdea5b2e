//! One session, and the judgement of its handshake: which peer sends it, whether it proves that, and whether it is let in.
//! States and order of judgement: docs/protocol.md, sections 4.1 and 2.3. Whether packets flow is measured by `path`.
//!
//! With `--conn-limit` sessions up, a peer that no other session path reaches takes the place of a session that can be
//! spared; any other is refused, and told of a few peers that may have room.

use std::{
    net::{IpAddr, SocketAddr, SocketAddrV4},
    sync::Arc,
};

use super::{
    Network, Sessions,
    timers::{HOLD, KEEPALIVE, OPEN_WAIT},
};
use crate::proto::{
    ids::SessionId,
    io::Direction,
    name::{PeerId, PeerName},
    time::Instant,
    wire::{
        ChannelBinding, Handshake, VERSIONS,
        entry::{Entry, PeerRecord, Verifier, is_identity_proven, signer},
    },
};

#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) remote: SocketAddr,
    pub(crate) direction: Direction,
    /// Present after the handshake.
    pub(crate) up: Option<Established>,
    pub(super) binding: ChannelBinding,
    pub(super) since: Instant,
    /// Our part of the order of duplicate sessions.
    pub(super) nonce: u64,
    pub(super) heard: Instant,
    pub(super) pinged: Instant,
}

/// The part of a session that exists after the handshake.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Established {
    pub(crate) id: PeerId,
    /// Its data port, at the address that the session shows.
    pub(crate) data: SocketAddrV4,
    pub(super) incarnation: u64,
    /// Both nonces in order: the same at both ends.
    pub(super) order: (u64, u64),
}

impl Session {
    pub(crate) fn outbound(&self) -> bool {
        self.direction != Direction::Inbound
    }

    /// The peer at the other end, after the handshake.
    pub(crate) fn peer(&self) -> Option<PeerName> {
        self.up.map(|up| up.id.name)
    }

    /// When it is to be closed, or to be sent a ping.
    pub(super) fn poll_timeout(&self) -> Instant {
        match self.up {
            None => self.since + OPEN_WAIT,
            Some(_) => (self.heard + HOLD).min(self.pinged + KEEPALIVE),
        }
    }

    /// Why it is to be closed at `now`, if it is.
    pub(super) fn overdue(&self, now: Instant) -> Option<String> {
        match self.up {
            None => (now >= self.since + OPEN_WAIT)
                .then(|| format!("{} sent no handshake within {} s", self.remote, OPEN_WAIT.as_secs())),
            Some(_) => (now >= self.heard + HOLD).then(|| format!("nothing arrived for {} s", HOLD.as_secs())),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept,
    /// Accept, and close these sessions for the reason.
    Replace(Vec<SessionId>, &'static str),
    Ourselves,
    Refuse(String),
    /// For want of room.
    Full,
    Duplicate(String),
}

/// The record of the peer that sent the handshake, proven.
pub(super) fn verify(
    verifier: &dyn Verifier,
    session: &Session,
    handshake: &Handshake,
) -> Result<(Arc<Entry>, PeerRecord), String> {
    let (min, max) = VERSIONS;
    if handshake.min_version > max || handshake.max_version < min {
        let theirs = format!("[{},{}]", handshake.min_version, handshake.max_version);
        return Err(format!(
            "remote version range {theirs} is incompatible with ours [{min},{max}]: upgrade the older one"
        ));
    }
    let entry = verifier.open(&handshake.entry).map_err(|error| format!("its handshake holds {error}"))?;
    let record = entry.record().cloned().ok_or("its handshake holds no record that this version can read")?;
    let proven = signer(&handshake.entry)
        .is_some_and(|key| is_identity_proven(&key, &session.binding, !session.outbound(), &handshake.proof));
    if proven {
        return Ok((entry, record));
    }
    Err(format!("it cannot prove that it is {}: its handshake is not of this connection", record.name))
}

/// `nonces` are ours and theirs.
pub(super) fn judge(
    known: &Sessions,
    network: &dyn Network,
    remote: SocketAddr,
    nonces: (u64, u64),
    them: &PeerRecord,
) -> Verdict {
    if them.name == known.config.me.name {
        return judge_namesake(known, remote, nonces.1, them);
    }
    let up = known.sessions.iter().filter_map(|(id, session)| Some((*id, session.remote, session.up?)));
    let same: Vec<(SessionId, SocketAddr, Established)> = up.filter(|(_, _, up)| up.id.name == them.name).collect();
    let other = same.iter().find(|(_, _, up)| up.id.uid != them.uid).map(|(_, at, _)| at.to_string());
    if let Some(at) = other.or_else(|| network.duplicate(them)) {
        return Verdict::Duplicate(format!(
            "two peers are called {}: one at {at}, one at {remote}: relaunch one of them with another --name",
            them.name
        ));
    }
    if !matches!(remote.ip(), IpAddr::V4(_)) {
        return Verdict::Refuse(format!("{remote} is not an IPv4 address; the data plane needs one"));
    }
    let order = order(nonces);
    let better =
        |up: &Established| up.incarnation > them.point.0 || (up.incarnation == them.point.0 && up.order < order);
    if same.iter().any(|(_, _, up)| better(up)) {
        return Verdict::Refuse(format!("another session to {} is kept", them.name));
    }
    if !same.is_empty() {
        let older = same.iter().map(|(id, _, _)| *id).collect();
        return Verdict::Replace(older, "superseded by another session to the same peer");
    }
    if known.connected().len() < known.config.conn_limit {
        return Verdict::Accept;
    }
    let spare = if network.reached(them.name) { None } else { spare(known, network) };
    match spare {
        Some(spare) => {
            Verdict::Replace(vec![spare], "connection limit reached: a peer that no other peer reaches took its place")
        }
        None => Verdict::Full,
    }
}

fn judge_namesake(known: &Sessions, remote: SocketAddr, nonce: u64, them: &PeerRecord) -> Verdict {
    if them.uid != known.config.me.uid {
        return Verdict::Duplicate(format!(
            "local {} and remote {} ({remote}) peer names collision: relaunch one of them with another --name",
            known.config.me.name, them.name
        ));
    }
    if known.nonces.contains(&nonce) {
        return Verdict::Ourselves;
    }
    Verdict::Duplicate(format!(
        "the peer at {remote} runs with a copy of this one's store: stop it, and launch it with an empty --state-dir"
    ))
}

/// A session whose peer is reached by other session paths as well; rather not to a target.
fn spare(known: &Sessions, network: &dyn Network) -> Option<SessionId> {
    let up = || known.sessions.iter().filter_map(|(id, session)| Some((session.peer()?, *id)));
    let mut peers: Vec<PeerName> = up().map(|(peer, _)| peer).collect();
    peers.sort_by_key(|peer| known.dialer.is_target(*peer));
    let spare = network.spare(&peers)?;
    up().find(|(peer, _)| *peer == spare).map(|(_, id)| id)
}

/// The order of duplicate sessions: the same at both ends.
pub(super) fn order((ours, theirs): (u64, u64)) -> (u64, u64) {
    (ours.min(theirs), ours.max(theirs))
}
