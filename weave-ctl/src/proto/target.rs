//! Targets: where the operator says that a peer is to be found.

use std::{fmt, net::Ipv4Addr};

use serde::{Deserialize, Serialize};

/// Where to find a peer: `HOST[:PORT]`, the host a name or an IPv4 address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Target {
    /// Name or address.
    pub host: String,
    /// TCP port; the sender's own control port when not given.
    pub port: Option<u16>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

/// Text that is not a target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a peer address: write a host name or an IPv4 address, with :PORT when it is not the usual one"
)]
pub struct TargetError {
    text: String,
}

impl std::str::FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || TargetError { text: text.to_owned() };
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port.parse::<u16>().ok().filter(|p| *p > 0).ok_or_else(bad)?)),
            None => (text, None),
        };
        let label = |l: &str| {
            (1..=63).contains(&l.len())
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !l.starts_with('-')
        };
        let numeric = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let good = host.len() <= 253
            && if numeric {
                host.parse::<Ipv4Addr>().is_ok()
            } else {
                host.trim_end_matches('.').split('.').all(label)
            };
        if good { Ok(Self { host: host.to_owned(), port }) } else { Err(bad()) }
    }
}

#[cfg(test)]
mod tests;
