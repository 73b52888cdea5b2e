//! Programs of devices: asked for of the worker that waits for the kernel's network lock, and noted when they are there.
//!
//! Bounds: one request for the underlay's devices at a time; what changes meanwhile is asked for after it.

use tokio::sync::mpsc;
use tracing::{info, warn};

use super::Driver;
use crate::shell::{
    QUEUE,
    datapath::{Datapath, DatapathError, Ended, XdpDevice, device_name},
    host::Device,
};

/// What the worker came to.
pub(super) enum Attached {
    /// The programs of the underlay's devices.
    Underlay(Result<UnderlayAttached, Ended>),
    /// Those in the place of programs of another schema.
    Former(Result<Result<(), DatapathError>, Ended>),
}

/// What came of the programs of the underlay's devices.
pub(super) struct UnderlayAttached {
    /// Devices that had none.
    devices: Vec<(Device, Result<(), DatapathError>)>,
    /// What went wrong with XDP.
    xdp: Vec<DatapathError>,
}

/// What was asked for.
pub(super) struct Attaching {
    answers: (mpsc::Sender<Attached>, mpsc::Receiver<Attached>),
    /// Programs of another version still decide about packets.
    has_former: bool,
    /// The worker is at it.
    busy: bool,
    /// Something changed meanwhile.
    again: bool,
    /// How devices were to have XDP when that was asked for last; `None` to ask in any case.
    xdp: Option<Vec<XdpDevice>>,
}

impl Attaching {
    /// Nothing yet.
    pub(super) fn of(datapath: &Datapath) -> Self {
        let has_former = datapath.programs().has_former();
        Self { answers: mpsc::channel(QUEUE), has_former, busy: false, again: false, xdp: None }
    }

    /// True while programs of another version decide about packets.
    pub(super) fn has_former(&self) -> bool {
        self.has_former
    }

    /// The worker's next answer.
    pub(super) async fn answer(&mut self) -> Option<Attached> {
        self.answers.1.recv().await
    }

    /// Has XDP compared the next time, though nothing changed.
    pub(super) fn compare_xdp(&mut self) {
        self.xdp = None;
    }
}

impl Driver {
    /// Attaches the programs to every underlay device that lacks them; [`Self::attached`] gets what came of it.
    pub(super) fn attach_devices(&mut self) {
        if let Err(error) = self.datapath.set_locals(&self.scan.locals) {
            warn!("{error}; packets to addresses of this host that are not in it are delivered more slowly");
        }
        for Device { ifindex, name, .. } in &self.scan.devices {
            if let Some(before) = self.devices.get_mut(ifindex).filter(|before| *before != name) {
                info!("underlay device {before} is called {name} now; its programs stay on it");
                before.clone_from(name);
            }
        }
        if self.attaching.busy {
            self.attaching.again = true;
            return;
        }
        if self.lacking().next().is_none() && self.attaching.xdp.as_ref() == Some(&self.wanted_xdp()) {
            return;
        }
        self.attaching.busy = true;
        let (asked, attached) = (self.ask_for_programs(), self.attaching.answers.0.clone());
        tokio::spawn(async move {
            // Fails only when the driver has ended.
            drop(attached.send(Attached::Underlay(asked.await)).await);
        });
    }

    /// Underlay devices without the program.
    fn lacking(&self) -> impl Iterator<Item = &Device> {
        self.scan.devices.iter().filter(|device| !self.devices.contains_key(&device.ifindex))
    }

    /// Has the worker attach what is lacking.
    pub(super) fn ask_for_programs(&mut self) -> impl Future<Output = Result<UnderlayAttached, Ended>> + use<> {
        let (lacking, wanted) = (self.lacking().cloned().collect::<Vec<_>>(), self.wanted_xdp());
        self.attaching.xdp = Some(wanted.clone());
        let is_off = self.is_without_xdp();
        self.programs.ask(move |programs| {
            let attach = |device: Device| {
                let result = programs.attach_underlay(device.ifindex);
                (device, result)
            };
            let devices = lacking.into_iter().map(attach).collect();
            let xdp =
                if is_off { programs.remove_xdp().err().into_iter().collect() } else { programs.set_xdp(&wanted) };
            UnderlayAttached { devices, xdp }
        })
    }

    /// Notes which devices have their programs now.
    ///
    /// # Errors
    /// The first refusal of XDP, where the operator insists on it.
    pub(super) fn underlay_attached(&mut self, attached: UnderlayAttached) -> Result<(), DatapathError> {
        for (Device { ifindex, name, mtu, .. }, result) in attached.devices {
            if device_name(ifindex).is_none() {
                // It vanished meanwhile.
                self.forget_programs(ifindex);
                continue;
            }
            match result {
                Ok(()) => {
                    info!("underlay device {name} (MTU {mtu})");
                    self.devices.insert(ifindex, name);
                    self.unattached.remove(&ifindex);
                }
                Err(error) => {
                    let error = error.to_string();
                    if self.unattached.insert(ifindex, error.clone()).as_ref() != Some(&error) {
                        warn!("{error}; packets that arrive by {name} are delivered more slowly, trying again");
                    }
                }
            }
        }
        self.told_of_xdp(attached.xdp)
    }

    /// The worker has done something.
    pub(super) fn attached(&mut self, attached: Attached) {
        match attached {
            Attached::Underlay(attached) => {
                self.attaching.busy = false;
                if let Ok(attached) = attached
                    && let Err(error) = self.underlay_attached(attached)
                {
                    warn!("{error}");
                }
                if std::mem::take(&mut self.attaching.again) {
                    self.attach_devices();
                }
            }
            Attached::Former(Ok(Ok(()))) => {
                info!("the programs of another version of weave-ctl ended, and those of this one took over");
                // XDP programs could not be attached beside the former ones.
                self.attaching.compare_xdp();
                self.attach_devices();
            }
            Attached::Former(Ok(Err(error))) => {
                warn!("{error}; programs of another version of weave-ctl may still decide about packets: launch again");
            }
            Attached::Former(Err(Ended)) => {}
        }
    }

    /// Puts the programs of this version in the place of those of another.
    pub(super) fn replace_former(&mut self) {
        self.attaching.has_former = false;
        let underlay: Vec<u32> = self.devices.keys().copied().collect();
        let ended = self.programs.ask(move |programs| {
            programs.end_former()?;
            let mut there = underlay.into_iter().filter(|ifindex| device_name(*ifindex).is_some());
            there.try_for_each(|ifindex| programs.keep_underlay(ifindex).map(drop))
        });
        let attached = self.attaching.answers.0.clone();
        tokio::spawn(async move {
            // Fails only when the driver has ended.
            drop(attached.send(Attached::Former(ended.await)).await);
        });
    }

    /// Removes the pins of a device that vanished.
    pub(super) fn forget_programs(&self, ifindex: u32) {
        let forgotten = self.programs.ask(move |programs| programs.forget_device(ifindex));
        tokio::spawn(async move {
            if let Ok(Err(error)) = forgotten.await {
                warn!("{error}");
            }
        });
    }
}
