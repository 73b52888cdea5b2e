//! The kernel's side: loads the programs, keeps maps and links pinned, writes the tables.
//!
//! Everything stays in the kernel when the controller stops, is killed or replaced; the next one adopts it, and swaps
//! programs in place. Only [`Datapath::teardown`] takes it away. Works on the network namespace of the calling thread.
//!
//! Bounds: the capacities in `weave_common::map`; a full table is an error, never an eviction. [`LOOK_MAX`] tunnels a look.
//! Does not: decide what the tables hold (the core does) or lock out a second controller (`lock` does).

pub mod abi;
mod attach;
mod device;
mod error;
mod facts;
pub mod features;
mod former;
mod keep;
mod link;
mod maps;
pub mod object;
mod pins;
mod tunnels;
mod xdp;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    path::Path,
};

use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use weave_common::{
    config::{Config, SCHEMA},
    counters::Counter,
    drop::DropReason,
    map,
    probe::ProbeKeys,
    tunnel::Tunnel,
};

use self::{
    attach::Hook,
    former::Former,
    maps::Maps,
    object::{Loader, Role},
    pins::{LinkPin, Pins},
    tunnels::{Traffic, Tunnels, entry, read_back},
    xdp::Xdp,
};
pub use self::{
    device::{index as device_index, name as device_name},
    error::DatapathError,
    facts::{Attachment, CounterFacts, DropFacts, KernelFacts, MapFacts, ProgramFacts},
    keep::Reader,
    maps::{SHAPES, Shape},
    object::XdpMode,
    xdp::{XdpDevice, XdpWanted},
};
use crate::proto::{
    datapath::Maps as Tables,
    io::{Activity, MapOp, TunnelTo},
    name::PeerName,
};

/// Most tunnels that [`Datapath::activity`] looks at, so that the driver is never kept for long.
pub const LOOK_MAX: usize = 2048;

/// Which tunnels to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Those that had packets a moment ago.
    Active,
    /// All.
    All,
}

/// What the programs give to the controller, each in a ring.
pub struct Rings {
    /// [`weave_common::probe::ReplyEvent`]s.
    pub replies: RingBuf<MapData>,
    /// [`weave_common::probe::ContactEvent`]s.
    pub contacts: RingBuf<MapData>,
}

/// What was found in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Existing {
    /// True when pinned maps of an earlier run were taken over. Empty ones prove no earlier run: a launch that failed
    /// leaves them, and only one that made itself durable fills them.
    pub adopted: bool,
    /// Their content, as the operations that would make it.
    pub maps: Vec<MapOp>,
}

/// The programs and tables in the kernel. Dropping it leaves everything attached and forwarding.
pub struct Datapath {
    ebpf: Ebpf,
    maps: Maps,
    pins: Pins,
    hook: Hook,
    /// All maps, to pin them again.
    held: Vec<(&'static str, MapData)>,
    config: Config,
    keys: ProbeKeys,
    /// What was put into the tables.
    tables: Tables,
    tunnels: Tunnels,
    traffic: Traffic,
    xdp: Xdp,
    /// Where filters are, on a kernel without links; links are found by their pins.
    filters: BTreeSet<LinkPin>,
    /// Programs of another schema, which stay while these tables are filled.
    former: Option<Former>,
}

impl Datapath {
    /// Loads the programs with the maps pinned under `bpf_dir`, adopting those of an earlier run, and puts the programs
    /// in the place of those that are attached.
    ///
    /// # Errors
    /// Before anything is changed: when `bpf_dir` is not on a BPF file system, the kernel lacks something, or a pinned
    /// map has another shape. Later: when the kernel refuses something; what was attached goes on as before.
    pub fn open(bpf_dir: &Path, config: Config) -> Result<(Self, Existing), DatapathError> {
        let pins = Pins::under(bpf_dir)?;
        let mut loader = Loader::new();
        let features = features::probe(&mut loader)?;
        features.require()?;
        pins.check_maps()?;
        pins.create()?;
        let mut ebpf = loader.load_pinned(|name| pins.map(name))?;
        let maps = Maps::take(&mut ebpf)?;
        let hook = if features.has(features::TCX) { Hook::Tcx } else { Hook::Clsact };
        let xdp = Xdp::new(if features.has(features::XDP) {
            // One line: with more, the verifier tells all that it has seen.
            object::xdp(&mut ebpf)?.load().map_err(|e| e.to_string().lines().next().unwrap_or_default().to_owned())
        } else {
            Err("this kernel cannot run it (kernels since 5.18 can)".to_owned())
        });
        let (tunnels, traffic, filters) = (Tunnels::default(), Traffic::default(), BTreeSet::new());
        let (held, keys, tables) = (keep::hold(&pins)?, maps.keys()?, Tables::default());
        let former = Former::find(bpf_dir)?;
        let mut datapath =
            Self { ebpf, maps, pins, hook, held, config, keys, tables, tunnels, traffic, xdp, filters, former };
        let found = datapath.maps.config()?;
        if found != config {
            datapath.maps.set_config(config)?;
        }
        let maps = datapath.adopt()?;
        maps.iter().for_each(|op| datapath.tables.apply(op));
        let existing = Existing { adopted: found.schema == SCHEMA && !maps.is_empty(), maps };
        datapath.replace_attached()?;
        datapath.replace_xdp()?;
        Ok((datapath, existing))
    }

    /// Reads the tables back, and mends what a controller killed in the middle of a change may have left.
    fn adopt(&mut self) -> Result<Vec<MapOp>, DatapathError> {
        let mut ops = self.maps.tables.read_back()?;
        for (peer, tunnel) in self.maps.tables.tunnels()? {
            self.traffic.news(peer, &tunnel);
            self.tunnels.insert(peer);
            ops.push(MapOp::PutTunnel(peer, read_back(peer, &tunnel)));
        }
        ops.extend(self.maps.tables.senders()?.into_iter().map(|(addr, peer)| MapOp::PutSender(addr, peer)));
        Ok(ops)
    }

    /// Puts the programs in the place of those that an earlier run attached, and drops the pins of vanished devices.
    fn replace_attached(&mut self) -> Result<(), DatapathError> {
        match self.hook {
            Hook::Tcx => {
                for pin in self.pins.links()? {
                    let place = self.place(pin).filter(|place| place.ifindex == pin.ifindex);
                    if place.is_some() && device::name(pin.ifindex).is_some() {
                        self.attach(pin)?;
                    } else {
                        self.pins.remove_link(pin)?;
                    }
                }
            }
            Hook::Clsact => {
                for name in device::names() {
                    let Some(ifindex) = device::index(&name) else { continue };
                    for role in Role::ALL {
                        let program = object::program(&mut self.ebpf, role.program())?;
                        // A device that vanished meanwhile is no reason to fail.
                        if attach::replace_clsact(program, role, &name).unwrap_or(false) {
                            self.filters.insert(LinkPin { role, ifindex });
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Carries out one change.
    ///
    /// # Errors
    /// When the kernel refuses; its table is as it was.
    pub fn apply(&mut self, op: &MapOp) -> Result<(), DatapathError> {
        self.write(op)?;
        self.tables.apply(op);
        Ok(())
    }

    fn write(&mut self, op: &MapOp) -> Result<(), DatapathError> {
        match *op {
            MapOp::PutEndpoint(addr, to) => self.maps.tables.put_endpoint(addr, to),
            MapOp::DelEndpoint(addr) => self.maps.tables.del_endpoint(addr),
            MapOp::PutRoute(net, to) => self.maps.tables.put_route(net, to),
            MapOp::DelRoute(net) => self.maps.tables.del_route(net),
            MapOp::PutTunnel(peer, ref tunnel) => self.put_tunnel(peer, tunnel),
            MapOp::DelTunnel(peer) => self.del_tunnel(peer),
            MapOp::PutSender(addr, peer) => self.maps.tables.put_sender(addr, peer),
            MapOp::DelSender(addr) => self.maps.tables.del_sender(addr),
        }
    }

    /// Writes one tunnel if the kernel's entry differs.
    fn put_tunnel(&mut self, peer: PeerName, to: &TunnelTo) -> Result<(), DatapathError> {
        let found = self.maps.tables.tunnel(peer)?;
        let mut tunnel = entry(peer, to, &self.config);
        if let Some(Tunnel { sent_ns, big_ns, heard_ns, elsewhere_ns, .. }) = found {
            // The programs write when it was last used. That stays when the peer is reached by another path.
            tunnel = Tunnel { sent_ns, big_ns, heard_ns, elsewhere_ns, ..tunnel };
        }
        if found != Some(tunnel) {
            self.maps.tables.put_tunnel(peer, tunnel)?;
        }
        self.tunnels.insert(peer);
        Ok(())
    }

    fn del_tunnel(&mut self, peer: PeerName) -> Result<(), DatapathError> {
        self.maps.tables.del_tunnel(peer)?;
        self.tunnels.remove(peer);
        self.traffic.forget(peer);
        Ok(())
    }

    /// What containers' packets, relayed ones and probes show of each peer since this was last asked, or, at first, since the
    /// datapath was opened. Looks at [`LOOK_MAX`] tunnels; with more it takes several calls to look at all.
    ///
    /// # Errors
    /// When the table cannot be read; what was not told is told a later time.
    pub fn activity(&mut self, look: Look) -> Result<Vec<Activity>, DatapathError> {
        let peers = match look {
            Look::Active => self.traffic.active(LOOK_MAX),
            Look::All => self.tunnels.next(LOOK_MAX),
        };
        let mut found = Vec::new();
        for peer in peers {
            match self.maps.tables.tunnel(peer) {
                Ok(Some(tunnel)) => found.extend(self.traffic.news(peer, &tunnel)),
                Ok(None) => {}
                Err(error) if found.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(found)
    }

    /// Takes what the programs give to the controller: answers to probes, contacts. Once.
    ///
    /// # Errors
    /// When the object has no such maps, or they were taken before.
    pub fn take_rings(&mut self) -> Result<Rings, DatapathError> {
        Ok(Rings {
            replies: maps::take(&mut self.ebpf, map::REPLIES)?,
            contacts: maps::take(&mut self.ebpf, map::CONTACTS)?,
        })
    }

    /// Makes `key` that of the probes sent from now on; answers to those of an earlier run are taken until
    /// [`Self::forget_former_key`].
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_probe_key(&mut self, key: [u64; 2]) -> Result<(), DatapathError> {
        let former = self.maps.keys()?.current;
        self.set_keys(ProbeKeys { current: key, former })
    }

    /// Refuses answers to the probes of an earlier run from now on.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn forget_former_key(&mut self) -> Result<(), DatapathError> {
        self.set_keys(ProbeKeys { former: [0; 2], ..self.keys })
    }

    fn set_keys(&mut self, keys: ProbeKeys) -> Result<(), DatapathError> {
        self.maps.set_keys(keys)?;
        self.keys = keys;
        Ok(())
    }

    /// Answers that found no room in their ring since the maps were made.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn lost_events(&self) -> Result<u64, DatapathError> {
        self.maps.drops(DropReason::RingFull)
    }

    /// Tells the programs this host's underlay addresses, each with the index of its device. Packets to any other address
    /// are left to the kernel's stack.
    ///
    /// # Errors
    /// When the table is full, or the kernel refuses; addresses that are in the table and in `addrs` stay.
    pub fn set_locals(&mut self, addrs: &BTreeMap<Ipv4Addr, u32>) -> Result<(), DatapathError> {
        self.maps.set_locals(addrs)
    }

    /// Tells the programs the index of the VXLAN socket device; 0 when there is none.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_socket_device(&mut self, ifindex: u32) -> Result<(), DatapathError> {
        if self.config.socket_ifindex == ifindex {
            return Ok(());
        }
        self.maps.set_config(Config { socket_ifindex: ifindex, ..self.config })?;
        self.config.socket_ifindex = ifindex;
        Ok(())
    }

    /// Index of the VXLAN socket device; zero when there is none.
    #[must_use]
    pub fn socket_device(&self) -> u32 {
        self.config.socket_ifindex
    }

    /// Attaches the program for what a container sends to the host end of its veth, by index. Idempotent.
    ///
    /// # Errors
    /// When the kernel refuses; what was attached stays.
    pub fn attach_container(&mut self, ifindex: u32) -> Result<(), DatapathError> {
        self.attach(LinkPin { role: Role::Container, ifindex })
    }

    /// Attaches the program for what peers send to an underlay device, by index. Idempotent.
    ///
    /// # Errors
    /// As [`Self::attach_container`].
    pub fn attach_underlay(&mut self, ifindex: u32) -> Result<(), DatapathError> {
        self.attach(LinkPin { role: Role::Underlay, ifindex })
    }

    /// Attaches both programs of the VXLAN socket device, by index: that for what the kernel's stack took off the data
    /// port, and that which sends probes. Idempotent. To be called before the device is up.
    ///
    /// # Errors
    /// As [`Self::attach_container`].
    pub fn attach_socket_device(&mut self, ifindex: u32) -> Result<(), DatapathError> {
        self.attach(LinkPin { role: Role::Socket, ifindex })?;
        self.attach(LinkPin { role: Role::Prober, ifindex })
    }

    fn attach(&mut self, pin: LinkPin) -> Result<(), DatapathError> {
        if self.former.as_ref().is_some_and(|former| former.has(pin)) {
            return Ok(());
        }
        let program = object::program(&mut self.ebpf, pin.role.program())?;
        attach::attach(self.hook, program, &self.pins, pin)?;
        if self.hook == Hook::Clsact {
            self.filters.insert(pin);
        }
        Ok(())
    }

    fn place(&self, pin: LinkPin) -> Option<link::Place> {
        link::place(&self.pins.link(pin)).ok().flatten()
    }

    /// Removes the pins of a device that vanished. Does nothing while a device of that index exists.
    ///
    /// # Errors
    /// When a pin cannot be removed.
    pub fn forget_device(&mut self, ifindex: u32) -> Result<(), DatapathError> {
        if device::name(ifindex).is_some() {
            return Ok(());
        }
        self.filters.retain(|filter| filter.ifindex != ifindex);
        self.forget_xdp(ifindex)?;
        Role::ALL.into_iter().try_for_each(|role| self.pins.remove_link(LinkPin { role, ifindex }))
    }

    /// What the kernel holds and has counted.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub fn facts(&self) -> Result<KernelFacts, DatapathError> {
        let counter = |counter: &Counter| {
            let count = self.maps.counter(*counter)?;
            Ok(CounterFacts { name: counter.as_str(), packets: count.packets, bytes: count.bytes })
        };
        let dropped =
            |reason: &DropReason| Ok(DropFacts { reason: reason.as_str(), packets: self.maps.drops(*reason)? });
        let capacity = |name| SHAPES.iter().find(|shape| shape.name == name).map_or(0, |shape| shape.capacity);
        let table = |(name, entries)| MapFacts { name, entries, capacity: capacity(name) };
        Ok(KernelFacts {
            hook: match self.hook {
                Hook::Tcx => "tcx",
                Hook::Clsact => "clsact",
            },
            counters: Counter::ALL.iter().map(counter).collect::<Result<_, DatapathError>>()?,
            drops: DropReason::ALL.iter().map(dropped).collect::<Result<_, DatapathError>>()?,
            maps: self.maps.entries()?.into_iter().map(table).collect(),
            programs: self.programs(),
            links: [self.attachments()?, self.xdp_attachments()?].concat(),
        })
    }

    /// Those that are loaded.
    fn programs(&self) -> Vec<ProgramFacts> {
        let facts = |name| {
            let info = self.ebpf.program(name)?.info().ok()?;
            Some(ProgramFacts { name, id: info.id(), verified_instructions: info.verified_instruction_count() })
        };
        Role::ALL.into_iter().map(Role::program).chain([map::PROG_XDP]).filter_map(facts).collect()
    }

    fn attachments(&self) -> Result<Vec<Attachment>, DatapathError> {
        let attachment = |pin: LinkPin, id| Attachment {
            program: pin.role.program(),
            device: device::shown(pin.ifindex),
            mode: None,
            id,
        };
        if self.hook == Hook::Clsact {
            return Ok(self.filters.iter().map(|filter| attachment(*filter, None)).collect());
        }
        let id = |pin| self.place(pin).filter(|place| place.ifindex != 0).map(|place| place.program);
        let mut links: Vec<_> = self.pins.links()?.into_iter().map(|pin| attachment(pin, id(pin))).collect();
        links.sort_by(|a, b| (a.program, &a.device).cmp(&(b.program, &b.device)));
        Ok(links)
    }

    /// Checks that maps and links could be pinned under `bpf_dir`. Makes nothing.
    ///
    /// # Errors
    /// When it is not on a BPF file system.
    pub fn check_dir(bpf_dir: &Path) -> Result<(), DatapathError> {
        Pins::under(bpf_dir).map(drop)
    }

    /// Whether anything of this schema is pinned under `bpf_dir`.
    #[must_use]
    pub fn is_pinned(bpf_dir: &Path) -> bool {
        Pins::under(bpf_dir).is_ok_and(|pins| pins.exist())
    }

    /// Program and device of every link that is pinned under `bpf_dir`; none where nothing can be read.
    #[must_use]
    pub fn pinned_devices(bpf_dir: &Path) -> Vec<(&'static str, String)> {
        let links = Pins::under(bpf_dir).and_then(|pins| pins.links()).unwrap_or_default();
        let named = links.into_iter().filter_map(|link| Some((link.role.program(), device::name(link.ifindex)?)));
        named.collect()
    }

    /// Detaches every program and removes every pin under `bpf_dir`, of this and other schemas. The kernel lets go of a
    /// link a moment after its pin is gone.
    ///
    /// # Errors
    /// When a pin cannot be removed; those before it are gone.
    pub fn teardown(bpf_dir: &Path) -> Result<(), DatapathError> {
        pins::remove_all(bpf_dir, false)?;
        if !features::tcx() {
            device::names().iter().for_each(|device| attach::detach_clsact(device));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
