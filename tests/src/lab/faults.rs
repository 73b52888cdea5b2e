//! What the underlay drops between two hosts, and hosts that are gone.
//!
//! A fault is a rule of nftables in the switch's namespace, between the ports of two hosts: their own programs, tables
//! and routes are as they were, as with a firewall on the way. All faults are one table, replaced as a whole, so no packet
//! ever meets half of a change.
//!
//! Bounds: one table, at most one rule set a direction of a pair and kind of traffic.
//! Does not: delay, lose at random, or answer for what it drops.

use std::{collections::BTreeSet, fmt::Write as _, fs};

use anyhow::{Context as _, Result, ensure};

use super::{Lab, cmd::run, wire};

/// The table, in the switch's namespace.
const TABLE: &str = "bridge lab_faults";
/// The control port.
const CONTROL: &str = "6783";
/// Ports on which packets and probes travel.
const DATA: &str = "{ 6783, 6784 }";

/// What a fault drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Traffic {
    /// UDP from or to the ports of the data plane.
    Data,
    /// TCP from or to the control port.
    Control,
    /// Everything, ARP included: there is no wire.
    All,
    /// IPv4 packets of more than this many bytes, without a word. Super-packets count as long as they are: see
    /// [`Lab::plain_cards`].
    Longer(u16),
}

/// Packets that go from one host to another and are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fault {
    from: usize,
    to: usize,
    traffic: Traffic,
}

impl Fault {
    fn rules(self) -> Vec<String> {
        let between = format!("iifname {} oifname {}", ports(self.from), ports(self.to));
        let matches = match self.traffic {
            Traffic::All => vec![String::new()],
            Traffic::Data => vec![format!("udp dport {DATA}"), format!("udp sport {DATA}")],
            Traffic::Control => vec![format!("tcp dport {CONTROL}"), format!("tcp sport {CONTROL}")],
            Traffic::Longer(bytes) => vec![format!("ip length > {bytes}")],
        };
        matches.into_iter().map(|what| format!("{between} {what} counter drop")).collect()
    }
}

/// The switch's ports of a host, on both underlays.
fn ports(n: usize) -> String {
    format!("{{ \"{}\", \"{}\" }}", wire::port(n, 0), wire::port(n, 1))
}

/// The whole table; the first two lines make the third's addition a replacement.
fn table(faults: &BTreeSet<Fault>) -> String {
    let mut text = format!("add table {TABLE}\ndelete table {TABLE}\n");
    if faults.is_empty() {
        return text;
    }
    let rules: String = faults.iter().flat_map(|fault| fault.rules()).fold(String::new(), |mut all, rule| {
        // Writing to a text cannot fail.
        writeln!(all, "    {rule}").ok();
        all
    });
    writeln!(text, "table {TABLE} {{\n  chain forward {{\n    type filter hook forward priority 0; policy accept;")
        .ok();
    text + &rules + "  }\n}\n"
}

impl Lab {
    /// Drops this traffic between two hosts, both ways.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn block(&self, one: usize, other: usize, traffic: Traffic) -> Result<()> {
        self.change_faults(|all| {
            all.extend([(one, other), (other, one)].map(|(from, to)| Fault { from, to, traffic }));
        })
    }

    /// Drops this traffic from one host to another; the other direction is as it was.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn block_one_way(&self, from: usize, to: usize, traffic: Traffic) -> Result<()> {
        self.change_faults(|all| {
            all.insert(Fault { from, to, traffic });
        })
    }

    /// Ends every fault between two hosts, also that of a plan in which no wire joins them.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn unblock(&self, one: usize, other: usize) -> Result<()> {
        self.change_faults(|all| all.retain(|f| [(one, other), (other, one)].iter().all(|p| *p != (f.from, f.to))))
    }

    /// Cuts the underlay between the pairs that the plan has apart.
    pub(super) fn make_faults(&self) -> Result<()> {
        let apart = self.plan.apart.iter().flat_map(|(one, other)| [(*one, *other), (*other, *one)]);
        let faults: Vec<Fault> = apart.map(|(from, to)| Fault { from, to, traffic: Traffic::All }).collect();
        if faults.is_empty() { Ok(()) } else { self.change_faults(|all| all.extend(faults)) }
    }

    fn change_faults(&self, change: impl FnOnce(&mut BTreeSet<Fault>)) -> Result<()> {
        let mut faults = self.faults.lock().map_err(|e| anyhow::anyhow!("another test broke the faults: {e}"))?;
        let mut wanted = faults.clone();
        change(&mut wanted);
        let file = self.dir.join("faults.nft");
        fs::write(&file, table(&wanted)).context("write the faults")?;
        let switch = format!("--net=/run/netns/{}", self.switch_netns());
        run(&["nsenter", &switch, "nft", "-f", &file.to_string_lossy()])?;
        *faults = wanted;
        Ok(())
    }

    /// Packets that the faults dropped so far, since the last change of faults.
    ///
    /// # Errors
    /// When nft cannot say.
    pub fn blocked(&self) -> Result<u64> {
        let switch = format!("--net=/run/netns/{}", self.switch_netns());
        let text = run(&["nsenter", &switch, "nft", "list", "table", "bridge", "lab_faults"])?;
        let counts = text.split("counter packets ").skip(1);
        Ok(counts.filter_map(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).sum())
    }

    /// Pulls the wires of host `n` out of the switch, or plugs them in again. Nothing on the host is changed.
    ///
    /// # Errors
    /// When a command fails.
    pub fn set_wires(&self, n: usize, plugged: bool) -> Result<()> {
        let present = wire::ports(&self.switch_netns(), n)?;
        ensure!(!present.is_empty(), "host {n} has no wire");
        let to = if plugged { "up" } else { "down" };
        present.iter().try_for_each(|p| run(&["ip", "-n", &self.switch_netns(), "link", "set", p, to]).map(drop))
    }

    /// The whole host is gone for all others: its controller killed, its wires out.
    ///
    /// # Errors
    /// When a command fails.
    pub fn lose(&self, n: usize) -> Result<()> {
        self.set_wires(n, false)?;
        self.host(n).kill_all()
    }

    /// A host that was lost, or only its controller, is there again.
    ///
    /// # Errors
    /// When its controller refuses.
    pub fn restore(&self, n: usize) -> Result<()> {
        self.set_wires(n, true)?;
        if self.host(n).pid().is_err() { self.launch_planned(n) } else { Ok(()) }
    }

    /// Makes the devices of all hosts work as plain cards do: packets of MTU size with checksums leave them.
    ///
    /// # Errors
    /// When a command fails.
    pub fn plain_cards(&self) -> Result<()> {
        self.hosts().iter().try_for_each(|host| {
            let net = format!("--net=/run/netns/{}", host.netns());
            run(&["nsenter", &net, "ethtool", "-K", "eth0", "tx", "off", "tso", "off", "gro", "on"]).map(drop)
        })
    }
}
