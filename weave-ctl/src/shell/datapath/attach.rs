//! Attaching: by TCX links that are pinned, or, where the kernel has none, by clsact filters with a fixed place.
//!
//! aya takes a device's name; a device that is renamed in that moment shows by the index that the link then has, and it is
//! tried again. A program that is attached is only ever replaced in place, so no packet passes without one. A filter and a pinned
//! link both outlive the controller.

use std::io;

use aya::programs::{
    LinkOrder, ProgramError, SchedClassifier,
    links::{FdLink, PinnedLink},
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact, qdisc_detach_program},
};
use rustix::io::Errno;

use super::{
    device,
    error::{DatapathError, Failure, errno},
    link,
    object::Role,
    pins::{LinkPin, Pins},
};

/// How programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    /// Links, pinned.
    Tcx,
    /// Filters of the clsact qdisc.
    Clsact,
}

/// Priority of our filters; low enough to come before others, high enough to leave room before them.
const CLSACT_PRIORITY: u16 = 77;

/// Handle of the filter with the program of `role`.
const fn clsact_handle(role: Role) -> TcHandle {
    let minor = match role {
        Role::Container => 1,
        Role::Underlay => 2,
        Role::Socket => 3,
        Role::Prober => 4,
    };
    TcHandle::new(0, minor)
}

/// Attempts at a device whose name changes meanwhile.
const NAMES_MAX: u32 = 3;

/// Attaches `program` to its side of the device, or replaces what the role has there.
pub(super) fn attach(
    hook: Hook,
    program: &mut SchedClassifier,
    pins: &Pins,
    pin: LinkPin,
) -> Result<(), DatapathError> {
    let result = match hook {
        Hook::Tcx => attach_tcx(program, pins, pin),
        Hook::Clsact => device::name(pin.ifindex)
            .ok_or_else(|| no_device().into())
            .and_then(|name| attach_clsact(program, pin.role, &name)),
    };
    let device = || device::shown(pin.ifindex);
    result.map_err(|source| DatapathError::Attach { name: pin.role.program(), device: device(), source })
}

fn no_device() -> io::Error {
    Errno::NODEV.into()
}

fn attach_tcx(program: &mut SchedClassifier, pins: &Pins, pin: LinkPin) -> Result<(), Failure> {
    let path = pins.link(pin);
    if let Some(place) = link::place(&path)? {
        if place.ifindex == pin.ifindex && update_link(program, PinnedLink::from_pin(&path)?)? {
            return Ok(());
        }
        // The device is another one of the same index, or the link was detached.
        pins.remove_link(pin)?;
    }
    for _ in 0..NAMES_MAX {
        let name = device::name(pin.ifindex).ok_or_else(no_device)?;
        let first = || TcAttachOptions::TcxOrder(LinkOrder::first());
        let id = link::once_released(Errno::EXIST, || program.attach_with_options(&name, pin.role.side(), first()))?;
        FdLink::try_from(program.take_link(id)?)?.pin(&path)?;
        if link::place(&path)?.is_some_and(|place| place.ifindex == pin.ifindex) {
            return Ok(());
        }
        pins.remove_link(pin)?;
    }
    Err(no_device().into())
}

/// Puts `program` in a pinned link's place; false when the link is on no device any more.
fn update_link(program: &mut SchedClassifier, link: PinnedLink) -> Result<bool, Failure> {
    let link = SchedClassifierLink::try_from(FdLink::from(link))?;
    // Dropping it closes the descriptor; the pin keeps the link.
    let taken = program.attach_to_link(link).and_then(|id| program.take_link(id)).map(drop);
    is_replaced(taken, &[Errno::NOLINK])
}

/// Whether a program took the place of another; false where the kernel says by one of `absent` that there is none.
pub(super) fn is_replaced(taken: Result<(), ProgramError>, absent: &[Errno]) -> Result<bool, Failure> {
    match taken {
        Ok(()) => Ok(true),
        Err(error) if errno(&error).is_some_and(|errno| absent.contains(&errno)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn attach_clsact(program: &mut SchedClassifier, role: Role, device: &str) -> Result<(), Failure> {
    match qdisc_add_clsact(device) {
        Err(error) if errno(&error) == Some(Errno::EXIST) => {}
        result => result?,
    }
    if replace_clsact(program, role, device)? {
        return Ok(());
    }
    let options = NlOptions { priority: CLSACT_PRIORITY, handle: clsact_handle(role), classid: None };
    let id = program.attach_with_options(device, role.side(), TcAttachOptions::Netlink(options))?;
    // Dropping the link would take the filter away.
    std::mem::forget(program.take_link(id)?);
    Ok(())
}

/// Puts `program` in the place of the filter that `role` has on `device`; false when there is none.
pub(super) fn replace_clsact(program: &mut SchedClassifier, role: Role, device: &str) -> Result<bool, Failure> {
    let handle = clsact_handle(role);
    let link = SchedClassifierLink::attached(device, role.side(), CLSACT_PRIORITY, handle, None)?;
    let taken = program.attach_to_link(link).and_then(|id| program.take_link(id)).map(std::mem::forget);
    // No such filter, or no clsact qdisc at all.
    is_replaced(taken, &[Errno::NOENT, Errno::INVAL])
}

/// Takes our filters off `device`; one that is not there, and a device that is gone, are fine.
pub(super) fn detach_clsact(device: &str) {
    for role in Role::ALL {
        drop(qdisc_detach_program(device, role.side(), role.program()));
    }
}
