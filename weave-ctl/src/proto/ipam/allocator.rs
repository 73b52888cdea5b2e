//! Allocations of this peer, from the pieces of the ring that it owns.

use std::{collections::BTreeMap, net::Ipv4Addr};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use weave_common::map::ENDPOINTS_MAX;

use super::ring::{self, Ring};
use crate::proto::{boot::LaunchParams, name::PeerName};

/// A container's addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    /// Path of the container's network namespace when it was attached.
    pub netns: String,
    /// Name of the veth's host end.
    pub host_if: String,
    /// Addresses with the length of their subnet; the first is the primary.
    pub addrs: Vec<Ipv4Net>,
    /// MTU in bytes.
    pub mtu: u32,
    /// The host was rebooted and the container has not attached since: its addresses are kept for it.
    #[serde(default)]
    pub absent: bool,
}

/// Why an address was not given. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllocError {
    /// No ring yet.
    #[error(
        "no address can be given yet: this peer has no ring; relaunch with --seed, or connect to a peer that has one"
    )]
    NoRing,
    /// This peer owns nothing that overlaps the subnet.
    #[error("this peer owns no addresses in {0}: its name is not among the seeds of that range")]
    NothingOwned(Ipv4Net),
    /// All given.
    #[error("no address is free in this peer's part of {subnet}: {used} are given to containers; detach some")]
    Full {
        /// Asked for.
        subnet: Ipv4Net,
        /// Given already.
        used: usize,
    },
    /// Not in the range.
    #[error("address {addr} is outside the network's range {range}")]
    Outside {
        /// Asked for.
        addr: Ipv4Addr,
        /// The range.
        range: Ipv4Net,
    },
    /// A subnet that is not within the range.
    #[error("range {0} out of bounds: {1}")]
    SubnetOutside(Ipv4Net, Ipv4Net),
    /// First or last of its subnet.
    #[error("address {0} is the network or broadcast address of {1} and is never given to a container")]
    Reserved(Ipv4Addr, Ipv4Net),
    /// Somebody else may give it.
    #[error("address {0} is owned by other peer {1}; attach there, or choose an address of this peer (status ipam)")]
    Foreign(Ipv4Addr, PeerName),
    /// A container has it.
    #[error("address {0} is already in use by {1}")]
    Taken(Ipv4Addr, String),
    /// The host's table is full.
    #[error("this host holds {ENDPOINTS_MAX} addresses already, the most it can")]
    TooMany,
}

/// What is given to whom.
#[derive(Clone, Debug)]
pub struct Allocator {
    me: PeerName,
    range: Ipv4Net,
    default_subnet: Ipv4Net,
    given: BTreeMap<Ipv4Addr, String>,
    containers: BTreeMap<String, Allocation>,
}

impl Allocator {
    /// The allocator of peer `me` with what its store remembers.
    #[must_use]
    pub fn new(me: PeerName, params: &LaunchParams, containers: BTreeMap<String, Allocation>) -> Self {
        let given =
            containers.iter().flat_map(|(id, a)| a.addrs.iter().map(move |net| (net.addr(), id.clone()))).collect();
        Self { me, range: params.range, default_subnet: params.default_subnet, given, containers }
    }

    /// The subnet for containers that name none.
    #[must_use]
    pub fn default_subnet(&self) -> Ipv4Net {
        self.default_subnet
    }

    /// Containers with addresses, by id.
    #[must_use]
    pub fn containers(&self) -> &BTreeMap<String, Allocation> {
        &self.containers
    }

    /// Number of addresses given.
    #[must_use]
    pub fn active(&self) -> u64 {
        self.given.len() as u64
    }

    /// Whether `net`'s address could be given to `id` as it is written.
    ///
    /// # Errors
    /// When it is outside, reserved, another peer's or another container's.
    pub fn claim(&self, ring: Option<&Ring>, id: &str, net: Ipv4Net) -> Result<(), AllocError> {
        let addr = net.addr();
        if !self.range.contains(&addr) {
            return Err(AllocError::Outside { addr, range: self.range });
        }
        if let Some(subnet) = [net, self.default_subnet, self.range].into_iter().find(|s| withheld(*s, addr)) {
            return Err(AllocError::Reserved(addr, subnet.trunc()));
        }
        let owner = ring.ok_or(AllocError::NoRing)?.owner_of(addr);
        if owner != Some(self.me) {
            return Err(owner.map_or(AllocError::Outside { addr, range: self.range }, |o| AllocError::Foreign(addr, o)));
        }
        match self.given.get(&addr) {
            Some(holder) if holder != id => Err(AllocError::Taken(addr, holder.clone())),
            Some(_) => Ok(()),
            None => self.room(),
        }
    }

    /// The lowest free address of `subnet` in this peer's own pieces, not among `besides`.
    ///
    /// # Errors
    /// When there is none.
    pub fn pick(&self, ring: Option<&Ring>, subnet: Ipv4Net, besides: &[Ipv4Net]) -> Result<Ipv4Net, AllocError> {
        let subnet = subnet.trunc();
        if !self.range.contains(&subnet) {
            return Err(AllocError::SubnetOutside(subnet, self.range));
        }
        let ring = ring.ok_or(AllocError::NoRing)?;
        self.room()?;
        let mut owned = false;
        for (first, last) in ring.owned_by(self.me) {
            let (first, last) = (first.max(subnet.network()), last.min(subnet.broadcast()));
            owned |= first <= last;
            if let Some(addr) = self.first_free(subnet, first, last, besides) {
                return Ok(Ipv4Net::new_assert(addr, subnet.prefix_len()));
            }
        }
        if owned {
            Err(AllocError::Full { subnet, used: self.given.range(subnet.network()..=subnet.broadcast()).count() })
        } else {
            Err(AllocError::NothingOwned(subnet))
        }
    }

    fn first_free(&self, subnet: Ipv4Net, first: Ipv4Addr, last: Ipv4Addr, besides: &[Ipv4Net]) -> Option<Ipv4Addr> {
        (u64::from(u32::from(first))..=u64::from(u32::from(last)))
            .map(|n| Ipv4Addr::from(u32::try_from(n).unwrap_or(u32::MAX)))
            .find(|addr| {
                !self.given.contains_key(addr)
                    && !besides.iter().any(|n| n.addr() == *addr)
                    && ![subnet, self.default_subnet, self.range].into_iter().any(|s| withheld(s, *addr))
            })
    }

    fn room(&self) -> Result<(), AllocError> {
        if self.given.len() < ENDPOINTS_MAX as usize { Ok(()) } else { Err(AllocError::TooMany) }
    }

    /// Records that `id` has what `allocation` says and nothing else.
    pub fn set(&mut self, id: &str, allocation: Allocation) {
        self.remove(id);
        self.given.extend(allocation.addrs.iter().map(|net| (net.addr(), id.to_owned())));
        self.containers.insert(id.to_owned(), allocation);
    }

    /// Records that `id` has nothing.
    pub fn remove(&mut self, id: &str) -> Option<Allocation> {
        let old = self.containers.remove(id)?;
        for net in &old.addrs {
            self.given.remove(&net.addr());
        }
        Some(old)
    }
}

/// Network and broadcast addresses are withheld in subnets that have them (RFC 3021 exempts /31 and /32).
fn withheld(subnet: Ipv4Net, addr: Ipv4Addr) -> bool {
    ring::size(subnet) > 2 && (addr == subnet.network() || addr == subnet.broadcast())
}

#[cfg(test)]
mod tests;
