//! Routes of this host that lead into the network's range: hosts behind them are hidden from containers, and the other
//! way round.
//!
//! Looked at once a launch: a host may have very many routes.
//! Does not: judge whether that is allowed, or count default routes, which lead everywhere.

use std::fmt;

use ipnet::Ipv4Net;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage};

use super::netlink::{Netlink, NetlinkError};

/// A route, as far as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRoute {
    /// Where it leads.
    pub net: Ipv4Net,
    /// Name of the device; empty when it has none.
    pub device: String,
}

impl fmt::Display for HostRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.device.as_str() {
            "" => write!(f, "{}", self.net),
            device => write!(f, "{} dev {device}", self.net),
        }
    }
}

/// The first route of the main table that shares addresses with `range`.
///
/// # Errors
/// The kernel gave no list.
pub async fn find(range: Ipv4Net) -> Result<Option<HostRoute>, NetlinkError> {
    let netlink = Netlink::here()?;
    let routes = netlink.routes(None).await?;
    let Some((net, index)) = first(&routes, range) else { return Ok(None) };
    let devices = netlink.devices().await?;
    let device = devices.into_iter().find(|device| Some(device.index) == index);
    Ok(Some(HostRoute { net, device: device.map_or_else(String::new, |device| device.name) }))
}

/// Destination and device of the first route that shares addresses with `range`.
fn first(routes: &[RouteMessage], range: Ipv4Net) -> Option<(Ipv4Net, Option<u32>)> {
    let main = routes.iter().filter(|route| route.header.table == RouteHeader::RT_TABLE_MAIN);
    main.filter_map(|route| Some((destination(route)?, device(route))))
        .find(|(net, _)| range.contains(net) || net.contains(&range))
}

/// `None` for a default route.
fn destination(route: &RouteMessage) -> Option<Ipv4Net> {
    let length = route.header.destination_prefix_length;
    let addr = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(addr)) => Some(*addr),
        _ => None,
    });
    Ipv4Net::new(addr?, length).ok().filter(|net| net.prefix_len() > 0)
}

fn device(route: &RouteMessage) -> Option<u32> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
