//! The XDP program on underlay devices: attached, kept, replaced and taken off as the driver asks.
//!
//! By links, pinned, on every kernel that can load the program. A device takes one XDP program, so one that has another
//! already refuses. A device that refused is not asked again until it is made anew or the controller is launched again.

use std::collections::BTreeSet;

use aya::programs::{
    XdpMode as Flags,
    links::{FdLink, PinnedLink},
    xdp::XdpLink,
};
use rustix::io::Errno;
use weave_common::device::Device;

use super::{
    DatapathError, Programs,
    attach::is_replaced,
    device,
    error::Failure,
    link,
    object::{self, XdpMode},
    pins::XdpPin,
};

/// An underlay device, and how it should have the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XdpDevice {
    /// Its index.
    pub ifindex: u32,
    /// `None` when it should not.
    pub wanted: Option<XdpWanted>,
}

/// How a device should have the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpWanted {
    /// How.
    pub mode: XdpMode,
    /// The device's address.
    pub mac: [u8; 6],
    /// See [`Device::relays`].
    pub relays: bool,
}

/// What is known of XDP in this run.
#[derive(Debug)]
pub(super) struct Xdp {
    /// Why the program could not be loaded.
    lacking: Option<String>,
    /// Indexes of devices that refused it.
    refused: BTreeSet<u32>,
}

impl Xdp {
    /// With the program loaded, or else the reason why it is not.
    pub(super) fn new(loaded: Result<(), String>) -> Self {
        Self { lacking: loaded.err(), refused: BTreeSet::new() }
    }
}

impl Programs {
    /// Puts the program in the place of those that an earlier run attached. Those of vanished devices are forgotten.
    pub(super) fn replace_xdp(&mut self) -> Result<(), DatapathError> {
        for pin in self.pins.xdp_links()? {
            let kept = self.is_on_device(pin) && self.update_xdp(pin).map_err(|source| failed(pin, source))?;
            if !kept {
                self.pins.remove_xdp(pin)?;
            }
        }
        Ok(())
    }

    /// Whether the link is on the device of its index, and that device is here.
    fn is_on_device(&self, pin: XdpPin) -> bool {
        let place = link::place(&self.pins.xdp(pin)).ok().flatten();
        place.is_some_and(|place| place.ifindex == pin.ifindex) && device::name(pin.ifindex).is_some()
    }

    /// False when the link is on no device any more, or there is no program to put there.
    fn update_xdp(&mut self, pin: XdpPin) -> Result<bool, Failure> {
        if self.xdp.lacking.is_some() {
            return Ok(false);
        }
        let link = XdpLink::try_from(FdLink::from(PinnedLink::from_pin(self.pins.xdp(pin))?))?;
        let program = object::xdp(&mut self.ebpf)?;
        // Dropping it closes the descriptor; the pin keeps the link.
        let taken = program.attach_to_link(link).and_then(|id| program.take_link(id)).map(drop);
        is_replaced(taken, &[Errno::NOLINK])
    }

    /// Makes the program be on these devices as wanted, and on no other of them. What is attached to a device that is
    /// not named stays: it may be down for a moment. Gives what went wrong, a device each; the others are as wanted.
    pub fn set_xdp(&mut self, devices: &[XdpDevice]) -> Vec<DatapathError> {
        let kept = match self.keep_xdp(devices) {
            Ok(kept) => kept,
            Err(error) => return vec![error],
        };
        let mut errors = Vec::new();
        for device in devices {
            let Some(wanted) = device.wanted else { continue };
            if self.xdp.refused.contains(&device.ifindex) {
                continue;
            }
            let kept = kept.contains(&device.ifindex);
            if let Err(error) = self.put_xdp(device, wanted, kept) {
                errors.push(error);
                self.xdp.refused.insert(device.ifindex);
            }
        }
        errors
    }

    /// Takes off what is not wanted any more; the indexes of the devices that keep the program.
    fn keep_xdp(&mut self, devices: &[XdpDevice]) -> Result<BTreeSet<u32>, DatapathError> {
        let mut kept = BTreeSet::new();
        for pin in self.pins.xdp_links()? {
            let device = devices.iter().find(|device| device.ifindex == pin.ifindex);
            let wanted = device.is_none_or(|device| device.wanted.is_some_and(|wanted| wanted.mode == pin.mode));
            if wanted && self.is_on_device(pin) {
                kept.insert(pin.ifindex);
            } else {
                self.pins.remove_xdp(pin)?;
            }
        }
        for ifindex in self.devices.all()?.into_keys().filter(|ifindex| !kept.contains(ifindex)) {
            self.devices.remove(ifindex)?;
        }
        Ok(kept)
    }

    /// Gives a device its entry and, unless it has it already, the program.
    fn put_xdp(&mut self, device: &XdpDevice, wanted: XdpWanted, attached: bool) -> Result<(), DatapathError> {
        let pin = XdpPin { mode: wanted.mode, ifindex: device.ifindex };
        let entry = Device { mac: wanted.mac, relays: u16::from(wanted.relays) };
        if let Some(lacking) = &self.xdp.lacking {
            return Err(failed(pin, lacking.clone().into()));
        }
        if !attached {
            self.attach_xdp(pin).map_err(|source| failed(pin, source))?;
        }
        // Only now: without an entry the program passes everything, with one others may send by the device.
        if self.devices.all()?.get(&device.ifindex) == Some(&entry) {
            return Ok(());
        }
        self.devices.put(device.ifindex, entry)
    }

    fn attach_xdp(&mut self, pin: XdpPin) -> Result<(), Failure> {
        let flags = match pin.mode {
            XdpMode::Native => Flags::Driver,
            XdpMode::Generic => Flags::Skb,
        };
        let program = object::xdp(&mut self.ebpf)?;
        let id = link::once_released(Errno::BUSY, || program.attach_to_if_index(pin.ifindex, flags))?;
        FdLink::try_from(program.take_link(id)?)?.pin(self.pins.xdp(pin))?;
        Ok(())
    }

    /// Takes the program off every device.
    ///
    /// # Errors
    /// When a pin cannot be removed.
    pub fn remove_xdp(&mut self) -> Result<(), DatapathError> {
        for pin in self.pins.xdp_links()? {
            self.pins.remove_xdp(pin)?;
        }
        self.devices.all()?.into_keys().try_for_each(|ifindex| self.devices.remove(ifindex))
    }

    /// Removes the pins of a device that vanished.
    pub(super) fn forget_xdp(&mut self, ifindex: u32) -> Result<(), DatapathError> {
        self.xdp.refused.remove(&ifindex);
        XdpMode::ALL.into_iter().try_for_each(|mode| self.pins.remove_xdp(XdpPin { mode, ifindex }))
    }
}

fn failed(pin: XdpPin, source: Failure) -> DatapathError {
    DatapathError::Xdp { device: device::shown(pin.ifindex), mode: pin.mode.as_str(), source }
}

#[cfg(test)]
mod tests;
