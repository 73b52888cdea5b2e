//! Control messages: CBOR (RFC 8949) inside the frames that the links carry.
//!
//! A frame is `{kind: text, body: any}`. An unknown kind is skipped and unknown fields are ignored, so versions can
//! differ. Decoding is total: arbitrary bytes give an error, never a panic, and every list and text has a bound.
//! What is gossiped travels in signed entries, whose bytes are passed on as they came: see [`super::entry`].

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_bytes::ByteBuf;
use smol_str::SmolStr;

use crate::proto::{
    cbor,
    io::FRAME_MAX,
    name::{PeerId, PeerName, PeerUid},
};

/// Oldest and newest protocol version spoken.
pub const VERSIONS: (u16, u16) = (1, 1);
/// Most abilities named in a hello.
pub const FEATURES_MAX: usize = 64;
/// Longest nickname in bytes.
pub const NICKNAME_MAX: usize = 64;
/// Longest reason for a refusal in bytes; more is cut.
pub const REASON_MAX: usize = 512;
/// Most entries in one message.
pub const ENTRIES_MAX: usize = 512;
/// Most items in one list, and most keys asked for at once.
pub const LIST_MAX: usize = 1024;
/// Parts that the entries are divided into for comparison.
pub const BUCKETS: usize = 256;
/// Longest name of a channel in bytes.
pub const CHANNEL_MAX: usize = 32;

/// First message on a link, both ways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Oldest version spoken.
    pub min_version: u16,
    /// Newest version spoken.
    pub max_version: u16,
    /// Optional abilities, by name; unknown ones are ignored.
    pub features: Vec<String>,
    /// Orders two links between the same pair of peers, and tells a link to oneself.
    pub nonce: u64,
    /// The sender's entry of the peers channel.
    #[serde(with = "serde_bytes")]
    pub entry: Vec<u8>,
    /// The sender's signature over this connection: see [`super::entry::hello_proof`].
    #[serde(with = "serde_bytes")]
    pub proof: Vec<u8>,
}

/// A piece of the ring: its token, epoch and owner.
pub type RingShare = (Ipv4Addr, u64, PeerId);

/// The ring, or what changed of it, as it is told to neighbours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingMessage {
    /// The range.
    pub range: Ipv4Net,
    /// Among whom it was divided.
    pub origin: Vec<PeerId>,
    /// Pieces.
    pub shares: Vec<RingShare>,
    /// Tokens before which pieces end, and of which nothing is told.
    pub limits: Vec<Ipv4Addr>,
    /// Stores whose pieces were taken over.
    pub removed: Vec<PeerId>,
    /// These are all the pieces there are.
    pub whole: bool,
}

/// What an entry is filed under.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// Whose entry it is.
    #[serde(rename = "o")]
    pub owner: PeerName,
    /// In which channel.
    #[serde(rename = "c")]
    pub channel: SmolStr,
}

/// How new an entry is; the highest wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stamp {
    /// Launches of the owner's store.
    #[serde(rename = "i")]
    pub incarnation: u64,
    /// Changes in this incarnation.
    #[serde(rename = "v")]
    pub version: u64,
    /// The first bytes of the signature: tells apart what one version should not have told apart, and sums up.
    #[serde(rename = "d")]
    pub digest: u64,
}

/// Entries that the receiver may not have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entries {
    /// Signed entries.
    pub entries: Vec<ByteBuf>,
    /// There was more than fits: compare again.
    pub more: bool,
}

/// What the sender holds: what it is filed under, of which store of the owner, how new.
pub type Told = (Key, PeerUid, Stamp);

/// What the sender holds of some buckets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// The buckets that are listed whole.
    pub buckets: Vec<u8>,
    /// All that is in them.
    pub items: Vec<(Key, Stamp)>,
    /// Other buckets differ too: compare again.
    pub more: bool,
}

/// A control message.
///
/// Where the kind comes first in a frame, as it is written, the body is read in one go: going by way of values of any shape
/// costs more than all the rest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", content = "body", rename_all = "lowercase")]
pub enum Message {
    /// First, once.
    Hello(Box<Hello>),
    /// News, or an answer to `List` or `Want`.
    Entries(Entries),
    /// News that is too long to be sent to all who may have it already. Answered by `Want` of what is news.
    News(Vec<Told>),
    /// The sum of all digests. Answered by `Buckets` when the receiver's differs.
    Sum(u64),
    /// The sum of digests of each bucket. Answered by `List` of those that differ.
    Buckets(Vec<u64>),
    /// Answered by `Entries` of what is newer here, and by `Want` of what is newer there.
    List(List),
    /// Answered by `Entries`.
    Want(Vec<Key>),
    /// The sender's ring, or a part of it.
    Ring(RingMessage),
    /// The sum of the sender's ring, zero for none. Answered by `Ring` when the receiver's differs.
    RingSum(u64),
    /// Nothing but a sign of life.
    #[serde(deserialize_with = "ignore")]
    Ping,
    /// Last before the sender closes: why it does not want this link.
    Bye(String),
    /// Of a later version; skipped.
    #[serde(skip)]
    Unknown(String),
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

#[derive(Serialize, Deserialize)]
struct Frame<B> {
    kind: String,
    body: B,
}

/// All known kinds.
const KINDS: [&str; 11] =
    ["hello", "entries", "news", "sum", "buckets", "list", "want", "ring", "ringsum", "ping", "bye"];

impl Message {
    /// The frame of this message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Hello(hello) => frame("hello", hello),
            Self::Entries(entries) => frame("entries", entries),
            Self::News(told) => frame("news", told),
            Self::Sum(sum) => frame("sum", sum),
            Self::Buckets(buckets) => frame("buckets", buckets),
            Self::List(list) => frame("list", list),
            Self::Want(keys) => frame("want", keys),
            Self::Ring(ring) => frame("ring", ring),
            Self::RingSum(sum) => frame("ringsum", sum),
            Self::Ping => frame("ping", ()),
            Self::Bye(reason) => frame("bye", reason),
            Self::Unknown(kind) => frame(kind, ()),
        }
    }

    /// The message in a frame.
    ///
    /// # Errors
    /// When the bytes are no message or a bound is exceeded. Never panics.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        if bytes.len() > FRAME_MAX {
            return Err(WireError::TooLong("a frame"));
        }
        match read::<Self>(bytes) {
            Ok(message) => message.checked(),
            Err(error) => {
                let Frame { kind, .. } = read::<Frame<IgnoredAny>>(bytes)?;
                if KINDS.contains(&kind.as_str()) { Err(error) } else { Ok(Self::Unknown(clean(&kind))) }
            }
        }
    }

    /// The message, if it keeps all bounds.
    fn checked(self) -> Result<Self, WireError> {
        match &self {
            Self::Hello(hello) => bound("features", hello.features.len(), FEATURES_MAX)?,
            Self::Entries(entries) => bound("entries", entries.entries.len(), ENTRIES_MAX)?,
            Self::News(told) => {
                bound("news", told.len(), LIST_MAX)?;
                told.iter().try_for_each(|(key, ..)| checked_key(key))?;
            }
            Self::Buckets(buckets) => bound("buckets", buckets.len(), BUCKETS)?,
            Self::List(list) => {
                bound("buckets", list.buckets.len(), BUCKETS)?;
                bound("items", list.items.len(), LIST_MAX)?;
                list.items.iter().try_for_each(|(key, _)| checked_key(key))?;
            }
            Self::Want(keys) => {
                bound("keys", keys.len(), LIST_MAX)?;
                keys.iter().try_for_each(checked_key)?;
            }
            Self::Ring(ring) => {
                let most = crate::proto::ipam::ring::ENTRIES_MAX;
                bound("the ring's origin", ring.origin.len(), most)?;
                bound("the ring's pieces", ring.shares.len(), most)?;
                bound("removed peers", ring.removed.len(), most)?;
            }
            Self::Bye(reason) => return Ok(Self::Bye(clean_to(reason, REASON_MAX))),
            Self::Sum(_) | Self::RingSum(_) | Self::Ping | Self::Unknown(_) => {}
        }
        Ok(self)
    }
}

/// Reads past a body that says nothing.
fn ignore<'de, D: Deserializer<'de>>(body: D) -> Result<(), D::Error> {
    IgnoredAny::deserialize(body).map(|IgnoredAny| ())
}

fn frame<B: Serialize>(kind: &str, body: B) -> Vec<u8> {
    cbor::write(&Frame { kind: kind.to_owned(), body })
}

/// The value in CBOR `bytes`.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    cbor::read(bytes).map_err(|e| WireError::Malformed(clean(&e)))
}

/// Refuses what is longer than it may be.
pub(super) fn bound(what: &'static str, len: usize, max: usize) -> Result<(), WireError> {
    if len > max { Err(WireError::TooLong(what)) } else { Ok(()) }
}

fn checked_key(key: &Key) -> Result<(), WireError> {
    bound("the name of a channel", key.channel.len(), CHANNEL_MAX)
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
