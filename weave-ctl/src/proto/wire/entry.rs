//! Signed entries, the unit of gossip: only the owner of a key can make or change one.
//!
//! An entry is `{key, signature, body}`, its body CBOR of channel, owner, incarnation, sequence and data. Entries travel
//! and are kept as the bytes that arrived, so what this version does not know is carried along unchanged: whole channels,
//! and fields of known ones. The entry of the peers channel is the owner's [`PeerRecord`].
//! Bounds: [`ENTRY_MAX`] bytes an entry; [`ADDRS_MAX`] addresses, [`SESSIONS_MAX`] sessions and as many paths a record.

use std::{net::Ipv4Addr, sync::Arc};

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::{Advert, ChannelBinding, EntryKey, Version, WireError, bound, clean};
use crate::proto::{
    cbor,
    key::{PublicKey, SIGNATURE_LEN, SecretKey},
    name::{PeerName, PeerUid},
};

/// The channel of records.
pub const PEERS: &str = "peers";
/// Longest entry in bytes.
pub const ENTRY_MAX: usize = 128 * 1024;
/// Most addresses in a record.
pub const ADDRS_MAX: usize = 16;
/// Most sessions in a record, and most paths.
pub const SESSIONS_MAX: usize = 1024;
/// Set before what is signed, so that a signature of one kind is none of the other.
const ENTRY_CONTEXT: &[u8] = b"weave-ctl entry 2\0";
const HANDSHAKE_CONTEXT: &[u8] = b"weave-ctl handshake 2\0";

/// What a peer says of itself. Only the peer itself makes a new version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRecord {
    /// The peer: the entry's owner.
    #[serde(skip)]
    pub name: PeerName,
    /// Its store: the digest of the entry's key.
    #[serde(skip)]
    pub uid: PeerUid,
    /// Launches of that store: the entry's.
    #[serde(skip)]
    pub incarnation: u64,
    /// Changes in this incarnation: the entry's.
    #[serde(skip)]
    pub sequence: u64,
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
    /// Its bytes, as they are passed on.
    pub raw: Arc<[u8]>,
    /// The record in an entry of the peers channel, or why it cannot be read; nothing in other channels.
    pub content: Result<Option<Box<PeerRecord>>, String>,
}

impl Entry {
    /// The record in an entry of the peers channel.
    #[must_use]
    pub fn record(&self) -> Option<&PeerRecord> {
        self.content.as_ref().ok()?.as_deref()
    }

    /// The data that its owner signed.
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
    #[serde(rename = "s")]
    sequence: u64,
    #[serde(rename = "d", with = "serde_bytes")]
    data: Vec<u8>,
}

/// Reads entries and verifies their signatures. A simulator of many peers in one process verifies each once for all.
pub trait Verifier: std::fmt::Debug + Send + Sync {
    /// Key, uid and version that `raw` claims; nothing is verified.
    ///
    /// # Errors
    /// When the bytes are no entry or exceed a bound.
    fn peek(&self, raw: &[u8]) -> Result<Advert, WireError>;

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
    fn peek(&self, raw: &[u8]) -> Result<Advert, WireError> {
        let (signed, body) = read(raw)?;
        let version = version(&signed, body.incarnation, body.sequence);
        Ok((EntryKey { owner: body.owner, channel: body.channel }, signed.key.uid(), version))
    }

    fn open(&self, raw: &[u8]) -> Result<Arc<Entry>, WireError> {
        let (signed, Body { channel, owner, incarnation, sequence, data }) = read(raw)?;
        if !signed.key.verifies(&[ENTRY_CONTEXT, &signed.body].concat(), &signed.signature) {
            return Err(WireError::Malformed("an entry whose signature is not its key's".to_owned()));
        }
        let (version, uid) = (version(&signed, incarnation, sequence), signed.key.uid());
        let content = match (channel == PEERS).then(|| record(&data)).transpose() {
            Ok(record) => Ok(record.map(|r| Box::new(PeerRecord { name: owner, uid, incarnation, sequence, ..r }))),
            Err(error) => Err(error.to_string()),
        };
        Ok(Arc::new(Entry { key: EntryKey { owner, channel }, uid, version, raw: raw.into(), content }))
    }
}

fn read(raw: &[u8]) -> Result<(Signed, Body), WireError> {
    bound("an entry", raw.len(), ENTRY_MAX)?;
    let signed: Signed = super::read(raw)?;
    bound("a signature", signed.signature.len(), SIGNATURE_LEN)?;
    let body: Body = super::read(&signed.body)?;
    bound("the name of a channel", body.channel.len(), super::CHANNEL_MAX)?;
    Ok((signed, body))
}

fn version(signed: &Signed, incarnation: u64, sequence: u64) -> Version {
    let digest = signed.signature.first_chunk::<8>().map_or(0, |head| u64::from_be_bytes(*head));
    Version { incarnation, sequence, digest }
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

/// The signed entry of `data` in `channel`; `version` is incarnation and sequence.
#[must_use]
pub fn sign(key: &SecretKey, owner: PeerName, channel: &str, version: (u64, u64), data: Vec<u8>) -> Vec<u8> {
    let (incarnation, sequence) = version;
    let body = cbor::write(&Body { channel: channel.into(), owner, incarnation, sequence, data });
    let signature = key.sign(&[ENTRY_CONTEXT, &body].concat()).to_vec();
    cbor::write(&Signed { key: key.public(), signature, body })
}

/// The signed entry of a record.
#[must_use]
pub fn sign_record(key: &SecretKey, record: &PeerRecord) -> Vec<u8> {
    sign(key, record.name, PEERS, (record.incarnation, record.sequence), cbor::write(record))
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
