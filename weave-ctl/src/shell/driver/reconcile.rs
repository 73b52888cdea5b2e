//! The reconcile loop: each [`EVERY`], and when the host task tells of a device, every kernel object of this controller is
//! compared with what should be, mended, and told once.
//!
//! | object                                   | compared with                    | mended by                        |
//! |------------------------------------------|----------------------------------|----------------------------------|
//! | pins of maps                             | all maps                         | pinning the open map again       |
//! | configuration and key of probes          | what was written last            | writing it again                 |
//! | tables (endpoints, routes, tunnels, ...) | the operations carried out       | the operation again              |
//! | table of this host's addresses           | the host task's last scan        | the difference                   |
//! | programs on containers' interfaces       | the interfaces that exist        | attaching again                  |
//! | programs on underlay devices, XDP        | the host task's last scan        | attaching again                  |
//! | programs on the VXLAN socket device      | the device                       | attaching again                  |
//! | host ends of containers' interfaces      | there and up                     | up; gone: the core is told       |
//! | the VXLAN socket device                  | there, up, with our settings     | made again (`socket`)            |
//! | rules of `expose --masquerade`           | the host's interface             | written again (`egress`)         |
//! | routing rule and table of narrow paths   | the tunnels                      | its own task (`slow_path`)       |
//!
//! What takes time (lists of devices, programs on them, whole tables) is read by a task of its own and comes back as [`Seen`]. What cannot be
//! mended is told once, and once more when it is. Bounds: one task at a time; one sentence an object that fails.
//!
//! Does not: look inside containers, whose own changes stay.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant as Clock, sleep},
};
use tracing::{info, warn};

use super::{Driver, RunError, egress};
use crate::{
    proto::io::{MapOp, Shutdown},
    shell::{
        datapath::{DatapathError, Ended, Reader, device_name},
        endpoints,
        masquerade::{Applied, MasqueradeError},
        netlink::{Netlink, NetlinkError},
        socket_device,
    },
};

/// Time between two comparisons.
const EVERY: Duration = Duration::from_secs(30);
/// How long a host end is down before it is brought up again.
const DOWN_FOR: Duration = Duration::from_millis(500);

/// A program on a device: what it is called, whether it had to be put back, and what that meant.
type Kept = (String, Result<bool, DatapathError>, &'static str);

/// What a task read.
pub(super) struct Seen {
    /// The programs on devices.
    programs: Vec<Kept>,
    /// The host ends that existed when it began.
    host_ends: BTreeSet<u32>,
    /// All devices by index, and whether they are up.
    devices: Result<BTreeMap<u32, bool>, NetlinkError>,
    tables: Result<Vec<MapOp>, DatapathError>,
    /// The VXLAN socket device is there, up and as it should be.
    socket_fits: bool,
    /// The rules by which containers go out through this host, where they do.
    masquerade: Option<Result<Applied, MasqueradeError>>,
}

/// What the loop remembers.
pub(super) struct Reconcile {
    due: Clock,
    /// A task reads.
    reading: bool,
    seen: (mpsc::Sender<Seen>, mpsc::Receiver<Seen>),
    /// Objects that could not be mended, with the reason that was told.
    failing: BTreeMap<String, String>,
}

impl Reconcile {
    pub(super) fn new(now: Clock) -> Self {
        Self { due: now + EVERY, reading: false, seen: mpsc::channel(1), failing: BTreeMap::new() }
    }

    /// What a task read last.
    pub(super) async fn seen(&mut self) -> Option<Seen> {
        self.seen.1.recv().await
    }

    /// Tells of an object what is new: that it was mended, that it cannot be, or that it can again.
    fn told(&mut self, object: String, result: Result<bool, impl Display>, lost: &str) {
        match result {
            Ok(mended) => {
                let failed = self.failing.remove(&object).is_some();
                if mended {
                    warn!("{object}: others removed or changed it, and it is put back; {lost}");
                } else if failed {
                    info!("{object} is as it should be again");
                }
            }
            Err(error) => {
                let error = error.to_string();
                if self.failing.insert(object.clone(), error.clone()).as_ref() != Some(&error) {
                    let every = EVERY.as_secs();
                    warn!("{object} is not as it should be: {error}; {lost}; tried again each {every} s");
                }
            }
        }
    }

    /// What `status` says of it.
    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        self.failing.iter().map(|(object, error)| format!("{object} is not as it should be: {error}"))
    }
}

fn shown(ifindex: u32) -> String {
    device_name(ifindex).unwrap_or_else(|| format!("#{ifindex}"))
}

impl Driver {
    /// Compares everything when that is due.
    pub(super) fn look_at_objects(&mut self) {
        if self.reconcile.due > Clock::now() {
            return;
        }
        self.reconcile.due = Clock::now() + EVERY;
        let pins = self.datapath.keep_pins().map(|pinned| pinned > 0);
        self.reconcile.told("the pins of the maps".to_owned(), pins, "packets go on as before");
        let config = self.datapath.keep_config();
        self.reconcile.told("the programs' configuration".to_owned(), config, "meanwhile no probe was answered");
        let locals = self.datapath.keep_locals(&self.scan.locals);
        self.reconcile.told("the table of this host's addresses".to_owned(), locals, "packets took the slow path");
        self.attaching.compare_xdp();
        self.attach_devices();
        self.slow_path.compare();
        self.read();
    }

    /// Has the worker put programs back that others took off devices.
    fn keep_programs(&self) -> impl Future<Output = Result<Vec<Kept>, Ended>> + use<> {
        let is_there = |ifindex: &u32| device_name(*ifindex).is_some();
        let containers: Vec<u32> = self.endpoints.values().copied().collect();
        let underlay: Vec<u32> = self.devices.keys().copied().collect();
        let socket = self.datapath.socket_device();
        // That a device is gone is told by the host task.
        self.programs.ask(move |programs| {
            let mut kept = Vec::new();
            for ifindex in containers.into_iter().filter(is_there) {
                let object = format!("the program on the container's interface {}", shown(ifindex));
                kept.push((object, programs.keep_container(ifindex), "the container was cut off meanwhile"));
            }
            for ifindex in underlay.into_iter().filter(is_there) {
                let object = format!("the program on the underlay device {}", shown(ifindex));
                let lost = "packets that arrived by it took the slow path";
                kept.push((object, programs.keep_underlay(ifindex), lost));
            }
            if is_there(&socket) {
                let object = "the programs on the VXLAN socket device".to_owned();
                kept.push((object, programs.keep_socket_device(socket), "no probe left meanwhile"));
            }
            kept
        })
    }

    /// Reads in a task of its own what takes time.
    fn read(&mut self) {
        if std::mem::replace(&mut self.reconcile.reading, true) {
            return;
        }
        let host_ends = self.endpoints.values().copied().collect();
        let (reader, sender) = (self.datapath.reader(), self.reconcile.seen.0.clone());
        let (name, data_port) = (self.socket_device.clone(), self.data_port);
        let (range, programs) = (self.node.masqueraded(), self.keep_programs());
        tokio::spawn(async move {
            let devices = devices().await;
            let socket_fits = socket_device::fits_now(&name, data_port).await;
            let masquerade = match range {
                Some(range) => Some(egress::apply(range).await),
                None => None,
            };
            let tables = tables(reader).await;
            let programs = programs.await.unwrap_or_default();
            // Fails only when the driver has ended.
            drop(sender.send(Seen { programs, host_ends, devices, tables, socket_fits, masquerade }).await);
        });
    }

    /// A task has read.
    pub(super) async fn mend(&mut self, seen: Seen) -> Result<Option<Shutdown>, RunError> {
        let Seen { programs, host_ends, devices, tables, socket_fits, masquerade } = seen;
        self.reconcile.reading = false;
        for (object, kept, lost) in programs {
            self.reconcile.told(object, kept, lost);
        }
        match masquerade.filter(|_| self.node.masqueraded().is_some()) {
            Some(applied) => self.masqueraded(applied),
            None => self.egress_blocked.clear(),
        }
        let tables = tables.and_then(|found| self.datapath.keep_tables(found));
        self.reconcile.told(
            "a table of the programs".to_owned(),
            tables.map(|mended| mended > 0),
            "packets of the entries concerned were lost meanwhile",
        );
        if !socket_fits {
            self.remake_socket_device();
        }
        let devices = match devices {
            Ok(devices) => devices,
            Err(error) => {
                let object = "the list of devices".to_owned();
                self.reconcile.told(object, Err(error), "interfaces that are down stay so");
                return Ok(None);
            }
        };
        self.reconcile.told("the list of devices".to_owned(), Ok::<_, NetlinkError>(false), "");
        for ifindex in host_ends {
            if !self.endpoints.values().any(|index| *index == ifindex) {
                continue;
            }
            match devices.get(&ifindex) {
                Some(true) => {}
                Some(false) => self.raise(ifindex),
                None => {
                    if let Some(how) = self.gone(ifindex).await? {
                        return Ok(Some(how));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Somebody set a device down: brings it up again if it is the host end of a container's interface.
    pub(super) fn raise(&self, ifindex: u32) {
        if !self.endpoints.values().any(|index| *index == ifindex) {
            return;
        }
        tokio::spawn(async move {
            // One that is being removed is down for a moment before it is gone.
            sleep(DOWN_FOR).await;
            let name = shown(ifindex);
            match endpoints::raise_again(ifindex).await {
                Ok(true) => {
                    warn!(
                        "the container's interface {name} was set down, and is up again; the container was cut off meanwhile"
                    );
                }
                Ok(false) => {}
                Err(error) => {
                    let every = EVERY.as_secs();
                    warn!("{error}; the container behind {name} is cut off, tried again each {every} s");
                }
            }
        });
    }
}

async fn devices() -> Result<BTreeMap<u32, bool>, NetlinkError> {
    let devices = Netlink::here()?.devices().await?;
    Ok(devices.into_iter().map(|device| (device.index, device.up)).collect())
}

async fn tables(reader: Reader) -> Result<Vec<MapOp>, DatapathError> {
    match tokio::task::spawn_blocking(move || reader.read()).await {
        Ok(read) => read,
        // It was cancelled with the runtime; nobody will look.
        Err(_ended) => Ok(Vec::new()),
    }
}
