//! Whether everybody reaches everybody: a datagram from every container to every other, looked for at its end.
//!
//! Bounds: one socket a container; a round waits [`ROUND`] at most. Does not: tell why one is missing.

use std::{
    collections::BTreeSet,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::traffic::within;

/// Longest wait for the datagrams of one round.
const ROUND: Duration = Duration::from_millis(400);
/// Pause between two looks at the sockets.
const LOOK: Duration = Duration::from_millis(2);
/// A datagram: the round and the sender's place, eight bytes each.
const LENGTH: usize = 16;

/// See the head of this file.
pub struct Everyone {
    members: Vec<Member>,
    round: u64,
}

struct Member {
    name: String,
    at: SocketAddrV4,
    socket: UdpSocket,
}

/// Who did not hear from whom: names of the sender and of the receiver.
pub type Missing = BTreeSet<(String, String)>;

impl Everyone {
    /// Everyone in these containers.
    ///
    /// # Errors
    /// When no socket can be had in one.
    pub fn of(containers: &[(String, Ipv4Addr)]) -> Result<Self> {
        ensure!(containers.len() > 1, "{} containers have nobody to talk to", containers.len());
        let member = |(name, address): &(String, Ipv4Addr)| {
            let socket = within(name, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
            socket.set_nonblocking(true)?;
            let at = SocketAddrV4::new(*address, socket.local_addr()?.port());
            Ok(Member { name: name.clone(), at, socket })
        };
        Ok(Self { members: containers.iter().map(member).collect::<Result<_>>()?, round: 0 })
    }

    /// Sends one datagram for every pair, both ways; the pairs whose datagram was lost. `who` chooses members by name.
    ///
    /// # Errors
    /// When a socket fails for another reason than an unreachable destination.
    pub fn round(&mut self, who: impl Fn(&str) -> bool) -> Result<Missing> {
        self.round += 1;
        let members: Vec<(u64, &Member)> = (0..).zip(&self.members).filter(|(_, m)| who(&m.name)).collect();
        let mut missing = BTreeSet::new();
        for (place, from) in &members {
            let bytes = [self.round.to_be_bytes(), place.to_be_bytes()].concat();
            for (to_place, to) in members.iter().filter(|(other, _)| other != place) {
                missing.insert((*place, *to_place));
                // What could not be sent is missing at the end; ICMP errors of earlier rounds come this way, too.
                from.socket.send_to(&bytes, to.at).ok();
            }
        }
        let end = Instant::now() + ROUND;
        while !missing.is_empty() && Instant::now() < end {
            for (place, member) in &members {
                while let Some(from) = member.heard(self.round)? {
                    missing.remove(&(from, *place));
                }
            }
            sleep(LOOK);
        }
        let name = |place: u64| {
            members.iter().find(|(p, _)| *p == place).map_or_else(String::new, |(_, member)| member.name.clone())
        };
        Ok(missing.into_iter().map(|(from, to)| (name(from), name(to))).collect())
    }

    /// Waits until in one round everybody hears from everybody.
    ///
    /// # Errors
    /// When they do not within `limit`; with the pairs that did not in the last round.
    pub fn reach_each_other(&mut self, limit: Duration) -> Result<()> {
        self.of_these_reach_each_other(limit, |_| true)
    }

    /// As [`Self::reach_each_other`], without the containers of this host.
    ///
    /// # Errors
    /// As [`Self::reach_each_other`].
    pub fn reach_each_other_without(&mut self, host: &super::Host, limit: Duration) -> Result<()> {
        let gone = host.containers();
        self.of_these_reach_each_other(limit, |name| !gone.iter().any(|g| g == name))
    }

    fn of_these_reach_each_other(&mut self, limit: Duration, who: impl Fn(&str) -> bool) -> Result<()> {
        let end = Instant::now() + limit;
        loop {
            let missing = self.round(&who)?;
            if missing.is_empty() {
                return Ok(());
            }
            if Instant::now() >= end {
                let all: Vec<String> = missing.iter().map(|(from, to)| format!("{from} to {to}")).collect();
                bail!("after {limit:?} nothing arrives from {}", all.join(", "));
            }
        }
    }
}

impl Member {
    /// The place of one sender of this round whose datagram is there.
    fn heard(&self, round: u64) -> Result<Option<u64>> {
        let mut bytes = [0; 2 * LENGTH];
        loop {
            match self.socket.recv(&mut bytes) {
                Ok(LENGTH) if bytes[..8] == round.to_be_bytes() => {
                    let place = bytes[8..LENGTH].try_into().context("eight bytes")?;
                    return Ok(Some(u64::from_be_bytes(place)));
                }
                Ok(_) => {} // of an earlier round
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(_) => {} // an ICMP error about something that was sent
            }
        }
    }
}
