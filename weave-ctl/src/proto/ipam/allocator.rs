//! Allocations of this peer, from the pieces of the ring that it owns.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use weave_common::map::ENDPOINTS_MAX;

use super::{
    ring::Ring,
    space::{Space, service_address, withheld},
};
use crate::proto::{
    name::{PeerId, PeerName},
    params::LaunchParams,
    reservation::Reservation,
};

/// Most addresses outside the range on one host.
pub const CLAIMS_MAX: usize = 4096;

/// Why an address was not given. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllocError {
    /// No ring yet.
    #[error("no address can be given yet: {0}")]
    NoRing(String),
    /// This peer was removed.
    #[error(
        "this peer was removed from the network by `rmpeer`, and its addresses may have been given to others: run \
         `weave-ctl reset` and launch it anew"
    )]
    Removed,
    /// This peer hands its addresses over.
    #[error("this peer is leaving the network")]
    Leaving,
    /// This peer owns nothing that overlaps the subnet, or all of it is given.
    #[error("no address is free in this peer's part of {subnet} ({used} are given to containers)")]
    Full {
        /// Asked for.
        subnet: Ipv4Net,
        /// Given already.
        used: usize,
    },
    /// Not in the range, and without the length of its subnet.
    #[error(
        "address {addr} is outside the network's range {range}: write it with the length of its subnet, {addr}/24 say, \
         to give it all the same"
    )]
    Outside {
        /// Asked for.
        addr: Ipv4Addr,
        /// The range.
        range: Ipv4Net,
    },
    /// Too many addresses outside the range.
    #[error("this host has {CLAIMS_MAX} addresses outside the network's range already, the most it can")]
    Exceptions,
    /// A subnet that is not within the range.
    #[error("range {0} out of bounds: {1}")]
    SubnetOutside(Ipv4Net, Ipv4Net),
    /// First or last of its subnet.
    #[error("address {0} is the network or broadcast address of {1} and is never given to a container")]
    Reserved(Ipv4Addr, Ipv4Net),
    /// The service address.
    #[error("address {0} is where every host answers questions for names, and is never given to a container")]
    Service(Ipv4Addr),
    /// Somebody else may give it.
    #[error("address {0} is owned by other peer {1}")]
    Foreign(Ipv4Addr, PeerName),
    /// Outside the range, and not granted yet.
    #[error("address {0} is outside the range, and the peer that decides about it has not answered yet")]
    Ungranted(Ipv4Addr),
    /// A container has it.
    #[error("address {0} is already in use by {1}")]
    Taken(Ipv4Addr, String),
    /// The host's table is full.
    #[error("this host holds {ENDPOINTS_MAX} addresses already, the most it can")]
    TooMany,
}

/// What must come from others before an address can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// A ring.
    Ring,
    /// Space in a subnet.
    Space(Ipv4Net),
    /// One address.
    Address(Ipv4Addr),
    /// The grant of an address outside the range.
    Claim(Ipv4Addr),
}

impl AllocError {
    /// What would help; `None` when waiting does not.
    #[must_use]
    pub fn need(&self) -> Option<Need> {
        match self {
            Self::NoRing(_) => Some(Need::Ring),
            Self::Full { subnet, .. } => Some(Need::Space(*subnet)),
            Self::Foreign(addr, _) => Some(Need::Address(*addr)),
            Self::Ungranted(addr) => Some(Need::Claim(*addr)),
            _ => None,
        }
    }
}

/// The ring as far as addresses may be given from it.
#[derive(Clone, Copy, Debug)]
pub enum Access<'a> {
    /// They may.
    Ring(&'a Ring),
    /// Not yet: what is waited for.
    Waiting(&'a str),
    /// Not any more: others own what this peer owned.
    Removed,
    /// Not any more: this peer leaves.
    Leaving,
}

impl<'a> Access<'a> {
    fn ring(self) -> Result<&'a Ring, AllocError> {
        match self {
            Self::Ring(ring) => Ok(ring),
            Self::Waiting(why) => Err(AllocError::NoRing(why.to_owned())),
            Self::Removed => Err(AllocError::Removed),
            Self::Leaving => Err(AllocError::Leaving),
        }
    }
}

/// What is given to whom.
#[derive(Clone, Debug)]
pub struct Allocator {
    me: PeerId,
    range: Ipv4Net,
    default_subnet: Ipv4Net,
    service: Ipv4Addr,
    given: BTreeMap<Ipv4Addr, String>,
    /// Those of `given` that are outside the range.
    outside: BTreeSet<Ipv4Addr>,
    /// Addresses outside the range that containers of this peer may have.
    granted: BTreeSet<Ipv4Addr>,
    reservations: BTreeMap<String, Reservation>,
}

impl Allocator {
    /// The allocator of peer `me` with what its store remembers.
    #[must_use]
    pub fn new(me: PeerId, params: &LaunchParams, reservations: BTreeMap<String, Reservation>) -> Self {
        let given: BTreeMap<Ipv4Addr, String> =
            reservations.iter().flat_map(|(id, r)| r.addrs.iter().map(move |net| (net.addr(), id.clone()))).collect();
        let outside = given.keys().copied().filter(|addr| !params.range.contains(addr)).collect();
        Self {
            me,
            range: params.range,
            default_subnet: params.default_subnet,
            service: service_address(params.default_subnet),
            given,
            outside,
            granted: BTreeSet::new(),
            reservations,
        }
    }

    /// The subnet for containers that name none.
    #[must_use]
    pub fn default_subnet(&self) -> Ipv4Net {
        self.default_subnet
    }

    /// The address at which questions for names are answered; nobody is given it.
    #[must_use]
    pub fn service(&self) -> Ipv4Addr {
        self.service
    }

    /// What is held, by owner.
    #[must_use]
    pub fn reservations(&self) -> &BTreeMap<String, Reservation> {
        &self.reservations
    }

    /// Number of addresses given.
    #[must_use]
    pub fn active(&self) -> u64 {
        self.given.len() as u64
    }

    /// Addresses outside the range that containers have.
    pub fn exceptions(&self) -> impl Iterator<Item = Ipv4Addr> + '_ {
        self.outside.iter().copied()
    }

    /// Addresses outside the range that may be given now: no others are.
    pub fn set_granted(&mut self, granted: BTreeSet<Ipv4Addr>) {
        self.granted = granted;
    }

    /// Whether `addr` could be given to `id`, as an address of `subnet`; without one, of the default subnet.
    ///
    /// # Errors
    /// When it is outside the range and no subnet is named, reserved, another peer's or another container's.
    pub fn claim(
        &self,
        access: Access<'_>,
        id: &str,
        addr: Ipv4Addr,
        subnet: Option<Ipv4Net>,
    ) -> Result<(), AllocError> {
        let inside = self.range.contains(&addr);
        if !inside && subnet.is_none() {
            return Err(AllocError::Outside { addr, range: self.range });
        }
        let subnets = [subnet.unwrap_or(self.default_subnet), self.default_subnet, self.range];
        if let Some(subnet) = subnets.into_iter().find(|s| withheld(*s, addr)) {
            return Err(AllocError::Reserved(addr, subnet.trunc()));
        }
        if addr == self.service {
            return Err(AllocError::Service(addr));
        }
        match self.given.get(&addr) {
            Some(holder) if holder != id => return Err(AllocError::Taken(addr, holder.clone())),
            Some(_) => return Ok(()),
            None => self.room()?,
        }
        if inside {
            let owner = access.ring()?.owner_of(addr);
            return match owner {
                Some(owner) if owner == self.me => Ok(()),
                Some(owner) => Err(AllocError::Foreign(addr, owner.name)),
                None => Err(AllocError::Outside { addr, range: self.range }),
            };
        }
        access.ring()?;
        match self.granted.contains(&addr) {
            _ if self.outside.len() >= CLAIMS_MAX => Err(AllocError::Exceptions),
            true => Ok(()),
            false => Err(AllocError::Ungranted(addr)),
        }
    }

    /// The lowest free address of `subnet` in this peer's own pieces, not among `besides`.
    ///
    /// # Errors
    /// When there is none.
    pub fn pick(&self, access: Access<'_>, subnet: Ipv4Net, besides: &[Ipv4Net]) -> Result<Ipv4Net, AllocError> {
        let subnet = subnet.trunc();
        if !self.range.contains(&subnet) {
            return Err(AllocError::SubnetOutside(subnet, self.range));
        }
        let ring = access.ring()?;
        self.room()?;
        for (first, last) in ring.owned_by(self.me) {
            let (first, last) = (first.max(subnet.network()), last.min(subnet.broadcast()));
            if let Some(addr) = self.first_free(subnet, first, last, besides) {
                return Ok(Ipv4Net::new_assert(addr, subnet.prefix_len()));
            }
        }
        let used = self.given.range(subnet.network()..=subnet.broadcast()).count();
        Err(AllocError::Full { subnet, used })
    }

    fn first_free(&self, subnet: Ipv4Net, first: Ipv4Addr, last: Ipv4Addr, besides: &[Ipv4Net]) -> Option<Ipv4Addr> {
        (u64::from(u32::from(first))..=u64::from(u32::from(last)))
            .map(|n| Ipv4Addr::from(u32::try_from(n).unwrap_or(u32::MAX)))
            .find(|addr| {
                *addr != self.service
                    && !self.given.contains_key(addr)
                    && !besides.iter().any(|n| n.addr() == *addr)
                    && ![subnet, self.default_subnet, self.range].into_iter().any(|s| withheld(s, *addr))
            })
    }

    fn space<'a>(&'a self, ring: &'a Ring) -> Space<'a> {
        let withheld = [self.default_subnet, self.range];
        Space { ring, me: self.me, given: &self.given, withheld, service: self.service }
    }

    /// The block within `subnet` to give to a peer that asks; `None` when none can be spared.
    #[must_use]
    pub fn spare(&self, ring: &Ring, subnet: Ipv4Net) -> Option<Ipv4Net> {
        self.range.contains(&subnet).then(|| self.space(ring).spare(subnet.trunc()))?
    }

    /// Whether this peer owns `addr`.
    #[must_use]
    pub fn owns(&self, ring: &Ring, addr: Ipv4Addr) -> bool {
        ring.owner_of(addr) == Some(self.me)
    }

    /// Who has `addr`.
    #[must_use]
    pub fn holder(&self, addr: Ipv4Addr) -> Option<&str> {
        self.given.get(&addr).map(String::as_str)
    }

    fn room(&self) -> Result<(), AllocError> {
        if self.given.len() < ENDPOINTS_MAX as usize { Ok(()) } else { Err(AllocError::TooMany) }
    }

    /// Records that `id` has what `reservation` says and nothing else.
    pub fn set(&mut self, id: &str, reservation: Reservation) {
        self.remove(id);
        for addr in reservation.addrs.iter().map(Ipv4Net::addr) {
            self.given.insert(addr, id.to_owned());
            if !self.range.contains(&addr) {
                self.outside.insert(addr);
            }
        }
        self.reservations.insert(id.to_owned(), reservation);
    }

    /// Records that `id` has nothing.
    pub fn remove(&mut self, id: &str) -> Option<Reservation> {
        let old = self.reservations.remove(id)?;
        for net in &old.addrs {
            self.given.remove(&net.addr());
            self.outside.remove(&net.addr());
        }
        Some(old)
    }
}

#[cfg(test)]
mod tests;
