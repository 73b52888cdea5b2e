//! Which addresses need a route with a locked MTU: pure.
//!
//! A route holds for an address, and several tunnels may lead there: the peer's own, and those of peers behind it when it
//! relays. The route gets the smallest size of them. That is right for relays too:
//!
//! * A packet for peer F by relay R leaves this host addressed to R. The tunnel's size is that of the whole path, over R to F.
//!   The packet is larger than that, or it would not be here, so the kernel always cuts it; R's kernel puts it together,
//!   and the program on R's VXLAN socket device sends it on. On from there R's own table has the size for F. Each piece
//!   fits up to R, since a whole path takes no more than its first part.
//! * Were the size to R itself taken (1,500, say, where F takes 1,400), a packet of 1,450 bytes would reach R whole, and the
//!   program on R's underlay device, which relays without the stack, would drop it as too big: only cut packets come to R's
//!   VXLAN socket device. So the smaller size is needed, and not only harmless.
//! * A packet for R itself may be cut into smaller pieces than R's own path needs. Only packets that must be cut come
//!   here, so that costs a few more pieces, and loses nothing.

use std::{collections::BTreeMap, net::Ipv4Addr};

use crate::proto::{
    io::{Egress, TunnelTo},
    name::PeerName,
};

/// A route that must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LockedRoute {
    /// Index of the device that packets leave by.
    pub(super) ifindex: u32,
    /// The gateway, or the destination itself when it is on the link.
    pub(super) next_hop: Ipv4Addr,
    /// This host's address on the packets.
    pub(super) source: Ipv4Addr,
    /// Largest outer IP packet in bytes.
    pub(super) size: u32,
}

/// The content of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// By destination.
    pub(super) routes: BTreeMap<Ipv4Addr, LockedRoute>,
    /// Destinations whose routes, if there are any, stay as they are.
    pub(super) kept: Vec<Ipv4Addr>,
}

/// All tunnels, as far as they matter here. One entry a tunnel.
#[derive(Debug, Default)]
pub(super) struct Plan {
    tunnels: BTreeMap<PeerName, Leads>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Leads {
    to: Ipv4Addr,
    /// `None` for one of an earlier run, of which the kernel does not tell the route's MTU.
    how: Option<(Egress, u32)>,
}

impl Plan {
    pub(super) fn adopted<'a>(tunnels: impl Iterator<Item = (PeerName, &'a TunnelTo)>) -> Self {
        let tunnels = tunnels.map(|(peer, tunnel)| (peer, Leads { to: *tunnel.remote.ip(), how: None })).collect();
        Self { tunnels }
    }

    /// True when that is a change.
    pub(super) fn put(&mut self, peer: PeerName, tunnel: &TunnelTo) -> bool {
        let leads = Leads { to: *tunnel.remote.ip(), how: Some((tunnel.egress, tunnel.path_mtu)) };
        self.tunnels.insert(peer, leads) != Some(leads)
    }

    /// The same.
    pub(super) fn remove(&mut self, peer: PeerName) -> bool {
        self.tunnels.remove(&peer).is_some()
    }

    pub(super) fn wanted(&self) -> Wanted {
        let mut all: BTreeMap<Ipv4Addr, (Egress, u32)> = BTreeMap::new();
        for Leads { to, how } in self.tunnels.values() {
            let Some((egress, size)) = *how else { continue };
            let (known, smallest) = all.entry(*to).or_insert((egress, size));
            // The core tells of a changed egress for all tunnels to an address in one batch.
            (*known, *smallest) = (egress, size.min(*smallest));
        }
        let unknown = self.tunnels.values().filter(|leads| leads.how.is_none()).map(|leads| leads.to);
        let kept = unknown.filter(|to| !all.contains_key(to)).collect();
        let narrow = all.into_iter().filter(|(_, (egress, size))| *size < egress.mtu);
        let route = |(to, (egress, size)): (Ipv4Addr, (Egress, u32))| {
            let Egress { ifindex, next_hop, source, mtu: _ } = egress;
            (to, LockedRoute { ifindex, next_hop, source, size })
        };
        Wanted { kept, routes: narrow.map(route).collect() }
    }
}
