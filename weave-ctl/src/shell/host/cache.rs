//! The host's devices and addresses as the kernel's messages tell them: pure.
//!
//! A dump fills the cache, messages keep it true. A message that is not whole (of a bridge port, of a wireless card) is
//! left out: the device is as it was. Bounds: what the kernel has.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use ipnet::Ipv4Net;
use rtnetlink::{
    packet_core::NetlinkPayload,
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressMessage, AddressScope},
        link::{InfoKind, LinkAttribute, LinkMessage},
        route::{RouteAddress, RouteAttribute, RouteMessage},
    },
};

use crate::shell::{endpoints::made_as, exposed::is_exposed, netlink, socket_device};

/// A device of the underlay: up, with a global IPv4 address, and not one of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its index.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its Ethernet address; `None` when it has none of that kind.
    pub mac: Option<[u8; 6]>,
    /// What is behind it.
    pub nature: Nature,
    /// Its global IPv4 addresses with the length of their subnet, in the order in which the kernel has them.
    pub addrs: Vec<Ipv4Net>,
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

/// What a dump found.
#[derive(Clone, Debug, Default)]
pub(super) struct Dump {
    pub(super) devices: Vec<netlink::Device>,
    /// Device and global IPv4 address, in the order of the kernel.
    pub(super) addrs: Vec<(u32, Ipv4Net)>,
}

/// Which egresses may differ after a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Affected {
    None,
    /// Those of addresses in this prefix.
    Prefix(Ipv4Net),
    /// At once those that leave by this device, or have this source: the kernel takes their routes away without a word. Others
    /// only where several devices lead to one prefix, or the kernel chooses another source.
    Through(u32, Option<Ipv4Addr>),
    All,
}

/// What a message changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// The device that the message told all of, also that it is gone.
    pub(super) device: Option<u32>,
    /// The index of a device that vanished, or moved to another namespace.
    pub(super) gone: Option<u32>,
    /// The index of a host end that was up.
    pub(super) set_down: Option<u32>,
    /// Devices or addresses of the underlay may differ.
    pub(super) underlay: bool,
    pub(super) routes: Affected,
    /// The routing table of a route that changed; zero for a rule.
    pub(super) table: Option<u32>,
    /// The kernel lost messages: only a dump tells what is so.
    pub(super) lost: bool,
}

impl Change {
    const NONE: Self = Self {
        device: None,
        gone: None,
        set_down: None,
        underlay: false,
        routes: Affected::None,
        table: None,
        lost: false,
    };

    /// A device is another, or an address of it came or went.
    fn underlay(ifindex: u32, source: Option<Ipv4Addr>) -> Self {
        Self { underlay: true, routes: Affected::Through(ifindex, source), ..Self::NONE }
    }

    fn routes(routes: Affected, table: u32) -> Self {
        Self { routes, table: Some(table), ..Self::NONE }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Cache {
    devices: BTreeMap<u32, netlink::Device>,
    addrs: BTreeMap<u32, Vec<Ipv4Net>>,
}

impl Cache {
    /// Takes the place of all that was known, except for devices in `told`: messages told of them since the dump was asked
    /// for, and those are whole, and not older. Returns the devices that were known and are not there.
    pub(super) fn replace(&mut self, dump: Dump, told: &BTreeSet<u32>) -> Vec<u32> {
        let mut devices: BTreeMap<_, _> = dump.devices.into_iter().map(|device| (device.index, device)).collect();
        devices.retain(|index, _| !told.contains(index));
        let newer = told.iter().filter_map(|index| self.devices.get_key_value(index));
        devices.extend(newer.map(|(index, device)| (*index, device.clone())));
        let before = std::mem::replace(&mut self.devices, devices);
        self.addrs.clear();
        for (index, addr) in dump.addrs {
            self.addrs.entry(index).or_default().push(addr);
        }
        self.missing(before.into_keys())
    }

    /// Of these devices those that are not there.
    pub(super) fn missing(&self, devices: impl IntoIterator<Item = u32>) -> Vec<u32> {
        devices.into_iter().filter(|index| !self.devices.contains_key(index)).collect()
    }

    /// MTU in bytes of a device.
    pub(super) fn mtu(&self, ifindex: u32) -> Option<u32> {
        self.devices.get(&ifindex).map(|device| device.mtu)
    }

    /// Global addresses of this host with the index of their device: of the underlay, and of the loopback device.
    pub(super) fn locals(&self) -> BTreeMap<Ipv4Addr, u32> {
        let devices = self.devices.values().filter(|device| device.up && !self.is_ours(device));
        let addrs = devices.filter_map(|device| Some((device.index, self.addrs.get(&device.index)?)));
        addrs.flat_map(|(index, addrs)| addrs.iter().map(move |addr| (addr.addr(), index))).collect()
    }

    /// The devices of the underlay, in order of index.
    pub(super) fn underlay(&self) -> Vec<Device> {
        let used = self.devices.values().filter(|device| device.up && !device.loopback && !self.is_ours(device));
        let device = |device: &netlink::Device| {
            let addrs = self.addrs.get(&device.index).filter(|addrs| !addrs.is_empty())?.clone();
            let (mac, nature) = (device.mac.as_slice().try_into().ok(), Nature::of(device));
            Some(Device { ifindex: device.index, name: device.name.clone(), mtu: device.mtu, mac, nature, addrs })
        };
        used.filter_map(device).collect()
    }

    /// True for the devices that this controller makes.
    fn is_ours(&self, device: &netlink::Device) -> bool {
        let socket = device.kind == Some(InfoKind::Vxlan) && device.name.starts_with(socket_device::NAME_PREFIX);
        socket || made_as(device).is_some() || is_exposed(device, |index| self.devices.get(&index))
    }

    /// Takes in one message.
    pub(super) fn note(&mut self, payload: &NetlinkPayload<RouteNetlinkMessage>) -> Change {
        use RouteNetlinkMessage as M;
        match payload {
            NetlinkPayload::InnerMessage(M::NewLink(link)) => self.new_link(link),
            NetlinkPayload::InnerMessage(M::DelLink(link)) => self.del_link(link),
            NetlinkPayload::InnerMessage(M::NewAddress(addr)) => self.new_addr(addr),
            NetlinkPayload::InnerMessage(M::DelAddress(addr)) => self.del_addr(addr),
            NetlinkPayload::InnerMessage(M::NewRoute(route) | M::DelRoute(route)) => {
                Change::routes(destination(route), table(route))
            }
            NetlinkPayload::InnerMessage(M::NewRule(_) | M::DelRule(_)) => Change::routes(Affected::All, 0),
            NetlinkPayload::Overrun(_) => Change { lost: true, ..Change::NONE },
            _ => Change::NONE,
        }
    }

    fn new_link(&mut self, link: &LinkMessage) -> Change {
        let whole = link.attributes.iter().any(|attribute| matches!(attribute, LinkAttribute::Mtu(_)));
        if link.header.interface_family == AddressFamily::Bridge || !whole {
            return Change::NONE;
        }
        let device = netlink::Device::from(link);
        let own = made_as(&device).is_some();
        let told = Some(device.index);
        let before = self.devices.insert(device.index, device.clone());
        if before.as_ref() == Some(&device) {
            return Change { device: told, ..Change::NONE };
        }
        let set_down = before.filter(|before| own && before.up && !device.up).map(|before| before.index);
        // Containers come and go without changing the underlay.
        let change = if own { Change::NONE } else { Change::underlay(device.index, None) };
        Change { device: told, set_down, ..change }
    }

    fn del_link(&mut self, link: &LinkMessage) -> Change {
        // A port that leaves a bridge is told in the bridge's family; the device stays.
        if link.header.interface_family == AddressFamily::Bridge {
            return Change::NONE;
        }
        let device = netlink::Device::from(link);
        self.devices.remove(&device.index);
        self.addrs.remove(&device.index);
        let change = if made_as(&device).is_some() { Change::NONE } else { Change::underlay(device.index, None) };
        Change { device: Some(device.index), gone: Some(device.index), ..change }
    }

    fn new_addr(&mut self, message: &AddressMessage) -> Change {
        let Some((index, addr)) = global_addr(message) else { return Change::NONE };
        let addrs = self.addrs.entry(index).or_default();
        if addrs.contains(&addr) {
            return Change::NONE;
        }
        addrs.push(addr);
        Change::underlay(index, None)
    }

    fn del_addr(&mut self, message: &AddressMessage) -> Change {
        let Some((index, addr)) = global_addr(message) else { return Change::NONE };
        if let Some(addrs) = self.addrs.get_mut(&index) {
            addrs.retain(|other| *other != addr);
        }
        Change::underlay(index, Some(addr.addr()))
    }
}

/// Device and address, when that is a global IPv4 address.
pub(super) fn global_addr(message: &AddressMessage) -> Option<(u32, Ipv4Net)> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(addr)) => Some(*addr),
        _ => None,
    });
    let net = Ipv4Net::new(local?, message.header.prefix_len).ok()?;
    (message.header.scope == AddressScope::Universe).then_some((message.header.index, net))
}

fn table(route: &RouteMessage) -> u32 {
    let long = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    long.unwrap_or_else(|| route.header.table.into())
}

/// The addresses whose egress a route decides.
fn destination(route: &RouteMessage) -> Affected {
    let addr = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(addr)) => Some(*addr),
        _ => None,
    });
    let length = route.header.destination_prefix_length;
    match (addr, length) {
        (Some(addr), 1..) => Ipv4Net::new(addr, length).map_or(Affected::All, Affected::Prefix),
        _ => Affected::All,
    }
}
