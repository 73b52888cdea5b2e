//! The wires between hosts: bridges in the switch's namespace, a veth from there to each station of an underlay.
//!
//! A station is a host's device, or the outer device of the router before a host. Its hardware address follows from the
//! underlay and the host's number, and all stations of an underlay have permanent neighbour entries for each other: the
//! kernel has one neighbour table for all namespaces, of 1024 entries that are not permanent (`gc_thresh3`), which several
//! Labs at once would overflow. A device that goes down or loses its last address loses its entries, as any device does;
//! then ARP finds the others.
//!
//! Does not: attach anything to a device; what a controller does with one is its own business.

use std::{collections::BTreeMap, fmt::Write as _, fs};

use anyhow::{Context as _, Result};

use super::{Lab, cmd::run, underlay_on};

/// Stations by underlay and number of the host.
pub(super) type Stations = BTreeMap<(u8, usize), Station>;

/// Where the underlay address of a host is.
#[derive(Clone, Debug)]
pub(super) struct Station {
    pub(super) netns: String,
    pub(super) device: String,
}

/// Hardware address of the station of host `n` on underlay `k`.
#[must_use]
pub fn mac(k: u8, n: usize) -> String {
    format!("02:77:{k:02x}:00:00:{n:02x}")
}

/// Adds underlay `k`, a bridge.
pub(super) fn add_bridge(switch: &str, k: u8, mtu: u32) -> Result<()> {
    let bridge = format!("br{k}");
    run(&["ip", "-n", switch, "link", "add", &bridge, "mtu", &mtu.to_string(), "type", "bridge"])?;
    run(&["ip", "-n", switch, "link", "set", &bridge, "up"])?;
    Ok(())
}

impl Lab {
    /// Joins the switch's port of host `n` on underlay `k` to a new device, with the host's underlay address.
    pub(super) fn plug_station(&self, k: u8, n: usize, station: &Station, mtu: u32) -> Result<()> {
        let (switch, port, bridge, mtu) = (self.switch_netns(), port(n, k), format!("br{k}"), mtu.to_string());
        let (device, netns) = (&station.device, &station.netns);
        run(&[
            "ip",
            "-n",
            &switch,
            "link",
            "add",
            &port,
            "mtu",
            &mtu,
            "type",
            "veth",
            "peer",
            "name",
            device,
            "address",
            &mac(k, n),
            "mtu",
            &mtu,
            "netns",
            netns,
        ])?;
        run(&["ip", "-n", &switch, "link", "set", &port, "master", &bridge, "up"])?;
        run(&["ip", "-n", netns, "addr", "add", &format!("{}/24", underlay_on(k, n)), "dev", device])?;
        run(&["ip", "-n", netns, "link", "set", device, "up"])?;
        self.stations().insert((k, n), station.clone());
        Ok(())
    }

    /// Removes the station of host `n` on underlay `k`.
    pub(super) fn unplug_station(&self, k: u8, n: usize) -> Result<()> {
        run(&["ip", "-n", &self.switch_netns(), "link", "del", &port(n, k)])?;
        self.stations().remove(&(k, n));
        Ok(())
    }

    /// Gives these stations entries for all others of their underlay, and the others entries for these.
    pub(super) fn introduce(&self, k: u8, fresh: &[usize]) -> Result<()> {
        let all: Vec<(usize, Station)> =
            self.stations().iter().filter(|((on, _), _)| *on == k).map(|((_, n), s)| (*n, s.clone())).collect();
        for (here, Station { netns, device }) in &all {
            let known = all.iter().map(|(n, _)| *n).filter(|n| n != here);
            let wanted = known.filter(|n| fresh.contains(here) || fresh.contains(n));
            let entries = wanted.map(|n| (underlay_on(k, n).to_string(), mac(k, n)));
            self.add_neighbours(netns, device, entries)?;
        }
        Ok(())
    }

    /// Gives a device permanent neighbour entries: addresses, and hardware addresses.
    pub(super) fn add_neighbours(
        &self,
        netns: &str,
        device: &str,
        entries: impl Iterator<Item = (String, String)>,
    ) -> Result<()> {
        let batch = entries.fold(String::new(), |mut batch, (address, mac)| {
            // Writing to a text cannot fail.
            writeln!(batch, "neigh replace {address} lladdr {mac} dev {device} nud permanent").ok();
            batch
        });
        if batch.is_empty() {
            return Ok(());
        }
        let file = self.dir.join(format!("{netns}-{device}.neighbours"));
        fs::write(&file, batch).context("write a file")?;
        run(&["ip", "-n", netns, "-batch", &file.to_string_lossy()]).map(drop)
    }
}

/// Name of the switch's port of host `n` on underlay `k`.
pub(super) fn port(n: usize, k: u8) -> String {
    format!("p{k}-{n}")
}

/// The switch's ports of host `n` that exist.
pub(super) fn ports(switch: &str, n: usize) -> Result<Vec<String>> {
    let shown = run(&["ip", "-n", switch, "-o", "link"])?;
    // "3: p0-1@if2: <BROADCAST,...>"
    let names = shown.lines().filter_map(|l| l.split_whitespace().nth(1)?.split(['@', ':']).next());
    let wanted = [0, 1].map(|k| port(n, k));
    Ok(names.filter(|name| wanted.iter().any(|w| w == name)).map(str::to_owned).collect())
}
