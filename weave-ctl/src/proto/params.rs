//! Identity of a peer, the parameters of its network, and what the operator asked for at a launch.

use std::{fmt, net::Ipv4Addr, time::Duration};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::{
    domain::Domain,
    key::SecretKey,
    name::{PeerName, PeerUid},
    target::Target,
};

/// The range when none is named, as the predecessor's.
pub const DEFAULT_RANGE: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 32, 0, 0), 12);

/// The identity of this peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its name.
    pub name: PeerName,
    /// Of its key.
    pub uid: PeerUid,
    /// For people.
    pub nickname: String,
    /// Raised by one at every launch, so that fresh records win over those of an earlier run.
    pub incarnation: u64,
    /// Signs this peer's records; the uid follows from it. Made with the store, never sent.
    pub key: SecretKey,
}

/// What the network was launched with. Kept, and compared at the next launch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchParams {
    /// The range that all peers share.
    pub range: Ipv4Net,
    /// Subnet from which containers get addresses when none is named.
    pub default_subnet: Ipv4Net,
    /// Names among which the range is divided at the start; empty when this peer was given none.
    pub seeds: Vec<PeerName>,
    /// How the range is divided at the start, where there are no seeds.
    #[serde(default)]
    pub init: Init,
    /// Peers named at that launch; what `connect` and `forget` changed since is in the targets.
    pub peers: Vec<Target>,
}

/// What the operator asked for at this launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// `--name`.
    pub name: Option<PeerName>,
    /// `--nickname`, or the host's name.
    pub nickname: String,
    /// `--ipalloc-range`; `None` when not given.
    pub range: Option<Ipv4Net>,
    /// `--ipalloc-default-subnet`; `None` when not given.
    pub default_subnet: Option<Ipv4Net>,
    /// `--seed`; empty when not given.
    pub seeds: Vec<PeerName>,
    /// `--initial-peer-count`, `--observer`, or seeds; [`Init::Undeclared`] when nothing was given.
    pub init: Init,
    /// Peers on the command line; empty when none was given.
    pub targets: Vec<Target>,
    /// False with `--no-discovery`.
    pub discovery: bool,
    /// Most sessions to other peers, inbound and outbound.
    pub conn_limit: u32,
    /// TCP port of the control plane; the data port is the next one.
    pub port: u16,
    /// What sessions need.
    pub secret: SecretKind,
    /// `--dns-domain`: names of containers are in it.
    pub dns_domain: Domain,
    /// `--test-grace`: grace periods last no longer than this. `None` outside tests.
    pub test_grace: Option<Duration>,
}

/// What all peers share, as far as the core knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecretKind {
    /// Nothing: any host may open a session.
    #[default]
    None,
    /// A password.
    Password,
    /// A key.
    Key,
}

/// How this peer takes part in dividing the range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Init {
    /// Nothing was said: divides it alone when nobody else is there, and otherwise takes the ring of a peer.
    #[default]
    Undeclared,
    /// By the list of seeds.
    Seeds,
    /// By election, as one of this many.
    Election(u16),
    /// Not: takes the ring that the electors agree on.
    Observer,
}

impl fmt::Display for Init {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undeclared => f.write_str("neither --seed nor --initial-peer-count nor --observer"),
            Self::Seeds => f.write_str("--seed"),
            Self::Election(count) => write!(f, "--initial-peer-count {count}"),
            Self::Observer => f.write_str("--observer"),
        }
    }
}
