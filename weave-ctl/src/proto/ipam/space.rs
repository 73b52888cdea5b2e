//! What of a peer's own pieces is free, and what of it is given to a peer that asks.
//!
//! At most half of what is free is given, as one CIDR block, the largest there is: pieces stay few, and a peer that asks
//! often gets ever less.

use std::{collections::BTreeMap, net::Ipv4Addr};

use ipnet::{Ipv4Net, Ipv4Subnets};

use super::ring::{Ring, size};
use crate::proto::name::PeerId;

/// Pieces of one peer, seen against the addresses that it has given to containers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Space<'a> {
    pub(super) ring: &'a Ring,
    pub(super) me: PeerId,
    pub(super) given: &'a BTreeMap<Ipv4Addr, String>,
    /// Subnets whose first and last address nobody gets.
    pub(super) withheld: [Ipv4Net; 2],
    /// Nobody gets this one either.
    pub(super) service: Ipv4Addr,
}

/// The address at which every host answers questions for names: the last of the default subnet that a container could have.
#[must_use]
pub fn service_address(default_subnet: Ipv4Net) -> Ipv4Addr {
    let last = u32::from(default_subnet.broadcast());
    Ipv4Addr::from(if size(default_subnet) > 2 { last - 1 } else { last })
}

/// Network and broadcast addresses are withheld in subnets that have them (RFC 3021 exempts /31 and /32).
pub(super) fn withheld(subnet: Ipv4Net, addr: Ipv4Addr) -> bool {
    size(subnet) > 2 && (addr == subnet.network() || addr == subnet.broadcast())
}

impl Space<'_> {
    /// Own pieces within `net`, as CIDR blocks.
    fn blocks(&self, net: Ipv4Net) -> impl Iterator<Item = Ipv4Net> + '_ {
        let within = self.ring.owned_by(self.me).filter_map(move |(first, last)| {
            let (first, last) = (first.max(net.network()), last.min(net.broadcast()));
            (first <= last).then_some((first, last))
        });
        within.flat_map(|(first, last)| Ipv4Subnets::new(first, last, 0))
    }

    /// Addresses of `block` that a container of `net` could get now.
    fn usable(&self, block: Ipv4Net, net: Ipv4Net) -> u64 {
        let used = self.given.range(block.network()..=block.broadcast()).count() as u64;
        let ends = [net, self.withheld[0], self.withheld[1]].map(|subnet| [subnet.network(), subnet.broadcast()]);
        let ends = ends.into_iter().flatten().chain([self.service]);
        let mut ends: Vec<Ipv4Addr> = ends.filter(|addr| block.contains(addr)).collect();
        ends.sort();
        ends.dedup();
        let subnets = [net, self.withheld[0], self.withheld[1]];
        let is_kept = |addr: Ipv4Addr| addr == self.service || subnets.iter().any(|subnet| withheld(*subnet, addr));
        let kept = ends.iter().filter(|addr| is_kept(**addr));
        let kept = kept.filter(|addr| !self.given.contains_key(addr)).count() as u64;
        size(block).saturating_sub(used + kept)
    }

    /// Addresses within `net` that could be given to containers now.
    pub(super) fn free(&self, net: Ipv4Net) -> u64 {
        self.blocks(net).map(|block| self.usable(block, net)).sum()
    }

    /// The block within `net` to give to a peer that asks; `None` when none can be spared.
    pub(super) fn spare(&self, net: Ipv4Net) -> Option<Ipv4Net> {
        let half = self.free(net) / 2;
        let mut best: Option<(u64, Ipv4Net)> = None;
        let mut rest: Vec<Ipv4Net> = self.blocks(net).collect();
        while let Some(block) = rest.pop() {
            let usable = self.usable(block, net);
            if usable == 0 || best.is_some_and(|(most, _)| most >= usable.min(half)) {
                continue;
            }
            let empty = self.given.range(block.network()..=block.broadcast()).next().is_none();
            if empty && usable <= half {
                best = Some((usable, block));
            } else if let Ok(halves) = block.subnets(block.prefix_len() + 1) {
                // The upper half first: containers get the lowest addresses.
                rest.extend(halves);
            }
        }
        best.map(|(_, block)| block)
    }
}

#[cfg(test)]
mod tests;
