//! Letters: what one peer asks of another, and the response; signed by the sender, forwarded along control next hops.
//!
//! A letter is `{key, signature, body}`, its body CBOR of sender, receiver, id and content. Peers that forward it neither
//! read nor verify it. Bounds: [`LETTER_MAX`] bytes, [`HOPS_MAX`] hops, [`super::REASON_MAX`] bytes a reason.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{REASON_MAX, WireError, bound, clean_to, signed::Signed};
use crate::proto::{
    cbor,
    key::SecretKey,
    name::{PeerId, PeerName},
};

/// Longest letter in bytes: the addresses outside the range that a host may have fit.
pub const LETTER_MAX: usize = 32 * 1024;
/// Most grants in one response, and most peers.
pub const GRANTS_MAX: usize = 256;
/// Most addresses in one response.
pub const CLAIMS_MAX: usize = 4096;
/// Most hops of a letter.
pub const HOPS_MAX: u8 = 32;
/// Set before what is signed, so that a signature of another kind is none of a letter.
const CONTEXT: &[u8] = b"weave-ctl letter 4\0";

/// A letter on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwarded {
    /// The receiver.
    #[serde(rename = "t")]
    pub to: PeerName,
    /// Hops that it may still make.
    #[serde(rename = "h")]
    pub hops: u8,
    /// The signed letter.
    #[serde(rename = "l")]
    pub letter: ByteBuf,
}

/// What is in a letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The sender: its name, and the uid of the key that signed.
    pub from: PeerId,
    /// The receiver.
    pub to: PeerName,
    /// Of the request; random.
    pub id: u64,
    /// A request, or the response to one.
    pub content: Content,
}

/// The content of a letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// The sender asks.
    #[serde(rename = "q")]
    Request(Request),
    /// The answer.
    #[serde(rename = "a")]
    Response(Reply),
}

/// What a request came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// It was done.
    #[serde(rename = "d")]
    Done,
    /// It was not, and why.
    #[serde(rename = "n")]
    Refused(String),
    /// Grants of the positions asked for, in order of address.
    #[serde(rename = "g")]
    Grants(Grants),
    /// Addresses of the sender's containers whose positions were asked for.
    #[serde(rename = "c")]
    Claims(Vec<Ipv4Addr>),
}

/// See [`Reply::Grants`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants {
    /// Address, and the peer whose container may have it.
    #[serde(rename = "g")]
    pub grants: Vec<(Ipv4Addr, PeerId)>,
    /// There are more behind the last one.
    #[serde(rename = "m")]
    pub more: bool,
    /// Peers whose claims the sender does not know yet.
    #[serde(rename = "p")]
    pub peers: Vec<PeerId>,
}

/// Positions of the ring that a peer owns since a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Positions {
    /// The first.
    #[serde(rename = "f")]
    pub first: Ipv4Addr,
    /// The last.
    #[serde(rename = "l")]
    pub last: Ipv4Addr,
    /// Generation of the range when it came to that peer.
    #[serde(rename = "g")]
    pub generation: u64,
    /// Epoch likewise.
    #[serde(rename = "e")]
    pub epoch: u64,
}

/// What one peer asks of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// For what.
    #[serde(rename = "w")]
    pub want: Want,
    /// Addresses that the sender owns. A receiver in whose ring it owns more has given since, and the response was lost: so
    /// a request that is repeated, also to a receiver that was relaunched, is granted once.
    #[serde(rename = "o")]
    pub owned: u64,
}

/// What one peer may want of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Want {
    /// Some addresses of a subnet.
    #[serde(rename = "s")]
    Space(Ipv4Net),
    /// This very address.
    #[serde(rename = "c")]
    Address(Ipv4Addr),
    /// A word that the receiver takes the ranges of the sender, which leaves, over; and stays until it has.
    #[serde(rename = "l")]
    Willing,
    /// A word that all ranges of the sender are the receiver's now.
    #[serde(rename = "h")]
    Heir,
    /// The grant of this address, which is outside the range, for a container of the sender.
    #[serde(rename = "k")]
    Claim(Ipv4Addr),
    /// A word that a container of the receiver has this address, or is to have it.
    #[serde(rename = "u")]
    Held(Ipv4Addr),
    /// The grants of positions that are the sender's now, behind this address.
    #[serde(rename = "g")]
    Grants(Positions, Ipv4Addr),
    /// A word that the receiver has forgotten the grants of these positions, which the sender has.
    #[serde(rename = "d")]
    Taken(Positions),
    /// What the receiver's containers have of these positions, once it knows that they are the sender's.
    #[serde(rename = "n")]
    Claims(Positions),
}

impl Want {
    /// True for what a peer asks that leaves.
    #[must_use]
    pub fn is_of_leaving(self) -> bool {
        matches!(self, Self::Willing | Self::Heir)
    }
}

#[derive(Serialize, Deserialize)]
struct Body {
    #[serde(rename = "f")]
    from: PeerName,
    #[serde(rename = "t")]
    to: PeerName,
    #[serde(rename = "i")]
    id: u64,
    #[serde(rename = "c")]
    content: Content,
}

impl Letter {
    /// The signed letter; the uid of the sender is that of `key`.
    #[must_use]
    pub fn sign(self, key: &SecretKey) -> Forwarded {
        let Self { from, to, id, content } = self;
        let body = cbor::write(&Body { from: from.name, to, id, content });
        let letter = Signed::write(key, CONTEXT, body);
        Forwarded { to, hops: HOPS_MAX, letter: letter.into() }
    }

    /// The letter in some bytes, its signature verified.
    ///
    /// # Errors
    /// The bytes are no letter, exceed a bound, or the signature is not the key's. Never panics.
    pub fn open(raw: &[u8]) -> Result<Self, WireError> {
        bound("a letter", raw.len(), LETTER_MAX)?;
        let signed = Signed::read(raw)?;
        let Body { from, to, id, mut content } = super::read(&signed.body)?;
        if !signed.is_genuine(CONTEXT) {
            return Err(WireError::Malformed("a letter whose signature is not its key's".to_owned()));
        }
        match &mut content {
            Content::Response(Reply::Refused(reason)) => *reason = clean_to(reason, REASON_MAX),
            Content::Response(Reply::Grants(grants)) => {
                bound("grants", grants.grants.len(), GRANTS_MAX)?;
                bound("peers", grants.peers.len(), GRANTS_MAX)?;
            }
            Content::Response(Reply::Claims(claims)) => bound("claims", claims.len(), CLAIMS_MAX)?,
            Content::Response(Reply::Done) | Content::Request(_) => {}
        }
        Ok(Self { from: PeerId { name: from, uid: signed.key.uid() }, to, id, content })
    }
}

#[cfg(test)]
mod tests;
