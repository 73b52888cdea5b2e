//! The ring as the kernel sees it: longest-prefix entries that name the peer which owns a range.

use bytemuck::{Pod, Zeroable};

use crate::addr::PeerKey;

/// The range is this host's own: an address without an endpoint there does not exist.
pub const ROUTE_LOCAL: u32 = 1;
/// The range belongs to [`Route::peer`].
pub const ROUTE_PEER: u32 = 2;

/// Value of a longest-prefix entry. Key: prefix length in bits, then the overlay network ([`crate::addr::Ip4`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Route {
    /// [`ROUTE_LOCAL`] or [`ROUTE_PEER`]; any other value is treated as no route.
    pub kind: u32,
    /// The owner, when `kind` is [`ROUTE_PEER`]; zero otherwise.
    pub peer: PeerKey,
}

const _: () = assert!(size_of::<Route>() == 12);
