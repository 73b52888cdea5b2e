//! What `status dns` shows.

use std::{collections::BTreeMap, net::Ipv4Addr};

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
    /// How questions are answered; `None` when they are not.
    #[serde(default)]
    pub resolver: Option<ResolverStatus>,
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

/// How questions for names are answered on this host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ResolverStatus {
    /// Time in seconds for which answers about names of the domain may be kept.
    pub ttl_s: u32,
    /// Servers that are asked for other names, `ADDRESS:PORT` each.
    pub upstream: Vec<String>,
    /// Addresses of this host on which is answered too, `ADDRESS:PORT` each.
    pub listen: Vec<String>,
    /// What became of questions since the launch, by outcome; those that the kernel answered are counted in the dataplane.
    pub questions: BTreeMap<String, u64>,
}
