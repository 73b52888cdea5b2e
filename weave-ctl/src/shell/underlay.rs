//! The host's side of the underlay: devices, addresses, routes, and word of their changes.
//!
//! The watcher is one task. It drains the kernel's socket always, so what the driver does not take yet is kept as one
//! flag and at most [`GONE_MAX`] names. When the kernel's own buffer ran over, or names did, [`UnderlayEvent::Changed`]
//! stands for whatever was lost.
//!
//! Does not: keep what it saw, or watch neighbours.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use futures_util::{Stream, StreamExt};
use rtnetlink::{
    MulticastGroup, RouteMessageBuilder,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressScope},
        link::{InfoKind, LinkAttribute, LinkMessage},
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType},
    },
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use super::{
    anchor,
    datapath::UnderlayRoute,
    endpoints::is_host_end,
    netlink::{self, Netlink, NetlinkError, collect},
};
use crate::proto::{endpoints::HOST_IF_PREFIX, io::Underlay};

/// MTU told when no device is up.
const DEFAULT_MTU: u32 = 1500;
/// Changes within this time of the first are told as one.
const COALESCE: Duration = Duration::from_millis(50);
/// Most names of vanished devices that wait for the driver.
const GONE_MAX: usize = 4096;
/// Time before the kernel's socket is opened again after it broke.
const REOPEN: Duration = Duration::from_secs(1);

/// Why the host's state is not known.
#[derive(Debug, thiserror::Error)]
pub enum UnderlayError {
    /// The kernel gave no list.
    #[error("cannot list the host's devices and addresses: {0}")]
    Scan(NetlinkError),
    /// The kernel has no route, or gave no answer.
    #[error("no route to {to}: {source}")]
    Route {
        /// Where to.
        to: Ipv4Addr,
        /// Why not.
        source: NetlinkError,
    },
    /// There is a route that leads to no other host by IPv4.
    #[error("the route to {to} is of no use for the data plane: {why}")]
    Unusable {
        /// Where to.
        to: Ipv4Addr,
        /// What it is.
        why: &'static str,
    },
    /// No watching.
    #[error("cannot watch the host's devices: {0}")]
    Watch(NetlinkError),
}

/// What a scan found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// For the core.
    pub underlay: Underlay,
    /// In order of index.
    pub devices: Vec<Device>,
    /// Global IPv4 addresses of devices that are up, with the device's index: those of the underlay, and those of the
    /// loopback device, where hosts keep an address that several devices lead to.
    pub locals: BTreeMap<Ipv4Addr, u32>,
}

/// A device of the underlay: up, with a global IPv4 address, and not one of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its index.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its address; `None` when it has none of that kind.
    pub mac: Option<[u8; 6]>,
    /// What is behind it.
    pub nature: Nature,
}

/// What is behind a device, as far as it matters to XDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// A network card on the PCI bus.
    PciCard,
    /// Another card, most often one that a hypervisor makes up.
    OtherCard,
    /// Another namespace.
    Veth,
    /// Software: a bridge, a VLAN, a tunnel, ...
    Software,
}

impl Nature {
    fn of(device: &netlink::Device) -> Self {
        match (&device.kind, device.bus.as_deref()) {
            (None, Some("pci")) => Self::PciCard,
            (None, _) => Self::OtherCard,
            (Some(InfoKind::Veth), _) => Self::Veth,
            (Some(_), _) => Self::Software,
        }
    }
}

/// Lists the devices and addresses of the underlay.
///
/// # Errors
///
/// The kernel gave no list.
pub async fn scan() -> Result<Scan, UnderlayError> {
    let netlink = Netlink::here().map_err(UnderlayError::Scan)?;
    let links = netlink.devices().await.map_err(UnderlayError::Scan)?;
    let messages = collect(netlink.handle.address().get().execute()).await.map_err(UnderlayError::Scan)?;
    let addrs: Vec<(u32, Ipv4Addr)> = messages
        .iter()
        .filter(|m| m.header.scope == AddressScope::Universe)
        .filter_map(|m| Some((m.header.index, m.attributes.iter().find_map(local_addr)?)))
        .collect();
    let mut scan = Scan::default();
    for link in links {
        let anchor = link.kind == Some(InfoKind::Vxlan) && link.name.starts_with(anchor::NAME_PREFIX);
        if !link.up || anchor || is_host_end(&link) {
            continue;
        }
        let own: Vec<_> = addrs.iter().filter(|(index, _)| *index == link.index).map(|(_, addr)| *addr).collect();
        scan.locals.extend(own.iter().map(|addr| (*addr, link.index)));
        if own.is_empty() || link.loopback {
            continue;
        }
        for addr in own {
            if !scan.underlay.addrs.contains(&addr) {
                scan.underlay.addrs.push(addr);
            }
        }
        let (mac, nature) = (link.mac.as_slice().try_into().ok(), Nature::of(&link));
        scan.devices.push(Device { ifindex: link.index, name: link.name, mtu: link.mtu, mac, nature });
    }
    scan.underlay.mtu = scan.devices.iter().map(|d| d.mtu).min().unwrap_or(DEFAULT_MTU);
    Ok(scan)
}

fn local_addr(attribute: &AddressAttribute) -> Option<Ipv4Addr> {
    match attribute {
        AddressAttribute::Local(IpAddr::V4(addr)) => Some(*addr),
        _ => None,
    }
}

/// Asks the kernel how it would send to `to`.
///
/// # Errors
///
/// No route, or one that leads to no other host by IPv4.
pub async fn route_to(to: Ipv4Addr) -> Result<UnderlayRoute, UnderlayError> {
    let failed = |source| UnderlayError::Route { to, source };
    let netlink = Netlink::here().map_err(failed)?;
    let question = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(to, 32).build();
    let answers = collect(netlink.handle.route().get(question).execute()).await.map_err(failed)?;
    let none = || failed(NetlinkError::NoAnswer("it was empty".to_owned()));
    let mut route = read_route(to, answers.first().ok_or_else(none)?)?;
    let links = netlink.devices().await.map_err(failed)?;
    let device = links.iter().find(|d| d.index == route.ifindex).ok_or_else(none)?;
    route.mtu = route.mtu.min(device.mtu);
    Ok(route)
}

/// The route in `message`; its MTU is `u32::MAX` when the route itself has none.
fn read_route(to: Ipv4Addr, message: &RouteMessage) -> Result<UnderlayRoute, UnderlayError> {
    let unusable = |why| UnderlayError::Unusable { to, why };
    match message.header.kind {
        RouteType::Unicast => {}
        RouteType::Local => return Err(unusable("it is an address of this host")),
        _ => return Err(unusable("it leads to no single host")),
    }
    let (mut ifindex, mut source, mut next_hop, mut mtu) = (None, None, to, u32::MAX);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::PrefSource(RouteAddress::Inet(addr)) => source = Some(*addr),
            RouteAttribute::Gateway(RouteAddress::Inet(addr)) => next_hop = *addr,
            RouteAttribute::Via(_) => return Err(unusable("its gateway has no IPv4 address")),
            RouteAttribute::Metrics(metrics) => mtu = metrics.iter().find_map(route_mtu).unwrap_or(mtu),
            _ => {}
        }
    }
    let ifindex = ifindex.ok_or_else(|| unusable("it names no device"))?;
    let source = source.ok_or_else(|| unusable("the host has no address to send from"))?;
    Ok(UnderlayRoute { ifindex, next_hop, source, mtu })
}

fn route_mtu(metric: &RouteMetric) -> Option<u32> {
    match metric {
        RouteMetric::Mtu(mtu) if *mtu > 0 => Some(*mtu),
        _ => None,
    }
}

/// Something about the host changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnderlayEvent {
    /// Devices, addresses or routes: scan again, and list the containers' interfaces too, for word of one that vanished
    /// may have been lost.
    Changed,
    /// A device vanished, or moved to another namespace.
    LinkGone {
        /// Its name.
        name: String,
    },
}

type Messages = std::pin::Pin<Box<dyn Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + Send>>;

/// Tells `events` what changes from now on, until their receiver is dropped.
///
/// # Errors
///
/// The kernel gave no socket at the start. Later the socket is opened again when it breaks.
pub async fn watch(events: mpsc::Sender<UnderlayEvent>) -> Result<JoinHandle<()>, UnderlayError> {
    let mut messages = subscribe().map_err(UnderlayError::Watch)?;
    Ok(tokio::spawn(async move {
        let mut pending = Pending::default();
        while pump(&mut messages, &mut pending, &events).await.is_some() {
            tracing::warn!("the kernel's word of changed devices broke off; asking again");
            sleep(REOPEN).await;
            if let Ok(again) = subscribe() {
                messages = again;
            }
            pending.lost();
        }
    }))
}

fn subscribe() -> Result<Messages, NetlinkError> {
    let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv4Route];
    let (connection, handle, messages) = rtnetlink::new_multicast_connection(&groups).map_err(NetlinkError::Socket)?;
    drop((tokio::spawn(connection), handle));
    Ok(Box::pin(messages.map(|(message, _)| message)))
}

/// Passes on what the kernel says: `None` when nobody listens any more, `Some` when the kernel's socket broke.
async fn pump(messages: &mut Messages, pending: &mut Pending, events: &mpsc::Sender<UnderlayEvent>) -> Option<()> {
    loop {
        let due = pending.due;
        let ready = !pending.gone.is_empty() || due.is_some_and(|due| due <= Instant::now());
        tokio::select! {
            message = messages.next() => match message {
                Some(message) => pending.note(&message.payload, Instant::now()),
                None => return Some(()),
            },
            permit = events.reserve(), if ready => permit.ok()?.send(pending.take()),
            () = events.closed(), if !ready => return None,
            () = sleep_until(due.unwrap_or_else(Instant::now)), if !ready && due.is_some() => {}
        }
    }
}

/// What the driver has not been told yet.
#[derive(Debug, Default)]
struct Pending {
    gone: BTreeSet<String>,
    /// When to tell of changes; `None` when there are none.
    due: Option<Instant>,
}

impl Pending {
    /// The next thing to tell. Called only when there is one.
    fn take(&mut self) -> UnderlayEvent {
        match self.gone.pop_first() {
            Some(name) => UnderlayEvent::LinkGone { name },
            None => {
                self.due = None;
                UnderlayEvent::Changed
            }
        }
    }

    /// Something was lost: tell at once.
    fn lost(&mut self) {
        self.due = Some(Instant::now());
    }

    fn note(&mut self, payload: &NetlinkPayload<RouteNetlinkMessage>, now: Instant) {
        use RouteNetlinkMessage as M;
        match payload {
            NetlinkPayload::InnerMessage(M::DelLink(link)) => self.note_gone(link, now),
            // Containers come and go without changing the underlay.
            NetlinkPayload::InnerMessage(M::NewLink(link)) if name_of(link).starts_with(HOST_IF_PREFIX) => {}
            NetlinkPayload::InnerMessage(
                M::NewLink(_) | M::NewAddress(_) | M::DelAddress(_) | M::NewRoute(_) | M::DelRoute(_),
            ) => self.changed(now),
            NetlinkPayload::Overrun(_) => self.lost(),
            _ => {}
        }
    }

    fn note_gone(&mut self, link: &LinkMessage, now: Instant) {
        // A port that leaves a bridge is told in the bridge's family; the device stays.
        if link.header.interface_family == AddressFamily::Bridge {
            return;
        }
        let name = name_of(link);
        if self.gone.len() >= GONE_MAX {
            return self.lost();
        }
        self.gone.insert(name.to_owned());
        if !name.starts_with(HOST_IF_PREFIX) {
            self.changed(now);
        }
    }

    fn changed(&mut self, now: Instant) {
        self.due.get_or_insert(now + COALESCE);
    }
}

fn name_of(link: &LinkMessage) -> &str {
    let name = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    });
    name.unwrap_or_default()
}

#[cfg(test)]
mod tests;
