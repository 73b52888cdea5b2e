//! Who a peer is.
//!
//! A **name** is 48 bits, chosen once a host, printed like a MAC. A **uid** is made with the store: the same name and uid
//! is the same peer again, the same name with another uid while both live is a duplicate identity.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_bytes::ByteArray;
use weave_common::addr::{Mac, PeerKey};

/// A peer's name: 48 bits, printed, and in JSON, as `aa:bb:cc:dd:ee:ff`; in CBOR a byte string of 6. Kept as one number: with
/// thousands of peers most of the work is looking names up.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerName(u64);

impl PeerName {
    /// The name made of `bytes`, most significant first.
    #[must_use]
    pub const fn from_bytes([a, b, c, d, e, f]: [u8; 6]) -> Self {
        Self(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }

    /// The name as a locally administered unicast MAC, from any 48 bits.
    #[must_use]
    pub const fn derived(mut bytes: [u8; 6]) -> Self {
        bytes[0] = (bytes[0] & 0xfc) | 0x02;
        Self::from_bytes(bytes)
    }

    /// The 48 bits, most significant first.
    #[must_use]
    pub const fn bytes(self) -> [u8; 6] {
        let [_, _, a, b, c, d, e, f] = self.0.to_be_bytes();
        [a, b, c, d, e, f]
    }

    /// The key of this peer in the kernel's maps.
    #[must_use]
    pub const fn key(self) -> PeerKey {
        PeerKey::new(self.bytes())
    }
}

impl Serialize for PeerName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(self, &self.bytes(), serializer)
    }
}

impl<'de> Deserialize<'de> for PeerName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer, Self::from_bytes)
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Mac(self.bytes()).fmt(f)
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
        parse(text).map(Self::from_bytes).ok_or_else(|| PeerNameError { text: text.to_owned() })
    }
}

fn parse(text: &str) -> Option<[u8; 6]> {
    let hex = |t: &&str| (1..=2).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_hexdigit());
    let byte = |t: &str| Some(t).filter(hex).and_then(|t| u8::from_str_radix(t, 16).ok());
    let group = |t: &str| if t.is_empty() { Some(Vec::new()) } else { t.split(':').map(byte).collect::<Option<_>>() };
    let bytes = match text.split_once("::") {
        Some((head, tail)) => {
            let (head, tail) = (group(head)?, group(tail)?);
            let zeros = 6_usize.checked_sub(head.len() + tail.len()).filter(|n| *n > 0)?;
            [head, vec![0; zeros], tail].concat()
        }
        None => group(text)?,
    };
    bytes.try_into().ok()
}

/// Tells two stores that claim one name apart: the first 128 bits of a digest of the store's key, most significant byte
/// first. Printed, and in JSON, 32 hexadecimal digits, as no number of JSON is so large; in CBOR a byte string of 16.
///
/// Aligned like the name beside it, so that a [`PeerId`] has no padding.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(Rust, packed(8))]
pub struct PeerUid(pub u128);

impl fmt::Display for PeerUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", { self.0 })
    }
}

impl fmt::Debug for PeerUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is not a uid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a uid: that has 32 hexadecimal digits")]
pub struct PeerUidError {
    text: String,
}

impl FromStr for PeerUid {
    type Err = PeerUidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = Some(text).filter(|text| text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit()));
        let number = digits.and_then(|digits| u128::from_str_radix(digits, 16).ok());
        number.map(Self).ok_or_else(|| PeerUidError { text: text.to_owned() })
    }
}

impl Serialize for PeerUid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(self, &{ self.0 }.to_be_bytes(), serializer)
    }
}

impl<'de> Deserialize<'de> for PeerUid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer, |bytes| Self(u128::from_be_bytes(bytes)))
    }
}

/// For people as text, on the wire as bytes.
fn serialize<S: Serializer>(value: &impl fmt::Display, bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() { serializer.collect_str(value) } else { serializer.serialize_bytes(bytes) }
}

fn deserialize<'de, D: Deserializer<'de>, T: FromStr<Err: fmt::Display>, const N: usize>(
    deserializer: D,
    value: impl FnOnce([u8; N]) -> T,
) -> Result<T, D::Error> {
    if deserializer.is_human_readable() {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    } else {
        ByteArray::<N>::deserialize(deserializer).map(|bytes| value(bytes.into_array()))
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
