//! Tells this host's own interface in the network from devices of the underlay.
//!
//! `expose` makes a veth whose both ends are in the host's namespace: a host end, as of any container, and the other end,
//! which the host uses. Its addresses are the network's, and so is the route that the kernel makes of them. It is known by
//! what it is connected to, not by its name: an operator may rename it, or have a device of the same name.

use super::{endpoints::made_as, netlink::Device};

/// Name of this host's interface in the network.
pub const HOST_IF: &str = "weave";

/// True when `device` is the end that the host uses; `at` finds the devices of the same namespace by index.
pub(crate) fn is_exposed<'a>(device: &Device, at: impl FnOnce(u32) -> Option<&'a Device>) -> bool {
    // An index in another namespace says nothing of a device here.
    let other = device.peer.filter(|_| device.is_veth() && device.peer_netns.is_none()).and_then(at);
    other
        .is_some_and(|other| other.peer == Some(device.index) && other.peer_netns.is_none() && made_as(other).is_some())
        && made_as(device).is_none()
}

#[cfg(test)]
mod tests;
