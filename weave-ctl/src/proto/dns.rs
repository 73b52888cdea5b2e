//! Names of containers: the addresses that each name has, and the peers that gave it them.
//!
//! A name is registered for an owner of addresses: it *follows* the owner, and then all addresses of its container have it,
//! or it is *fixed* to addresses that a caller named. Registrations are durable. A record (name, address, owner) of this peer is in
//! the network while the owner's interface is there, as a membership entry of the channel `dns`, which only this peer
//! changes; records of [`EXTERN_OWNER`] always are. From the records of all peers follows the table of names: it goes to
//! the resolver and to the kernel, a name at a time.
//!
//! ```text
//! register --> registered --- interface is there --> record --> entry (gossip)
//!                  ^                                   |            |
//!                  +------- interface is gone ---------+            v
//!                                                                 table <-- records of other peers
//! ```
//! Records of a peer go when the peer is forgotten or removed. After a relaunch, names that the kernel still holds stay
//! until a peer has said them, and no longer than [`ADOPTED_FOR`]: peers say theirs only once sessions are up.
//! Bounds: [`OWN_MAX`] records of this peer, [`RECORDS_MAX`] of all; [`OWNER_SHOWN_MAX`] bytes of an owner in a record.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::Ipv4Addr,
    time::Duration,
};

use smol_str::SmolStr;

use super::{
    domain::{DnsName, Registered},
    name::PeerName,
    queue,
    time::Instant,
};

/// Owner of names for addresses that are no container's here.
pub(crate) const EXTERN_OWNER: &str = "weave:extern";
/// Time for which names are kept, after a launch, that the kernel holds and no peer has said yet.
pub(crate) const ADOPTED_FOR: Duration = Duration::from_secs(10);
/// Most records of this peer.
pub(crate) const OWN_MAX: usize = 8192;
/// Most records of all peers.
pub(crate) const RECORDS_MAX: usize = 131_072;
/// Bytes of an owner that its records show.
const OWNER_SHOWN_MAX: usize = 64;
/// Between name and address in the key of an entry; no name has it.
const KEY_SEPARATOR: char = '/';

/// What the rest of the core must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DnsEvent {
    /// Make durable what is registered for an owner; nothing when that is empty.
    Persist(String, Registered),
    /// Say this under this key in the channel, or delete what was said there.
    Entry(String, Option<SmolStr>),
    /// The addresses of a name are these now; none, and it is no name any more.
    Name(DnsName, Vec<Ipv4Addr>),
}

/// What is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this host has {OWN_MAX} names of containers already, the most it can; nothing was changed")]
pub(crate) struct TooMany;

/// One address of a name, and the peer that said so. Who has the address there is in the entry.
type Record = (DnsName, Ipv4Addr, PeerName);

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Dns {
    me: PeerName,
    registered: BTreeMap<String, Registered>,
    /// Records of this peer that are in the network.
    own: BTreeMap<(DnsName, Ipv4Addr), SmolStr>,
    /// Of all peers, this one among them. There may be a hundred thousand.
    known: BTreeSet<Record>,
    /// Addresses that the kernel held at the launch, and until when they count.
    adopted: BTreeMap<DnsName, BTreeSet<Ipv4Addr>>,
    adopted_until: Option<Instant>,
    /// What is registered changed since records were last brought in line.
    changed: bool,
    events: VecDeque<DnsEvent>,
}

/// The key of a record's entry.
pub(crate) fn key(name: &DnsName, addr: Ipv4Addr) -> String {
    format!("{name}{KEY_SEPARATOR}{:08x}", u32::from(addr))
}

/// Name and address in the key of an entry.
fn read_key(key: &str) -> Result<(DnsName, Ipv4Addr), String> {
    let (name, addr) = key.split_once(KEY_SEPARATOR).ok_or_else(|| format!("{key:?} is no key of a name"))?;
    let name = DnsName::try_from(SmolStr::new(name)).map_err(|error| error.to_string())?;
    let hex = addr.len() == 8 && addr.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase());
    let addr = u32::from_str_radix(addr, 16).ok().filter(|_| hex);
    Ok((name, addr.map(Ipv4Addr::from).ok_or_else(|| format!("{key:?} has no address"))?))
}

/// As much of an owner as its records show.
fn shown(owner: &str) -> SmolStr {
    let end = (0..=OWNER_SHOWN_MAX.min(owner.len())).rev().find(|end| owner.is_char_boundary(*end)).unwrap_or(0);
    SmolStr::new(&owner[..end])
}

impl Dns {
    /// Names that the store remembers, and those that the kernel holds from an earlier run.
    pub(crate) fn new(
        me: PeerName,
        registered: BTreeMap<String, Registered>,
        adopted: BTreeMap<DnsName, BTreeSet<Ipv4Addr>>,
        now: Instant,
    ) -> Self {
        let adopted_until = (!adopted.is_empty()).then(|| now + ADOPTED_FOR);
        Self {
            me,
            registered,
            own: BTreeMap::new(),
            known: BTreeSet::new(),
            adopted,
            adopted_until,
            changed: true,
            events: VecDeque::new(),
        }
    }

    pub(crate) fn poll_event(&mut self) -> Option<DnsEvent> {
        queue::pop(&mut self.events)
    }

    /// Calls an owner so: these addresses, or all that it has when none is named.
    pub(crate) fn add(&mut self, owner: &str, name: DnsName, addrs: &[Ipv4Addr]) {
        let mut registered = self.registered.get(owner).cloned().unwrap_or_default();
        if addrs.is_empty() {
            registered.follow.insert(name);
        } else {
            registered.fixed.extend(addrs.iter().map(|addr| (name.clone(), *addr)));
        }
        self.set(owner, registered);
    }

    /// Calls an owner, which has `held`, no longer so: all its names when none is given, all addresses when none is named.
    /// Returns how many records ended.
    pub(crate) fn remove(
        &mut self,
        owner: &str,
        name: Option<&DnsName>,
        addrs: &[Ipv4Addr],
        held: &[Ipv4Addr],
    ) -> usize {
        let Some(before) = self.registered.get(owner) else { return 0 };
        let named = |of: &DnsName| name.is_none_or(|name| name == of);
        let gone = |addr: &Ipv4Addr| addrs.is_empty() || addrs.contains(addr);
        let mut after = Registered::default();
        for follow in &before.follow {
            if !named(follow) || !held.iter().any(&gone) && !addrs.is_empty() {
                after.follow.insert(follow.clone());
            } else {
                // Some addresses lose the name: it stays with the others alone.
                let left = held.iter().filter(|addr| !gone(addr));
                after.fixed.extend(left.map(|addr| (follow.clone(), *addr)));
            }
        }
        after.fixed.extend(before.fixed.iter().filter(|(name, addr)| !(named(name) && gone(addr))).cloned());
        let ended = before.records(held).count() - after.records(held).count();
        self.set(owner, after);
        ended
    }

    /// Whether so many more records of this peer fit.
    pub(crate) fn check_room(&self, more: usize) -> Result<(), TooMany> {
        if self.own.len() + more > OWN_MAX { Err(TooMany) } else { Ok(()) }
    }

    /// Whether an owner has a name.
    pub(crate) fn is_registered(&self, owner: &str) -> bool {
        self.registered.contains_key(owner)
    }

    /// An owner has nothing any more, nor names.
    pub(crate) fn release(&mut self, owner: &str) {
        if self.registered.contains_key(owner) {
            self.set(owner, Registered::default());
        }
    }

    fn set(&mut self, owner: &str, registered: Registered) {
        let before = if registered.is_empty() {
            self.registered.remove(owner)
        } else {
            self.registered.insert(owner.to_owned(), registered.clone())
        };
        if before.unwrap_or_default() != registered {
            self.changed = true;
            self.events.push_back(DnsEvent::Persist(owner.to_owned(), registered));
        }
    }

    /// Whether [`Self::refresh`] has something to do though no container came or went.
    pub(crate) fn has_changed(&self) -> bool {
        self.changed
    }

    /// Says what follows from the registrations, of owners whose interfaces have `present` addresses.
    pub(crate) fn refresh(&mut self, present: &BTreeMap<&str, Vec<Ipv4Addr>>) {
        self.changed = false;
        let mut want = BTreeMap::new();
        for (owner, registered) in &self.registered {
            let here = present.get(owner.as_str());
            if owner != EXTERN_OWNER && here.is_none() {
                continue;
            }
            let addrs = here.map_or(&[][..], |addrs| &addrs[..]);
            want.extend(registered.records(addrs).map(|record| (record, shown(owner))));
        }
        let gone: Vec<_> = self.own.keys().filter(|record| !want.contains_key(*record)).cloned().collect();
        for (name, addr) in gone {
            self.own.remove(&(name.clone(), addr));
            self.events.push_back(DnsEvent::Entry(key(&name, addr), None));
            self.put(self.me, name, addr, false);
        }
        for ((name, addr), owner) in want {
            if self.own.get(&(name.clone(), addr)) != Some(&owner) {
                self.own.insert((name.clone(), addr), owner.clone());
                self.events.push_back(DnsEvent::Entry(key(&name, addr), Some(owner.clone())));
                self.put(self.me, name, addr, true);
            }
        }
    }

    /// An entry of another peer, or what became of it: without a value it is gone.
    ///
    /// # Errors
    /// When it is no record; nothing was changed.
    pub(crate) fn received(&mut self, from: PeerName, key: &str, value: Option<&[u8]>) -> Result<(), String> {
        let (name, addr) = read_key(key)?;
        let owner = value.map(std::str::from_utf8).transpose();
        let there = owner.map_err(|error| format!("the owner of {key:?}: {error}"))?.is_some();
        self.put(from, name, addr, there);
        Ok(())
    }

    fn put(&mut self, peer: PeerName, name: DnsName, addr: Ipv4Addr, there: bool) {
        let before = self.addresses(&name);
        let record = (name.clone(), addr, peer);
        if !there {
            self.known.remove(&record);
        } else if peer == self.me || self.known.len() < RECORDS_MAX || self.known.contains(&record) {
            self.known.insert(record);
            // From now on it is there as long as a peer says so.
            if let Some(adopted) = self.adopted.get_mut(&name) {
                adopted.remove(&addr);
            }
        }
        self.tell(name, &before);
    }

    /// Tells the addresses of a name, when they are not `before` any more.
    fn tell(&mut self, name: DnsName, before: &BTreeSet<Ipv4Addr>) {
        let after = self.addresses(&name);
        if after != *before {
            self.events.push_back(DnsEvent::Name(name, after.into_iter().collect()));
        }
    }

    /// A peer is forgotten or removed: so are its records.
    pub(crate) fn peer_gone(&mut self, peer: PeerName) {
        let of_peer: Vec<Record> = self.known.iter().filter(|(.., origin)| *origin == peer).cloned().collect();
        for (name, addr, peer) in of_peer {
            self.put(peer, name, addr, false);
        }
    }

    /// Peers that have records, but this one.
    pub(crate) fn origins(&self) -> BTreeSet<PeerName> {
        self.known.iter().map(|(.., origin)| *origin).filter(|origin| *origin != self.me).collect()
    }

    /// Records of a name, in order of address and peer.
    pub(crate) fn of<'a>(&'a self, name: &DnsName) -> impl Iterator<Item = &'a Record> {
        let [first, last] = [(Ipv4Addr::UNSPECIFIED, [0; 6]), (Ipv4Addr::BROADCAST, [0xff; 6])];
        let bound = |(addr, peer): (Ipv4Addr, [u8; 6])| (name.clone(), addr, PeerName::from_bytes(peer));
        self.known.range(bound(first)..=bound(last))
    }

    /// Addresses of a name, in order.
    pub(crate) fn addresses(&self, name: &DnsName) -> BTreeSet<Ipv4Addr> {
        let known = self.of(name).map(|(_, addr, _)| *addr);
        known.chain(self.adopted.get(name).into_iter().flatten().copied()).collect()
    }

    /// Records of all peers and of this one, with their bounds.
    pub(crate) fn sizes(&self) -> [(usize, usize); 2] {
        [(self.known.len(), RECORDS_MAX), (self.own.len(), OWN_MAX)]
    }

    /// Every record, in order of name and address.
    pub(crate) fn records(&self) -> impl Iterator<Item = &Record> {
        self.known.iter()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.adopted_until
    }

    /// Names that no peer has said since the launch go.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.adopted_until.is_none_or(|until| now < until) {
            return;
        }
        self.adopted_until = None;
        for (name, addrs) in std::mem::take(&mut self.adopted) {
            let mut before = self.addresses(&name);
            before.extend(addrs);
            self.tell(name, &before);
        }
    }
}

#[cfg(test)]
mod tests;
