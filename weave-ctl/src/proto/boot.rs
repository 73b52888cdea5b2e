//! What a node starts from: who it is, what it was launched with, what its store and the kernel remember.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;

use super::{
    domain::{DnsName, Registered},
    election::Vote,
    io::{MapOp, Record, RouteTo, Target, TunnelTo},
    ipam::{
        Ring,
        keeper::Inherited,
        ring::{self, SeedError},
    },
    key::SecretKey,
    name::{PeerId, PeerName},
    reservation::{BootId, Netns, Reservation},
};

pub use super::params::{DEFAULT_RANGE, Identity, Init, Launch, LaunchParams, SecretKind};

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
    /// Grants of addresses outside the range.
    pub grants: BTreeMap<Ipv4Addr, PeerId>,
    /// Positions whose grants are not all known.
    pub inherited: Vec<Inherited>,
    /// What is held, by owner.
    pub reservations: BTreeMap<String, Reservation>,
    /// Names, by the owner that they are registered for.
    pub names: BTreeMap<String, Registered>,
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
    /// The boot that the host is in.
    pub boot: BootId,
    /// Unix time in seconds at the start of the core's clock.
    pub unix_start: u64,
    /// The namespace in which this controller answers questions for names; `None` when it does not.
    pub service: Option<Netns>,
}

impl Installed {
    /// How packets left for peers.
    pub(super) fn tunnels(&self) -> BTreeMap<PeerName, TunnelTo> {
        let tunnel = |op: &MapOp| if let MapOp::PutTunnel(peer, to) = op { Some((*peer, *to)) } else { None };
        self.maps.iter().filter_map(tunnel).collect()
    }

    /// From where packets of peers were accepted.
    pub(super) fn senders(&self) -> Vec<(Ipv4Addr, PeerName)> {
        let sender = |op: &MapOp| if let MapOp::PutSender(addr, peer) = op { Some((*addr, *peer)) } else { None };
        self.maps.iter().filter_map(sender).collect()
    }

    /// Names, with their addresses.
    pub(super) fn names(&self) -> BTreeMap<DnsName, BTreeSet<Ipv4Addr>> {
        let name = |op: &MapOp| match op {
            MapOp::PutName(name, addrs) => Some((name.clone(), addrs.iter().copied().collect())),
            _ => None,
        };
        self.maps.iter().filter_map(name).collect()
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
    /// The store, with the targets of this launch and the ring that seeds may give.
    pub stored: Stored,
    /// What must be durable before the node does anything.
    pub records: Vec<Record>,
}

/// Why a launch was refused. Store, kernel and network are as they were.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootError {
    /// `--name`, the second, is not the store's.
    #[error(
        "this host's store belongs to peer {0}, not to {1}; nothing was changed: leave --name away, use another --state-dir, or `reset` first"
    )]
    Name(PeerName, PeerName),
    /// A parameter is not what the network was launched with: which, the store's value, this launch's.
    #[error(
        "this peer was launched with {0} {1}, not {2}; nothing was changed: leave the option away, or `reset` first"
    )]
    Param(&'static str, String, String),
    /// No ring can be made of the seeds.
    #[error("--seed cannot be used: {0}")]
    Seed(#[from] SeedError),
    /// The default subnet is not within the range.
    #[error("the default subnet {0} is not within the range {1}")]
    Subnet(Ipv4Net, Ipv4Net),
    /// Fewer than four addresses.
    #[error("the range {0} is too small: it must hold at least four addresses (/30)")]
    Small(Ipv4Net),
}

/// Settles what this run starts from: the store wins where the operator is silent, and is never silently discarded.
///
/// `derived` is the name made from the host's hardware, used when neither the operator nor the store has one; without it
/// the name follows from the key. `new_key` is the key of a new store: 32 bytes that nobody else has. A store that has a
/// key keeps it.
///
/// # Errors
/// When the launch contradicts the store, or itself.
pub fn resume(
    mut stored: Stored,
    launch: &Launch,
    derived: Option<PeerName>,
    new_key: SecretKey,
) -> Result<Boot, BootError> {
    let identity = settle_identity(stored.identity.as_ref(), launch, derived, new_key)?;
    let mut params = settle_params(stored.params.as_ref(), launch, stored.ring.is_some())?;
    if let Some(ring) = stored.ring.as_ref().filter(|_| !launch.seeds.is_empty()) {
        let names = |ring: &Ring| format!("{:?}", ring.origin.iter().map(|id| id.name).collect::<Vec<_>>());
        let asked = Ring::from_seeds(params.range, &launch.seeds)?;
        if asked.origin != ring.origin {
            return Err(differs("seeds", &names(ring), &names(&asked)));
        }
    }
    if stored.ring.is_none() && !params.seeds.is_empty() {
        stored.ring = Some(Ring::from_seeds(params.range, &params.seeds)?);
    }
    let same_list = |old: &LaunchParams| launch.targets.is_empty() || old.peers == launch.targets;
    if !stored.params.as_ref().is_some_and(same_list) {
        stored.targets.clone_from(&launch.targets);
    }
    if !launch.targets.is_empty() {
        params.peers.clone_from(&launch.targets);
    }
    let targets = Record::Targets(stored.targets.clone());
    let mut records = vec![Record::Identity(identity.clone()), Record::Params(params.clone()), targets];
    records.extend(stored.ring.clone().map(Record::Ring));
    Ok(Boot { identity, params, stored, records })
}

fn settle_identity(
    stored: Option<&Identity>,
    launch: &Launch,
    derived: Option<PeerName>,
    new_key: SecretKey,
) -> Result<Identity, BootError> {
    let nickname = launch.nickname.clone();
    if let Some(old) = stored {
        if let Some(asked) = launch.name.filter(|n| *n != old.name) {
            return Err(BootError::Name(old.name, asked));
        }
        let incarnation = old.incarnation.saturating_add(1);
        return Ok(Identity { nickname, incarnation, ..old.clone() });
    }
    let uid = new_key.public().uid();
    let [.., a, b, c, d, e, f] = { uid.0 }.to_be_bytes();
    let name = launch.name.or(derived).unwrap_or(PeerName::derived([a, b, c, d, e, f]));
    Ok(Identity { name, uid, nickname, incarnation: 1, key: new_key })
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
        return Err(BootError::Subnet(params.default_subnet, params.range));
    }
    Ok(params)
}

fn differs(what: &'static str, stored: &str, asked: &str) -> BootError {
    BootError::Param(what, stored.to_owned(), asked.to_owned())
}

#[cfg(test)]
mod tests;
