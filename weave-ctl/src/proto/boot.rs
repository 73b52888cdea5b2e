//! What a node starts from: who it is, what it was launched with, what its store and the kernel remember.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use ipnet::Ipv4Net;

use super::{
    election::Vote,
    io::{MapOp, Record, RouteTo, Target, TunnelTo},
    ipam::{
        Allocation, Ring,
        ring::{self, SeedError},
    },
    key::SecretKey,
    name::PeerName,
    rng::Rng,
};

pub use super::params::{DEFAULT_RANGE, Identity, Init, LaunchParams};

/// Content of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// `None` in a new store.
    pub identity: Option<Identity>,
    /// `None` in a new store.
    pub params: Option<LaunchParams>,
    /// Targets from `launch` and `connect`.
    pub targets: Vec<Target>,
    /// `None` until this peer has one.
    pub ring: Option<Ring>,
    /// What this peer promised and accepted in the election.
    pub vote: Option<Vote>,
    /// Nicknames of peers that own something.
    pub nicknames: BTreeMap<PeerName, String>,
    /// An earlier peer of this host handed everything over: others own what was its.
    pub left: bool,
    /// Addresses given, by container id.
    pub allocations: BTreeMap<String, Allocation>,
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
    /// Most links to other peers, inbound and outbound.
    pub conn_limit: u32,
    /// TCP port of the control plane; the data port is the next one.
    pub port: u16,
    /// True when links need a password.
    pub encrypted: bool,
    /// `--test-grace`: grace periods last no longer than this. `None` outside tests.
    pub test_grace: Option<Duration>,
}

/// What the kernel holds from an earlier run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Installed {
    /// True when pinned maps were found and adopted. False on a first launch and after a reboot.
    pub adopted: bool,
    /// The content of the maps, as the operations (`Put...` only) that would make it.
    pub maps: Vec<MapOp>,
    /// Host ends of containers' veths that exist: name and index.
    pub endpoints: BTreeMap<String, u32>,
}

impl Installed {
    /// How packets left for peers.
    pub(super) fn tunnels(&self) -> BTreeMap<PeerName, TunnelTo> {
        let tunnels = self.maps.iter().filter_map(|op| match op {
            MapOp::PutTunnel(peer, tunnel) => Some((*peer, *tunnel)),
            _ => None,
        });
        tunnels.collect()
    }

    /// From where packets of peers were accepted.
    pub(super) fn senders(&self) -> Vec<(Ipv4Addr, PeerName)> {
        let senders = self.maps.iter().filter_map(|op| match op {
            MapOp::PutSender(addr, peer) => Some((*addr, *peer)),
            _ => None,
        });
        senders.collect()
    }

    /// Addresses that had routes to peers of their own.
    pub(super) fn host_routes(&self) -> impl Iterator<Item = (Ipv4Addr, PeerName)> {
        self.maps.iter().filter_map(|op| match op {
            MapOp::PutRoute(net, RouteTo::Peer(peer)) if net.prefix_len() == 32 => Some((net.addr(), *peer)),
            _ => None,
        })
    }
}

/// Everything a node starts from, settled.
#[derive(Clone, Debug)]
pub struct Boot {
    /// Who this peer is in this run.
    pub identity: Identity,
    /// What the network was launched with.
    pub params: LaunchParams,
    /// Whom to dial.
    pub targets: Vec<Target>,
    /// The ring, from the store or from the seeds.
    pub ring: Option<Ring>,
    /// What this peer promised and accepted in the election.
    pub vote: Option<Vote>,
    /// Nicknames of peers that own something.
    pub nicknames: BTreeMap<PeerName, String>,
    /// An earlier peer of this host handed everything over.
    pub left: bool,
    /// Addresses given in earlier runs.
    pub allocations: BTreeMap<String, Allocation>,
    /// What must be durable before the node does anything.
    pub records: Vec<Record>,
}

/// Why a launch was refused. Store, kernel and network are as they were.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootError {
    /// `--name` is not the store's.
    #[error(
        "this host's store belongs to peer {stored}, not to {asked}; nothing was changed: leave --name away, use another --state-dir, or `reset` first"
    )]
    Name {
        /// The store's.
        stored: PeerName,
        /// `--name`.
        asked: PeerName,
    },
    /// A parameter is not what the network was launched with.
    #[error(
        "this peer was launched with {what} {stored}, not {asked}; nothing was changed: leave the option away, or `reset` first"
    )]
    Param {
        /// Which.
        what: &'static str,
        /// The store's.
        stored: String,
        /// This launch's.
        asked: String,
    },
    /// No ring can be made of the seeds.
    #[error("--seed cannot be used: {0}")]
    Seed(#[from] SeedError),
    /// The default subnet is not within the range.
    #[error("the default subnet {subnet} is not within the range {range}")]
    Subnet {
        /// The subnet.
        subnet: Ipv4Net,
        /// The range.
        range: Ipv4Net,
    },
    /// Fewer than four addresses.
    #[error("the range {0} is too small: it must hold at least four addresses (/30)")]
    Small(Ipv4Net),
}

/// Settles what this run starts from: the store wins where the operator is silent, and is never silently discarded.
///
/// `derived` is the name made from the host's hardware, used when neither the operator nor the store has one.
///
/// # Errors
/// When the launch contradicts the store, or itself.
pub fn resume(stored: Stored, launch: &Launch, derived: Option<PeerName>, rng: &mut Rng) -> Result<Boot, BootError> {
    let identity = settle_identity(stored.identity.as_ref(), launch, derived, rng)?;
    let mut params = settle_params(stored.params.as_ref(), launch, stored.ring.is_some())?;
    let Stored { vote, nicknames, left, allocations, .. } = stored;
    let ring = match stored.ring {
        Some(ring) => {
            let names = |ring: &Ring| ring.origin.iter().map(|id| id.name).collect::<Vec<_>>();
            if !launch.seeds.is_empty() {
                let asked = Ring::from_seeds(params.range, &launch.seeds)?;
                if asked.origin != ring.origin {
                    return Err(differs("seeds", &format!("{:?}", names(&ring)), &format!("{:?}", names(&asked))));
                }
            }
            Some(ring)
        }
        None if params.seeds.is_empty() => None,
        None => Some(Ring::from_seeds(params.range, &params.seeds)?),
    };
    let same_list = launch.targets.is_empty() || stored.params.as_ref().is_some_and(|p| p.peers == launch.targets);
    let targets = if same_list && stored.params.is_some() { stored.targets } else { launch.targets.clone() };
    if !launch.targets.is_empty() {
        params.peers.clone_from(&launch.targets);
    }
    let mut records =
        vec![Record::Identity(identity.clone()), Record::Params(params.clone()), Record::Targets(targets.clone())];
    records.extend(ring.clone().map(Record::Ring));
    Ok(Boot { identity, params, targets, ring, vote, nicknames, left, allocations, records })
}

fn settle_identity(
    stored: Option<&Identity>,
    launch: &Launch,
    derived: Option<PeerName>,
    rng: &mut Rng,
) -> Result<Identity, BootError> {
    let nickname = launch.nickname.clone();
    if let Some(old) = stored {
        if let Some(asked) = launch.name.filter(|n| *n != old.name) {
            return Err(BootError::Name { stored: old.name, asked });
        }
        let incarnation = old.incarnation.saturating_add(1);
        return Ok(Identity { nickname, incarnation, ..old.clone() });
    }
    let random = rng.bits().to_be_bytes();
    let random = PeerName::derived([random[0], random[1], random[2], random[3], random[4], random[5]]);
    let name = launch.name.or(derived).unwrap_or(random);
    let key = SecretKey::new(rng);
    Ok(Identity { name, uid: key.public().uid(), nickname, incarnation: 1, key })
}

/// `settled` when there is a ring: how it was divided cannot be changed any more.
fn settle_params(stored: Option<&LaunchParams>, launch: &Launch, settled: bool) -> Result<LaunchParams, BootError> {
    let params = if let Some(old) = stored {
        if let Some(asked) = launch.range.filter(|r| *r != old.range) {
            return Err(differs("range", &old.range.to_string(), &asked.to_string()));
        }
        if let Some(asked) = launch.default_subnet.filter(|s| *s != old.default_subnet) {
            return Err(differs("default subnet", &old.default_subnet.to_string(), &asked.to_string()));
        }
        let open = old.init == Init::Undeclared && !settled;
        // Seeds are compared with the ring's.
        let said = !matches!(launch.init, Init::Undeclared | Init::Seeds);
        if said && launch.init != old.init && !open {
            return Err(differs("bootstrap mode", &old.init.to_string(), &launch.init.to_string()));
        }
        let init = if open && launch.init != Init::Undeclared { launch.init } else { old.init };
        let seeds = if launch.seeds.is_empty() { old.seeds.clone() } else { launch.seeds.clone() };
        LaunchParams { seeds, init, ..old.clone() }
    } else {
        let range = launch.range.unwrap_or(DEFAULT_RANGE);
        LaunchParams {
            range,
            default_subnet: launch.default_subnet.unwrap_or(range),
            seeds: launch.seeds.clone(),
            init: launch.init,
            peers: launch.targets.clone(),
        }
    };
    if ring::size(params.range) < 4 {
        return Err(BootError::Small(params.range));
    }
    if !params.range.contains(&params.default_subnet) {
        return Err(BootError::Subnet { subnet: params.default_subnet, range: params.range });
    }
    Ok(params)
}

fn differs(what: &'static str, stored: &str, asked: &str) -> BootError {
    BootError::Param { what, stored: stored.to_owned(), asked: asked.to_owned() }
}

#[cfg(test)]
mod tests;
