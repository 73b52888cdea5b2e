//! Which devices get the XDP program, by what the operator chose.
//!
//! `auto` takes network cards on the PCI bus alone: there a native program takes nothing from the device but merging in
//! hardware. A veth with one keeps its peer from handing over super-packets, a hypervisor's card likewise, and what else
//! has an address (bridge, VLAN, tunnel) is software that gets its packets from another device.
//!
//! Relayed without the kernel's stack is only what a card received: on a veth the sender may have left checksums to a
//! device that there never is, and in generic mode a packet may be merged from several. It takes a host that forwards
//! (`net.ipv4.conf.all.forwarding`): on others the kernel does not tell XDP how to reach a neighbour, and the stack relays.

use tracing::warn;

use super::Driver;
use crate::{
    config::flags::Xdp,
    shell::{
        datapath::{DatapathError, XdpDevice, XdpMode, XdpWanted},
        host::{Device, Nature},
    },
};

impl Driver {
    /// True when no device shall have it.
    pub(super) fn is_without_xdp(&self) -> bool {
        self.xdp == Xdp::Off
    }

    /// How the underlay's devices should have XDP.
    pub(super) fn wanted_xdp(&self) -> Vec<XdpDevice> {
        self.scan.devices.iter().map(|device| wanted(self.xdp, device)).collect()
    }

    /// Tells what went wrong.
    ///
    /// # Errors
    /// The first refusal, where the operator insists; else refusals are warnings.
    pub(super) fn told_of_xdp(&self, errors: Vec<DatapathError>) -> Result<(), DatapathError> {
        let mut errors = errors.into_iter();
        if self.xdp != Xdp::Auto {
            return errors.next().map_or(Ok(()), Err);
        }
        errors.for_each(|error| {
            warn!("{error}; its packets are dropped and relayed by the kernel's stack, a little later")
        });
        Ok(())
    }
}

fn wanted(choice: Xdp, device: &Device) -> XdpDevice {
    let how = match (choice, device.nature) {
        (Xdp::Auto, Nature::PciCard) | (Xdp::Native, Nature::PciCard | Nature::OtherCard) => {
            Some((XdpMode::Native, true))
        }
        (Xdp::Native, Nature::Veth) => Some((XdpMode::Native, false)),
        (Xdp::Generic, _) => Some((XdpMode::Generic, false)),
        (Xdp::Off | Xdp::Auto | Xdp::Native, _) => None,
    };
    // A device without an Ethernet address carries frames of another kind.
    let wanted = how.zip(device.mac).map(|((mode, relays), mac)| XdpWanted { mode, mac, relays });
    XdpDevice { ifindex: device.ifindex, wanted }
}

#[cfg(test)]
mod tests;
