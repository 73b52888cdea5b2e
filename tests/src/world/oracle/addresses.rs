//! Addresses and rings: no address twice, what was promised is durable, a ring is for ever.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use weave_ctl::proto::{
    command::{Answer, Command, Refusal},
    ipam::Ring,
    name::PeerName,
};

use super::Oracle;
use crate::world::{HostId, World};

#[derive(Clone, Debug)]
enum Asked {
    Attach(HostId, String),
    /// With what was promised to the container before.
    Detach((HostId, String), Option<Vec<Ipv4Net>>),
}

/// What callers were told of addresses, and who has which.
#[derive(Default)]
pub(in crate::world) struct Addresses {
    asked: BTreeMap<u64, Asked>,
    /// Containers whose attachment was acknowledged, with the addresses told.
    attached: BTreeMap<(HostId, String), Vec<Ipv4Net>>,
    /// Containers about which a request is open: either outcome is right.
    open: BTreeSet<(HostId, String)>,
    rings: BTreeMap<HostId, Ring>,
    by_seeds: BTreeMap<Vec<PeerName>, Ring>,
    on_interfaces: Index,
    on_disks: Index,
}

/// Who has an address: host and interface, or host and container.
#[derive(Default)]
struct Index {
    holder: BTreeMap<Ipv4Addr, (HostId, String)>,
    of: BTreeMap<HostId, Vec<Ipv4Addr>>,
}

impl Index {
    /// Replaces what `host` holds; the first address that somebody else holds, with both holders.
    fn replace(&mut self, host: HostId, held: Vec<(Ipv4Addr, String)>) -> Option<String> {
        for addr in self.of.remove(&host).unwrap_or_default() {
            self.holder.remove(&addr);
        }
        self.of.insert(host, held.iter().map(|(addr, _)| *addr).collect());
        for (addr, what) in held {
            let here = (host, what);
            if let Some(other) = self.holder.insert(addr, here.clone()) {
                return Some(format!("h{} {} and h{} {} have {addr}", other.0, other.1, here.0, here.1));
            }
        }
        None
    }
}

impl Oracle {
    pub(in crate::world) fn asked(&mut self, request: u64, host: HostId, command: &Command) {
        let this = &mut self.addresses;
        let asked = match command {
            Command::Attach { container, .. } => Asked::Attach(host, container.id.clone()),
            Command::Detach { id, .. } => {
                // Until it is refused it may have been done, also when its answer is lost in a crash.
                let key = (host, id.clone());
                let promise = this.attached.remove(&key);
                Asked::Detach(key, promise)
            }
            _ => return,
        };
        if let Asked::Attach(host, id) = &asked {
            this.open.insert((*host, id.clone()));
        }
        this.asked.insert(request, asked);
    }

    pub(in crate::world) fn answered(&mut self, request: u64, answer: &Result<Answer, Refusal>) {
        let this = &mut self.addresses;
        match (this.asked.remove(&request), answer) {
            (Some(Asked::Attach(host, id)), Ok(Answer::Attached(status))) => {
                this.open.remove(&(host, id.clone()));
                this.attached.insert((host, id), status.addrs.clone());
            }
            (Some(Asked::Attach(host, id)), _) => drop(this.open.remove(&(host, id))),
            (Some(Asked::Detach(key, Some(promise))), Err(_)) => drop(this.attached.insert(key, promise)),
            (Some(Asked::Detach(..)) | None, _) => {}
        }
    }

    pub(in crate::world) fn vanished(&mut self, host: HostId, container: &str) {
        self.addresses.attached.remove(&(host, container.to_owned()));
    }
}

impl World {
    /// The kernel of `id` forgot everything; addresses stay promised.
    pub(in crate::world) fn rebooted(&mut self, id: HostId) {
        self.check_interfaces(id);
        self.forget_guarded(id);
    }

    /// The store of `id` is lost as well: nothing is promised.
    pub(in crate::world) fn wiped(&mut self, id: HostId) {
        let this = &mut self.oracle.addresses;
        this.attached.retain(|(host, _), _| *host != id);
        this.open.retain(|(host, _)| *host != id);
        this.rings.remove(&id);
        self.check_disk(id);
    }

    /// No address is on two interfaces at once, anywhere.
    pub(in crate::world) fn check_interfaces(&mut self, id: HostId) {
        let Some(host) = self.hosts.get(&id) else { return };
        let interfaces = host.kernel.interfaces.values().map(|(_, spec)| spec);
        let held = interfaces.flat_map(|s| s.addrs.iter().map(|n| (n.addr(), format!("interface {}", s.host_if))));
        if let Some(wrong) = self.oracle.addresses.on_interfaces.replace(id, held.collect()) {
            self.fail("an address once", &wrong);
        }
    }

    /// After a commit: no address is given twice, each is of the giver's share, promises are kept, the ring stays.
    pub(in crate::world) fn check_disk(&mut self, id: HostId) {
        let Some(host) = self.hosts.get(&id) else { return };
        let given = host.disk.allocations.iter();
        let held = given.flat_map(|(c, a)| a.addrs.iter().map(move |n| (n.addr(), format!("container {c}"))));
        let held: Vec<(Ipv4Addr, String)> = held.collect();
        let owner = |addr: Ipv4Addr| host.disk.ring.as_ref().and_then(|ring| ring.owner_of(addr));
        let foreign = held.iter().find(|(addr, _)| owner(*addr) != Some(host.name));
        let ring = host.disk.ring.clone();
        if let Some((addr, container)) = foreign {
            self.fail("own share only", &format!("h{id} gave {addr} to {container} and does not own it"));
        }
        if let Some(wrong) = self.oracle.addresses.on_disks.replace(id, held) {
            self.fail("an address once", &wrong);
        }
        if let Some(wrong) = self.oracle.addresses.ring_stays(id, ring) {
            self.fail("a ring is for ever", &wrong);
        }
        self.check_promises(id);
    }

    /// What a caller was told is durable.
    pub(in crate::world) fn check_promises(&self, id: HostId) {
        let Some(host) = self.hosts.get(&id) else { return };
        let this = &self.oracle.addresses;
        let promised = this.attached.range((id, String::new())..).take_while(|((host, _), _)| *host == id);
        for (key, addrs) in promised {
            let stored = host.disk.allocations.get(&key.1).map(|a| &a.addrs);
            if stored != Some(addrs) && !this.open.contains(key) {
                let wrong = format!("h{id} told {} {addrs:?} but its disk says {stored:?}", key.1);
                self.fail("promises are kept", &wrong);
            }
        }
    }
}

impl Addresses {
    /// A ring, once there, stays; hosts that were given the same seeds have the same.
    fn ring_stays(&mut self, id: HostId, ring: Option<Ring>) -> Option<String> {
        let before = self.rings.get(&id);
        if before == ring.as_ref() {
            return None;
        }
        let Some(ring) = ring.filter(|_| before.is_none()) else {
            return Some(format!("the ring of h{id} changed from {before:?}"));
        };
        let first = self.by_seeds.entry(ring.seeds.clone()).or_insert_with(|| ring.clone());
        if *first != ring {
            return Some(format!("h{id} made another ring than others of the same seeds: {ring:?}, {first:?}"));
        }
        self.rings.insert(id, ring);
        None
    }
}
