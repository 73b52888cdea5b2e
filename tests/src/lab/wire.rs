//! The wires between hosts: bridges in the switch's namespace, a veth from there to each host.
//!
//! Does not: attach anything to a device; what a controller does with one is its own business.

use anyhow::Result;

use super::{Host, cmd::run, underlay_on};

/// Adds underlay `k`, a bridge.
pub(super) fn add_bridge(switch: &str, k: u8, mtu: u32) -> Result<()> {
    let bridge = format!("br{k}");
    run(&["ip", "-n", switch, "link", "add", &bridge, "mtu", &mtu.to_string(), "type", "bridge"])?;
    run(&["ip", "-n", switch, "link", "set", &bridge, "up"])?;
    Ok(())
}

/// Gives `host` its device on underlay `k`.
pub(super) fn plug(switch: &str, host: &Host, k: u8, mtu: u32) -> Result<()> {
    let address = format!("{}/24", underlay_on(k, host.number()));
    plug_into(switch, k, host.number(), host.netns(), &format!("eth{k}"), &address, mtu)
}

/// Joins the switch's port of host `n` on underlay `k` to a new device of a namespace.
pub(super) fn plug_into(
    switch: &str,
    k: u8,
    n: usize,
    netns: &str,
    device: &str,
    address: &str,
    mtu: u32,
) -> Result<()> {
    let (port, bridge, mtu) = (port(n, k), format!("br{k}"), mtu.to_string());
    run(&[
        "ip", "-n", switch, "link", "add", &port, "mtu", &mtu, "type", "veth", "peer", "name", device, "mtu", &mtu,
        "netns", netns,
    ])?;
    run(&["ip", "-n", switch, "link", "set", &port, "master", &bridge, "up"])?;
    run(&["ip", "-n", netns, "addr", "add", address, "dev", device])?;
    run(&["ip", "-n", netns, "link", "set", device, "up"])?;
    Ok(())
}

/// Removes the device of `host` on underlay `k`.
pub(super) fn unplug(switch: &str, host: &Host, k: u8) -> Result<()> {
    run(&["ip", "-n", switch, "link", "del", &port(host.number(), k)]).map(drop)
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
