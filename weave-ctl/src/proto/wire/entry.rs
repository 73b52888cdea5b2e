//! Signed entries, the unit of gossip: only the owner of a key can make or change one.
//!
//! An entry is `{key, signature, body}`, its body CBOR of owner, channel, key, incarnation, sequence and value; without a
//! value it is a tombstone: its owner deleted the entry. Entries travel and are kept as the bytes that arrived, so what this
//! version does not know is carried along unchanged: whole channels, and fields of known ones. A value is held once, inside
//! these bytes. The entry of the peers channel is the owner's [`PeerRecord`].
//! Bounds: [`ENTRY_MAX`] bytes a record or a vote, [`VALUE_MAX`] bytes another value; [`KEY_MAX`] bytes a key; [`ADDRS_MAX`] addresses,
//! [`SESSIONS_MAX`] sessions and as many paths a record.

use std::{net::Ipv4Addr, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use smol_str::SmolStr;

use super::{ChannelBinding, WireError, bound, clean, signed::Signed};
use crate::proto::{
    cbor,
    key::{PublicKey, SecretKey},
    name::{PeerName, PeerUid},
};

/// Longest entry in bytes.
pub const ENTRY_MAX: usize = 128 * 1024;
/// Longest value in bytes of an entry that is neither a record nor a vote.
pub const VALUE_MAX: usize = 8 * 1024;
/// Longest name of a channel in bytes.
pub const CHANNEL_MAX: usize = 32;
/// Longest key in bytes: that of a name (RFC 1035, section 2.3.4).
pub const KEY_MAX: usize = 255;
/// Most addresses in a record.
pub const ADDRS_MAX: usize = 16;
/// Most sessions in a record, and most paths.
pub const SESSIONS_MAX: usize = 1024;
/// Set before what is signed, so that a signature of one kind is none of the other.
const ENTRY_CONTEXT: &[u8] = b"weave-ctl entry 3\0";
const HANDSHAKE_CONTEXT: &[u8] = b"weave-ctl handshake 2\0";

/// What entries are about: modules other than membership read one each. `node` passes them on, in one place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "SmolStr", into = "SmolStr")]
pub enum Channel {
    /// Records: one a peer, with an empty key.
    Peers,
    /// Votes: one a voter, with an empty key.
    Election,
    /// Free space, requests and responses: one a peer, with an empty key.
    Space,
    /// Addresses of containers outside the range: one an address, which is the key. No value is needed.
    Claims,
    /// Names of containers: one a name and address, which are the key; the value is the owner.
    Dns,
    /// Of a later version: carried along, and read by nobody here. Boxed: every entry has room for it.
    Unknown(Box<SmolStr>),
}

impl Channel {
    /// Its name, as it is sent.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Peers => "peers",
            Self::Election => "election",
            Self::Space => "space",
            Self::Claims => "claims",
            Self::Dns => "dns",
            Self::Unknown(name) => name,
        }
    }
}

impl From<SmolStr> for Channel {
    fn from(name: SmolStr) -> Self {
        let known = [Self::Peers, Self::Election, Self::Space, Self::Claims, Self::Dns];
        known.into_iter().find(|channel| channel.name() == name).unwrap_or_else(|| Self::Unknown(name.into()))
    }
}

impl From<Channel> for SmolStr {
    fn from(channel: Channel) -> Self {
        channel.name().into()
    }
}

/// What an entry is filed under.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryKey {
    /// The peer that signs it.
    pub owner: PeerName,
    /// The channel it is in.
    pub channel: Channel,
    /// Its key there: not one byte more, since a hundred thousand are held.
    pub key: Box<str>,
}

/// A point in what an owner says: (incarnation, sequence). Each of its entries has one of its own, whatever the channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Point(pub u64, pub u64);

impl Point {
    /// Before everything.
    pub const ZERO: Self = Self(0, 0);
}

/// Version of an entry; the highest wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// When its owner made it: launches of its store, and entries made since the last one.
    pub point: Point,
    /// The first bytes of the signature: tells two entries of one point apart, and digests add it up.
    pub digest: u64,
}

/// What a peer says of itself. Only the peer itself makes a new version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRecord {
    /// The peer: the entry's owner.
    #[serde(skip)]
    pub name: PeerName,
    /// Its store: the digest of the entry's key.
    #[serde(skip)]
    pub uid: PeerUid,
    /// When it was made: the entry's.
    #[serde(skip)]
    pub point: Point,
    /// The host's name for people.
    pub nickname: String,
    /// Underlay addresses it listens on.
    pub addrs: Vec<Ipv4Addr>,
    /// TCP port of its control plane.
    pub control_port: u16,
    /// UDP port of its data plane.
    pub data_port: u16,
    /// Largest MTU in bytes of the underlay devices it sends to peers by; zero before one is known.
    pub mtu: u32,
    /// What the owner deleted up to this point is gone for good: nobody keeps a tombstone of it, and a peer that does not
    /// hold everything up to here may hold deleted entries.
    pub floor: Point,
    /// Its sessions.
    pub sessions: Vec<ReportedSession>,
    /// Peers whose kernels answer its probes without a relay: it can relay to them.
    pub paths: Vec<PeerName>,
}

impl PeerRecord {
    /// True when `other` gives the same addresses, ports and MTU, whatever its sessions and paths.
    #[must_use]
    pub fn is_found_like(&self, other: &Self) -> bool {
        let place = |r: &Self| (r.uid, r.control_port, r.data_port, r.mtu);
        place(self) == place(other) && self.addrs == other.addrs
    }
}

/// One session, as one of its ends reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedSession {
    /// The other end.
    #[serde(rename = "p")]
    pub peer: PeerName,
    /// Its store.
    #[serde(rename = "u")]
    pub uid: PeerUid,
    /// Its address and TCP port as this end sees them.
    #[serde(rename = "a")]
    pub address: String,
    /// This end dialled.
    #[serde(rename = "o")]
    pub outbound: bool,
}

/// An entry whose signature was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is filed under.
    pub key: EntryKey,
    /// The store that signed it.
    pub uid: PeerUid,
    /// Its version.
    pub version: Version,
    /// Its bytes, as they are passed on; its value is their end.
    pub raw: Arc<[u8]>,
    /// What its value is.
    pub content: Content,
}

/// What the value of an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A record.
    Record(Box<PeerRecord>),
    /// So many bytes, for the module that reads the channel.
    Value(u32),
    /// None: the owner deleted the entry.
    Deleted,
    /// A record that cannot be read, and why.
    Unreadable(Box<String>),
}

impl Entry {
    /// The record in an entry of the peers channel.
    #[must_use]
    pub fn record(&self) -> Option<&PeerRecord> {
        if let Content::Record(record) = &self.content { Some(record) } else { None }
    }

    /// The bytes that its owner signed; nothing of a tombstone or a record.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        let Content::Value(len) = self.content else { return None };
        self.raw.get(self.raw.len().checked_sub(usize::try_from(len).ok()?)?..)
    }

    /// True when its owner deleted it.
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        self.content == Content::Deleted
    }
}

#[derive(Serialize, Deserialize)]
struct Body {
    #[serde(rename = "o")]
    owner: PeerName,
    #[serde(rename = "c")]
    channel: Channel,
    #[serde(rename = "k", default)]
    key: Box<str>,
    #[serde(rename = "p")]
    point: Point,
    /// Last, so that it is the end of the entry.
    #[serde(rename = "v", default)]
    value: Option<ByteBuf>,
}

/// Key, store and version that some bytes claim.
pub type Head = (EntryKey, PeerUid, Version);

/// Reads entries and verifies their signatures. A simulator of many peers in one process verifies each once for all.
pub trait Verifier: std::fmt::Debug + Send + Sync {
    /// What `raw` claims; nothing is verified.
    ///
    /// # Errors
    /// When the bytes are no entry or exceed a bound.
    fn peek(&self, raw: &[u8]) -> Result<Head, WireError>;

    /// The entry in `raw`.
    ///
    /// # Errors
    /// When the bytes are no entry, exceed a bound, or the signature is not the key's.
    fn open(&self, raw: &[u8]) -> Result<Arc<Entry>, WireError>;
}

/// Verifies every entry.
#[derive(Clone, Copy, Debug, Default)]
pub struct Verify;

impl Verifier for Verify {
    fn peek(&self, raw: &[u8]) -> Result<Head, WireError> {
        let (signed, body) = read(raw)?;
        let version = version(&signed, body.point);
        Ok((EntryKey { owner: body.owner, channel: body.channel, key: body.key }, signed.key.uid(), version))
    }

    fn open(&self, raw: &[u8]) -> Result<Arc<Entry>, WireError> {
        let (signed, Body { owner, channel, key, point, value }) = read(raw)?;
        if !signed.is_genuine(ENTRY_CONTEXT) {
            return Err(WireError::Malformed("an entry whose signature is not its key's".to_owned()));
        }
        let (version, uid) = (version(&signed, point), signed.key.uid());
        let content = match value {
            None => Content::Deleted,
            Some(data) if channel == Channel::Peers => match record(&data) {
                Ok(record) => Content::Record(Box::new(PeerRecord { name: owner, uid, point, ..record })),
                Err(error) => Content::Unreadable(Box::new(error.to_string())),
            },
            Some(value) if !raw.ends_with(&value) => {
                return Err(WireError::Malformed("an entry whose value is not its end".to_owned()));
            }
            Some(value) => Content::Value(u32::try_from(value.len()).unwrap_or(u32::MAX)),
        };
        let key = EntryKey { owner, channel, key };
        Ok(Arc::new(Entry { key, uid, version, raw: raw.into(), content }))
    }
}

fn read(raw: &[u8]) -> Result<(Signed, Body), WireError> {
    bound("an entry", raw.len(), ENTRY_MAX)?;
    let signed = Signed::read(raw)?;
    let body: Body = super::read(&signed.body)?;
    bound("the name of a channel", body.channel.name().len(), CHANNEL_MAX)?;
    bound("a key", body.key.len(), KEY_MAX)?;
    match (&body.channel, &body.value) {
        (Channel::Peers, Some(_)) if body.key.is_empty() => {}
        (Channel::Peers, _) => return Err(WireError::Malformed("a record with a key or without a value".to_owned())),
        // Votes name all voters.
        (Channel::Election, _) => {}
        (_, value) => bound("a value", value.as_ref().map_or(0, |value| value.len()), VALUE_MAX)?,
    }
    Ok((signed, body))
}

fn version(signed: &Signed, point: Point) -> Version {
    let digest = signed.signature.first_chunk::<8>().map_or(0, |head| u64::from_be_bytes(*head));
    Version { point, digest }
}

/// The record in `data`, without what the entry itself says.
fn record(data: &[u8]) -> Result<PeerRecord, WireError> {
    let record: PeerRecord = super::read(data)?;
    bound("addresses", record.addrs.len(), ADDRS_MAX)?;
    bound("sessions", record.sessions.len(), SESSIONS_MAX)?;
    bound("paths", record.paths.len(), SESSIONS_MAX)?;
    let sessions = record.sessions.into_iter().map(|s| ReportedSession { address: clean(&s.address), ..s }).collect();
    Ok(PeerRecord { nickname: clean(&record.nickname), sessions, ..record })
}

/// The signed entry of `value` under `key`, or its tombstone.
#[must_use]
pub fn sign(secret: &SecretKey, key: EntryKey, point: Point, value: Option<&[u8]>) -> Vec<u8> {
    let EntryKey { owner, channel, key } = key;
    let body = cbor::write(&Body { owner, channel, key, point, value: value.map(ByteBuf::from) });
    Signed::write(secret, ENTRY_CONTEXT, body)
}

/// What the record of `owner` is filed under.
#[must_use]
pub fn record_key(owner: PeerName) -> EntryKey {
    EntryKey { owner, channel: Channel::Peers, key: Box::default() }
}

/// The signed entry of a record.
#[must_use]
pub fn sign_record(secret: &SecretKey, record: &PeerRecord) -> Vec<u8> {
    sign(secret, record_key(record.name), record.point, Some(&cbor::write(record)))
}

/// The key that signed `raw`; `None` when it is no entry.
#[must_use]
pub fn signer(raw: &[u8]) -> Option<PublicKey> {
    super::read::<Signed>(raw).ok().map(|signed| signed.key)
}

/// What the side that `dialled` (or did not) signs to prove its identity on one connection.
fn identity_text(binding: &ChannelBinding, dialled: bool) -> Vec<u8> {
    [HANDSHAKE_CONTEXT, &[u8::from(dialled)], binding].concat()
}

/// The identity proof in a handshake.
#[must_use]
pub fn identity_proof(key: &SecretKey, binding: &ChannelBinding, dialled: bool) -> Vec<u8> {
    key.sign(&identity_text(binding, dialled)).to_vec()
}

/// Whether `proof` shows that the other end of this connection holds the secret half of `key`.
#[must_use]
pub fn is_identity_proven(key: &PublicKey, binding: &ChannelBinding, dialled: bool, proof: &[u8]) -> bool {
    key.verifies(&identity_text(binding, dialled), proof)
}

#[cfg(test)]
mod tests;
