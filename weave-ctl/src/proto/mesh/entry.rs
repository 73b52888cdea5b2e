//! What is gossiped: entries, each signed by its owner, so that nobody can speak for another.
//!
//! An entry is `{key, signature, body}`, its body CBOR of channel, owner, incarnation, version and data. Entries travel and
//! are kept as the bytes that came, so what this version does not know is carried along unchanged: whole channels, and
//! fields of known ones. A version beyond that of the owner's last entry wins; only the owner can make one.
//! Bounds: [`ENTRY_MAX`] bytes an entry; [`ADDRS_MAX`] addresses, [`RECORD_LINKS_MAX`] links and [`NARROW_MAX`] narrow
//! paths a record.

use std::{net::Ipv4Addr, sync::Arc};

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::wire::{self, Key, Stamp, WireError, bound, clean};
use crate::proto::{
    cbor,
    io::Binding,
    key::{PublicKey, SIGNATURE_LEN, SecretKey},
    name::{PeerName, PeerUid},
};

/// The channel that every peer's record is in.
pub const PEERS: &str = "peers";
/// Longest entry in bytes.
pub const ENTRY_MAX: usize = 128 * 1024;
/// Most addresses in a record.
pub const ADDRS_MAX: usize = 16;
/// Most links in a record.
pub const RECORD_LINKS_MAX: usize = 1024;
/// Most narrow paths in a record.
pub const NARROW_MAX: usize = 1024;
/// Set before what is signed, so that a signature of one kind is none of the other.
const ENTRY_CONTEXT: &[u8] = b"weave-ctl entry 1\0";
const HELLO_CONTEXT: &[u8] = b"weave-ctl hello 1\0";

/// What a peer says of itself. Only the peer itself makes a new version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRecord {
    /// The peer: the entry's owner.
    #[serde(skip)]
    pub name: PeerName,
    /// Its store: of the entry's key.
    #[serde(skip)]
    pub uid: PeerUid,
    /// Launches of that store: the entry's.
    #[serde(skip)]
    pub incarnation: u64,
    /// Changes in this incarnation: the entry's.
    #[serde(skip)]
    pub version: u64,
    /// For people.
    pub nickname: String,
    /// Carried in every packet it sends.
    pub short_id: u16,
    /// Underlay addresses it listens on.
    pub addrs: Vec<Ipv4Addr>,
    /// TCP port of its control plane.
    pub control_port: u16,
    /// UDP port of its data plane.
    pub data_port: u16,
    /// MTU in bytes of its containers.
    pub mtu: u32,
    /// What probes to it must carry.
    pub cookie: u64,
    /// Its links.
    pub links: Vec<RecordLink>,
    /// Peers that it sends to straight without a link, where less passes than both hosts take: the largest outer IP packet
    /// in bytes. It relays by these paths too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub narrow: Vec<(PeerName, u32)>,
}

impl PeerRecord {
    /// True when this one says the same as `other` of where and how packets for the peer are to be sent, whatever its links.
    #[must_use]
    pub fn is_found_like(&self, other: &Self) -> bool {
        let where_and_how = |r: &Self| (r.uid, r.short_id, r.control_port, r.data_port, r.mtu, r.cookie);
        where_and_how(self) == where_and_how(other) && self.addrs == other.addrs
    }
}

/// One link, as one of its ends tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordLink {
    /// The other end.
    #[serde(rename = "p")]
    pub peer: PeerName,
    /// Its store.
    #[serde(rename = "u")]
    pub uid: PeerUid,
    /// Its address as this end sees it.
    #[serde(rename = "a")]
    pub address: String,
    /// This end dialled.
    #[serde(rename = "o")]
    pub outbound: bool,
    /// Control and data work.
    #[serde(rename = "e")]
    pub established: bool,
    /// Largest outer IP packet in bytes that the data path takes, zero when not measured.
    #[serde(rename = "m", default)]
    pub path_mtu: u32,
}

/// What is in an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A record of the peers channel.
    Peer(Box<PeerRecord>),
    /// Of a channel that this version does not know.
    Unknown,
    /// Of a known channel, but not to be read: why.
    Unreadable(String),
}

/// An entry whose signature was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is filed under.
    pub key: Key,
    /// The owner's store.
    pub uid: PeerUid,
    /// How new it is.
    pub stamp: Stamp,
    /// Its bytes, as they are passed on.
    pub raw: Arc<[u8]>,
    /// What it says.
    pub content: Content,
}

impl Entry {
    /// The record in an entry of the peers channel.
    #[must_use]
    pub fn record(&self) -> Option<&PeerRecord> {
        if let Content::Peer(record) = &self.content { Some(record) } else { None }
    }

    /// What its owner put into it.
    #[must_use]
    pub fn data(&self) -> Option<Vec<u8>> {
        read(&self.raw).ok().map(|(_, body)| body.data)
    }
}

#[derive(Serialize, Deserialize)]
struct Signed {
    #[serde(rename = "k")]
    key: PublicKey,
    #[serde(rename = "s", with = "serde_bytes")]
    signature: Vec<u8>,
    #[serde(rename = "b", with = "serde_bytes")]
    body: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Body {
    #[serde(rename = "c")]
    channel: SmolStr,
    #[serde(rename = "o")]
    owner: PeerName,
    #[serde(rename = "i")]
    incarnation: u64,
    #[serde(rename = "v")]
    version: u64,
    #[serde(rename = "d", with = "serde_bytes")]
    data: Vec<u8>,
}

/// Opens entries: reads them and verifies their signatures. A simulator of many peers in one process may open each once
/// for all of them.
pub trait Opener: std::fmt::Debug + Send + Sync {
    /// What `raw` is filed under and how new it says it is; nothing is verified.
    ///
    /// # Errors
    /// When the bytes are no entry or exceed a bound.
    fn peek(&self, raw: &[u8]) -> Result<(Key, PeerUid, Stamp), WireError>;

    /// The entry in `raw`.
    ///
    /// # Errors
    /// When the bytes are no entry, exceed a bound, or the signature is not the key's.
    fn open(&self, raw: &[u8]) -> Result<Arc<Entry>, WireError>;
}

/// Opens every entry by itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Verify;

impl Opener for Verify {
    fn peek(&self, raw: &[u8]) -> Result<(Key, PeerUid, Stamp), WireError> {
        let (signed, body) = read(raw)?;
        let stamp = stamp(&signed, body.incarnation, body.version);
        Ok((Key { owner: body.owner, channel: body.channel }, signed.key.uid(), stamp))
    }

    fn open(&self, raw: &[u8]) -> Result<Arc<Entry>, WireError> {
        let (signed, Body { channel, owner, incarnation, version, data }) = read(raw)?;
        if !signed.key.verifies(&[ENTRY_CONTEXT, &signed.body].concat(), &signed.signature) {
            return Err(WireError::Malformed("an entry whose signature is not its key's".to_owned()));
        }
        let (stamp, uid) = (stamp(&signed, incarnation, version), signed.key.uid());
        let content = content(&channel, &data, (owner, uid), stamp);
        Ok(Arc::new(Entry { key: Key { owner, channel }, uid, stamp, raw: raw.into(), content }))
    }
}

fn read(raw: &[u8]) -> Result<(Signed, Body), WireError> {
    bound("an entry", raw.len(), ENTRY_MAX)?;
    let signed: Signed = wire::read(raw)?;
    bound("a signature", signed.signature.len(), SIGNATURE_LEN)?;
    let body: Body = wire::read(&signed.body)?;
    bound("the name of a channel", body.channel.len(), wire::CHANNEL_MAX)?;
    Ok((signed, body))
}

fn stamp(signed: &Signed, incarnation: u64, version: u64) -> Stamp {
    let digest = signed.signature.first_chunk::<8>().map_or(0, |head| u64::from_be_bytes(*head));
    Stamp { incarnation, version, digest }
}

fn content(channel: &str, data: &[u8], (name, uid): (PeerName, PeerUid), stamp: Stamp) -> Content {
    if channel != PEERS {
        return Content::Unknown;
    }
    let record = wire::read(data).and_then(checked_record);
    match record {
        Ok(record) => {
            let Stamp { incarnation, version, .. } = stamp;
            Content::Peer(Box::new(PeerRecord { name, uid, incarnation, version, ..record }))
        }
        Err(error) => Content::Unreadable(error.to_string()),
    }
}

fn checked_record(record: PeerRecord) -> Result<PeerRecord, WireError> {
    bound("addresses", record.addrs.len(), ADDRS_MAX)?;
    bound("links", record.links.len(), RECORD_LINKS_MAX)?;
    bound("narrow paths", record.narrow.len(), NARROW_MAX)?;
    let links = record.links.into_iter().map(|l| RecordLink { address: clean(&l.address), ..l }).collect();
    Ok(PeerRecord { nickname: clean(&record.nickname), links, ..record })
}

/// The signed entry of `data` in `channel`.
#[must_use]
pub fn sign(key: &SecretKey, owner: PeerName, channel: &str, version: (u64, u64), data: Vec<u8>) -> Vec<u8> {
    let (incarnation, version) = version;
    let body = cbor::write(&Body { channel: channel.into(), owner, incarnation, version, data });
    let signature = key.sign(&[ENTRY_CONTEXT, &body].concat()).to_vec();
    cbor::write(&Signed { key: key.public(), signature, body })
}

/// The signed entry of a record.
#[must_use]
pub fn sign_record(key: &SecretKey, record: &PeerRecord) -> Vec<u8> {
    sign(key, record.name, PEERS, (record.incarnation, record.version), cbor::write(record))
}

/// The key that signed `raw`; `None` when it is no entry.
#[must_use]
pub fn signer(raw: &[u8]) -> Option<PublicKey> {
    wire::read::<Signed>(raw).ok().map(|signed| signed.key)
}

/// What the side that `dialled` (or did not) signs to show that a hello is its own and of this connection.
fn hello_text(binding: &Binding, dialled: bool) -> Vec<u8> {
    [HELLO_CONTEXT, &[u8::from(dialled)], binding].concat()
}

/// The proof that goes into a hello.
#[must_use]
pub fn hello_proof(key: &SecretKey, binding: &Binding, dialled: bool) -> Vec<u8> {
    key.sign(&hello_text(binding, dialled)).to_vec()
}

/// Whether `proof` shows that the owner of `key` says hello on this connection.
#[must_use]
pub fn hello_proven(key: &PublicKey, binding: &Binding, dialled: bool, proof: &[u8]) -> bool {
    key.verifies(&hello_text(binding, dialled), proof)
}

#[cfg(test)]
mod tests;
