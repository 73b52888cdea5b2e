//! Messages between controllers: CBOR (RFC 8949) inside the frames of a session. `entry` holds the signed entries in them.
//!
//! Every kind, byte by byte: docs/protocol.md, section 2. An unknown kind is skipped and unknown fields are ignored.
//! Decoding is total: arbitrary bytes give an error, never a panic, and every list and text has a bound.

pub mod entry;
pub mod letter;
mod signed;
pub mod takeover;

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_bytes::ByteBuf;

use self::{entry::Point, letter::Forwarded, takeover::Takeover};
use super::{
    cbor,
    name::{PeerId, PeerName, PeerUid},
};

/// Oldest and newest version of the protocol that this build speaks. Version 1 had short ids in its data packets, version 2
/// uids of 64 bits and one entry a channel, version 3 ring versions without a generation and no grants.
pub const VERSIONS: (u16, u16) = (4, 4);
/// Largest frame in bytes, after decryption.
pub const FRAME_MAX: usize = 1 << 20;
/// Longest nickname in bytes.
pub const NICKNAME_MAX: usize = 64;
/// Longest reason for the end of a session in bytes; more is cut.
pub const REASON_MAX: usize = 512;
/// Most entries in one delta.
pub const ENTRIES_MAX: usize = 512;
/// Most owners in one page, advertisement or request.
pub const PAGE_MAX: usize = 1024;
/// Buckets that the owners of entries are divided into for anti-entropy.
pub const BUCKETS: usize = 256;
/// Most ranges of a ring in one message.
pub const RING_MAX: usize = 8192;
/// Most takeovers in one message.
pub const TAKEOVERS_MAX: usize = 1024;

/// The same at both ends of one connection and nowhere else (the hash of its Noise handshake): RFC 5929.
pub type ChannelBinding = [u8; 32];

/// First message on a session, both ways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handshake {
    /// Oldest version spoken; see [`VERSIONS`].
    pub min_version: u16,
    /// Newest version spoken.
    pub max_version: u16,
    /// Orders two sessions between the same pair of peers, and shows a session of a peer with itself.
    pub nonce: u64,
    /// The sender's signed record.
    #[serde(with = "serde_bytes")]
    pub entry: Vec<u8>,
    /// The sender's signature over the channel binding: see [`entry::identity_proof`].
    #[serde(with = "serde_bytes")]
    pub proof: Vec<u8>,
}

/// The ring, or what changed of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingMessage {
    /// The range that the ring divides.
    pub range: Ipv4Net,
    /// The founders, among which it was divided at the start.
    pub origin: Vec<PeerId>,
    /// Ranges, by token.
    pub shares: Vec<(Ipv4Addr, RingShare)>,
    /// Tokens at which ranges end, and of whose own ranges the message says nothing.
    pub limits: Vec<Ipv4Addr>,
    /// Peers that are gone for good.
    pub removed: Vec<Takeover>,
    /// These are all ranges of the ring.
    pub whole: bool,
}

/// Generation, epoch and owner of a range, and the peer that owned it before. Written as an array.
pub type RingShare = (u64, u64, PeerId, PeerId);

/// Entries that the receiver may lack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// Signed entries.
    pub entries: Vec<ByteBuf>,
    /// What the entries are all of.
    pub spans: Vec<Span>,
    /// There are more than fit: compare again.
    pub more: bool,
    /// The sender made them, and sends them to all its neighbours.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub flooded: bool,
}

/// The entries of a delta are all that the sender holds of an owner from one point on to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The owner.
    #[serde(rename = "o")]
    pub owner: PeerName,
    /// Its store.
    #[serde(rename = "u")]
    pub uid: PeerUid,
    /// Everything above this point...
    #[serde(rename = "f")]
    pub from: Point,
    /// ...up to this one.
    #[serde(rename = "t")]
    pub to: Point,
    /// The sender keeps no tombstone up to this point: see [`entry::PeerRecord::floor`].
    #[serde(rename = "l")]
    pub floor: Point,
}

/// What the sender holds of one owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The owner.
    #[serde(rename = "o")]
    pub owner: PeerName,
    /// Its store.
    #[serde(rename = "u")]
    pub uid: PeerUid,
    /// Everything up to this point is held.
    #[serde(rename = "c")]
    pub complete: Point,
    /// The newest entry held.
    #[serde(rename = "n")]
    pub newest: Point,
    /// Wrapping sum of [`entry::Version::digest`] over all that is held.
    #[serde(rename = "d")]
    pub digest: u64,
}

/// What the sender wants of one owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// The owner.
    #[serde(rename = "o")]
    pub owner: PeerName,
    /// Its store.
    #[serde(rename = "u")]
    pub uid: PeerUid,
    /// Its record, and everything above this point; nothing for the record alone.
    #[serde(rename = "s")]
    pub since: Option<Point>,
}

/// What the sender holds in some buckets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The buckets that are listed whole.
    pub buckets: Vec<u8>,
    /// All owners in them.
    pub owners: Vec<Summary>,
    /// Other buckets differ too: compare again.
    pub more: bool,
}

/// See [`Message::AliveRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliveRequest {
    /// Random; the response comes back the same hops by it.
    pub id: u64,
    /// The peer in question.
    pub peer: PeerName,
    /// How many more hops it may be passed on.
    pub hops: u8,
}

/// A peer is alive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliveResponse {
    /// Of the request.
    pub id: u64,
    /// The peer that answers.
    pub by: PeerName,
    /// Its session to the peer in question: the uid and the address of the other end.
    pub session: Option<(PeerUid, String)>,
    /// Where it says that the kernel of the peer answers; empty when it does not know.
    pub kernel: String,
}

/// A control message.
///
/// Where the kind comes first in a frame, as it is written, the body is read in one go: reading by way of values of any
/// shape costs more than all the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "body", rename_all = "lowercase")]
pub enum Message {
    /// First, once.
    Handshake(Box<Handshake>),
    /// New entries, or the answer to `Page` or `Request`.
    Delta(Delta),
    /// Owners of which the sender has new entries. Answered by `Request` of those that are new.
    Advertise(Vec<Summary>),
    /// The digest of all entries. Answered by `Buckets` when the receiver's differs.
    Digest(u64),
    /// The digest of each bucket. Answered by `Page` of those that differ.
    Buckets(Vec<u64>),
    /// Answered by `Delta` of what is newer here, or by `Advertise` where that is much, and by `Request` of what is newer
    /// there.
    Page(Page),
    /// Answered by `Delta`.
    Request(Vec<Want>),
    /// The sender's ring, or what changed of it.
    Ring(RingMessage),
    /// The digest of the sender's ring, zero for none. Answered by `Ring` when the receiver's differs.
    RingDigest(u64),
    /// A question to every reachable peer: is this peer alive? Passed on hop by hop, answered by peers that know that it
    /// is.
    AliveRequest(AliveRequest),
    /// Goes back by the sessions that the request came by.
    AliveResponse(AliveResponse),
    /// A request of one peer to another, or the response. Forwarded to the next hop by peers that it is not for.
    Letter(Forwarded),
    /// Keepalive.
    #[serde(serialize_with = "Serializer::serialize_unit", deserialize_with = "ignore")]
    Ping,
    /// Last before the sender closes the session: its reason.
    Close(String),
    /// Of a later version; skipped.
    #[serde(other, deserialize_with = "ignore")]
    Unknown,
}

/// Bytes that are no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Not CBOR, or not of the expected shape.
    #[error("a message that cannot be read ({0})")]
    Malformed(String),
    /// A list or text beyond its bound.
    #[error("a message beyond the bound on {0}")]
    TooLong(&'static str),
}

impl Message {
    /// The frame of this message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        cbor::write(self)
    }

    /// The message in a frame.
    ///
    /// # Errors
    /// When the bytes are no message or a bound is exceeded. Never panics.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        if bytes.len() > FRAME_MAX {
            return Err(WireError::TooLong("a frame"));
        }
        read::<Self>(bytes)?.checked()
    }

    /// The message, if it keeps all bounds.
    fn checked(mut self) -> Result<Self, WireError> {
        match &mut self {
            Self::Delta(delta) => {
                bound("entries", delta.entries.len(), ENTRIES_MAX)?;
                bound("spans", delta.spans.len(), PAGE_MAX)?;
            }
            Self::Advertise(owners) => bound("advertised owners", owners.len(), PAGE_MAX)?,
            Self::Buckets(buckets) => bound("buckets", buckets.len(), BUCKETS)?,
            Self::Page(page) => {
                bound("buckets", page.buckets.len(), BUCKETS)?;
                bound("owners", page.owners.len(), PAGE_MAX)?;
            }
            Self::Request(wants) => bound("wants", wants.len(), PAGE_MAX)?,
            Self::Ring(ring) => {
                bound("the ring's founders", ring.origin.len(), RING_MAX)?;
                bound("the ring's ranges", ring.shares.len(), RING_MAX)?;
                bound("the ends of the ring's ranges", ring.limits.len(), RING_MAX)?;
                bound("takeovers", ring.removed.len(), TAKEOVERS_MAX)?;
            }
            Self::AliveResponse(response) => {
                response.kernel = clean(&response.kernel);
                response.session.iter_mut().for_each(|(_, address)| *address = clean(address));
            }
            Self::Letter(letter) => bound("a letter", letter.letter.len(), letter::LETTER_MAX)?,
            Self::Close(reason) => *reason = clean_to(reason, REASON_MAX),
            Self::Handshake(_)
            | Self::Digest(_)
            | Self::RingDigest(_)
            | Self::AliveRequest(_)
            | Self::Ping
            | Self::Unknown => {}
        }
        Ok(self)
    }
}

/// Reads past a body that means nothing.
fn ignore<'de, D: Deserializer<'de>>(body: D) -> Result<(), D::Error> {
    IgnoredAny::deserialize(body).map(|IgnoredAny| ())
}

/// The value in CBOR `bytes`.
fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    cbor::read(bytes).map_err(|e| WireError::Malformed(clean(&e)))
}

/// Refuses a list or text that is longer than it may be.
fn bound(what: &'static str, len: usize, max: usize) -> Result<(), WireError> {
    if len > max { Err(WireError::TooLong(what)) } else { Ok(()) }
}

/// Text from outside, fit for an operator's terminal: printable and bounded.
#[must_use]
pub fn clean(text: &str) -> String {
    clean_to(text, NICKNAME_MAX * 2)
}

fn clean_to(text: &str, max: usize) -> String {
    let mut short: String = text.chars().filter(|c| !c.is_control()).take(max).collect();
    while short.len() > max {
        short.pop();
    }
    short
}

#[cfg(test)]
mod tests;
