//! What the host task asks the kernel: changes, dumps and single routes. A fake takes its place in tests.

use std::{
    net::Ipv4Addr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{Stream, StreamExt};
use rtnetlink::{
    MulticastGroup, RouteMessageBuilder,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType},
    },
};

use super::cache::{Dump, global_addr};
use crate::shell::netlink::{Netlink, NetlinkError, Runtime, collect};

/// Changes of devices, addresses, routes and rules, until the kernel's socket breaks.
pub(super) type Messages = Pin<Box<dyn Stream<Item = NetlinkPayload<RouteNetlinkMessage>> + Send>>;

/// A route as the kernel tells it: without the MTU of its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) ifindex: u32,
    pub(super) next_hop: Ipv4Addr,
    pub(super) source: Ipv4Addr,
    /// Configured for the route; `None` when nothing is.
    pub(super) mtu: Option<u32>,
}

/// The kernel's side of the host task.
pub(super) trait Kernel: Clone + Send + Sync + 'static {
    /// Tells of changes from now on.
    fn subscribe(&self) -> Result<Messages, NetlinkError>;
    /// All devices and addresses.
    fn dump(&self) -> impl Future<Output = Result<Dump, NetlinkError>> + Send;
    /// How packets to `to` leave; `None` when no route leads there that is of use.
    fn route(&self, to: Ipv4Addr) -> impl Future<Output = Result<Option<Route>, NetlinkError>> + Send;
}

/// `IPPROTO_UDP`.
const UDP: u8 = 17;

/// The kernel of this host, over one socket for all routes.
///
/// A route is asked for as packets are sent: UDP to the data port, without a mark. Not from the data port: only what the
/// kernel's stack cuts leaves from there, by a rule of our own.
#[derive(Clone)]
pub(super) struct Rtnetlink {
    data_port: u16,
    /// `None` until it is needed, and after it broke.
    requests: Arc<Mutex<Option<Netlink>>>,
}

impl Rtnetlink {
    pub(super) fn new(data_port: u16) -> Self {
        Self { data_port, requests: Arc::default() }
    }

    fn requests(&self) -> Result<Netlink, NetlinkError> {
        // What is in there is whole whoever panicked.
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(netlink) = &*requests {
            return Ok(netlink.clone());
        }
        let netlink = Netlink::for_lookups()?;
        *requests = Some(netlink.clone());
        Ok(netlink)
    }

    /// Opens another socket for the next request where this one did not answer.
    fn checked<T>(&self, result: Result<T, NetlinkError>) -> Result<T, NetlinkError> {
        if matches!(result, Err(NetlinkError::NoAnswer(_) | NetlinkError::Socket(_))) {
            *self.requests.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        result
    }
}

impl Kernel for Rtnetlink {
    fn subscribe(&self) -> Result<Messages, NetlinkError> {
        let groups =
            [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv4Route, MulticastGroup::Ipv4Rule];
        let messages = Runtime::Lookups.within(|| {
            let (connection, handle, messages) = rtnetlink::new_multicast_connection(&groups)?;
            drop((tokio::spawn(connection), handle));
            Ok(messages)
        })?;
        Ok(Box::pin(messages.map(|(NetlinkMessage { payload, .. }, _)| payload)))
    }

    async fn dump(&self) -> Result<Dump, NetlinkError> {
        // Not over the socket for routes: the kernel may keep who asks for a list.
        let netlink = Netlink::here()?;
        let devices = netlink.devices().await?;
        let messages = netlink.addresses().await?;
        Ok(Dump { devices, addrs: messages.iter().filter_map(global_addr).collect() })
    }

    async fn route(&self, to: Ipv4Addr) -> Result<Option<Route>, NetlinkError> {
        // By the source that the kernel chooses there may be other rules, as for a socket that is connected.
        let Some(first) = self.ask(to, None).await? else { return Ok(None) };
        let bound = self.ask(to, Some(first.source)).await?;
        Ok(bound.map(|route| Route { source: first.source, ..route }))
    }
}

impl Rtnetlink {
    async fn ask(&self, to: Ipv4Addr, source: Option<Ipv4Addr>) -> Result<Option<Route>, NetlinkError> {
        let netlink = self.requests()?;
        let mut question = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(to, 32).build();
        question.attributes.extend([RouteAttribute::IpProto(UDP), RouteAttribute::Dport(self.data_port)]);
        if let Some(source) = source {
            question.header.source_prefix_length = 32;
            question.attributes.push(RouteAttribute::Source(RouteAddress::Inet(source)));
        }
        match self.checked(collect(netlink.handle.route().get(question).execute()).await) {
            Ok(answers) => Ok(answers.first().and_then(|answer| read_route(to, source, answer))),
            Err(NetlinkError::Refused(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The route in `message`, if it leads to another host by IPv4.
pub(super) fn read_route(to: Ipv4Addr, asked: Option<Ipv4Addr>, message: &RouteMessage) -> Option<Route> {
    if message.header.kind != RouteType::Unicast {
        return None;
    }
    let (mut ifindex, mut source, mut next_hop, mut mtu) = (None, asked, to, None);
    // An MTU that runs out was learnt from an ICMP message, which anybody may have sent. Probes find out what is so.
    let learnt = message.attributes.iter().any(|a| matches!(a, RouteAttribute::CacheInfo(info) if info.expires != 0));
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::PrefSource(RouteAddress::Inet(addr)) => source = Some(*addr),
            RouteAttribute::Gateway(RouteAddress::Inet(addr)) => next_hop = *addr,
            RouteAttribute::Via(_) => return None,
            RouteAttribute::Metrics(metrics) if !learnt => mtu = metrics.iter().find_map(route_mtu),
            _ => {}
        }
    }
    Some(Route { ifindex: ifindex?, next_hop, source: source?, mtu })
}

fn route_mtu(metric: &RouteMetric) -> Option<u32> {
    match metric {
        RouteMetric::Mtu(mtu) if *mtu > 0 => Some(*mtu),
        _ => None,
    }
}
