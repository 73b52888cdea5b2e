//! The kernel's tables: their expected shapes, and typed reading and writing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::Ipv4Addr,
    path::PathBuf,
};

use aya::{
    Ebpf,
    maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, MapType, PerCpuArray, lpm_trie::Key},
};
use ipnet::Ipv4Net;
use weave_common::{
    addr::{Ip4, PeerKey},
    bucket::Bucket,
    config::Config,
    counters::{Count, Counter},
    device::{Device, DeviceKey},
    dns::{ADDRS_MAX, NameAddrs, NameKey, Scratch},
    drop::DropReason,
    endpoint::{ENDPOINT_GATEWAY, ENDPOINT_HOST, ENDPOINT_SERVICE, Endpoint, EndpointKey},
    local::{Local, LocalKey},
    map,
    probe::ProbeKeys,
    route::{ROUTE_HOST, ROUTE_LOCAL, ROUTE_PEER, Route},
    tunnel::{Sender, SenderKey, Tunnel},
};

use super::{abi::Abi, error::DatapathError, tunnels::read_back};
use crate::proto::{
    io::{EndpointTo, MapOp, RouteTo},
    name::PeerName,
};

/// What a map must be like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Its name, and that of its pin.
    pub name: &'static str,
    /// Its type.
    pub map_type: MapType,
    /// Size of a key in bytes.
    pub key: u32,
    /// Size of a value in bytes.
    pub value: u32,
    /// Entries that it has or can take.
    pub capacity: u32,
}

const fn shape<K, V>(name: &'static str, map_type: MapType, capacity: u32) -> Shape {
    Shape { name, map_type, key: size_of::<K>() as u32, value: size_of::<V>() as u32, capacity }
}

/// Every map of the object.
pub const SHAPES: &[Shape] = &[
    shape::<EndpointKey, Endpoint>(map::ENDPOINTS, MapType::Hash, map::ENDPOINTS_MAX),
    shape::<Key<Abi<Ip4>>, Route>(map::ROUTES, MapType::LpmTrie, map::ROUTES_MAX),
    shape::<PeerKey, Tunnel>(map::TUNNELS, MapType::Hash, map::TUNNELS_MAX),
    shape::<SenderKey, Sender>(map::SENDERS, MapType::Hash, map::SENDERS_MAX),
    shape::<DeviceKey, Device>(map::DEVICES, MapType::Hash, map::DEVICES_MAX),
    shape::<LocalKey, Local>(map::LOCALS, MapType::Hash, map::LOCALS_MAX),
    shape::<NameKey, NameAddrs>(map::NAMES, MapType::Hash, map::NAMES_MAX),
    shape::<u32, Scratch>(map::SCRATCH, MapType::PerCpuArray, 1),
    shape::<u32, ProbeKeys>(map::KEYS, MapType::Array, 1),
    shape::<u32, Bucket>(map::LIMITS, MapType::Array, 1),
    shape::<(), ()>(map::REPLIES, MapType::RingBuf, map::REPLIES_BYTES),
    shape::<(), ()>(map::CONTACTS, MapType::RingBuf, map::CONTACTS_BYTES),
    shape::<u32, Config>(map::CONFIG, MapType::Array, 1),
    shape::<u32, u64>(map::DROPS, MapType::PerCpuArray, map::DROPS_MAX),
    shape::<u32, Count>(map::COUNTERS, MapType::PerCpuArray, map::COUNTERS_MAX),
];

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { map_type, key, value, capacity, .. } = self;
        write!(f, "{map_type:?} with keys of {key}, values of {value} bytes and {capacity} entries")
    }
}

/// The maps that hold what the core decides, open.
pub(super) struct Tables {
    endpoints: HashMap<MapData, Abi<EndpointKey>, Abi<Endpoint>>,
    routes: LpmTrie<MapData, Abi<Ip4>, Abi<Route>>,
    tunnels: HashMap<MapData, Abi<PeerKey>, Abi<Tunnel>>,
    senders: HashMap<MapData, Abi<SenderKey>, Abi<Sender>>,
}

/// The maps, open.
pub(super) struct Maps {
    pub(super) tables: Tables,
    names: HashMap<MapData, Abi<NameKey>, Abi<NameAddrs>>,
    locals: HashMap<MapData, Abi<LocalKey>, Abi<Local>>,
    keys: Array<MapData, Abi<ProbeKeys>>,
    config: Array<MapData, Abi<Config>>,
    drops: PerCpuArray<MapData, u64>,
    counters: PerCpuArray<MapData, Abi<Count>>,
}

/// Takes one map out of the object, typed.
pub(super) fn take<T>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, DatapathError>
where
    T: TryFrom<Map, Error = MapError>,
{
    let map = ebpf.take_map(name).ok_or(DatapathError::Object { name })?;
    T::try_from(map).map_err(|source| DatapathError::Map { map: name, source: source.into() })
}

impl Tables {
    /// Opens them by their pins, the paths of which `pin` gives.
    pub(super) fn open(pin: &dyn Fn(&str) -> PathBuf) -> Result<Self, DatapathError> {
        fn open<T: TryFrom<Map, Error = MapError>>(
            pin: &dyn Fn(&str) -> PathBuf,
            name: &'static str,
            kind: fn(MapData) -> Map,
        ) -> Result<T, DatapathError> {
            let data = MapData::from_pin(pin(name)).map_err(refused(name))?;
            T::try_from(kind(data)).map_err(refused(name))
        }
        Ok(Self {
            endpoints: open(pin, map::ENDPOINTS, Map::HashMap)?,
            routes: open(pin, map::ROUTES, Map::LpmTrie)?,
            tunnels: open(pin, map::TUNNELS, Map::HashMap)?,
            senders: open(pin, map::SENDERS, Map::HashMap)?,
        })
    }

    /// The entry that `key` would remove, as the operation that would make it; `None` when there is none.
    pub(super) fn entry(&self, key: &MapOp) -> Result<Option<MapOp>, DatapathError> {
        match *key {
            MapOp::DelEndpoint(addr) => {
                let found = present(self.endpoints.get(&Abi(EndpointKey::new(addr.into())), 0));
                let found = found.map_err(refused(map::ENDPOINTS))?;
                Ok(found.map(|Abi(endpoint)| MapOp::PutEndpoint(addr, endpoint_read(&endpoint))))
            }
            MapOp::DelRoute(net) => {
                // The trie answers with the longest prefix that matches, so its entries are gone through.
                let found = self.read_routes()?.into_iter().find(|(other, _)| *other == net);
                Ok(found.map(|(net, to)| MapOp::PutRoute(net, to)))
            }
            MapOp::DelTunnel(peer) => {
                let tunnel = self.tunnel(peer)?;
                Ok(tunnel.map(|tunnel| MapOp::PutTunnel(peer, read_back(peer, &tunnel))))
            }
            MapOp::DelSender(addr) => {
                let found = present(self.senders.get(&Abi(SenderKey::new(addr.into())), 0));
                let found = found.map_err(refused(map::SENDERS))?;
                Ok(found.map(|Abi(sender)| MapOp::PutSender(addr, PeerName::from_bytes(sender.peer.name))))
            }
            _ => Ok(None),
        }
    }

    pub(super) fn put_endpoint(&mut self, addr: Ipv4Addr, to: EndpointTo) -> Result<(), DatapathError> {
        let key = Abi(EndpointKey::new(addr.into()));
        let flag = |set: bool, flag: u16| if set { flag } else { 0 };
        let service = flag(to.service, ENDPOINT_SERVICE);
        let flags = flag(to.host, ENDPOINT_HOST) | flag(to.gateway, ENDPOINT_GATEWAY) | service;
        self.endpoints
            .insert(key, Abi(Endpoint { flags, ..Endpoint::new(to.ifindex, to.mac) }), 0)
            .map_err(full(map::ENDPOINTS, map::ENDPOINTS_MAX))
    }

    pub(super) fn del_endpoint(&mut self, addr: Ipv4Addr) -> Result<(), DatapathError> {
        absent_is_fine(self.endpoints.remove(&Abi(EndpointKey::new(addr.into())))).map_err(refused(map::ENDPOINTS))
    }

    pub(super) fn put_route(&mut self, net: Ipv4Net, to: RouteTo) -> Result<(), DatapathError> {
        let route = match to {
            RouteTo::Local => Route::LOCAL,
            RouteTo::Peer(peer) => Route::to_peer(peer.key()),
            RouteTo::Host(addr) => Route::to_host(addr.octets()),
        };
        self.routes.insert(&route_key(net), Abi(route), 0).map_err(full(map::ROUTES, map::ROUTES_MAX))
    }

    pub(super) fn del_route(&mut self, net: Ipv4Net) -> Result<(), DatapathError> {
        absent_is_fine(self.routes.remove(&route_key(net))).map_err(refused(map::ROUTES))
    }

    pub(super) fn tunnel(&self, peer: PeerName) -> Result<Option<Tunnel>, DatapathError> {
        let found = present(self.tunnels.get(&Abi(peer.key()), 0)).map_err(refused(map::TUNNELS))?;
        Ok(found.map(|Abi(tunnel)| tunnel))
    }

    pub(super) fn put_tunnel(&mut self, peer: PeerName, tunnel: Tunnel) -> Result<(), DatapathError> {
        self.tunnels.insert(Abi(peer.key()), Abi(tunnel), 0).map_err(full(map::TUNNELS, map::TUNNELS_MAX))
    }

    pub(super) fn del_tunnel(&mut self, peer: PeerName) -> Result<(), DatapathError> {
        absent_is_fine(self.tunnels.remove(&Abi(peer.key()))).map_err(refused(map::TUNNELS))
    }

    pub(super) fn put_sender(&mut self, addr: Ipv4Addr, peer: PeerName) -> Result<(), DatapathError> {
        let (key, value) = (Abi(SenderKey::new(addr.into())), Abi(Sender::new(peer.key())));
        self.senders.insert(key, value, 0).map_err(full(map::SENDERS, map::SENDERS_MAX))
    }

    pub(super) fn del_sender(&mut self, addr: Ipv4Addr) -> Result<(), DatapathError> {
        absent_is_fine(self.senders.remove(&Abi(SenderKey::new(addr.into())))).map_err(refused(map::SENDERS))
    }

    /// The addresses that are accepted as senders, and whose they are.
    pub(super) fn senders(&self) -> Result<Vec<(Ipv4Addr, PeerName)>, DatapathError> {
        let entry = |(Abi(key), Abi(sender)): (Abi<SenderKey>, Abi<Sender>)| {
            (key.addr.into(), PeerName::from_bytes(sender.peer.name))
        };
        self.senders.iter().map(|found| found.map(entry)).collect::<Result<_, _>>().map_err(refused(map::SENDERS))
    }

    /// Every tunnel as it is in the kernel.
    pub(super) fn tunnels(&self) -> Result<Vec<(PeerName, Tunnel)>, DatapathError> {
        let entry = |(Abi(key), Abi(tunnel)): (Abi<PeerKey>, Abi<Tunnel>)| (PeerName::from_bytes(key.name), tunnel);
        self.tunnels.iter().map(|item| item.map(entry)).collect::<Result<_, _>>().map_err(refused(map::TUNNELS))
    }

    /// Endpoints and routes, as the operations that would make them. An entry that no operation makes is left out.
    pub(super) fn read_back(&self) -> Result<Vec<MapOp>, DatapathError> {
        let mut ops = Vec::new();
        for item in self.endpoints.iter() {
            let (Abi(key), Abi(endpoint)) = item.map_err(refused(map::ENDPOINTS))?;
            ops.push(MapOp::PutEndpoint(key.addr.into(), endpoint_read(&endpoint)));
        }
        ops.extend(self.read_routes()?.into_iter().map(|(net, to)| MapOp::PutRoute(net, to)));
        Ok(ops)
    }

    fn read_routes(&self) -> Result<Vec<(Ipv4Net, RouteTo)>, DatapathError> {
        let mut routes = Vec::new();
        for item in self.routes.iter() {
            let (key, Abi(route)) = item.map_err(refused(map::ROUTES))?;
            let Abi(addr) = key.data();
            let net = u8::try_from(key.prefix_len()).ok().and_then(|len| Ipv4Net::new(addr.into(), len).ok());
            let to = match route.kind {
                ROUTE_LOCAL => RouteTo::Local,
                ROUTE_PEER => RouteTo::Peer(PeerName::from_bytes(route.peer.name)),
                ROUTE_HOST => RouteTo::Host(route.host.into()),
                _ => continue,
            };
            routes.extend(net.map(|net| (net, to)));
        }
        Ok(routes)
    }
}

impl Maps {
    /// Takes the maps out of the loaded object.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, DatapathError> {
        Ok(Self {
            tables: Tables {
                endpoints: take(ebpf, map::ENDPOINTS)?,
                routes: take(ebpf, map::ROUTES)?,
                tunnels: take(ebpf, map::TUNNELS)?,
                senders: take(ebpf, map::SENDERS)?,
            },
            names: take(ebpf, map::NAMES)?,
            locals: take(ebpf, map::LOCALS)?,
            keys: take(ebpf, map::KEYS)?,
            config: take(ebpf, map::CONFIG)?,
            drops: take(ebpf, map::DROPS)?,
            counters: take(ebpf, map::COUNTERS)?,
        })
    }

    pub(super) fn config(&self) -> Result<Config, DatapathError> {
        self.config.get(&0, 0).map(|Abi(config)| config).map_err(refused(map::CONFIG))
    }

    pub(super) fn set_config(&mut self, config: Config) -> Result<(), DatapathError> {
        self.config.set(0, Abi(config), 0).map_err(refused(map::CONFIG))
    }

    pub(super) fn keys(&self) -> Result<ProbeKeys, DatapathError> {
        self.keys.get(&0, 0).map(|Abi(keys)| keys).map_err(refused(map::KEYS))
    }

    pub(super) fn set_keys(&mut self, keys: ProbeKeys) -> Result<(), DatapathError> {
        self.keys.set(0, Abi(keys), 0).map_err(refused(map::KEYS))
    }

    /// This host's addresses, each with the index of its device.
    pub(super) fn locals(&self) -> Result<BTreeMap<Ipv4Addr, u32>, DatapathError> {
        let entry = |(Abi(key), Abi(local)): (Abi<LocalKey>, Abi<Local>)| (Ipv4Addr::from(key.addr), local.ifindex);
        self.locals.iter().map(|item| item.map(entry)).collect::<Result<_, _>>().map_err(refused(map::LOCALS))
    }

    /// Makes the table of this host's addresses, which holds `found`, hold these and no others: new ones first, so that no
    /// packet to an address that stays is missed.
    pub(super) fn set_locals(
        &mut self,
        found: &BTreeMap<Ipv4Addr, u32>,
        addrs: &BTreeMap<Ipv4Addr, u32>,
    ) -> Result<(), DatapathError> {
        let gone: BTreeSet<_> = found.keys().filter(|addr| !addrs.contains_key(addr)).collect();
        let mut result = Ok(());
        for (addr, ifindex) in addrs.iter().filter(|(addr, ifindex)| found.get(addr) != Some(ifindex)) {
            let (key, value) = (Abi(LocalKey::new((*addr).into())), Abi(Local { ifindex: *ifindex }));
            let put = self.locals.insert(key, value, 0).map_err(full(map::LOCALS, map::LOCALS_MAX));
            result = result.and(put);
        }
        for addr in gone {
            let key = Abi(LocalKey::new((*addr).into()));
            absent_is_fine(self.locals.remove(&key)).map_err(refused(map::LOCALS))?;
        }
        result
    }

    /// Gives a name these addresses; with none, or when it does not fit, the programs do not know it.
    pub(super) fn put_name(&mut self, name: &str, addrs: &[Ipv4Addr]) -> Result<(), DatapathError> {
        let Some(key) = NameKey::of(name) else { return Ok(()) };
        if addrs.is_empty() || addrs.len() > ADDRS_MAX {
            return absent_is_fine(self.names.remove(&Abi(key))).map_err(refused(map::NAMES));
        }
        let mut value = NameAddrs { count: addrs.len() as u32, addrs: [[0; 4]; ADDRS_MAX] };
        for (to, addr) in value.addrs.iter_mut().zip(addrs) {
            *to = addr.octets();
        }
        match self.names.insert(Abi(key), Abi(value), 0).map_err(full(map::NAMES, map::NAMES_MAX)) {
            // The resolver answers what does not fit.
            Err(DatapathError::Full { .. }) => Ok(()),
            result => result,
        }
    }

    /// Every name that the programs know, with its addresses.
    pub(super) fn names(&self) -> Result<Vec<(String, Vec<Ipv4Addr>)>, DatapathError> {
        let entry = |(Abi(key), Abi(value)): (Abi<NameKey>, Abi<NameAddrs>)| {
            let labels: Vec<_> = key.labels().map(String::from_utf8_lossy).collect();
            let addrs = value.addrs.iter().take(value.count as usize).map(|addr| Ipv4Addr::from(*addr));
            (labels.join("."), addrs.collect())
        };
        self.names.iter().map(|item| item.map(entry)).collect::<Result<_, _>>().map_err(refused(map::NAMES))
    }

    /// Entries in the tables that grow, by name.
    pub(super) fn entries(&self) -> Result<Vec<(&'static str, u32)>, DatapathError> {
        Ok(vec![
            (map::ENDPOINTS, count(self.tables.endpoints.keys()).map_err(refused(map::ENDPOINTS))?),
            (map::ROUTES, count(self.tables.routes.keys()).map_err(refused(map::ROUTES))?),
            (map::TUNNELS, count(self.tables.tunnels.keys()).map_err(refused(map::TUNNELS))?),
            (map::SENDERS, count(self.tables.senders.keys()).map_err(refused(map::SENDERS))?),
            (map::LOCALS, count(self.locals.keys()).map_err(refused(map::LOCALS))?),
            (map::NAMES, count(self.names.keys()).map_err(refused(map::NAMES))?),
        ])
    }

    /// Packets dropped for `reason`, on all CPUs.
    pub(super) fn drops(&self, reason: DropReason) -> Result<u64, DatapathError> {
        let values = self.drops.get(&(reason as u32), 0).map_err(refused(map::DROPS))?;
        Ok(values.iter().sum())
    }

    /// Packets and bytes counted under `counter`, on all CPUs.
    pub(super) fn counter(&self, counter: Counter) -> Result<Count, DatapathError> {
        let values = self.counters.get(&(counter as u32), 0).map_err(refused(map::COUNTERS))?;
        let add = |sum: Count, Abi(count): &Abi<Count>| Count {
            packets: sum.packets + count.packets,
            bytes: sum.bytes + count.bytes,
        };
        Ok(values.iter().fold(Count::default(), add))
    }
}

/// Devices with XDP, by index.
pub(super) struct Devices(HashMap<MapData, Abi<DeviceKey>, Abi<Device>>);

impl Devices {
    /// Takes the map out of the loaded object.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, DatapathError> {
        take(ebpf, map::DEVICES).map(Self)
    }

    pub(super) fn put(&mut self, ifindex: u32, device: Device) -> Result<(), DatapathError> {
        let key = Abi(DeviceKey { ifindex });
        self.0.insert(key, Abi(device), 0).map_err(full(map::DEVICES, map::DEVICES_MAX))
    }

    pub(super) fn remove(&mut self, ifindex: u32) -> Result<(), DatapathError> {
        absent_is_fine(self.0.remove(&Abi(DeviceKey { ifindex }))).map_err(refused(map::DEVICES))
    }

    pub(super) fn all(&self) -> Result<BTreeMap<u32, Device>, DatapathError> {
        let entry = |(Abi(key), Abi(device)): (Abi<DeviceKey>, Abi<Device>)| (key.ifindex, device);
        self.0.iter().map(|found| found.map(entry)).collect::<Result<_, _>>().map_err(refused(map::DEVICES))
    }
}

fn endpoint_read(endpoint: &Endpoint) -> EndpointTo {
    let (host, gateway) = (endpoint.has(ENDPOINT_HOST), endpoint.has(ENDPOINT_GATEWAY));
    let service = endpoint.has(ENDPOINT_SERVICE);
    EndpointTo { ifindex: endpoint.ifindex, mac: endpoint.mac(), host, gateway, service }
}

fn route_key(net: Ipv4Net) -> Key<Abi<Ip4>> {
    Key::new(u32::from(net.prefix_len()), Abi(net.network().into()))
}

fn count<K>(mut keys: impl Iterator<Item = Result<K, MapError>>) -> Result<u32, MapError> {
    keys.try_fold(0, |n, key| key.map(|_| n + 1))
}

fn errno(error: &MapError) -> Option<i32> {
    if let MapError::SyscallError(error) = error { error.io_error.raw_os_error() } else { None }
}

/// `None` for an entry that is not there.
fn present<T>(result: Result<T, MapError>) -> Result<Option<T>, MapError> {
    match result {
        Ok(entry) => Ok(Some(entry)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

fn absent_is_fine(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(error) if errno(&error) == Some(rustix::io::Errno::NOENT.raw_os_error()) => Ok(()),
        result => result,
    }
}

fn refused(map: &'static str) -> impl FnOnce(MapError) -> DatapathError {
    move |source| DatapathError::Map { map, source: source.into() }
}

/// A hash that has no room says `E2BIG`, a trie `ENOSPC`.
fn full(map: &'static str, capacity: u32) -> impl FnOnce(MapError) -> DatapathError {
    use rustix::io::Errno;
    move |source| match errno(&source).map(Errno::from_raw_os_error) {
        Some(Errno::TOOBIG | Errno::NOSPC) => DatapathError::Full { map, capacity },
        _ => DatapathError::Map { map, source: source.into() },
    }
}
