//! Whether a sender may use an address: a container its own, and the host, where it is the gateway, also those outside the
//! network, which it forwards for.

use weave_common::{
    addr::Ip4,
    drop::DropReason,
    endpoint::{ENDPOINT_SERVICE, EndpointKey},
};

use crate::{maps, parse};

/// Whose address a sender uses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Its own.
    Own,
    /// One outside the network, which the host forwards for.
    Outside,
    /// The service address, which is its own: it answers containers of this host.
    Service,
}

/// What the sender behind the host end `ifindex` has to do with the address `source`.
///
/// # Errors
/// [`DropReason::SourceAddress`] when it may not send from there.
#[inline(always)]
pub fn check(source: Ip4, ifindex: u32) -> Result<Source, DropReason> {
    let (endpoint, found) = match maps::endpoint(EndpointKey::new(source)) {
        Some(endpoint) => (Some(endpoint), Source::Own),
        None if parse::is_routable(source) => (maps::gateway(source), Source::Outside),
        None => (None, Source::Outside),
    };
    match endpoint {
        Some(endpoint) if endpoint.ifindex == ifindex && endpoint.has(ENDPOINT_SERVICE) => Ok(Source::Service),
        Some(endpoint) if endpoint.ifindex == ifindex => Ok(found),
        _ => Err(DropReason::SourceAddress),
    }
}
