//! What the host task tells: devices that get the programs, routes for the core, and containers that go without a word.

use std::collections::BTreeSet;

use tracing::debug;

use super::{Driver, RunError};
use crate::{
    api,
    proto::{
        io::{Input, Shutdown},
        status::{CounterStatus, Dataplane, DropStatus, HostStatus, MapStatus, ProgramStatus},
    },
    shell::{
        datapath::{self, Look, device_name},
        host::HostEvent,
    },
};

impl Driver {
    pub(super) async fn host_event(&mut self, event: HostEvent) -> Result<Option<Shutdown>, RunError> {
        match event {
            HostEvent::LinkGone(ifindex) => self.gone(ifindex).await,
            HostEvent::Egress { addr, egress } => {
                match egress {
                    Some(egress) => self.egresses.insert(addr, egress.ifindex),
                    None => self.egresses.remove(&addr),
                };
                self.input(Input::Egress(addr, egress)).await
            }
            HostEvent::SetDown(ifindex) => {
                self.raise(ifindex);
                Ok(None)
            }
            HostEvent::Underlay(scan) => {
                let before = std::mem::replace(&mut self.scan, scan);
                self.attach_devices();
                // Devices of others change more often than what the core is told of them.
                if before.underlay == self.scan.underlay {
                    return Ok(None);
                }
                self.tell_neighbourhood();
                self.input(Input::Underlay(self.scan.underlay.clone())).await
            }
        }
    }

    /// A device is gone; one of the same index may have been made meanwhile.
    pub(super) async fn gone(&mut self, ifindex: u32) -> Result<Option<Shutdown>, RunError> {
        let is_underlay = self.devices.remove(&ifindex).is_some() | self.unattached.remove(&ifindex).is_some();
        let is_socket = ifindex == self.datapath.socket_device();
        let endpoint = self.endpoints.iter().find(|(_, index)| **index == ifindex).map(|(name, _)| name.clone());
        // Devices of others come and go, too.
        if is_underlay || is_socket || endpoint.is_some() {
            self.forget_programs(ifindex);
        }
        self.host.forget(ifindex);
        if is_socket {
            self.remake_socket_device();
        }
        let Some(name) = endpoint else { return Ok(None) };
        self.endpoints.remove(&name);
        self.input(Input::EndpointGone(name)).await
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

    /// Devices by which packets of peers arrive or leave, and that have no program.
    fn without_program(&self) -> impl Iterator<Item = String> {
        let refused = self.unattached.iter().filter(|(ifindex, _)| device_name(**ifindex).is_some());
        let refused = refused.map(|(ifindex, error)| (*ifindex, error.clone()));
        let used: BTreeSet<u32> = self.egresses.values().copied().collect();
        let has = |ifindex: &u32| self.devices.contains_key(ifindex) || self.unattached.contains_key(ifindex);
        let without = used.into_iter().filter(move |ifindex| !has(ifindex));
        let why = "it has no global IPv4 address of its own";
        let without = without.map(move |ifindex| (ifindex, why.to_owned()));
        let text = |(ifindex, why): (u32, String)| {
            let device = device_name(ifindex).unwrap_or_else(|| format!("#{ifindex}"));
            format!(
                "the underlay device {device} has no program of this controller: {why}; packets of peers that arrive by it \
                 are delivered by the kernel's stack, more slowly"
            )
        };
        refused.chain(without).map(text)
    }

    /// What only the shell knows of a status.
    /// Neighbours of this host may ask its resolver.
    pub(super) fn tell_neighbourhood(&self) {
        if let Some((resolver, _)) = &self.resolver {
            resolver.set_neighbourhood(&self.scan.underlay.addrs, &self.scan.underlay.on_link);
        }
    }

    pub(super) fn host_status(&self) -> HostStatus {
        let known = [self.overlap.clone(), self.links.warning(), self.disk_warning(), self.neighbours.warning()];
        let mut warnings: Vec<String> = known.into_iter().flatten().collect();
        warnings.extend(self.without_program());
        warnings.extend(self.reconcile.warnings());
        warnings.extend(self.egress_blocked.iter().cloned());
        let facts = self.datapath.facts().unwrap_or_else(|error| {
            warnings.push(error.to_string());
            datapath::KernelFacts::default()
        });
        let datapath::KernelFacts { hook: _, counters, drops, maps, programs, links } = facts;
        let device = |link: &datapath::Attachment| match link.mode {
            Some(mode) => format!("{} ({mode})", link.device),
            None => link.device.clone(),
        };
        let on = |program: &str| links.iter().filter(|l| l.program == program).map(device).collect();
        let program =
            |p: datapath::ProgramFacts| ProgramStatus { name: p.name.to_owned(), id: p.id, attached_to: on(p.name) };
        let map =
            |m: datapath::MapFacts| MapStatus { name: m.name.to_owned(), entries: m.entries, capacity: m.capacity };
        let counter =
            |c: datapath::CounterFacts| CounterStatus { name: c.name.to_owned(), packets: c.packets, bytes: c.bytes };
        let drop = |d: datapath::DropFacts| DropStatus { reason: d.reason.to_owned(), packets: d.packets };
        let dataplane = Dataplane {
            bpf_dir: self.dirs.bpf.display().to_string(),
            programs: programs.into_iter().map(program).collect(),
            maps: maps.into_iter().map(map).collect(),
            counters: counters.into_iter().map(counter).collect(),
            drops: drops.into_iter().map(drop).collect(),
        };
        let resolver = self.resolver.as_ref().map(|(resolver, _)| resolver.status());
        // Read from memory, not written by code: the test of rolling upgrades makes a program of another version by its text.
        HostStatus { version: std::hint::black_box(api::VERSION).to_owned(), dataplane, resolver, warnings }
    }
}
