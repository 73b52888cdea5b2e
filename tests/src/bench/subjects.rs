//! What is compared: three ways between two hosts of the same shape.
//!
//! Labs stand side by side. In one, hosts have controllers, and in another those of an older build, if there is one to
//! compare with; the last has none, and carries the bare underlay and the kernel's own overlay, so that neither pays for
//! programs that it does not need.

use std::{fs, net::Ipv4Addr, path::Path, time::Duration};

use anyhow::{Result, anyhow, ensure};
use weave_ctl::shell::netns::in_netns;

use crate::lab::{
    Lab, Plan,
    cmd::run,
    eventually,
    host::{Host, ping},
    underlay,
};

/// Start of the names in the Lab with controllers.
const WEAVE: &str = "weave-bench";
/// Start of the names in the Lab with those of another build.
const OTHER: &str = "weave-other";
/// Start of the names in the Lab without.
const BARE: &str = "weave-bare";
/// Column of the controller that is measured.
pub const CONTROLLER: &str = "weave-ctl";
/// Column of the one that it is compared with.
pub const AGAINST: &str = "against";
/// Containers of each host.
const CONTAINERS: usize = 2;
/// The kernel's VXLAN: its number, its port as registered, and its MTU on an underlay of 1500 bytes.
const VXLAN: [&str; 3] = ["42", "4789", "1450"];
/// Sends bridged packets through the host's firewall, where its module is loaded.
const BRIDGE_FIREWALL: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";
/// Longest wait for links, and for the first packet to get through.
const READY: Duration = Duration::from_secs(15);

/// One way from a namespace to another.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Its column in the table.
    pub name: &'static str,
    /// Namespace that sends and asks.
    pub from: String,
    /// Namespace that receives and answers.
    pub to: String,
    /// Address of the latter.
    pub address: Ipv4Addr,
    /// The hosts of both, where controllers run.
    pub hosts: Option<(Host, Host)>,
}

/// What packets look like on the underlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Underlay {
    /// Super-packets stay whole from end to end.
    Veth,
    /// Frames of MTU size, made by the sender and merged by the receiver, as on a network card without offloads.
    Wire,
}

impl Underlay {
    /// In the order measured.
    pub const ALL: [Self; 2] = [Self::Veth, Self::Wire];

    /// In the table's head.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Veth => "underlay: plain veth (super-packets stay whole)",
            Self::Wire => "underlay: wire-like (tx off, gro on: frames of MTU size, merged by the receiver)",
        }
    }

    /// In JSON.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Veth => "veth",
            Self::Wire => "wire_like",
        }
    }

    /// What `ethtool -K` is told.
    const fn offloads(self) -> [&'static str; 4] {
        match self {
            Self::Veth => ["tx", "on", "gro", "off"],
            Self::Wire => ["tx", "off", "gro", "on"],
        }
    }
}

/// The Labs and the ways through them; removed when dropped.
pub struct Subjects {
    labs: Vec<Lab>,
    all: Vec<Subject>,
}

impl Subjects {
    /// Makes the Labs, launches the controllers, of `against` too if there is one, and checks that every subject carries a
    /// packet.
    ///
    /// # Errors
    /// As the steps.
    pub fn new(binary: &Path, against: Option<&Path>) -> Result<Self> {
        let bare = cabled(BARE, binary)?;
        for host in bare.hosts() {
            bridge(host)?;
        }
        let (one, two) = (bare.host(1), bare.host(2));
        let subject = |name, from: &str, to: &str, address| Subject {
            name,
            from: from.into(),
            to: to.into(),
            address,
            hosts: None,
        };
        let mut all = vec![
            subject("bare underlay", one.netns(), two.netns(), underlay(2)),
            subject("VXLAN + bridge", &one.container(1), &two.container(1), on_vxlan(2, 1)),
        ];
        let mut labs = Vec::new();
        let builds = [(CONTROLLER, WEAVE, Some(binary)), (AGAINST, OTHER, against)];
        for (name, prefix, binary) in builds.into_iter().filter_map(|(n, p, binary)| Some((n, p, binary?))) {
            let (lab, subject) = launched(name, prefix, binary)?;
            labs.push(lab);
            all.push(subject);
        }
        labs.push(bare);
        for Subject { name, from, to, address, .. } in &all {
            let through = eventually(READY, || ping(from, *address, 1));
            ensure!(through, "nothing gets through from {from} to {to} ({address}) by {name}");
        }
        Ok(Self { labs, all })
    }

    /// The ways to compare; the first is what the others are measured by.
    #[must_use]
    pub fn all(&self) -> &[Subject] {
        &self.all
    }

    /// Sets every host's underlay device.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set(&self, underlay: Underlay) -> Result<()> {
        for host in self.labs.iter().flat_map(Lab::hosts) {
            let net = format!("--net=/run/netns/{}", host.netns());
            run(&[&["nsenter", &net, "ethtool", "-K", "eth0"], &underlay.offloads()[..]].concat())?;
        }
        Ok(())
    }
}

/// Two hosts with controllers of `binary`, and the subject `name` between their containers.
fn launched(name: &'static str, prefix: &str, binary: &Path) -> Result<(Lab, Subject)> {
    let lab = cabled(prefix, binary)?;
    lab.launch_all()?;
    lab.wait_established(READY)?;
    for host in lab.hosts() {
        host.attach(&host.container(1))?;
    }
    let (one, two) = (lab.host(1), lab.host(2));
    let (from, to) = (one.container(1), two.container(1));
    let address = two.address(&to)?;
    let hosts = Some((one.clone(), two.clone()));
    Ok((lab, Subject { name, from, to, address, hosts }))
}

/// Two hosts with a cable between them in place of the Lab's switch, whose cost would be in every figure.
fn cabled(prefix: &str, binary: &Path) -> Result<Lab> {
    let lab = Lab::new(Plan { containers: CONTAINERS, ..Plan::new(prefix, 2, binary) })?;
    let (one, two) = (lab.host(1).netns(), lab.host(2).netns());
    for netns in [one, two] {
        run(&["ip", "-n", netns, "link", "del", "eth0"])?;
    }
    run(&["ip", "link", "add", "eth0", "netns", one, "type", "veth", "peer", "name", "eth0", "netns", two])?;
    for host in lab.hosts() {
        let address = format!("{}/24", underlay(host.number()));
        run(&["ip", "-n", host.netns(), "addr", "add", &address, "dev", "eth0"])?;
        run(&["ip", "-n", host.netns(), "link", "set", "eth0", "up"])?;
        // As every host of a container engine: what a packet costs depends on it.
        forward(host.netns())?;
    }
    Ok(lab)
}

/// Makes a host forward packets.
fn forward(netns: &str) -> Result<()> {
    let write = || fs::write("/proc/sys/net/ipv4/ip_forward", "1");
    Ok(in_netns(format!("/run/netns/{netns}"), write).map_err(|e| anyhow!("{e}"))??)
}

fn on_vxlan(host: usize, container: usize) -> Ipv4Addr {
    let octet = |n| u8::try_from(n).unwrap_or(u8::MAX);
    Ipv4Addr::new(10, 99, octet(host), octet(container))
}

/// The kernel's own overlay on one of two hosts, at its best: a VXLAN device and the containers' veths on one bridge,
/// without a firewall on it.
fn bridge(host: &Host) -> Result<()> {
    let (n, netns, [vni, port, mtu]) = (host.number(), host.netns(), VXLAN);
    let (local, remote) = (underlay(n).to_string(), underlay(3 - n).to_string());
    let link = |args: &[&str]| run(&[&["ip", "-n", netns, "link"], args].concat());
    in_netns(format!("/run/netns/{netns}"), || fs::write(BRIDGE_FIREWALL, "0").ok()).map_err(|e| anyhow!("{e}"))?;
    link(&["add", "vmbr", "mtu", mtu, "type", "bridge"])?;
    // As the overlay beside it: no outer checksum, which RFC 7348 recommends.
    link(&[
        "add",
        "vx0",
        "mtu",
        mtu,
        "type",
        "vxlan",
        "id",
        vni,
        "dstport",
        port,
        "local",
        &local,
        "remote",
        &remote,
        "dev",
        "eth0",
        "noudpcsum",
    ])?;
    for c in 1..=CONTAINERS {
        let (container, end) = (host.container(c), format!("vb{c}"));
        link(&["add", &end, "mtu", mtu, "type", "veth", "peer", "name", "eth0", "mtu", mtu, "netns", &container])?;
        link(&["set", &end, "master", "vmbr", "up"])?;
        let address = format!("{}/16", on_vxlan(n, c));
        run(&["ip", "-n", &container, "addr", "add", &address, "dev", "eth0"])?;
        run(&["ip", "-n", &container, "link", "set", "eth0", "up"])?;
    }
    link(&["set", "vx0", "master", "vmbr", "up"])?;
    link(&["set", "vmbr", "up"])?;
    Ok(())
}
