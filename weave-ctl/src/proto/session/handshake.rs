//! Judges a handshake: which peer sends it, whether it proves that, and whether it may have a session.
//!
//! ```text
//! handshake -> versions -> signed record -> identity proof -> this peer itself? -> duplicate identity? -> duplicate session?
//!           -> connection limit -> accepted
//! ```
//! With `--conn-limit` sessions up, a peer that no other session path reaches takes the place of a session that can be
//! spared; any other is refused, and told of a few peers that may have room.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::{
    Network,
    dialer::Dialer,
    state::{Established, Session},
};
use crate::proto::{
    ids::SessionId,
    name::{PeerId, PeerName},
    wire::{
        Handshake, VERSIONS,
        entry::{Entry, PeerRecord, Verifier, is_identity_proven, signer},
    },
};

/// What to do with a peer that sent a handshake.
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

/// What a handshake is judged by.
pub(super) struct Judge<'a> {
    pub(super) me: PeerId,
    pub(super) sessions: &'a BTreeMap<SessionId, Session>,
    /// Nonces of own sessions, former ones too.
    pub(super) own_nonces: &'a VecDeque<u64>,
    /// The connection limit is reached.
    pub(super) full: bool,
    pub(super) dialer: &'a Dialer,
    pub(super) network: &'a dyn Network,
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

impl Judge<'_> {
    /// `nonces` are ours and theirs.
    pub(super) fn judge(&self, remote: SocketAddr, nonces: (u64, u64), them: &PeerRecord) -> Verdict {
        if them.name == self.me.name {
            return self.judge_namesake(remote, nonces.1, them);
        }
        let up = self.sessions.iter().filter_map(|(id, session)| Some((*id, session.remote, session.up?)));
        let same: Vec<(SessionId, SocketAddr, Established)> = up.filter(|(_, _, up)| up.id.name == them.name).collect();
        let other = same.iter().find(|(_, _, up)| up.id.uid != them.uid).map(|(_, at, _)| at.to_string());
        if let Some(at) = other.or_else(|| self.network.duplicate(them)) {
            return Verdict::Duplicate(format!(
                "two peers are called {}: one at {at}, one at {remote}: relaunch one of them with another --name",
                them.name
            ));
        }
        if !matches!(remote.ip(), IpAddr::V4(_)) {
            return Verdict::Refuse(format!("{remote} is not an IPv4 address; the data plane needs one"));
        }
        let order = order(nonces);
        let better = |up: &Established| {
            up.incarnation > them.incarnation || (up.incarnation == them.incarnation && up.order < order)
        };
        if same.iter().any(|(_, _, up)| better(up)) {
            return Verdict::Refuse(format!("another session to {} is kept", them.name));
        }
        if !same.is_empty() {
            let older = same.iter().map(|(id, _, _)| *id).collect();
            return Verdict::Replace(older, "superseded by another session to the same peer");
        }
        if !self.full {
            return Verdict::Accept;
        }
        let spare = if self.network.reached(them.name) { None } else { self.spare() };
        match spare {
            Some(spare) => Verdict::Replace(
                vec![spare],
                "connection limit reached: a peer that no other peer reaches took its place",
            ),
            None => Verdict::Full,
        }
    }

    fn judge_namesake(&self, remote: SocketAddr, nonce: u64, them: &PeerRecord) -> Verdict {
        if them.uid != self.me.uid {
            return Verdict::Duplicate(format!(
                "local {} and remote {} ({remote}) peer names collision: relaunch one of them with another --name",
                self.me.name, them.name
            ));
        }
        if self.own_nonces.contains(&nonce) {
            return Verdict::Ourselves;
        }
        Verdict::Duplicate(format!(
            "the peer at {remote} runs with a copy of this one's store: stop it, and launch it with an empty --state-dir"
        ))
    }

    /// A session whose peer is reached by other session paths as well; rather not to a target.
    fn spare(&self) -> Option<SessionId> {
        let up = || self.sessions.iter().filter_map(|(id, session)| Some((session.peer()?, *id)));
        let mut peers: Vec<PeerName> = up().map(|(peer, _)| peer).collect();
        peers.sort_by_key(|peer| self.dialer.is_target(*peer));
        let spare = self.network.spare(&peers)?;
        up().find(|(peer, _)| *peer == spare).map(|(_, id)| id)
    }
}

/// The order of duplicate sessions: the same at both ends.
pub(super) fn order((ours, theirs): (u64, u64)) -> (u64, u64) {
    (ours.min(theirs), ours.max(theirs))
}
