//! Compares what the kernel holds of ours with what was put there, and puts back what others removed or changed: pins, the
//! entries of tables, and programs on devices.
//!
//! What should be in the tables is the outcome of all operations that were carried out ([`Datapath::apply`]). The tables are
//! read by [`Reader`], which may run in a thread of its own; each difference is looked at again when it is mended, for the
//! table may have been changed by us meanwhile. Bound: [`MENDS_MAX`] entries a call.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use aya::maps::MapData;

use super::{
    Datapath, DatapathError, Programs,
    attach::{self, Hook},
    device, link,
    maps::{self, SHAPES},
    object::{self, Role},
    pins::{LinkPin, Pins},
    tunnels::read_back,
};
use crate::proto::{
    datapath::Maps as Tables,
    io::{Egress, MapOp, TunnelTo},
};

/// Most entries that one call mends, so that the driver is never kept for long.
const MENDS_MAX: usize = 1024;

/// Reads the tables by their pins.
#[derive(Clone, Debug)]
pub struct Reader(Pins);

impl Reader {
    /// Their content, as the operations that would make it.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub fn read(&self) -> Result<Vec<MapOp>, DatapathError> {
        let tables = maps::Tables::open(&|name| self.0.map(name))?;
        let mut ops = tables.read_back()?;
        ops.extend(tables.tunnels()?.iter().map(|(peer, tunnel)| MapOp::PutTunnel(*peer, read_back(*peer, tunnel))));
        ops.extend(tables.senders()?.into_iter().map(|(addr, peer)| MapOp::PutSender(addr, peer)));
        Ok(ops)
    }
}

/// The kernel does not tell the MTU of a tunnel's route.
fn as_read(op: MapOp) -> MapOp {
    match op {
        MapOp::PutTunnel(peer, tunnel) => {
            let egress = Egress { mtu: tunnel.path_mtu, ..tunnel.egress };
            MapOp::PutTunnel(peer, TunnelTo { egress, ..tunnel })
        }
        op => op,
    }
}

fn entries(tables: &Tables) -> impl Iterator<Item = MapOp> {
    let endpoints = tables.endpoints.iter().map(|(addr, to)| MapOp::PutEndpoint(*addr, *to));
    let routes = tables.routes.iter().map(|(net, to)| MapOp::PutRoute(*net, *to));
    let tunnels = tables.tunnels.iter().map(|(peer, tunnel)| MapOp::PutTunnel(*peer, *tunnel));
    let senders = tables.senders.iter().map(|(addr, peer)| MapOp::PutSender(*addr, *peer));
    endpoints.chain(routes).chain(tunnels).chain(senders)
}

/// The operation that takes away what `op` made.
fn removal(op: &MapOp) -> MapOp {
    match op {
        MapOp::PutEndpoint(addr, ..) | MapOp::DelEndpoint(addr) => MapOp::DelEndpoint(*addr),
        MapOp::PutRoute(net, _) | MapOp::DelRoute(net) => MapOp::DelRoute(*net),
        MapOp::PutTunnel(peer, _) | MapOp::DelTunnel(peer) => MapOp::DelTunnel(*peer),
        MapOp::PutSender(addr, _) | MapOp::DelSender(addr) => MapOp::DelSender(*addr),
        MapOp::PutName(name, _) | MapOp::DelName(name) => MapOp::DelName(name.clone()),
    }
}

impl Datapath {
    /// What reads the tables elsewhere.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader(self.pins.clone())
    }

    /// Pins maps again whose pins are gone: a relaunch would not find them. Returns how many those were.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn keep_pins(&mut self) -> Result<usize, DatapathError> {
        self.pins.create()?;
        let mut pinned = 0;
        for (name, map) in &self.held {
            let path = self.pins.map(name);
            if !path.exists() {
                map.pin(&path).map_err(|error| self.pins.failed("make", &path, error))?;
                pinned += 1;
            }
        }
        Ok(pinned)
    }

    /// Writes configuration and key of probes again where they differ; false when they did not.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn keep_config(&mut self) -> Result<bool, DatapathError> {
        let (config, keys) = (self.maps.config()? != self.config, self.maps.keys()? != self.keys);
        if config {
            self.maps.set_config(self.config)?;
        }
        if keys {
            self.maps.set_keys(self.keys)?;
        }
        Ok(config || keys)
    }

    /// Mends the tables where `found`, which a [`Reader`] read, differs from what was put there. Returns how many entries
    /// were mended.
    ///
    /// # Errors
    /// When the kernel refuses; entries before that one are mended.
    pub fn keep_tables(&mut self, found: Vec<MapOp>) -> Result<usize, DatapathError> {
        let found: BTreeSet<MapOp> = found.into_iter().map(as_read).collect();
        let wanted: BTreeSet<MapOp> = entries(&self.tables).map(as_read).collect();
        let wrong: BTreeSet<MapOp> = found.symmetric_difference(&wanted).map(removal).collect();
        let mut mended = 0;
        for key in wrong.iter().take(MENDS_MAX) {
            mended += usize::from(self.keep_entry(key)?);
        }
        Ok(mended)
    }

    /// Makes the entry that `key` would remove be as it should; false when it is.
    fn keep_entry(&mut self, key: &MapOp) -> Result<bool, DatapathError> {
        let wanted = match *key {
            MapOp::DelEndpoint(addr) => self.tables.endpoints.get(&addr).map(|to| MapOp::PutEndpoint(addr, *to)),
            MapOp::DelRoute(net) => self.tables.routes.get(&net).map(|to| MapOp::PutRoute(net, *to)),
            MapOp::DelTunnel(peer) => self.tables.tunnels.get(&peer).map(|tunnel| MapOp::PutTunnel(peer, *tunnel)),
            MapOp::DelSender(addr) => self.tables.senders.get(&addr).map(|peer| MapOp::PutSender(addr, *peer)),
            _ => None,
        };
        if self.maps.tables.entry(key)?.map(as_read) == wanted.clone().map(as_read) {
            return Ok(false);
        }
        self.apply(wanted.as_ref().unwrap_or(key))?;
        Ok(true)
    }

    /// Makes this host's addresses be in their table; false when they were.
    ///
    /// # Errors
    /// As [`Self::set_locals`].
    pub fn keep_locals(&mut self, addrs: &BTreeMap<Ipv4Addr, u32>) -> Result<bool, DatapathError> {
        let right = self.maps.locals()? == *addrs;
        if !right {
            self.locals = None;
            self.set_locals(addrs)?;
        }
        Ok(!right)
    }
}

impl Programs {
    /// Attaches the container's program again where it is not on its device; false when it was.
    ///
    /// # Errors
    /// As [`Self::attach_container`].
    pub fn keep_container(&mut self, ifindex: u32) -> Result<bool, DatapathError> {
        self.keep(LinkPin { role: Role::Container, ifindex })
    }

    /// The same of the program of an underlay device.
    ///
    /// # Errors
    /// As [`Self::attach_container`].
    pub fn keep_underlay(&mut self, ifindex: u32) -> Result<bool, DatapathError> {
        self.keep(LinkPin { role: Role::Underlay, ifindex })
    }

    /// The same of both programs of the VXLAN socket device.
    ///
    /// # Errors
    /// As [`Self::attach_container`].
    pub fn keep_socket_device(&mut self, ifindex: u32) -> Result<bool, DatapathError> {
        let both = [Role::Socket, Role::Prober].map(|role| self.keep(LinkPin { role, ifindex }));
        let [socket, prober] = both;
        Ok(socket? | prober?)
    }

    fn keep(&mut self, pin: LinkPin) -> Result<bool, DatapathError> {
        if self.former.as_ref().is_some_and(|former| former.has(pin)) {
            return Ok(false);
        }
        let program = object::program(&mut self.ebpf, pin.role.program())?;
        let right = match self.hook {
            Hook::Tcx => {
                let place = link::place(&self.pins.link(pin)).ok().flatten();
                let own = program.info().ok().map(|info| info.id());
                place.is_some_and(|place| place.ifindex == pin.ifindex && Some(place.program) == own)
            }
            // In place: a filter that is there gets the same program once more.
            Hook::Clsact => device::name(pin.ifindex)
                .is_some_and(|name| attach::replace_clsact(program, pin.role, &name).unwrap_or(false)),
        };
        if !right {
            self.attach(pin)?;
        }
        Ok(!right)
    }
}

/// All maps by their pins, to pin them again.
pub(super) fn hold(pins: &Pins) -> Result<Vec<(&'static str, MapData)>, DatapathError> {
    let open = |name| {
        MapData::from_pin(pins.map(name)).map_err(|source| DatapathError::Map { map: name, source: source.into() })
    };
    SHAPES.iter().map(|shape| Ok((shape.name, open(shape.name)?))).collect()
}

#[cfg(test)]
mod tests;
