//! What the host task tells: devices that get the programs, routes for the core, and containers that go without a word.

use tracing::{debug, info, warn};

use super::{Driver, RunError};
use crate::{
    proto::io::{Input, Shutdown},
    shell::{
        control::KernelFacts,
        datapath::{self, DatapathError, Look},
        host::{HostEvent, Scan},
    },
};

impl Driver {
    pub(super) async fn host_event(&mut self, event: HostEvent) -> Result<Option<Shutdown>, RunError> {
        match event {
            HostEvent::LinkGone { name, ifindex } => self.gone(name, ifindex).await,
            HostEvent::Egress { addr, egress } => self.input(Input::Egress(addr, egress)).await,
            HostEvent::Underlay(scan) => {
                if let Err(error) = self.attach_devices(&scan) {
                    warn!("{error}");
                }
                self.input(Input::Underlay(scan.underlay)).await
            }
        }
    }

    /// A device is gone; one of the same name may have been made anew meanwhile.
    async fn gone(&mut self, name: String, ifindex: u32) -> Result<Option<Shutdown>, RunError> {
        self.devices.remove(&name);
        if let Err(error) = self.datapath.forget_device(&name) {
            warn!("{error}");
        }
        if name == self.socket_device {
            self.host.forget(&name);
            self.remake_socket_device();
        }
        if self.endpoints.get(&name) != Some(&ifindex) {
            return Ok(None);
        }
        self.endpoints.remove(&name);
        self.host.forget(&name);
        self.input(Input::EndpointGone(name)).await
    }

    /// Attaches the programs to every underlay device.
    ///
    /// # Errors
    /// The first refusal of XDP, where the operator insists on it.
    pub(super) fn attach_devices(&mut self, scan: &Scan) -> Result<(), DatapathError> {
        if let Err(error) = self.datapath.set_locals(&scan.locals) {
            warn!("{error}; packets to addresses of this host that are not in it are delivered more slowly");
        }
        for device in &scan.devices {
            if self.devices.contains(&device.name) {
                continue;
            }
            match self.datapath.attach_underlay(&device.name) {
                Ok(()) => {
                    info!("underlay device {} (MTU {})", device.name, device.mtu);
                    self.devices.insert(device.name.clone());
                }
                Err(error) => warn!("{error}; packets that arrive by {} are delivered more slowly", device.name),
            }
        }
        self.look_at_xdp(&scan.devices)
    }

    /// Tells the core what came by the rings, and that something was lost there.
    pub(super) async fn take_events(&mut self) -> Result<Option<Shutdown>, RunError> {
        for input in self.prober.take() {
            if let Some(how) = self.input(input).await? {
                return Ok(Some(how));
            }
        }
        // A table that cannot be read tells nothing new; who asks for a report sees why.
        let lost = self.datapath.lost_events().unwrap_or(self.lost_events);
        let count = lost.saturating_sub(self.lost_events);
        self.lost_events = lost;
        if count == 0 { Ok(None) } else { self.input(Input::RepliesLost(count)).await }
    }

    /// Tells the core between which peers and this host packets travelled.
    pub(super) async fn look_at_traffic(&mut self, look: Look) -> Result<Option<Shutdown>, RunError> {
        match self.datapath.activity(look) {
            Ok(found) if found.is_empty() => Ok(None),
            Ok(found) => self.input(Input::Activity(found)).await,
            Err(error) => {
                // Said once a second, so not loudly; who asks for a report sees it.
                debug!("{error}; traffic is looked at again later");
                Ok(None)
            }
        }
    }

    pub(super) fn kernel_facts(&self) -> KernelFacts {
        let bpf_dir = self.dirs.bpf.display().to_string();
        let facts = match self.datapath.facts() {
            Ok(facts) => facts,
            Err(error) => {
                let warnings =
                    self.overlap.iter().cloned().chain(self.links.warning()).chain([error.to_string()]).collect();
                return KernelFacts { bpf_dir, warnings, ..KernelFacts::default() };
            }
        };
        let datapath::KernelFacts { hook: _, counters, drops, maps, programs, links } = facts;
        let device = |link: &datapath::Attachment| match link.mode {
            Some(mode) => format!("{} ({mode})", link.device),
            None => link.device.clone(),
        };
        let on = |program: &str| links.iter().filter(|l| l.program == program).map(device).collect();
        KernelFacts {
            bpf_dir,
            counters: counters.into_iter().map(|c| (c.name.to_owned(), c.packets, c.bytes)).collect(),
            drops: drops.into_iter().map(|d| (d.reason.to_owned(), d.packets)).collect(),
            maps: maps.into_iter().map(|m| (m.name.to_owned(), m.entries, m.capacity)).collect(),
            programs: programs.into_iter().map(|p| (p.name.to_owned(), p.id, on(p.name))).collect(),
            warnings: self
                .overlap
                .iter()
                .cloned()
                .chain(self.links.warning())
                .chain(self.neighbours.warning())
                .collect(),
        }
    }
}
