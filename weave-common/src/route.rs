//! The ring as the kernel sees it: longest-prefix entries that name the peer which owns a range.

use bytemuck::{Pod, Zeroable};

use crate::addr::PeerKey;

/// The range is this host's own: an address without an endpoint there does not exist.
pub const ROUTE_LOCAL: u32 = 1;
/// The range belongs to [`Route::peer`].
pub const ROUTE_PEER: u32 = 2;

/// Outside the network: packets of local containers go to this host's own interface, whose address is [`Route::host`].
/// Packets from the underlay have no such route.
pub const ROUTE_HOST: u32 = 3;

/// Value of a longest-prefix entry. Key: prefix length in bits, then the overlay network ([`crate::addr::Ip4`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Route {
    /// [`ROUTE_LOCAL`], [`ROUTE_PEER`] or [`ROUTE_HOST`]; any other value is treated as no route.
    pub kind: u32,
    /// The owner, when `kind` is [`ROUTE_PEER`]; zero otherwise.
    pub peer: PeerKey,
    /// Address of the endpoint that is the host, when `kind` is [`ROUTE_HOST`]; zero otherwise.
    pub host: [u8; 4],
}

impl Route {
    /// To a range of this host.
    pub const LOCAL: Self = Self { kind: ROUTE_LOCAL, peer: PeerKey::new([0; 6]), host: [0; 4] };

    /// To a range of `peer`.
    #[must_use]
    pub const fn to_peer(peer: PeerKey) -> Self {
        Self { kind: ROUTE_PEER, peer, ..Self::LOCAL }
    }

    /// Out of the network, through the host whose endpoint has this address.
    #[must_use]
    pub const fn to_host(host: [u8; 4]) -> Self {
        Self { kind: ROUTE_HOST, host, ..Self::LOCAL }
    }
}

const _: () = assert!(size_of::<Route>() == 16);
