//! This host's side of the underlay as a cache: its devices and addresses, and how it sends to every watched address.
//!
//! One task keeps it. A netlink subscription feeds the cache (devices, addresses, routes, rules); a watched address is
//! looked up by one request of its own, at once when it is new and again after a change that may concern it. Only what is
//! different is told to the driver, which never waits for the kernel: [`Host::watch`] returns at once, however slow the
//! kernel answers, and lookups that hang delay no other news.
//! Bounds: [`lookups::LOOKUPS_MAX`] lookups at once; [`GONE_MAX`] indexes of vanished devices wait for the driver, and when
//! there are more, or the kernel lost messages, a dump finds out which of the containers' interfaces are left.
//!
//! Does not: decide what follows, or watch neighbours.

mod cache;
mod kernel;
mod lookups;
mod task;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc},
    task::AbortHandle,
};

pub use self::cache::{Device, Nature};
use self::{
    kernel::{Kernel, Rtnetlink},
    task::Task,
};
use super::netlink::NetlinkError;
use crate::proto::io::{Egress, Underlay};

/// Most indexes of vanished devices that wait for the driver.
const GONE_MAX: usize = 4096;
/// Time before the kernel's socket is opened again after it broke, and before a failed request is repeated.
const RETRY: Duration = Duration::from_secs(1);
/// An address that no host can have (RFC 1112 section 4): the route to it is the default route.
const NOBODY: Ipv4Addr = Ipv4Addr::new(240, 0, 0, 1);
/// MTU told where neither a default route nor an only device gives one.
const DEFAULT_MTU: u32 = 1500;

/// Why the host's state is not known.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The kernel gave no list.
    #[error("cannot list the host's devices and addresses: {0}")]
    Dump(NetlinkError),
    /// No subscription.
    #[error("cannot watch the host's devices and routes: {0}")]
    Watch(NetlinkError),
}

/// The underlay's side of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// For the core.
    pub underlay: Underlay,
    /// In order of index.
    pub devices: Vec<Device>,
    /// Global IPv4 addresses of devices that are up, with the device's index: those of the underlay, and those of the
    /// loopback device, where hosts keep an address that several devices lead to.
    pub locals: BTreeMap<Ipv4Addr, u32>,
}

/// Something about the host is different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostEvent {
    /// Devices or addresses.
    Underlay(Scan),
    /// How this host sends to a watched address: the answer to [`Host::watch`], and later changes.
    Egress {
        /// The address.
        addr: Ipv4Addr,
        /// `None` when no route leads there that is of use.
        egress: Option<Egress>,
    },
    /// The device of that index vanished, or moved to another namespace. One of the same index may be there again.
    LinkGone(u32),
    /// Somebody set the device of that index down; told of host ends of containers' interfaces only.
    SetDown(u32),
}

/// What the driver asks of the task. Bounded by what the core watches and by the containers of the host.
#[derive(Debug, Default)]
struct Asked {
    watch: BTreeSet<Ipv4Addr>,
    unwatch: BTreeSet<Ipv4Addr>,
    host_ends: BTreeSet<u32>,
}

/// A routing table of ours, whose owner is to compare it with what it should be.
#[derive(Clone, Debug, Default)]
pub struct TableWatch {
    /// Its number.
    pub table: u32,
    /// Notified when a route of the table, a rule, a device or an address changed, and when that is not known.
    pub changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Shared {
    asked: Mutex<Asked>,
    changed: Notify,
    tables: TableWatch,
}

impl Shared {
    fn asked(&self) -> MutexGuard<'_, Asked> {
        // What is in there is whole whoever panicked.
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that keeps the cache. Dropping it ends the task.
#[derive(Debug)]
pub struct Host {
    shared: Arc<Shared>,
    task: AbortHandle,
}

impl Host {
    /// Tells `events` what is different from now on, until their receiver is dropped, and notifies the owner of a table of
    /// ours. Returns what is so now. Routes are asked for as packets to `data_port` go.
    ///
    /// # Errors
    /// The kernel gave no socket or no list. Later both are tried again.
    pub async fn start(
        data_port: u16,
        events: mpsc::Sender<HostEvent>,
        tables: TableWatch,
    ) -> Result<(Self, Scan), HostError> {
        Self::start_on(Rtnetlink::new(data_port), events, tables).await
    }

    async fn start_on(
        kernel: impl Kernel,
        events: mpsc::Sender<HostEvent>,
        tables: TableWatch,
    ) -> Result<(Self, Scan), HostError> {
        let shared = Arc::new(Shared { tables, ..Shared::default() });
        let (task, scan) = Task::new(kernel, Arc::clone(&shared), events).await?;
        Ok((Self { shared, task: tokio::spawn(task.run()).abort_handle() }, scan))
    }

    /// Tells by [`HostEvent::Egress`] how this host sends to `addr`, now and after each change. Never waits.
    pub fn watch(&self, addr: Ipv4Addr) {
        self.shared.asked().watch.insert(addr);
        self.shared.changed.notify_one();
    }

    /// Tells no more of `addr`. What is on its way still comes.
    pub fn unwatch(&self, addr: Ipv4Addr) {
        let mut asked = self.shared.asked();
        asked.watch.remove(&addr);
        asked.unwatch.insert(addr);
        drop(asked);
        self.shared.changed.notify_one();
    }

    /// The host end of a container's interface exists: [`HostEvent::LinkGone`] tells when it is gone, whatever happens.
    pub fn keep_watch_of(&self, ifindex: u32) {
        self.shared.asked().host_ends.insert(ifindex);
    }

    /// The same is gone, and known to be.
    pub fn forget(&self, ifindex: u32) {
        self.shared.asked().host_ends.remove(&ifindex);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests;
