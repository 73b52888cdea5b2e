//! The VXLAN socket device: a VXLAN device in `external` mode that owns the data port's UDP socket.
//!
//! Its socket makes the kernel merge encapsulated segments before the underlay's programs see them. What reaches the
//! device itself (outer fragments, UDP super-packets, packets by a device without the underlay's program) is delivered,
//! relayed or dropped by a program of its own, which must be attached before the socket exists: hence [`make`], attach,
//! [`raise`]. Packets that the kernel's stack must cut leave by it, all from the data port, so that NAT and stateful
//! filters take them as the flow that probes opened. It has no address and learns nothing. A device of an earlier run is
//! adopted untouched, so that nothing is lost at a relaunch; one of other settings is replaced by [`make`], for the
//! kernel does not let them be changed, and [`prepare`] leaves it alone until all else is ready.
//!
//! Does not: attach programs, or send.

use rtnetlink::{
    LinkVxlan,
    packet_route::link::{InfoKind, InfoVxlan},
};
use rustix::io::Errno;

use super::netlink::{Device, Netlink, NetlinkError};

/// The largest MTU that a VXLAN device takes, so that the VXLAN socket device never makes the kernel cut anything.
const MTU: u32 = 65_535 - weave_common::vxlan::OVERHEAD;

/// Why there is no VXLAN socket device.
#[derive(Debug, thiserror::Error)]
pub enum SocketDeviceError {
    /// Somebody has the port.
    #[error(
        "UDP port {port}, the data port, is in use: stop what holds it (ss -ulpn shows it), or launch with another --port"
    )]
    PortInUse {
        /// The data port.
        port: u16,
    },
    /// The name is taken by a device of another kind.
    #[error("there is a device {name} that is not a VXLAN device: remove or rename it, or launch with another --port")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The kernel refused.
    #[error("cannot {what} the VXLAN device {name}: {source}")]
    Netlink {
        /// What was tried.
        what: &'static str,
        /// The device.
        name: String,
        /// Why not.
        source: NetlinkError,
    },
}

/// Name of the VXLAN socket device of `data_port`.
#[must_use]
pub fn name(data_port: u16) -> String {
    format!("{NAME_PREFIX}{data_port}")
}

/// The data port in the name of a VXLAN socket device; `None` for another name.
#[must_use]
pub fn data_port(name: &str) -> Option<u16> {
    name.strip_prefix(NAME_PREFIX)?.parse().ok()
}

/// What the name of every VXLAN socket device starts with.
pub(crate) const NAME_PREFIX: &str = "weave-";

/// Index of the device `name`, if there is one.
///
/// # Errors
///
/// The kernel refused.
pub async fn index(name: &str) -> Result<Option<u32>, SocketDeviceError> {
    let failed = |source| SocketDeviceError::Netlink { what: "look for", name: name.to_owned(), source };
    let device = Netlink::here().map_err(failed)?.device(name).await.map_err(failed)?;
    Ok(device.map(|device| device.index))
}

/// Makes sure that there is a VXLAN device `name`, whatever its settings; its index. One made now is as [`make`] makes it.
///
/// # Errors
///
/// As [`make`].
pub async fn prepare(name: &str, data_port: u16) -> Result<u32, SocketDeviceError> {
    let failed = |source| SocketDeviceError::Netlink { what: "look for", name: name.to_owned(), source };
    let found = Netlink::here().map_err(failed)?.device(name).await.map_err(failed)?;
    if let Some(device) = found.filter(|device| device.kind == Some(InfoKind::Vxlan)) {
        return Ok(device.index);
    }
    make(name, data_port).await?;
    index(name).await?.ok_or_else(|| vanished(name))
}

/// Makes sure that there is a VXLAN socket device `name` for `data_port`; true when it was made now, and is down.
///
/// # Errors
///
/// The port or the name is taken, or the kernel refused; a device made on the way is removed again.
pub async fn make(name: &str, data_port: u16) -> Result<bool, SocketDeviceError> {
    let failed = |what| move |source| SocketDeviceError::Netlink { what, name: name.to_owned(), source };
    let netlink = Netlink::here().map_err(failed("look for"))?;
    match netlink.device(name).await.map_err(failed("look for"))? {
        Some(device) if device.kind != Some(InfoKind::Vxlan) => {
            return Err(SocketDeviceError::NameTaken { name: name.to_owned() });
        }
        Some(device) if fits(&device, data_port) => return Ok(false),
        Some(device) => netlink.del(device.index).await.map_err(failed("remove"))?,
        None => {}
    }
    create(&netlink, name, data_port).await?;
    Ok(true)
}

/// Whether the VXLAN socket device is there, up, and as [`make`] makes it. True where the kernel does not tell.
pub(crate) async fn fits_now(name: &str, data_port: u16) -> bool {
    let Ok(netlink) = Netlink::here() else { return true };
    match netlink.device(name).await {
        Ok(Some(device)) => device.up && device.kind == Some(InfoKind::Vxlan) && fits(&device, data_port),
        Ok(None) => false,
        Err(_) => true,
    }
}

/// Brings the VXLAN socket device up: from now on it owns `data_port`.
///
/// # Errors
///
/// The port is taken, the VXLAN socket device is gone, or the kernel refused.
pub async fn raise(name: &str, data_port: u16) -> Result<(), SocketDeviceError> {
    let failed = |what| move |source| SocketDeviceError::Netlink { what, name: name.to_owned(), source };
    let netlink = Netlink::here().map_err(failed("look for"))?;
    let device = netlink.device(name).await.map_err(failed("look for"))?.ok_or_else(|| vanished(name))?;
    if device.up {
        return Ok(());
    }
    match netlink.up(device.index).await {
        Err(error) if error.is(Errno::ADDRINUSE) => Err(SocketDeviceError::PortInUse { port: data_port }),
        result => result.map_err(failed("bring up")),
    }
}

async fn create(netlink: &Netlink, name: &str, data_port: u16) -> Result<(), SocketDeviceError> {
    let failed = |what| move |source| SocketDeviceError::Netlink { what, name: name.to_owned(), source };
    // Of the range of source ports the kernel never takes the last.
    let device = LinkVxlan::new(name, 0)
        .collect_metadata(true)
        .port(data_port)
        .port_range(data_port, data_port.saturating_add(1))
        .learning(false)
        .mtu(MTU)
        .build();
    match netlink.add(device).await {
        // The name is free, so what exists is another device with these settings on this port.
        Err(error) if error.is(Errno::EXIST) => return Err(SocketDeviceError::PortInUse { port: data_port }),
        result => result.map_err(failed("make"))?,
    }
    let made = netlink.device(name).await.map_err(failed("look for"))?.ok_or_else(|| vanished(name))?;
    if let Err(source) = netlink.without_ipv6_address(made.index).await {
        netlink.del(made.index).await.map_err(failed("remove"))?;
        return Err(failed("set up")(source));
    }
    Ok(())
}

fn vanished(name: &str) -> SocketDeviceError {
    let source = NetlinkError::NoAnswer("it vanished at once".to_owned());
    SocketDeviceError::Netlink { what: "make", name: name.to_owned(), source }
}

/// Whether `device` is what [`create`] makes.
fn fits(device: &Device, data_port: u16) -> bool {
    let has = |setting: &InfoVxlan| device.vxlan.contains(setting);
    has(&InfoVxlan::CollectMetadata(true))
        && has(&InfoVxlan::Port(data_port))
        && has(&InfoVxlan::Learning(false))
        && !has(&InfoVxlan::Gbp)
        && has(&InfoVxlan::PortRange((data_port, data_port.saturating_add(1))))
        && !has(&InfoVxlan::Vnifilter(true))
}

/// Removes the VXLAN socket device `name`, if there is one.
///
/// # Errors
///
/// The kernel refused, or the device of that name is not a VXLAN socket device and was left alone.
pub async fn remove(name: &str) -> Result<(), SocketDeviceError> {
    let failed = |source| SocketDeviceError::Netlink { what: "remove", name: name.to_owned(), source };
    let netlink = Netlink::here().map_err(failed)?;
    match netlink.device(name).await.map_err(failed)? {
        None => Ok(()),
        Some(device) if device.kind == Some(InfoKind::Vxlan) => netlink.del(device.index).await.map_err(failed),
        Some(_) => Err(SocketDeviceError::NameTaken { name: name.to_owned() }),
    }
}

#[cfg(test)]
mod tests;
