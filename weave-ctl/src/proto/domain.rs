//! Names as the network holds them: canonical, and without the domain; and what is stored of them.
//!
//! Host names are compared without case (RFC 4343), so they are held in lower case, with no dot at the end. The domain is
//! each host's own (`--dns-domain`): it is taken off where names come in and put on where they go out.

use std::{collections::BTreeSet, fmt, net::Ipv4Addr};

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// The domain when none is named, as the predecessor's.
pub const DEFAULT_DOMAIN: &str = "weave.local";
/// Longest label in bytes (RFC 1035, section 2.3.4).
pub const LABEL_MAX: usize = 63;
/// Longest name in bytes with its domain, written without a dot at the end (RFC 1035, section 2.3.4).
pub const FULL_MAX: usize = 253;
/// Longest name in bytes without its domain: an entry's key holds it and an address.
pub const NAME_MAX: usize = 240;

/// Why a name is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing, or two dots in a row.
    #[error("{0:?} is no host name: a label is empty")]
    Empty(String),
    /// A label is too long.
    #[error("{0:?} is no host name: the label {1:?} has more than {LABEL_MAX} letters")]
    Label(String, String),
    /// The whole is too long.
    #[error("{0:?} is no host name: with its domain it would be longer than {FULL_MAX} letters")]
    Long(String),
    /// A character that no host name has.
    #[error("{0:?} is no host name: a label may have letters, digits, _ and, not at its ends, -")]
    Character(String),
    /// It ends with a dot, and is in another domain.
    #[error("{0:?} is not in the domain {1}: only names in it are kept here")]
    Outside(String, Domain),
}

/// A domain: canonical, without a dot at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain(SmolStr);

/// The name of a container without its domain: canonical, of at most [`NAME_MAX`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "SmolStr", into = "SmolStr")]
pub struct DnsName(SmolStr);

impl Domain {
    /// The domain that `text` names, with a dot at the end or without.
    ///
    /// # Errors
    /// When it is no host name, or so long that no name in it fits.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let canonical = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        check(text, &canonical)?;
        if canonical.len() + 2 > FULL_MAX { Err(NameError::Long(text.to_owned())) } else { Ok(Self(canonical.into())) }
    }

    /// Without a dot at the end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name that an operator means by `text`: one that ends with the domain is in it already, others are put into it.
    ///
    /// # Errors
    /// When it is no host name, is too long, or ends with a dot and is in another domain.
    pub fn name(&self, text: &str) -> Result<DnsName, NameError> {
        let whole = text.strip_suffix('.');
        let canonical = whole.unwrap_or(text).to_ascii_lowercase();
        let inside = canonical.strip_suffix(self.as_str()).and_then(|rest| rest.strip_suffix('.'));
        let name = match (inside, whole) {
            (Some(name), _) => name,
            (None, None) => &canonical,
            (None, Some(_)) => return Err(NameError::Outside(text.to_owned(), self.clone())),
        };
        check(text, name)?;
        if name.len() > NAME_MAX || name.len() + 1 + self.0.len() > FULL_MAX {
            return Err(NameError::Long(text.to_owned()));
        }
        Ok(DnsName(name.into()))
    }

    /// `name` with this domain, without a dot at the end.
    #[must_use]
    pub fn full(&self, name: &DnsName) -> String {
        format!("{name}.{self}")
    }
}

impl Default for Domain {
    fn default() -> Self {
        Self(SmolStr::new_static(DEFAULT_DOMAIN))
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl DnsName {
    /// The canonical text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads what other peers and the store hold: canonical, or refused.
impl TryFrom<SmolStr> for DnsName {
    type Error = NameError;

    fn try_from(text: SmolStr) -> Result<Self, NameError> {
        check(&text, &text)?;
        if text.len() > NAME_MAX {
            return Err(NameError::Long(text.into()));
        }
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(NameError::Character(text.into()));
        }
        Ok(Self(text))
    }
}

impl From<DnsName> for SmolStr {
    fn from(name: DnsName) -> Self {
        name.0
    }
}

/// Whether `name`, of which an operator wrote `text`, consists of labels.
fn check(text: &str, name: &str) -> Result<(), NameError> {
    for label in name.split('.') {
        if label.is_empty() {
            return Err(NameError::Empty(text.to_owned()));
        }
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if !label.bytes().all(fits) || label.starts_with('-') || label.ends_with('-') {
            return Err(NameError::Character(text.to_owned()));
        }
        if label.len() > LABEL_MAX {
            return Err(NameError::Label(text.to_owned(), label.to_owned()));
        }
    }
    Ok(())
}

/// What is registered for one owner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// Names of all addresses that it has.
    pub follow: BTreeSet<DnsName>,
    /// Names of these addresses.
    pub fixed: BTreeSet<(DnsName, Ipv4Addr)>,
}

impl Registered {
    /// True when nothing is registered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.follow.is_empty() && self.fixed.is_empty()
    }

    /// The records of an owner that has `addrs`.
    pub(super) fn records(&self, addrs: &[Ipv4Addr]) -> impl Iterator<Item = (DnsName, Ipv4Addr)> {
        let follow = self.follow.iter().flat_map(|name| addrs.iter().map(move |addr| (name.clone(), *addr)));
        follow.chain(self.fixed.iter().cloned())
    }
}

#[cfg(test)]
mod tests;
