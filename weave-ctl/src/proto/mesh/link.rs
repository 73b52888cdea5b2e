//! One control link, from its opening on.
//!
//! ```text
//! opened -> (hello, not refused) up -> closed        opened -> closed: refused, silent, ourselves
//! ```
//! Whether packets flow to the peer at the other end is another matter: see [`super::paths`].

use std::{
    net::{SocketAddr, SocketAddrV4},
    time::Duration,
};

use crate::proto::{
    io::{Binding, Direction},
    name::{PeerName, PeerUid},
    time::Instant,
};

/// Time for the other side to say hello.
pub const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// Something is sent at least this often.
pub const PING_EVERY: Duration = Duration::from_secs(5);
/// A link on which nothing came for this long is dead.
pub const SILENT_AFTER: Duration = Duration::from_secs(16);

/// A link of this peer.
#[derive(Clone, Debug)]
pub struct Link {
    /// The other end.
    pub remote: SocketAddr,
    /// Who opened it.
    pub direction: Direction,
    /// What proves that a hello is of this connection.
    pub binding: Binding,
    /// When it was opened.
    pub since: Instant,
    /// Our part of the order of duplicate links.
    pub nonce: u64,
    /// When something came last.
    pub heard: Instant,
    /// When a ping was sent last.
    pub pinged: Instant,
    /// After the hello.
    pub up: Option<Up>,
}

/// The part of a link that exists after the hello.
#[derive(Clone, Debug)]
pub struct Up {
    /// Who is at the other end.
    pub peer: PeerName,
    /// Its store.
    pub uid: PeerUid,
    /// Its launch.
    pub incarnation: u64,
    /// Both nonces in order: the same at both ends.
    pub order: (u64, u64),
    /// The newest version of the protocol that both speak.
    pub version: u16,
    /// Its data port, at the address that the link shows.
    pub data: SocketAddrV4,
}

/// What a link needs at some point in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing.
    Nothing,
    /// To be closed, for this reason.
    Close(String),
    /// A sign of life.
    Ping,
}

impl Link {
    /// A link that was just opened.
    #[must_use]
    pub fn new(remote: SocketAddr, direction: Direction, binding: Binding, nonce: u64, now: Instant) -> Self {
        Self { remote, direction, binding, since: now, nonce, heard: now, pinged: now, up: None }
    }

    /// True when this side dialled.
    #[must_use]
    pub fn outbound(&self) -> bool {
        self.direction != Direction::Inbound
    }

    /// When [`Self::need`] has something to say.
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        match self.up {
            None => self.since + HELLO_WITHIN,
            Some(_) => (self.heard + SILENT_AFTER).min(self.pinged + PING_EVERY),
        }
    }

    /// What is due at `now`; counts as done.
    pub fn need(&mut self, now: Instant) -> Need {
        if now < self.poll_timeout() {
            return Need::Nothing;
        }
        if self.up.is_none() {
            return Need::Close(format!("{} did not say hello within {} s", self.remote, HELLO_WITHIN.as_secs()));
        }
        if now >= self.heard + SILENT_AFTER {
            return Need::Close(format!("nothing heard for {} s", SILENT_AFTER.as_secs()));
        }
        self.pinged = now;
        Need::Ping
    }
}
