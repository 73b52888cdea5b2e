//! The host around the controller: its devices, addresses, routes, and containers that go without a word.

use tracing::{debug, info, warn};

use super::{Driver, RunError};
use crate::{
    proto::io::{Input, Shutdown, Underlay},
    shell::{
        control::KernelFacts,
        datapath::{self, DatapathError},
        endpoints,
        underlay::{self, UnderlayEvent},
    },
};

/// What a look at the host found.
pub(super) struct Seen {
    pub(super) underlay: Underlay,
    /// The refusal of a device, where the operator insists on XDP.
    pub(super) xdp: Result<(), DatapathError>,
}

impl Driver {
    pub(super) async fn host_event(&mut self, event: UnderlayEvent) -> Result<Option<Shutdown>, RunError> {
        match event {
            UnderlayEvent::LinkGone { name } => self.gone(&name).await,
            UnderlayEvent::Changed => match self.look_at_host().await {
                Ok(Seen { underlay, xdp }) => {
                    if let Err(error) = xdp {
                        warn!("{error}");
                    }
                    let told = self.input(Input::Underlay(underlay)).await?;
                    Ok(self.look_for_lost().await?.or(told))
                }
                Err(error) => {
                    warn!("{error}; devices, routes and containers' MTU stay as they were");
                    Ok(None)
                }
            },
        }
    }

    /// A device is gone; a container's may have been made anew under the same name meanwhile.
    async fn gone(&mut self, name: &str) -> Result<Option<Shutdown>, RunError> {
        self.devices.remove(name);
        if let Err(error) = self.datapath.forget_device(name) {
            warn!("{error}");
        }
        if self.endpoints.contains(name) { self.look_for_lost().await } else { Ok(None) }
    }

    /// Tells the core of containers' interfaces that are not there any more.
    async fn look_for_lost(&mut self) -> Result<Option<Shutdown>, RunError> {
        let present = match endpoints::list().await {
            Ok(present) => present,
            Err(error) => {
                warn!("{error}");
                return Ok(None);
            }
        };
        let lost: Vec<String> = self.endpoints.iter().filter(|n| !present.contains_key(*n)).cloned().collect();
        let mut told = None;
        for host_if in lost {
            self.endpoints.remove(&host_if);
            if let Err(error) = self.datapath.forget_device(&host_if) {
                warn!("{error}");
            }
            told = self.input(Input::EndpointGone { host_if }).await?.or(told);
        }
        Ok(told)
    }

    /// Attaches the programs to every underlay device and resolves every tunnel's route anew.
    pub(super) async fn look_at_host(&mut self) -> Result<Seen, RunError> {
        let scan = underlay::scan().await?;
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
        let xdp = self.look_at_xdp(&scan.devices);
        // Also those that the kernel held already, and those to which no route led when they were told.
        let remotes = self.datapath.remotes();
        self.routes.retain(|addr, _| remotes.contains(addr));
        for addr in remotes {
            // Without a route the entry in the kernel stays: the way back is most likely the same.
            if let Ok(route) = underlay::route_to(addr).await {
                self.routes.insert(addr, route);
            }
        }
        let routes = &self.routes;
        match self.datapath.refresh_tunnels(&|addr| routes.get(&addr).copied()) {
            Ok(0) => {}
            Ok(changed) => info!("{changed} tunnels follow the host's routes"),
            Err(error) => warn!("{error}"),
        }
        Ok(Seen { underlay: scan.underlay, xdp })
    }

    /// Tells the core to which peers packets were sent.
    pub(super) async fn look_at_traffic(&mut self) -> Result<Option<Shutdown>, RunError> {
        match self.datapath.used_tunnels() {
            Ok(peers) if peers.is_empty() => Ok(None),
            Ok(peers) => self.input(Input::Traffic(peers)).await,
            Err(error) => {
                // Said once a second, so not loudly; who asks for a report sees it.
                debug!("{error}; which peers are sent to is looked at again later");
                Ok(None)
            }
        }
    }

    pub(super) fn kernel_facts(&self) -> KernelFacts {
        let bpf_dir = self.dirs.bpf.display().to_string();
        let facts = match self.datapath.facts() {
            Ok(facts) => facts,
            Err(error) => {
                let warnings = self.overlap.iter().cloned().chain([error.to_string()]).collect();
                return KernelFacts { bpf_dir, warnings, ..KernelFacts::default() };
            }
        };
        let datapath::KernelFacts { hook: _, counters, drops, maps, programs, links, unreachable } = facts;
        let unreachable = unreachable.into_iter().map(|peer| format!("this host has no route to peer {peer}"));
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
            warnings: self.overlap.iter().cloned().chain(unreachable).chain(self.neighbours.warning()).collect(),
        }
    }
}
