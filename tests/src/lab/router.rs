//! A router between one host and the others: with its own, smaller, MTU, with address translation, or with a stateful
//! filter.
//!
//! ```text
//!   hN  eth0 172.31.N.2/24 --- 172.31.N.1 rN 192.168.77.N --- switch
//! ```
//! The router has the host's address on the underlay. Without translation the other hosts get a route through it to the
//! host's own address, [`inner`]; with it they only ever see the router's.
//!
//! Does not: forward ports.

use std::{fs, net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, Result};

use super::{
    Lab,
    cmd::run,
    traffic::within,
    underlay,
    wire::{Station, mac},
};

/// Replaces the address of the host inside by the router's.
const MASQUERADE: &str = "type nat hook postrouting priority 100; policy accept;\noifname \"outside\" masquerade";
/// Forwards what begins inside, and the answers to it.
const ANSWERS_ONLY: &str = "type filter hook forward priority 0; policy drop;
iifname \"inside\" accept\nct state established,related accept";

/// In the place of an underlay's number, in hardware addresses of the wire between a router and its host: the router's
/// end, and the host's.
const INSIDE: [u8; 2] = [0xa0, 0xa1];

/// Kinds of what a NAT router remembers of UDP: of one direction, and of both (`nf_conntrack_udp_timeout*`).
const MEMORIES: [&str; 2] = ["nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"];

/// What is between a host and the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Router {
    /// Packets of more than this many bytes are sent back with "fragmentation needed", whichever way they go.
    Mtu(u16),
    /// Connections begin inside only, and leave with the router's address.
    Nat,
    /// Connections begin inside only; addresses are as they are.
    Stateful,
}

/// The address of host `n` behind its router.
#[must_use]
pub fn inner(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(172, 31, u8::try_from(n).unwrap_or(u8::MAX), 2)
}

impl Lab {
    /// Moves host `n` behind a router, which has its hardware address on the underlay from then on.
    ///
    /// # Errors
    /// When a command fails.
    pub fn put_behind(&self, n: usize, router: Router) -> Result<()> {
        let (host, mtu) = (self.host(n), self.plan.mtu);
        let netns = format!("{}-r{n}", self.plan.prefix);
        let [a, b, c, d] = inner(n).octets();
        let (near, subnet, address) =
            (Ipv4Addr::new(a, b, c, d - 1).to_string(), format!("{a}.{b}.{c}.0/24"), inner(n).to_string());
        let known = run(&["ip", "-n", host.netns(), "route", "show"])?;
        self.unplug_station(0, n)?;
        run(&["ip", "netns", "add", &netns])?;
        run(&["ip", "-n", &netns, "link", "set", "lo", "up"])?;
        self.plug_station(0, n, &Station { netns: netns.clone(), device: "outside".to_owned() }, mtu)?;
        self.introduce(0, &[n])?;
        // The router takes over the routes through other routers that the host had.
        for route in known.lines().filter(|route| route.contains(" via 192.168.77.")) {
            let words: Vec<&str> = route.split_whitespace().take(3).collect();
            run(&[&["ip", "-n", &netns, "route", "add"], &words[..]].concat())?;
        }
        let veth = ["type", "veth", "peer", "name", "eth0", "netns", host.netns()];
        run(&[&["ip", "-n", &netns, "link", "add", "inside"], &veth[..]].concat())?;
        let ends = [(netns.as_str(), "inside", &near), (host.netns(), "eth0", &address)];
        for ((netns, device, address), k) in ends.into_iter().zip(INSIDE) {
            run(&["ip", "-n", netns, "addr", "add", &format!("{address}/24"), "dev", device])?;
            let settings = ["address", &mac(k, n), "mtu", &mtu.to_string(), "up"];
            run(&[&["ip", "-n", netns, "link", "set", device], &settings[..]].concat())?;
        }
        for ((netns, device, _), (k, other)) in ends.into_iter().zip([(INSIDE[1], &address), (INSIDE[0], &near)]) {
            self.add_neighbours(netns, device, [(other.clone(), mac(k, n))].into_iter())?;
        }
        run(&["ip", "-n", host.netns(), "route", "add", "default", "via", &near])?;
        within(&netns, || fs::write("/proc/sys/net/ipv4/ip_forward", "1")).context("let the router forward")?;
        match router {
            Router::Nat => self.set_chain(&netns, MASQUERADE),
            Router::Stateful => {
                self.set_chain(&netns, ANSWERS_ONLY)?;
                self.route_through(n, &subnet)
            }
            Router::Mtu(mtu) => {
                let mtu = mtu.to_string();
                for (route, device) in [(subnet.as_str(), "inside"), ("192.168.77.0/24", "outside")] {
                    run(&["ip", "-n", &netns, "route", "change", route, "dev", device, "mtu", &mtu])?;
                }
                self.route_through(n, &subnet)
            }
        }
    }

    /// Gives all that are on the underlay itself, hosts and routers, a route to what is behind the router of host `n`.
    fn route_through(&self, n: usize, subnet: &str) -> Result<()> {
        let (via, own) = (underlay(n).to_string(), format!("{}-r{n}", self.plan.prefix));
        let hosts = self.hosts().iter().map(|host| host.netns().to_owned());
        let all = hosts.chain(super::namespaces(&format!("{}-r", self.plan.prefix)));
        for netns in all.filter(|netns| *netns != own) {
            if run(&["ip", "-n", &netns, "-o", "-4", "addr", "show"])?.contains(" 192.168.77.") {
                run(&["ip", "-n", &netns, "route", "add", subnet, "via", &via])?;
            }
        }
        Ok(())
    }

    /// Sets for how long the router of host `n` remembers a NAT mapping that no packet uses; `None` is what Linux has.
    /// Mappings that exist follow with their next packet.
    ///
    /// # Errors
    /// When the host has no NAT router.
    pub fn set_mapping_timeout(&self, n: usize, time: Option<Duration>) -> Result<()> {
        let netns = format!("{}-r{n}", self.plan.prefix);
        for (file, usual) in MEMORIES.into_iter().zip([30, 120]) {
            let seconds = time.map_or(usual, |time| time.as_secs()).to_string();
            within(&netns, || fs::write(format!("/proc/sys/net/netfilter/{file}"), seconds))
                .with_context(|| format!("set {file} of the router"))?;
        }
        Ok(())
    }

    /// Puts one chain of nftables into a router.
    fn set_chain(&self, netns: &str, chain: &str) -> Result<()> {
        let file = self.dir.join("router.nft");
        fs::write(&file, format!("table ip lab_router {{\n  chain lab {{\n{chain}\n  }}\n}}\n"))
            .context("write a file")?;
        run(&["nsenter", &format!("--net=/run/netns/{netns}"), "nft", "-f", &file.to_string_lossy()]).map(drop)
    }
}
