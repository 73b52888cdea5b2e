//! The programs and the devices that they are attached to.
//!
//! What is done here may wait for the kernel's one network lock (RTNL), for as long as others hold it: to attach a program, and
//! to ask where a link is, takes it. So it is done by a thread of its own ([`super::Worker`]).

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aya::Ebpf;
use weave_common::map;

use super::{
    DatapathError, ProgramFacts, Programs,
    attach::{self, Hook},
    device, link,
    object::{self, Role},
    pins::LinkPin,
};

/// Where filters are, on a kernel without links; links are found by their pins.
pub(super) type Filters = Arc<Mutex<BTreeSet<LinkPin>>>;

/// The programs that are loaded.
pub(super) fn loaded(ebpf: &Ebpf) -> Vec<ProgramFacts> {
    let facts = |name| {
        let info = ebpf.program(name)?.info().ok()?;
        Some(ProgramFacts { name, id: info.id(), verified_instructions: info.verified_instruction_count() })
    };
    Role::ALL.into_iter().map(Role::program).chain([map::PROG_XDP]).filter_map(facts).collect()
}

/// Waits for what several threads share here. It is whole also when one of them panicked.
pub(super) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Programs {
    fn filters(&self) -> MutexGuard<'_, BTreeSet<LinkPin>> {
        lock(&self.filters)
    }

    /// Puts the programs in the place of those that an earlier run attached, and drops the pins of vanished devices.
    pub(super) fn replace_attached(&mut self) -> Result<(), DatapathError> {
        match self.hook {
            Hook::Tcx => {
                for pin in self.pins.links()? {
                    let place = self.place(pin).filter(|place| place.ifindex == pin.ifindex);
                    if place.is_some() && device::name(pin.ifindex).is_some() {
                        self.attach(pin)?;
                    } else {
                        self.pins.remove_link(pin)?;
                    }
                }
            }
            Hook::Clsact => {
                for name in device::names() {
                    let Some(ifindex) = device::index(&name) else { continue };
                    for role in Role::ALL {
                        let program = object::program(&mut self.ebpf, role.program())?;
                        // A device that vanished meanwhile is no reason to fail.
                        if attach::replace_clsact(program, role, &name).unwrap_or(false) {
                            self.filters().insert(LinkPin { role, ifindex });
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Attaches the program for what a container sends to the host end of its veth, by index. Idempotent.
    ///
    /// # Errors
    /// When the kernel refuses; what was attached stays.
    pub fn attach_container(&mut self, ifindex: u32) -> Result<(), DatapathError> {
        self.attach(LinkPin { role: Role::Container, ifindex })
    }

    /// Attaches the program for what peers send to an underlay device, by index. Idempotent.
    ///
    /// # Errors
    /// As [`Self::attach_container`].
    pub fn attach_underlay(&mut self, ifindex: u32) -> Result<(), DatapathError> {
        self.attach(LinkPin { role: Role::Underlay, ifindex })
    }

    /// Attaches both programs of the VXLAN socket device, by index: that for what the kernel's stack took off the data
    /// port, and that which sends probes. Idempotent. To be called before the device is up.
    ///
    /// # Errors
    /// As [`Self::attach_container`].
    pub fn attach_socket_device(&mut self, ifindex: u32) -> Result<(), DatapathError> {
        self.attach(LinkPin { role: Role::Socket, ifindex })?;
        self.attach(LinkPin { role: Role::Prober, ifindex })
    }

    pub(super) fn attach(&mut self, pin: LinkPin) -> Result<(), DatapathError> {
        if self.former.as_ref().is_some_and(|former| former.has(pin)) {
            return Ok(());
        }
        let program = object::program(&mut self.ebpf, pin.role.program())?;
        attach::attach(self.hook, program, &self.pins, pin)?;
        if self.hook == Hook::Clsact {
            self.filters().insert(pin);
        }
        Ok(())
    }

    pub(super) fn place(&self, pin: LinkPin) -> Option<link::Place> {
        link::place(&self.pins.link(pin)).ok().flatten()
    }

    /// Removes the pins of a device that vanished. Does nothing while a device of that index exists.
    ///
    /// # Errors
    /// When a pin cannot be removed.
    pub fn forget_device(&mut self, ifindex: u32) -> Result<(), DatapathError> {
        if device::name(ifindex).is_some() {
            return Ok(());
        }
        self.filters().retain(|filter| filter.ifindex != ifindex);
        self.forget_xdp(ifindex)?;
        Role::ALL.into_iter().try_for_each(|role| self.pins.remove_link(LinkPin { role, ifindex }))
    }
}
