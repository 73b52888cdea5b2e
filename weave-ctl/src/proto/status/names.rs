//! What `status dns` shows.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::PeerRef;

/// Names of containers on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DnsStatus {
    /// The domain of the names, without a dot at the end.
    pub domain: String,
    /// Where containers ask: the same address on every host.
    pub address: Ipv4Addr,
    /// Questions are answered on this host.
    pub enabled: bool,
    /// Containers of this host can ask there now.
    pub ready: bool,
    /// Addresses with a name that this host knows of, of all peers.
    pub records: usize,
}

/// One address of a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NameStatus {
    /// The name with this host's domain, without a dot at the end.
    pub name: String,
    /// The address.
    pub address: Ipv4Addr,
    /// Owner of the address on the peer that gave it the name, cut to 64 bytes; `weave:extern` for an address that is no
    /// container's.
    pub owner: String,
    /// The peer that gave it the name.
    pub peer: PeerRef,
}
