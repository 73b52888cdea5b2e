//! Routes of this host that lead into the network's range: hosts behind them are hidden from containers, and the other
//! way round.
//!
//! Looked at once a launch: a host may have very many routes.
//! Does not: judge whether that is allowed, or count default routes, which lead everywhere, and the route of this host's
//! own interface in the network.

use std::{collections::BTreeMap, fmt};

use ipnet::Ipv4Net;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage};

use super::{
    exposed::is_exposed,
    netlink::{Device, Netlink, NetlinkError},
};

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
    let overlapping: Vec<_> = overlapping(&routes, range).collect();
    if overlapping.is_empty() {
        return Ok(None);
    }
    let devices: BTreeMap<u32, Device> =
        netlink.devices().await?.into_iter().map(|device| (device.index, device)).collect();
    let mut routes = overlapping.into_iter().map(|(net, index)| (net, index.and_then(|index| devices.get(&index))));
    let found =
        routes.find(|(_, device)| !device.is_some_and(|device| is_exposed(device, |index| devices.get(&index))));
    Ok(found.map(|(net, device)| HostRoute { net, device: device.map_or_else(String::new, |d| d.name.clone()) }))
}

/// Destination and device of the routes that share addresses with `range`.
fn overlapping(routes: &[RouteMessage], range: Ipv4Net) -> impl Iterator<Item = (Ipv4Net, Option<u32>)> + '_ {
    let main = routes.iter().filter(|route| route.header.table == RouteHeader::RT_TABLE_MAIN);
    main.filter_map(|route| Some((destination(route)?, device(route))))
        .filter(move |(net, _)| range.contains(net) || net.contains(&range))
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
