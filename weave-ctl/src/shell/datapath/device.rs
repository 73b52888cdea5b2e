//! Names and indexes of devices, in the network namespace of the calling thread: programs are attached by index, and named
//! to the operator by the name that the device has now.

use std::collections::BTreeSet;

use rustix::net::{AddressFamily, SocketType, netdevice, socket};

/// Index of the device called `name`; `None` when there is none.
#[must_use]
pub fn index(name: &str) -> Option<u32> {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).ok()?;
    netdevice::name_to_index(socket, name).ok()
}

/// Name that the device of that index has now; `None` when there is none.
#[must_use]
pub fn name(ifindex: u32) -> Option<String> {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).ok()?;
    netdevice::index_to_name(socket, ifindex).ok()
}

/// The same for the operator, who knows of a device that is gone by its index only.
pub(super) fn shown(ifindex: u32) -> String {
    name(ifindex).unwrap_or_else(|| format!("#{ifindex}"))
}

/// Names of all devices. One that is made or goes meanwhile may hide another: not for what a device's absence decides.
pub(super) fn names() -> BTreeSet<String> {
    // Not /sys/class/net: that shows the namespace in which sysfs was mounted.
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    text.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim().to_owned()).collect()
}
