//! The host task's loop: messages of the kernel in, events for the driver out.
//!
//! Whatever the kernel is asked runs beside the loop and comes back as a [`Done`]. Nothing waits for anything else: not the
//! kernel's messages for a driver that is busy (they are drained always, into the cache), nor news for a slow lookup.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    pin::Pin,
    sync::Arc,
};

use futures_util::{
    StreamExt,
    stream::{self, FuturesUnordered},
};
use rtnetlink::{packet_core::NetlinkPayload, packet_route::RouteNetlinkMessage};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};
use tracing::{info, warn};

use super::{
    DEFAULT_MTU, GONE_MAX, HostError, HostEvent, NOBODY, RETRY, Scan, Shared,
    cache::{Affected, Cache, Change, Dump},
    kernel::{Kernel, Messages, Route},
    lookups::{COALESCE, Lookups},
};
use crate::{
    proto::io::{Egress, Underlay},
    shell::netlink::NetlinkError,
};

/// Something that the kernel was asked came to its end.
enum Done {
    Route(Ipv4Addr, Result<Option<Route>, NetlinkError>),
    Dump(Result<Dump, NetlinkError>),
    /// The socket that tells of changes broke a while ago.
    Reopen,
}

/// What the driver has not been told yet.
#[derive(Debug, Default)]
struct Untold {
    gone: BTreeSet<u32>,
    set_down: BTreeSet<u32>,
    underlay: bool,
    egresses: BTreeMap<Ipv4Addr, Option<Egress>>,
}

impl Untold {
    fn is_empty(&self) -> bool {
        let Self { gone, set_down, underlay, egresses } = self;
        gone.is_empty() && set_down.is_empty() && !underlay && egresses.is_empty()
    }
}

/// See the module.
pub(super) struct Task<K> {
    kernel: K,
    shared: Arc<Shared>,
    events: mpsc::Sender<HostEvent>,
    messages: Messages,
    running: FuturesUnordered<Pin<Box<dyn Future<Output = Done> + Send>>>,
    cache: Cache,
    lookups: Lookups,
    /// How this host sends to where no other route leads.
    default: Option<Egress>,
    /// The last scan that was told.
    told: Scan,
    /// When to compare with it again.
    scan_due: Option<Instant>,
    untold: Untold,
    dump: Dumping,
    /// The last lookup failed, and that was said.
    failing: bool,
    /// The same of the last dump.
    dump_failing: bool,
}

/// How the next dump stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Dumping {
    #[default]
    No,
    /// The host ends that were known when it began, and the devices that messages told of since. `again`: it may show
    /// what was before.
    Running { host_ends: BTreeSet<u32>, told: BTreeSet<u32>, again: bool },
    /// It failed, or has to be taken again.
    Due(Instant),
}

impl<K: Kernel> Task<K> {
    /// A task that knows what is so now.
    pub(super) async fn new(
        kernel: K,
        shared: Arc<Shared>,
        events: mpsc::Sender<HostEvent>,
    ) -> Result<(Self, Scan), HostError> {
        // In this order: what changes meanwhile is in the messages.
        let messages = kernel.subscribe().map_err(HostError::Watch)?;
        let dump = kernel.dump().await.map_err(HostError::Dump)?;
        let default = kernel.route(NOBODY).await.map_err(HostError::Dump)?;
        let mut cache = Cache::default();
        cache.replace(dump, &BTreeSet::new());
        let mut task = Self {
            kernel,
            shared,
            events,
            messages,
            running: FuturesUnordered::new(),
            cache,
            lookups: Lookups::default(),
            default: None,
            told: Scan::default(),
            scan_due: None,
            untold: Untold::default(),
            dump: Dumping::No,
            failing: false,
            dump_failing: false,
        };
        task.default = task.egress(default);
        task.lookups.watch(NOBODY);
        task.told = task.scan();
        let scan = task.told.clone();
        Ok((task, scan))
    }

    /// Runs until nobody listens any more.
    pub(super) async fn run(mut self) {
        let events = self.events.clone();
        loop {
            let now = Instant::now();
            self.begin_lookups(now);
            if matches!(self.dump, Dumping::Due(at) if at <= now) {
                self.begin_dump();
            }
            if self.scan_due.is_some_and(|due| due <= now) {
                self.scan_due = None;
                self.untold.underlay = self.scan() != self.told;
            }
            let due = self.due();
            let untold = !self.untold.is_empty();
            tokio::select! {
                message = self.messages.next() => self.message(message),
                () = self.shared.changed.notified() => self.take_asked(),
                Some(done) = self.running.next(), if !self.running.is_empty() => self.done(done),
                permit = events.reserve(), if untold => match (permit, self.next_event()) {
                    (Ok(permit), Some(event)) => permit.send(event),
                    (Ok(_), None) => {}
                    (Err(_), _) => return,
                },
                () = events.closed(), if !untold => return,
                () = sleep_until(due.unwrap_or(now)), if due.is_some() => {}
            }
        }
    }

    fn due(&self) -> Option<Instant> {
        let dump = if let Dumping::Due(at) = self.dump { Some(at) } else { None };
        [self.lookups.due(), self.scan_due, dump].into_iter().flatten().min()
    }

    /// The next thing to tell.
    fn next_event(&mut self) -> Option<HostEvent> {
        if let Some(ifindex) = self.untold.gone.pop_first() {
            return Some(HostEvent::LinkGone(ifindex));
        }
        if let Some(ifindex) = self.untold.set_down.pop_first() {
            return Some(HostEvent::SetDown(ifindex));
        }
        if std::mem::take(&mut self.untold.underlay) {
            self.told = self.scan();
            return Some(HostEvent::Underlay(self.told.clone()));
        }
        let (addr, egress) = self.untold.egresses.pop_first()?;
        Some(HostEvent::Egress { addr, egress })
    }

    fn take_asked(&mut self) {
        let (watch, unwatch) = {
            let mut asked = self.shared.asked();
            (std::mem::take(&mut asked.watch), std::mem::take(&mut asked.unwatch))
        };
        // An address in both was left and is watched again.
        for addr in unwatch {
            self.lookups.unwatch(addr);
            self.untold.egresses.remove(&addr);
        }
        watch.into_iter().for_each(|addr| self.lookups.watch(addr));
    }

    fn begin_lookups(&mut self, now: Instant) {
        while let Some(addr) = self.lookups.take(now) {
            let kernel = self.kernel.clone();
            self.running.push(Box::pin(async move { Done::Route(addr, kernel.route(addr).await) }));
        }
    }

    fn begin_dump(&mut self) {
        let host_ends = self.shared.asked().host_ends.clone();
        self.dump = Dumping::Running { host_ends, told: BTreeSet::new(), again: false };
        let kernel = self.kernel.clone();
        self.running.push(Box::pin(async move { Done::Dump(kernel.dump().await) }));
    }

    /// A dump is needed at `at`, or after the one that runs.
    fn want_dump(&mut self, at: Instant) {
        match &mut self.dump {
            Dumping::Running { again, .. } => *again = true,
            Dumping::No => self.dump = Dumping::Due(at),
            Dumping::Due(due) => *due = at.min(*due),
        }
    }

    fn message(&mut self, message: Option<NetlinkPayload<RouteNetlinkMessage>>) {
        let now = Instant::now();
        let Some(payload) = message else {
            warn!("the kernel's messages about devices and routes broke off; subscribing again");
            self.messages = Box::pin(stream::pending());
            self.running.push(Box::pin(async {
                sleep(RETRY).await;
                Done::Reopen
            }));
            return;
        };
        let Change { device, gone, set_down, underlay, routes, table, lost } = self.cache.note(&payload);
        if underlay || lost || table.is_some_and(|table| table == 0 || table == self.shared.tables.table) {
            self.shared.tables.changed.notify_one();
        }
        if let Dumping::Running { told, again, .. } = &mut self.dump {
            // A message tells all of a device, but one address of several.
            told.extend(device);
            *again |= underlay && device.is_none();
        }
        gone.into_iter().for_each(|gone| self.gone(gone, now));
        // No more of them than there are devices.
        self.untold.set_down.extend(set_down);
        if underlay {
            self.scan_due.get_or_insert(now + COALESCE);
        }
        self.lookups.affected(routes, now);
        if lost {
            self.want_dump(now);
        }
    }

    fn gone(&mut self, gone: u32, now: Instant) {
        if self.untold.gone.len() < GONE_MAX {
            self.untold.gone.insert(gone);
        } else {
            self.want_dump(now + RETRY);
        }
    }

    fn done(&mut self, done: Done) {
        let now = Instant::now();
        match done {
            Done::Route(addr, Ok(route)) => {
                self.failing = false;
                self.answered(addr, route, now);
            }
            Done::Route(addr, Err(error)) => {
                if !std::mem::replace(&mut self.failing, true) {
                    warn!(
                        "cannot ask the kernel for the route to {addr}: {error}; paths stay as they are, asking again"
                    );
                }
                self.lookups.failed(addr, now + RETRY);
            }
            Done::Dump(Ok(dump)) => self.dumped(dump, now),
            Done::Dump(Err(error)) => {
                if !std::mem::replace(&mut self.dump_failing, true) {
                    warn!(
                        "cannot list the host's devices: {error}; no device counts as gone without a message that says so, \
                         asking again"
                    );
                }
                self.dump = Dumping::Due(now + RETRY);
            }
            Done::Reopen => match self.kernel.subscribe() {
                Ok(messages) => {
                    self.messages = messages;
                    self.want_dump(now);
                }
                Err(error) => {
                    warn!("cannot watch the host's devices and routes: {error}; trying again");
                    self.running.push(Box::pin(async {
                        sleep(RETRY).await;
                        Done::Reopen
                    }));
                }
            },
        }
    }

    fn answered(&mut self, addr: Ipv4Addr, route: Option<Route>, now: Instant) {
        let egress = self.egress(route);
        if !self.lookups.answered(addr, route.map(|route| route.ifindex), egress) {
            return;
        }
        if addr == NOBODY {
            self.default = egress;
            self.scan_due.get_or_insert(now);
        } else {
            self.untold.egresses.insert(addr, egress);
        }
    }

    fn dumped(&mut self, dump: Dump, now: Instant) {
        let Dumping::Running { host_ends, told, again } = std::mem::take(&mut self.dump) else { return };
        if std::mem::take(&mut self.dump_failing) {
            info!("the host's devices are listed again");
        }
        let mut gone = self.cache.replace(dump, &told);
        gone.extend(self.cache.missing(host_ends));
        gone.into_iter().for_each(|gone| self.gone(gone, now));
        self.scan_due.get_or_insert(now);
        self.shared.tables.changed.notify_one();
        self.lookups.affected(Affected::All, now);
        if again {
            self.dump = Dumping::Due(now + COALESCE);
        }
    }

    /// A route together with the MTU of its device. A device that the cache does not know yet makes no egress: the message
    /// that tells of it has the route looked up again.
    fn egress(&self, route: Option<Route>) -> Option<Egress> {
        let Route { ifindex, next_hop, source, mtu } = route?;
        let device = self.cache.mtu(ifindex)?;
        Some(Egress { ifindex, next_hop, source, mtu: mtu.unwrap_or(device).min(device) })
    }

    fn scan(&self) -> Scan {
        let devices = self.cache.underlay();
        let (mut addrs, mut on_link) = (Vec::new(), Vec::new());
        for net in devices.iter().flat_map(|device| &device.addrs) {
            if !addrs.contains(&net.addr()) {
                addrs.push(net.addr());
            }
            if !on_link.contains(&net.trunc()) {
                on_link.push(net.trunc());
            }
        }
        let only = if let [device] = devices.as_slice() { device.mtu } else { DEFAULT_MTU };
        let default_mtu = self.default.map_or(only, |egress| egress.mtu);
        Scan { underlay: Underlay { addrs, on_link, default_mtu }, devices, locals: self.cache.locals() }
    }
}
