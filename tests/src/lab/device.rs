//! Devices of hosts: such as have nothing to do with the network, and the MTU of those that it uses.
//!
//! Does not: make underlays: that is [`super::wire`].

use std::{
    fs::{File, OpenOptions},
    os::fd::AsRawFd as _,
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Host, Lab, cmd::run, traffic::within, wire};

/// Name of an unrelated device.
const NAME: &str = "vpn0";

/// Kinds of devices that come up on hosts for purposes of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A VPN's: without Ethernet header, held open by a process (here the test).
    Tun,
    /// A container engine's: a bridge without ports.
    Bridge,
    /// A virtual machine's: a pair whose other end is up, so that it has a carrier.
    Veth,
}

/// An unrelated device of a host; gone when dropped.
#[derive(Debug)]
pub struct Unrelated {
    netns: String,
    /// The process's end of a tun device: reads and writes whole IP packets.
    pub end: Option<File>,
}

impl Host {
    /// A device that leads to no peer comes up, with an address of its own.
    ///
    /// # Errors
    /// When a command fails.
    pub fn add_unrelated(&self, kind: Kind, mtu: u32) -> Result<Unrelated> {
        let end = match kind {
            Kind::Tun => Some(within(self.netns(), open_tun)?),
            Kind::Bridge => {
                run(&["ip", "-n", self.netns(), "link", "add", NAME, "type", "bridge"])?;
                None
            }
            Kind::Veth => {
                let peer = format!("{NAME}-peer");
                run(&["ip", "-n", self.netns(), "link", "add", NAME, "type", "veth", "peer", "name", &peer])?;
                run(&["ip", "-n", self.netns(), "link", "set", &peer, "up"])?;
                None
            }
        };
        let device = Unrelated { netns: self.netns().to_owned(), end };
        run(&["ip", "-n", self.netns(), "addr", "add", "100.64.0.1/32", "dev", NAME])?;
        run(&["ip", "-n", self.netns(), "link", "set", NAME, "mtu", &mtu.to_string(), "up"])?;
        Ok(device)
    }
}

impl Drop for Unrelated {
    fn drop(&mut self) {
        // It may have gone with its namespace.
        run(&["ip", "-n", &self.netns, "link", "del", NAME]).ok();
    }
}

/// Makes the tun device [`NAME`] in the present namespace; it lives as long as the file is open.
fn open_tun() -> std::io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    // `struct ifreq`: 16 bytes of name, then the flags, padded to 40 bytes.
    let mut request = [0_u8; 40];
    request[..NAME.len()].copy_from_slice(NAME.as_bytes());
    let flags = libc::IFF_TUN | libc::IFF_NO_PI;
    request[16..20].copy_from_slice(&flags.to_ne_bytes());
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, 40 bytes, and `request` has them; the file is open.
    let made = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, request.as_mut_ptr()) };
    if made == 0 { Ok(file) } else { Err(std::io::Error::last_os_error()) }
}

/// The MTU in bytes of a device.
///
/// # Errors
/// When there is no such device.
pub fn mtu_of(netns: &str, device: &str) -> Result<u32> {
    let shown = run(&["ip", "-n", netns, "-j", "link", "show", "dev", device])?;
    let shown: Value = serde_json::from_str(&shown).with_context(|| format!("ip printed no JSON: {shown}"))?;
    let mtu = shown[0]["mtu"].as_u64().with_context(|| format!("{device} of {netns} has no MTU"))?;
    Ok(u32::try_from(mtu)?)
}

impl Lab {
    /// Changes the MTU of host `n`'s device on the first underlay; the switch's port keeps its own.
    ///
    /// # Errors
    /// When the command fails.
    pub fn set_mtu(&self, n: usize, mtu: u32) -> Result<()> {
        run(&["ip", "-n", self.host(n).netns(), "link", "set", "eth0", "mtu", &mtu.to_string()]).map(drop)
    }

    /// Changes the MTU of the whole first underlay: of every host's device, and of the switch.
    ///
    /// # Errors
    /// When a command fails.
    pub fn set_mtu_of_all(&self, mtu: u32) -> Result<()> {
        for n in 1..=self.hosts().len() {
            self.set_mtu(n, mtu)?;
            let port = wire::port(n, 0);
            run(&["ip", "-n", &self.switch_netns(), "link", "set", &port, "mtu", &mtu.to_string()])?;
        }
        Ok(())
    }
}
