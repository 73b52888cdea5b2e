//! Takeovers: a peer states, and signs, that another is gone for good and that its ranges were taken over. The ring carries them.
//!
//! The signature covers the network (range and founders), the peer that is gone, the peer that states it, and the
//! generation of the ranges that were taken over. It shows which peer is to answer for a takeover; it gives no right to one.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

use crate::proto::{
    key::{PublicKey, SIGNATURE_LEN, SecretKey},
    name::{PeerId, PeerName},
};

/// Set before what is signed, so that a signature of another kind is none of a takeover.
const CONTEXT: &[u8] = b"weave-ctl takeover 4\0";

/// See the head of this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Takeover {
    /// Generation of the ranges that were taken over, at the least.
    #[serde(rename = "g")]
    pub generation: u64,
    /// The peer that is gone: it owns nothing again until it has joined anew.
    #[serde(rename = "p")]
    pub peer: PeerId,
    /// The peer that states it; its uid is the digest of the key.
    #[serde(rename = "b")]
    pub by: PeerName,
    /// Its key.
    #[serde(rename = "k")]
    pub key: PublicKey,
    /// Its signature.
    #[serde(rename = "s")]
    pub signature: ByteArray<SIGNATURE_LEN>,
}

impl Takeover {
    /// The takeover from `peer` that peer `by` states with its key, in the network of this digest.
    #[must_use]
    pub fn sign(network: u128, peer: PeerId, generation: u64, by: PeerName, key: &SecretKey) -> Self {
        let signature = key.sign(&text(network, peer, generation, by));
        Self { generation, peer, by, key: key.public(), signature: ByteArray::new(signature) }
    }

    /// True when the peer itself states that it is gone: it handed everything over before.
    #[must_use]
    pub fn is_departure(&self) -> bool {
        self.by == self.peer.name && self.key.uid() == self.peer.uid
    }

    /// Of two the greater counts, and stays longer.
    pub(crate) fn rank(&self) -> (bool, &Self) {
        (!self.is_departure(), self)
    }

    /// True when the signature is the key's, in the network of this digest.
    #[must_use]
    pub fn is_genuine(&self, network: u128) -> bool {
        self.key.verifies(&text(network, self.peer, self.generation, self.by), &self.signature[..])
    }
}

fn text(network: u128, peer: PeerId, generation: u64, by: PeerName) -> Vec<u8> {
    let (name, uid) = (peer.name.bytes(), { peer.uid.0 }.to_be_bytes());
    [CONTEXT, &network.to_be_bytes(), &name, &uid, &by.bytes(), &generation.to_be_bytes()].concat()
}
