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
mod programs;
mod tunnels;
mod worker;
mod xdp;

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
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
    maps::{Devices, Maps},
    object::Loader,
    pins::{LinkPin, Pins, XdpPin},
    programs::Filters,
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
    worker::{Ended, Worker},
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
    maps: Maps,
    pins: Pins,
    hook: Hook,
    /// All maps, to pin them again.
    held: Vec<(&'static str, MapData)>,
    config: Config,
    keys: ProbeKeys,
    /// What was put into the tables.
    tables: Tables,
    /// The same of the table of this host's addresses; `None` when what is in it has to be read.
    locals: Option<BTreeMap<Ipv4Addr, u32>>,
    tunnels: Tunnels,
    traffic: Traffic,
    programs: Arc<Mutex<Programs>>,
    /// Those that are loaded.
    loaded: Vec<ProgramFacts>,
    filters: Filters,
}

/// The programs and the devices that they are attached to. What is done with them may wait for the kernel's network lock.
pub struct Programs {
    ebpf: Ebpf,
    pins: Pins,
    hook: Hook,
    /// Devices with XDP.
    devices: Devices,
    xdp: Xdp,
    filters: Filters,
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
        let (tunnels, traffic, filters) = (Tunnels::default(), Traffic::default(), Filters::default());
        let (held, keys, tables) = (keep::hold(&pins)?, maps.keys()?, Tables::default());
        let (former, devices) = (Former::find(bpf_dir)?, Devices::take(&mut ebpf)?);
        let loaded = programs::loaded(&ebpf);
        let (kept, pins) = (Arc::clone(&filters), pins.clone());
        let programs = Programs { ebpf, pins: pins.clone(), hook, devices, xdp, filters: kept, former };
        let programs = Arc::new(Mutex::new(programs));
        let locals = None;
        let mut datapath =
            Self { maps, pins, hook, held, config, keys, tables, locals, tunnels, traffic, programs, loaded, filters };
        let found = datapath.maps.config()?;
        if found != config {
            datapath.maps.set_config(config)?;
        }
        let maps = datapath.adopt()?;
        maps.iter().for_each(|op| datapath.tables.apply(op));
        let existing = Existing { adopted: found.schema == SCHEMA && !maps.is_empty(), maps };
        datapath.programs().replace_attached()?;
        datapath.programs().replace_xdp()?;
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

    /// Gives a name of containers these addresses; with none it is no name any more. What the programs cannot hold is answered
    /// by the resolver.
    ///
    /// # Errors
    /// When the kernel refuses; its table is as it was.
    pub fn put_name(&mut self, name: &str, addrs: &[Ipv4Addr]) -> Result<(), DatapathError> {
        self.maps.put_name(name, addrs)
    }

    /// The names that the programs know, and their addresses.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn names(&self) -> Result<Vec<(String, Vec<Ipv4Addr>)>, DatapathError> {
        self.maps.names()
    }

    /// Carries out one change; names are for [`Self::put_name`].
    ///
    /// # Errors
    /// When the kernel refuses; its table is as it was.
    pub fn apply(&mut self, op: &MapOp) -> Result<(), DatapathError> {
        self.write(op)?;
        self.tables.apply(op);
        Ok(())
    }

    fn write(&mut self, op: &MapOp) -> Result<(), DatapathError> {
        match op {
            MapOp::PutEndpoint(addr, to) => self.maps.tables.put_endpoint(*addr, *to),
            MapOp::DelEndpoint(addr) => self.maps.tables.del_endpoint(*addr),
            MapOp::PutRoute(net, to) => self.maps.tables.put_route(*net, *to),
            MapOp::DelRoute(net) => self.maps.tables.del_route(*net),
            MapOp::PutTunnel(peer, tunnel) => self.put_tunnel(*peer, tunnel),
            MapOp::DelTunnel(peer) => self.del_tunnel(*peer),
            MapOp::PutSender(addr, peer) => self.maps.tables.put_sender(*addr, *peer),
            MapOp::DelSender(addr) => self.maps.tables.del_sender(*addr),
            // Their text has the domain, which is not known here.
            MapOp::PutName(..) | MapOp::DelName(_) => Ok(()),
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
        let mut programs = self.programs();
        Ok(Rings {
            replies: maps::take(&mut programs.ebpf, map::REPLIES)?,
            contacts: maps::take(&mut programs.ebpf, map::CONTACTS)?,
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
        let before = self.locals.take().map_or_else(|| self.maps.locals(), Ok)?;
        self.maps.set_locals(&before, addrs)?;
        self.locals = Some(addrs.clone());
        Ok(())
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

    /// The programs and where they are attached. Waits while [`Worker`] does something with them.
    pub fn programs(&self) -> MutexGuard<'_, Programs> {
        programs::lock(&self.programs)
    }

    /// A thread that works with the programs, so that nobody else waits for the kernel's lock.
    #[must_use]
    pub fn worker(&self) -> Worker {
        Worker::start(Arc::clone(&self.programs))
    }

    /// What the kernel holds and has counted. Never waits for the kernel's lock.
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
            programs: self.loaded.clone(),
            links: [self.attachments()?, self.xdp_attachments()?].concat(),
        })
    }

    /// By pins and filters: what others detached is found by [`Programs::keep_container`] and its like.
    fn attachments(&self) -> Result<Vec<Attachment>, DatapathError> {
        let attachment = |pin: LinkPin| {
            let (program, device) = (pin.role.program(), device::shown(pin.ifindex));
            Attachment { program, device, mode: None }
        };
        let mut links: Vec<_> = match self.hook {
            Hook::Clsact => programs::lock(&self.filters).iter().copied().map(attachment).collect(),
            Hook::Tcx => self.pins.links()?.into_iter().map(attachment).collect(),
        };
        links.sort_by(|a, b| (a.program, &a.device).cmp(&(b.program, &b.device)));
        Ok(links)
    }

    fn xdp_attachments(&self) -> Result<Vec<Attachment>, DatapathError> {
        let attachment = |pin: XdpPin| {
            let (device, mode) = (device::shown(pin.ifindex), Some(pin.mode.as_str()));
            Attachment { program: map::PROG_XDP, device, mode }
        };
        Ok(self.pins.xdp_links()?.into_iter().map(attachment).collect())
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
