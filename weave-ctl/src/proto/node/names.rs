//! Names of containers: from what callers and containers say to the network, and from all peers to the resolver.

use std::{collections::BTreeSet, net::Ipv4Addr};

use super::Node;
use crate::proto::{
    command::{AddrRequest, Answer, Container, Holder, NameRequest, Refusal},
    dns::{self, DnsEvent, EXTERN_OWNER},
    domain::{DnsName, NameError},
    endpoints::Purpose,
    io::{OpId, Output, Record, RequestId},
    ipam::Ring,
    name::{PeerId, PeerName},
    reservation::is_numbered,
    status::{DnsStatus, NameStatus, PeerRef},
    time::Instant,
    wire::{clean, entry::Channel},
};

fn refusal(error: &NameError) -> Refusal {
    Refusal(format!("{error}; nothing was changed"))
}

impl Node {
    /// Attaches a container, whose addresses get names.
    pub(super) fn attach(&mut self, id: RequestId, container: Container, addrs: Vec<AddrRequest>, now: Instant) {
        let read = self
            .read_names(&container.names)
            .and_then(|names| self.dns.check_room(names.len()).map_err(|error| Refusal(error.to_string())));
        match read {
            Ok(()) => self.ask_for(id, Purpose::Attach(container), addrs, now),
            Err(refusal) => self.reply(id, Err(refusal)),
        }
    }

    fn read_names(&self, names: &NameRequest) -> Result<BTreeSet<DnsName>, Refusal> {
        let read = |name: &String| self.launch.dns_domain.name(name).map_err(|error| refusal(&error));
        names.hostname.iter().chain(&names.aliases).map(read).collect()
    }

    /// The name that an owner has when nobody chose one: its own key, where that is a host name.
    fn own_name(&self, owner: &str) -> Option<DnsName> {
        let owner = owner.rsplit('/').next().filter(|_| !is_numbered(owner))?;
        self.launch.dns_domain.name(owner).ok()
    }

    /// Registers what containers that were attached shall be called, and forgets it for those that are gone.
    fn register(&mut self) {
        for owner in self.endpoints.take_released() {
            self.dns.release(&owner);
        }
        for (owner, asked) in self.endpoints.take_named() {
            if asked.without {
                self.dns.release(&owner);
                continue;
            }
            let mut names = self.read_names(&asked).unwrap_or_default();
            if asked.hostname.is_none() && !self.dns.is_registered(&owner) {
                names.extend(self.own_name(&owner));
            }
            names.into_iter().for_each(|name| self.dns.add(&owner, name, &[]));
        }
    }

    /// Brings records, entries and the table of names in line with the containers that are there.
    pub(super) fn pump_names(&mut self, now: Instant) {
        self.out.extend(self.service.as_mut().and_then(|service| service.turn(now)));
        self.register();
        let mut endpoints = self.endpoints.installed();
        endpoints.extend(self.service.as_ref().and_then(|service| service.installed()));
        let changed = self.datapath.set_endpoints(endpoints);
        self.datapath.set_gateway(self.endpoints.gateway());
        if changed || self.dns.has_changed() {
            self.dns.refresh(&self.endpoints.addresses());
        }
        while let Some(event) = self.dns.poll_event() {
            match event {
                DnsEvent::Persist(owner, registered) => {
                    self.out.push_back(Output::Persist(Record::Names(owner, registered)));
                }
                DnsEvent::Entry(key, owner) => {
                    let value = owner.as_ref().map(|owner| owner.as_bytes());
                    self.membership.set_entry(Channel::Dns, &key, value, now);
                }
                DnsEvent::Name(name, addrs) => self.datapath.set_name(name, addrs),
            }
        }
    }

    /// An operation on an interface came to its end.
    pub(super) fn link_done(&mut self, op: OpId, result: Result<u32, String>, now: Instant) {
        match self.service.as_mut().and_then(|service| service.done(op, &result, now)) {
            Some(outputs) => self.out.extend(outputs),
            None => self.endpoints.done(op, result, now),
        }
    }

    /// Names that removed peers gave are none any more.
    pub(super) fn forget_names_of_removed(&mut self, ring: &Ring) {
        if ring.removed.is_empty() {
            return;
        }
        for peer in self.dns.origins() {
            let record = self.membership.record(peer);
            if record.is_none_or(|record| ring.is_removed(PeerId { name: peer, uid: record.uid })) {
                self.dns.peer_gone(peer);
            }
        }
    }

    /// The owner that a caller means, and the addresses that it has here.
    fn named_owner(&self, holder: Option<&Holder>) -> Result<(String, Vec<Ipv4Addr>), Refusal> {
        let Some(holder) = holder else { return Ok((EXTERN_OWNER.to_owned(), Vec::new())) };
        let Some((owner, held)) = self.endpoints.find(holder) else {
            return Err(Refusal(format!(
                "{} has no address here (`ps` lists who has); nothing was changed",
                holder.owner
            )));
        };
        Ok((owner, held.addrs.iter().map(ipnet::Ipv4Net::addr).collect()))
    }

    pub(super) fn add_name(
        &mut self,
        id: RequestId,
        holder: Option<Holder>,
        name: Option<String>,
        addrs: Vec<Ipv4Addr>,
        now: Instant,
    ) {
        let added = self.try_add_name(holder.as_ref(), name.as_deref(), &addrs);
        self.pump_names(now);
        let answer = added.map(|name| Answer::Names(self.shown_names(Some(&name))));
        self.reply(id, answer);
    }

    fn try_add_name(
        &mut self,
        holder: Option<&Holder>,
        name: Option<&str>,
        addrs: &[Ipv4Addr],
    ) -> Result<DnsName, Refusal> {
        let (owner, _) = self.named_owner(holder)?;
        let name = match name {
            Some(name) => self.launch.dns_domain.name(name).map_err(|error| refusal(&error))?,
            None => self.own_name(&owner).ok_or_else(|| {
                Refusal(format!("{owner} is no host name: say what it shall be called; nothing was changed"))
            })?,
        };
        if holder.is_none() && addrs.is_empty() {
            return Err(Refusal("a name needs an address or a container; nothing was changed".to_owned()));
        }
        if let Some(addr) = addrs.iter().find(|addr| addr.is_unspecified() || addr.is_multicast()) {
            return Err(Refusal(format!("{addr} is no host's address; nothing was changed")));
        }
        self.dns.check_room(addrs.len().max(1)).map_err(|error| Refusal(error.to_string()))?;
        self.dns.add(&owner, name.clone(), addrs);
        Ok(name)
    }

    pub(super) fn remove_name(
        &mut self,
        id: RequestId,
        holder: Option<Holder>,
        name: Option<String>,
        addrs: Vec<Ipv4Addr>,
    ) {
        let removed = self.try_remove_name(holder.as_ref(), name.as_deref(), &addrs);
        self.reply(id, removed.map(|()| Answer::Done));
    }

    fn try_remove_name(
        &mut self,
        holder: Option<&Holder>,
        name: Option<&str>,
        addrs: &[Ipv4Addr],
    ) -> Result<(), Refusal> {
        let (owner, held) = self.named_owner(holder)?;
        let name = name.map(|name| self.launch.dns_domain.name(name)).transpose().map_err(|error| refusal(&error))?;
        if self.dns.remove(&owner, name.as_ref(), addrs, &held) > 0 {
            return Ok(());
        }
        let what = name.map_or_else(|| "a name".to_owned(), |name| self.launch.dns_domain.full(&name));
        Err(Refusal(format!("no such address of {owner} has {what} (`status dns` lists all); nothing was changed")))
    }

    pub(super) fn dns_status(&self) -> DnsStatus {
        let [(records, _), _] = self.dns.sizes();
        DnsStatus {
            domain: self.launch.dns_domain.to_string(),
            address: self.endpoints.allocator().service(),
            enabled: self.service.is_some(),
            ready: self.service.as_ref().is_some_and(|service| service.installed().is_some()),
            records,
            resolver: None,
        }
    }

    pub(super) fn names(&mut self, id: RequestId, name: Option<String>) {
        let name = name.map(|name| self.launch.dns_domain.name(&name)).transpose();
        let answer = name.map(|name| Answer::Names(self.shown_names(name.as_ref()))).map_err(|error| refusal(&error));
        self.reply(id, answer);
    }

    /// Records of a name, or of all names.
    fn shown_names(&self, name: Option<&DnsName>) -> Vec<NameStatus> {
        let nicknames = self.nicknames();
        let owner = |name: &DnsName, addr: Ipv4Addr, peer: PeerName| {
            let value = self.membership.value(peer, Channel::Dns, &dns::key(name, addr)).unwrap_or_default();
            clean(&String::from_utf8_lossy(value))
        };
        let status = |(name, addr, peer): &(DnsName, Ipv4Addr, PeerName)| NameStatus {
            name: self.launch.dns_domain.full(name),
            address: *addr,
            owner: owner(name, *addr, *peer),
            peer: PeerRef { name: *peer, nickname: nicknames.get(peer).cloned().unwrap_or_default() },
        };
        match name {
            Some(name) => self.dns.of(name).map(status).collect(),
            None => self.dns.records().map(status).collect(),
        }
    }
}
