//! Addresses and rings: no address twice, what was promised is durable, a ring is for ever.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use weave_ctl::proto::{
    command::{Answer, Command, Holder, Refusal},
    election::Vote,
    ipam::Ring,
    name::PeerId,
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
    open: BTreeSet<(HostId, String, u64)>,
    rings: BTreeMap<HostId, Ring>,
    /// Several networks are meant to be there.
    apart: bool,
    /// Of the first ring of all.
    origin: Option<Vec<PeerId>>,
    votes: BTreeMap<HostId, Vote>,
    /// Hosts that were taken over from: what they still have is others' by now.
    outcasts: BTreeSet<HostId>,
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
            Command::Attach(container, _) => Asked::Attach(host, container.owner.clone()),
            Command::Reserve(Some(owner), _) => Asked::Attach(host, owner.clone()),
            Command::Detach { holder: Holder { owner, .. }, keep: false, .. } | Command::Release(owner, _) => {
                // Until it is refused it may have been done, also when its answer is lost in a crash.
                let key = (host, owner.clone());
                let promise = this.attached.remove(&key);
                Asked::Detach(key, promise)
            }
            Command::Reset { .. } => {
                // Containers are removed before this peer leaves, also when it cannot in the end.
                return this.attached.retain(|(holder, _), _| *holder != host);
            }
            _ => return,
        };
        if let Asked::Attach(host, id) = &asked {
            this.open.insert((*host, id.clone(), request));
        }
        this.asked.insert(request, asked);
    }

    pub(in crate::world) fn answered(&mut self, request: u64, answer: &Result<Answer, Refusal>) {
        let this = &mut self.addresses;
        match (this.asked.remove(&request), answer) {
            (Some(Asked::Attach(host, id)), Ok(Answer::Container(status))) => {
                this.open.remove(&(host, id.clone(), request));
                let key = (host, id);
                let later = this.asked.range_mut(request..).find_map(|(_, asked)| match asked {
                    Asked::Detach(of, promise) if *of == key => Some(promise),
                    _ => None,
                });
                // Whoever asked since that it be detached is not promised that it stays, unless that is refused.
                match later {
                    Some(promise) => *promise = Some(status.addrs.clone()),
                    None => drop(this.attached.insert(key, status.addrs.clone())),
                }
            }
            (Some(Asked::Attach(host, id)), _) => drop(this.open.remove(&(host, id, request))),
            (Some(Asked::Detach(key, Some(promise))), Err(_)) => drop(this.attached.insert(key, promise)),
            (Some(Asked::Detach(..)) | None, _) => {}
        }
    }

    pub(in crate::world) fn vanished(&mut self, host: HostId, container: &str) {
        self.addresses.attached.remove(&(host, container.to_owned()));
    }
}

impl World {
    /// Hosts may be of several networks: that is what is looked at.
    pub fn allow_networks_apart(&mut self) {
        self.oracle.addresses.apart = true;
    }

    /// Host `id` is about to be taken over from: the operator says that it is gone for good.
    pub fn give_up(&mut self, id: HostId) {
        let this = &mut self.oracle.addresses;
        this.outcasts.insert(id);
        this.attached.retain(|(host, _), _| *host != id);
        this.on_disks.replace(id, Vec::new());
    }

    /// The kernel of `id` forgot everything; addresses stay promised.
    pub(in crate::world) fn rebooted(&mut self, id: HostId) {
        self.check_interfaces(id);
        self.forget_guarded(id);
    }

    /// The store of `id` is lost as well: nothing is promised.
    pub(in crate::world) fn wiped(&mut self, id: HostId) {
        let this = &mut self.oracle.addresses;
        this.attached.retain(|(host, _), _| *host != id);
        this.open.retain(|(host, ..)| *host != id);
        this.rings.remove(&id);
        this.votes.remove(&id);
        this.outcasts.remove(&id);
        self.check_disk(id);
    }

    /// No address is on two interfaces at once, anywhere.
    pub(in crate::world) fn check_interfaces(&mut self, id: HostId) {
        let Some(host) = self.hosts.get(&id) else { return };
        // A host that was removed and comes back without reaching anybody has its own interface again (L13).
        let interfaces = host.kernel.interfaces.values().map(|(_, spec)| spec);
        let interfaces = interfaces.filter(|_| !self.oracle.addresses.gave_up(id));
        let held = interfaces.flat_map(|s| s.addrs.iter().map(|n| (n.addr(), format!("interface {}", s.host_if))));
        if let Some(wrong) = self.oracle.addresses.on_interfaces.replace(id, held.collect()) {
            self.fail("an address once", &wrong);
        }
    }

    /// After a commit: no address is given twice, each is of the giver's share, promises are kept, the ring stays.
    pub(in crate::world) fn check_disk(&mut self, id: HostId) {
        let Some(host) = self.hosts.get(&id) else { return };
        let given = host.disk.reservations.iter();
        let held = given.flat_map(|(c, a)| a.addrs.iter().map(move |n| (n.addr(), format!("container {c}"))));
        let held: Vec<(Ipv4Addr, String)> = held.collect();
        let ring = host.disk.ring.as_ref();
        let owner = |addr: Ipv4Addr| ring.and_then(|ring| ring.owner_of(addr));
        let me = host.store();
        // Who was taken over from keeps what its containers have until it is reset.
        let removed = ring.is_some_and(|ring| me.is_some_and(|me| ring.is_removed(me)));
        let inside = |addr: &Ipv4Addr| host.spec.range.contains(addr);
        let foreign = held.iter().filter(|(addr, _)| inside(addr) && !removed).find(|(addr, _)| owner(*addr) != me);
        let ring = ring.cloned();
        let vote = host.disk.vote.clone();
        if let Some(wrong) = self.oracle.addresses.vote_stays(id, vote) {
            self.fail("ballots never go back", &wrong);
        }
        if self.oracle.addresses.gave_up(id) {
            return;
        }
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
        let open = |(host, container): &(HostId, String)| {
            let first = (*host, container.clone(), 0);
            this.open.range(first..).next().is_some_and(|(h, c, _)| (h, c) == (host, container))
        };
        for (key, addrs) in promised {
            let stored = host.disk.reservations.get(&key.1).map(|a| &a.addrs);
            if stored != Some(addrs) && !open(key) {
                let wrong = format!("h{id} told {} {addrs:?} but its disk says {stored:?}", key.1);
                self.fail("promises are kept", &wrong);
            }
        }
    }
}

impl Addresses {
    /// True when others were told to take over from the host, and its store is still the same.
    pub(super) fn gave_up(&self, id: HostId) -> bool {
        self.outcasts.contains(&id)
    }

    /// What a store promised and accepted stays, or gives way to higher ballots.
    fn vote_stays(&mut self, id: HostId, vote: Option<Vote>) -> Option<String> {
        let vote = vote?;
        let before = self.votes.insert(id, vote.clone())?;
        let accepted = |vote: &Vote| vote.accepted.as_ref().map(|accepted| accepted.ballot);
        let back = vote.promised < before.promised || accepted(&vote) < accepted(&before);
        let other = accepted(&vote) == accepted(&before) && vote.accepted != before.accepted;
        (back || other || accepted(&vote) > vote.promised).then(|| format!("h{id}: {before:?} became {vote:?}"))
    }

    /// A ring, once there, only grows: of the same origin, no version lowered, no takeover lost; it covers the range, and all
    /// hosts have rings of one origin.
    fn ring_stays(&mut self, id: HostId, ring: Option<Ring>) -> Option<String> {
        let before = self.rings.get(&id);
        if before == ring.as_ref() {
            return None;
        }
        let Some(ring) = ring else { return Some(format!("h{id} lost its ring {before:?}")) };
        if let Some(before) = before
            && (before.origin != ring.origin || !ring.covers(before))
        {
            return Some(format!("the ring of h{id} went back from {before:?} to {ring:?}"));
        }
        let covered: u64 = ring.routes().map(|(net, _)| 1_u64 << (32 - net.prefix_len())).sum();
        if covered != 1_u64 << (32 - ring.range.prefix_len()) {
            return Some(format!("the ring of h{id} covers {covered} addresses: {ring:?}"));
        }
        let origin = self.origin.get_or_insert_with(|| ring.origin.clone());
        if *origin != ring.origin && !self.apart {
            return Some(format!("h{id} is of another network than others: {:?}, {origin:?}", ring.origin));
        }
        self.rings.insert(id, ring);
        None
    }
}
