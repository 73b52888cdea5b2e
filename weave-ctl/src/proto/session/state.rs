//! The state of one session, from its opening on.
//!
//! ```text
//! opened -> (handshake accepted) established -> closed        opened -> closed: refused, silent, this peer itself
//! ```
//! Whether packets flow to the peer at the other end is measured by `path`.

use std::net::{SocketAddr, SocketAddrV4};

use super::timers::{HOLD, KEEPALIVE, OPEN_WAIT};
use crate::proto::{
    io::Direction,
    name::{PeerId, PeerName},
    time::Instant,
    wire::ChannelBinding,
};

/// A session of this peer.
#[derive(Clone, Debug)]
pub struct Session {
    /// The other end.
    pub remote: SocketAddr,
    /// Which side opened it.
    pub direction: Direction,
    /// Present after the handshake.
    pub up: Option<Established>,
    pub(super) binding: ChannelBinding,
    pub(super) since: Instant,
    /// Our part of the order of duplicate sessions.
    pub(super) nonce: u64,
    /// When something arrived last.
    pub(super) heard: Instant,
    /// When a ping was sent last.
    pinged: Instant,
}

/// The part of a session that exists after the handshake.
#[derive(Clone, Copy, Debug)]
pub struct Established {
    /// The identity at the other end.
    pub id: PeerId,
    /// Its data port, at the address that the session shows.
    pub data: SocketAddrV4,
    /// Its launch.
    pub(super) incarnation: u64,
    /// Both nonces in order: the same at both ends.
    pub(super) order: (u64, u64),
}

/// What a session needs at some point in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SessionNeed {
    Nothing,
    /// To be closed, for this reason.
    Close(String),
    Ping,
}

impl Session {
    pub(super) fn new(
        remote: SocketAddr,
        direction: Direction,
        binding: ChannelBinding,
        nonce: u64,
        now: Instant,
    ) -> Self {
        Self { remote, direction, up: None, binding, since: now, nonce, heard: now, pinged: now }
    }

    /// True when this side dialled.
    #[must_use]
    pub fn outbound(&self) -> bool {
        self.direction != Direction::Inbound
    }

    /// The peer at the other end, after the handshake.
    #[must_use]
    pub fn peer(&self) -> Option<PeerName> {
        self.up.map(|up| up.id.name)
    }

    /// When [`Self::need`] has something to say.
    pub(super) fn poll_timeout(&self) -> Instant {
        match self.up {
            None => self.since + OPEN_WAIT,
            Some(_) => (self.heard + HOLD).min(self.pinged + KEEPALIVE),
        }
    }

    /// What is due at `now`; counts as done.
    pub(super) fn need(&mut self, now: Instant) -> SessionNeed {
        if now < self.poll_timeout() {
            return SessionNeed::Nothing;
        }
        if self.up.is_none() {
            let text = format!("{} sent no handshake within {} s", self.remote, OPEN_WAIT.as_secs());
            return SessionNeed::Close(text);
        }
        if now >= self.heard + HOLD {
            return SessionNeed::Close(format!("nothing arrived for {} s", HOLD.as_secs()));
        }
        self.pinged = now;
        SessionNeed::Ping
    }
}
