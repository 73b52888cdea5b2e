//! Routes for packets that the kernel has to cut: one with a locked MTU for each peer whose path is narrower than the
//! device that leads there.
//!
//! A packet without DF that is too large for its path goes to the VXLAN socket device, whose outer packet the kernel cuts
//! at the MTU that it knows: that of the device. A switch or tunnel on the path that takes less it does not know, and the
//! pieces would be lost. So a rule of our own sends the host's UDP packets to the data port, and nothing else, to a table
//! of our own, which has a route with the measured size for each narrow peer and none for others. Rule and table are there
//! only while a path is narrow. Their numbers follow from the data port, so that several controllers do not collide.
//!
//! One task compares what is with what should be: after a change of tunnels, and when the host task sees a change that may
//! concern it (a device that goes down takes its routes along). Bounds: a route a peer; attempts that fail are repeated
//! after [`RETRY_MIN`], doubled up to [`RETRY_MAX`].
//!
//! Does not: touch any other table or rule of the host.

mod plan;
mod table;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use self::plan::{Plan, Wanted};
pub use self::table::{Table, TableError};
use crate::proto::{io::TunnelTo, name::PeerName};

/// Changes within this time are carried out together; also the shortest time between two comparisons.
const COALESCE: Duration = Duration::from_millis(100);
/// Shortest and longest time before a failed attempt is repeated.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct Shared {
    plan: Mutex<Plan>,
    changed: Arc<Notify>,
    /// Compare though nothing is wanted, and nothing was there.
    all: AtomicBool,
}

impl Shared {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        // What is in there is whole whoever panicked.
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that keeps rule and table. Dropping it ends the task and leaves both: packets go on being cut.
#[derive(Debug)]
pub struct SlowPath {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl SlowPath {
    /// Keeps rule and table of the controller with that data port from now on. Routes to where `adopted` tunnels of an
    /// earlier run lead stay as they are until such a tunnel is written anew. A notice to `host_changed` has all compared.
    #[must_use]
    pub fn start<'a>(
        data_port: u16,
        adopted: impl Iterator<Item = (PeerName, &'a TunnelTo)>,
        host_changed: Arc<Notify>,
    ) -> Self {
        let plan = Mutex::new(Plan::adopted(adopted));
        let shared = Arc::new(Shared { plan, changed: host_changed, all: AtomicBool::new(false) });
        // Routes of an earlier run that nothing leads to any more go.
        shared.changed.notify_one();
        let task = tokio::spawn(run(Table::of(data_port), Arc::clone(&shared)));
        Self { shared, task }
    }

    /// Packets for `peer` leave by `tunnel` now. Never waits.
    pub fn put(&self, peer: PeerName, tunnel: &TunnelTo) {
        if self.shared.plan().put(peer, tunnel) {
            self.shared.changed.notify_one();
        }
    }

    /// Compares rule and table with what should be, though nothing told of a change. Never waits.
    pub fn compare(&self) {
        self.shared.all.store(true, Ordering::Relaxed);
        self.shared.changed.notify_one();
    }

    /// Ends the task: when this returns it changes nothing any more.
    pub async fn end(mut self) {
        self.task.abort();
        // It was cancelled, or had panicked, which was reported when it happened.
        drop((&mut self.task).await);
    }

    /// Nothing is sent to `peer` any more. Never waits.
    pub fn remove(&self, peer: PeerName) {
        if self.shared.plan().remove(peer) {
            self.shared.changed.notify_one();
        }
    }
}

impl Drop for SlowPath {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(table: Table, shared: Arc<Shared>) {
    let mut retry = None;
    // Nothing is wanted, and nothing is there: most often no path is narrow, and devices of others change all the time.
    let mut empty = false;
    loop {
        match retry {
            None => shared.changed.notified().await,
            // What changes meanwhile may be the cure.
            Some(after) => drop(timeout(after, shared.changed.notified()).await),
        }
        sleep(COALESCE).await;
        let wanted = shared.plan().wanted();
        let is_nothing = wanted == Wanted::default();
        let compare = shared.all.swap(false, Ordering::Relaxed);
        if is_nothing && empty && !compare {
            continue;
        }
        empty = false;
        match table.apply(&wanted).await {
            Ok(0) => {
                retry = None;
                empty = is_nothing;
            }
            Ok(changed) => {
                let (id, narrow) = (table.id(), wanted.routes.len());
                info!(
                    "routing table {id}: {changed} changes; paths to {narrow} addresses are narrower than their device"
                );
                retry = None;
            }
            Err(error) => {
                if retry.is_none() {
                    warn!(
                        "{error}; packets without DF that are larger than their path are lost until this is mended, trying \
                         again"
                    );
                }
                retry = Some(retry.map_or(RETRY_MIN, |after: Duration| (after * 2).min(RETRY_MAX)));
            }
        }
    }
}

#[cfg(test)]
mod tests;
