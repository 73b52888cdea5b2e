//! Proof that an unknown address is a peer's: a challenge, and its answer signed by the peer's controller.
//!
//! Steps: docs/protocol.md, section 4.9; what is signed: section 3.3. The address seen is part of the proof, so a proof
//! cannot be had by passing the challenge on to the peer.
//! Bounds: [`CHALLENGES_MAX`] challenges wait for their proof, each for [`SENT_FOR`], one for each peer.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
};

use super::{
    route::ANNOUNCEMENT,
    size::SMALLEST,
    timers::{CHALLENGES_MAX, SENT_FOR},
};
use crate::proto::{
    io::{Egress, PROOF_LEN, ProbeKind, ProbeRequest},
    key::{PublicKey, SecretKey},
    name::PeerName,
    time::Instant,
};

/// Set before what is signed, so that a signature of one kind is none of another.
const CONTEXT: &[u8] = b"weave-ctl proof 2\0";

#[derive(Clone, Copy, Debug)]
pub(super) struct Challenge {
    /// Address that is to be proven.
    pub(super) to: SocketAddrV4,
    /// Packets reach it from this host's data port only.
    pub(super) fixed: bool,
    pub(super) nonce: u64,
    pub(super) at: Instant,
    /// It left; before, the route to the address is not known.
    pub(super) sent: bool,
}

impl Challenge {
    /// True when `proof` is that of `peer`, the holder of `key`, to this challenge of `me`, which was not passed on.
    pub(super) fn is_met(
        &self,
        me: PeerName,
        (peer, key): (PeerName, &PublicKey),
        proof: &[u8; PROOF_LEN],
        own: &[Ipv4Addr],
        behind_nat: bool,
    ) -> bool {
        let Some((seen, signature)) = proof.split_first_chunk::<4>() else { return false };
        let seen = Ipv4Addr::from(*seen);
        // Behind NAT this host does not know the address that others see; the one it challenged is not among them.
        let ours = own.contains(&seen) || (behind_nat && seen != *self.to.ip());
        ours && key.verifies(&text(me, peer, self.nonce, seen), signature)
    }
}

/// All that wait, by the peer that is to prove itself.
#[derive(Debug, Default)]
pub(super) struct Challenges(BTreeMap<PeerName, Challenge>);

impl Challenges {
    /// Begins a challenge. False when one of the peer waits, or too many do.
    pub(super) fn begin(&mut self, peer: PeerName, challenge: Challenge) -> bool {
        if self.0.len() >= CHALLENGES_MAX || self.0.contains_key(&peer) {
            return false;
        }
        self.0.insert(peer, challenge);
        true
    }

    /// Takes out those that nobody answered in time.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Challenge> {
        self.0.extract_if(.., |_, challenge| now.since(challenge.at) >= SENT_FOR).map(|(_, c)| c).collect()
    }

    pub(super) fn expires(&self) -> Option<Instant> {
        self.0.values().map(|challenge| challenge.at + SENT_FOR).min()
    }

    /// Those to `addr` that have not left yet.
    pub(super) fn unsent(&mut self, addr: Ipv4Addr) -> impl Iterator<Item = (PeerName, &mut Challenge)> {
        let unsent = move |challenge: &&mut Challenge| !challenge.sent && *challenge.to.ip() == addr;
        self.0.iter_mut().map(|(peer, challenge)| (*peer, challenge)).filter(move |(_, c)| unsent(c))
    }

    /// Takes out the challenge that a proof of `peer` with `nonce` answers.
    pub(super) fn take(&mut self, peer: PeerName, nonce: u64) -> Option<Challenge> {
        self.0.get(&peer).filter(|challenge| challenge.sent && challenge.nonce == nonce)?;
        self.0.remove(&peer)
    }
}

/// The proof of `me` to a challenge by `challenger` that came from `seen`.
pub(super) fn prove(
    key: &SecretKey,
    challenger: PeerName,
    me: PeerName,
    nonce: u64,
    seen: Ipv4Addr,
) -> [u8; PROOF_LEN] {
    let mut proof = [0; PROOF_LEN];
    proof[..4].copy_from_slice(&seen.octets());
    proof[4..].copy_from_slice(&key.sign(&text(challenger, me, nonce, seen)));
    proof
}

fn text(challenger: PeerName, peer: PeerName, nonce: u64, seen: Ipv4Addr) -> Vec<u8> {
    [CONTEXT, &challenger.bytes(), &peer.bytes(), &nonce.to_be_bytes(), &seen.octets()].concat()
}

/// A probe that the controller of `peer` reads.
pub(super) fn to_controller(
    peer: PeerName,
    to: SocketAddrV4,
    egress: Egress,
    data_port: u16,
    kind: ProbeKind,
    now: Instant,
) -> ProbeRequest {
    let size = SMALLEST + PROOF_LEN as u32;
    let source_port = Some(data_port);
    ProbeRequest { to, egress, source_port, receiver: peer, path_id: ANNOUNCEMENT, kind, size, sent_at: now }
}

#[cfg(test)]
mod tests;
