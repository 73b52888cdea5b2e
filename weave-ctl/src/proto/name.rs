//! Who a peer is.
//!
//! A **name** is 48 bits, chosen once a host, printed like a MAC. A **uid** is random and made with the store: the same
//! name and uid is the same peer again, the same name with another uid while both live is a collision.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use weave_common::addr::PeerKey;

/// A peer's name: 48 bits, printed as `aa:bb:cc:dd:ee:ff`.
#[derive(Clone, Copy, Default)]
pub struct PeerName([u8; 6]);

impl PeerName {
    /// The name made of `bytes`, most significant first.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    /// The name as a locally administered unicast MAC, from any 48 bits.
    #[must_use]
    pub const fn derived(mut bytes: [u8; 6]) -> Self {
        bytes[0] = (bytes[0] & 0xfc) | 0x02;
        Self(bytes)
    }

    /// The 48 bits, most significant first.
    #[must_use]
    pub const fn bytes(self) -> [u8; 6] {
        self.0
    }

    /// The key of this peer in the kernel's maps.
    #[must_use]
    pub const fn key(self) -> PeerKey {
        PeerKey::new(self.0)
    }
}

/// Names are compared, ordered and hashed as one number, which orders them like their bytes: with thousands of peers most
/// of the work is looking names up.
impl PeerName {
    #[inline]
    const fn number(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }
}

impl PartialEq for PeerName {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.number() == other.number()
    }
}

impl Eq for PeerName {}

impl Ord for PeerName {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        self.number().cmp(&other.number())
    }
}

impl PartialOrd for PeerName {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for PeerName {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.number());
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        weave_common::addr::Mac(self.0).fmt(f)
    }
}

impl fmt::Debug for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is not a peer name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a peer name: write six hexadecimal bytes like 1a:2b:3c:4d:5e:6f, or short like ::3")]
pub struct PeerNameError {
    text: String,
}

impl FromStr for PeerName {
    type Err = PeerNameError;

    /// Six bytes in hexadecimal separated by colons; one `::` stands for as many zero bytes as are missing.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map(Self).ok_or_else(|| PeerNameError { text: text.to_owned() })
    }
}

fn parse(text: &str) -> Option<[u8; 6]> {
    let group = |t: &str| -> Option<Vec<u8>> {
        if t.is_empty() {
            return Some(Vec::new());
        }
        t.split(':').map(byte).collect()
    };
    let bytes = match text.split_once("::") {
        Some((head, tail)) => {
            let (head, tail) = (group(head)?, group(tail)?);
            let zeros = 6_usize.checked_sub(head.len() + tail.len()).filter(|n| *n > 0)?;
            [head, vec![0; zeros], tail].concat()
        }
        None => group(text)?,
    };
    <[u8; 6]>::try_from(bytes).ok()
}

fn byte(text: &str) -> Option<u8> {
    let hex = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    if hex { u8::from_str_radix(text, 16).ok() } else { None }
}

impl Serialize for PeerName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { serializer.serialize_bytes(&self.0) }
    }
}

impl<'de> Deserialize<'de> for PeerName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return String::deserialize(deserializer)?.parse().map_err(de::Error::custom);
        }
        serde_bytes::ByteArray::<6>::deserialize(deserializer).map(|bytes| Self(bytes.into_array()))
    }
}

/// Tells two stores that claim one name apart. Made with the store, never changed: the digest of its
/// key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PeerUid(pub u64);

impl fmt::Display for PeerUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A peer as one store of its name: what may own addresses and vote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PeerId {
    /// Its name.
    pub name: PeerName,
    /// Its store; zero for whatever store bears the name first.
    pub uid: PeerUid,
}

impl PeerId {
    /// Whatever store bears the name first.
    #[must_use]
    pub const fn of_any_store(name: PeerName) -> Self {
        Self { name, uid: PeerUid(0) }
    }
}

#[cfg(test)]
mod tests;
