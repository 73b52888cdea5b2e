//! Containers of this host: from the request for addresses to the interface that has them, and back.
//!
//! ```text
//!            reserve            attach                    done                       detach
//! (nothing) --------> Reserved -------> Working(Ensure) -------> Attached(ifindex) --------> Working(Remove) --> (nothing)
//!     |                                   ^  | failed: as before, repaired | interface vanished
//!     +---------- attach -----------------+  +------------> Absent <-------+
//! ```
//! A reservation is addresses that an owner has; an attachment is the interface with them. Both are one record, durable
//! before the interface is made, and addresses are released only after the interface is gone, so an address is never on
//! two containers whatever crashes in between.
//! A namespace is one container, whether a name, a path or a process led to it: a namespace that has an interface is known
//! by its number ([`NetnsId`]). After a reboot numbers mean nothing: a named container's addresses are kept until it
//! attaches again, is detached, or gives way when no other address is free; those of a namespace without a name are
//! released, as they are when its interface vanishes. A named container's are then kept for [`GRACE`], so that one that is
//! restarted has the same again. The host's own interface is made again.
//! One operation a container at a time; a second request meanwhile is refused, except the same again, which waits for the
//! first. A container for which no address is free here waits in [`pending`] until one is.
//! An interface gets its MTU when it is made. A running container's is lowered when routes to peers take less
//! ([`Endpoints::limit_mtu`]), and never raised: what its connections have learnt of the path would be wrong for both ends.
//! Bounds: [`WAITERS_MAX`] callers a container; addresses by the allocator.

mod pending;
mod request;
mod work;

use std::{
    collections::{BTreeMap, VecDeque},
    net::Ipv4Addr,
    time::Duration,
};

use ipnet::Ipv4Net;
use weave_common::addr::Mac;

pub use self::pending::Purpose;
use self::{pending::Queue, work::Repairs};
use super::{
    boot::Installed,
    command::{Answer, NameRequest, Refusal},
    io::{EndpointTo, LinkOp, OpId, Output, Record, RequestId, Severity},
    ipam::{
        Allocator,
        allocator::{Access, AllocError},
    },
    reservation::{Attachment, HOST_OWNER, Place, Reservation, is_numbered},
    status::{ContainerState, ContainerStatus},
    time::Instant,
};
#[cfg(doc)]
use crate::proto::reservation::NetnsId;

/// Time for which the addresses of a container whose interface vanished are kept for it.
pub const GRACE: Duration = Duration::from_secs(30);

/// The host's own interface is not made again, after a launch, before a peer was heard of, or this time is over: this peer may
/// have been removed, and its addresses given to others.
const HOST_WAIT: Duration = Duration::from_secs(10);
/// Most callers that wait for one container.
const WAITERS_MAX: usize = 16;
/// Prefix of the host ends of containers' veths; the first address follows in hexadecimal, and a letter where a
/// container that had the address before still has the name.
pub const HOST_IF_PREFIX: &str = "wv";
/// Hexadecimal digits of an address.
const HOST_IF_DIGITS: usize = 8;

/// Where a container stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// It has addresses, and no interface yet or any more.
    Reserved,
    /// Its interface is gone: since the host was rebooted, or until then its addresses are kept.
    Absent(Option<Instant>),
    /// The interface is there.
    Attached(u32),
    /// An operation is under way.
    Working(Box<Work>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Work {
    op: OpId,
    kind: Kind,
    waiters: Vec<RequestId>,
}

impl Work {
    /// The interface that is being changed, and what it had before.
    fn changed(&self) -> Option<(u32, &Reservation)> {
        match &self.kind {
            Kind::Ensure { before: Some((old, Before::Attached(ifindex))), .. } => Some((*ifindex, old)),
            Kind::Ensure { .. } | Kind::Remove { .. } => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// Make the interface; on failure go back to what was before, `None` for nothing.
    Ensure { before: Option<(Reservation, Before)>, released: Vec<Ipv4Net> },
    /// Remove the interface, and the addresses unless they are kept: then this is what it had. On failure it stands where it
    /// stood.
    Remove { before: Before, kept: Option<Reservation> },
}

/// Where a container stood before an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Attached(u32),
    Absent(Option<Instant>),
    Reserved,
}

impl From<Before> for Stage {
    fn from(before: Before) -> Self {
        match before {
            Before::Attached(ifindex) => Self::Attached(ifindex),
            Before::Absent(until) => Self::Absent(until),
            Before::Reserved => Self::Reserved,
        }
    }
}

/// With what a request is carried out.
#[derive(Clone, Copy, Debug)]
pub struct Means<'a> {
    /// The ring as far as addresses may be given from it.
    pub access: Access<'a>,
    /// MTU in bytes of new interfaces.
    pub mtu: u32,
    /// When.
    pub now: Instant,
}

/// What became of a container whose interface vanished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vanished {
    /// Its addresses are kept for it for [`Endpoints::grace`].
    Kept(String),
    /// They are free: it had no name by which it could come back.
    Released(String),
    /// The interface is made again.
    MadeAgain(String),
}

/// See the head of this file.
#[derive(Debug)]
pub struct Endpoints {
    range: Ipv4Net,
    allocator: Allocator,
    stages: BTreeMap<String, Stage>,
    pending: Queue,
    repairs: Repairs,
    /// No interface should have a larger MTU, in bytes.
    mtu_max: u32,
    /// Containers whose MTU is being lowered.
    lowering: BTreeMap<OpId, String>,
    /// Time for which the addresses of a container that vanished are kept: [`GRACE`], or less in tests.
    grace: Duration,
    /// Unix time in seconds at the start of the clock.
    unix_start: u64,
    /// Since when the host's own interface is to be made again.
    host_since: Option<Instant>,
    /// Addresses came back since the pending were last tried.
    freed: bool,
    /// As [`Self::take_named`] says.
    named: Vec<(String, NameRequest)>,
    /// As [`Self::take_released`] says.
    released: Vec<String>,
    next_op: u64,
    out: VecDeque<Output>,
}

/// Name of the host end for a container whose first address is `addr`, where no other has it.
pub(super) fn host_if_of(addr: Ipv4Addr) -> String {
    format!("{HOST_IF_PREFIX}{:0HOST_IF_DIGITS$x}", u32::from(addr))
}

/// Names of the host end for a container whose first address is `addr`, in order of preference.
fn host_ifs(addr: Ipv4Addr) -> impl Iterator<Item = String> {
    let name = host_if_of(addr);
    std::iter::once(name.clone()).chain(('b'..='z').map(move |letter| format!("{name}{letter}")))
}

/// The address in a host end's name, if it is one.
#[must_use]
pub fn host_if_addr(name: &str) -> Option<Ipv4Addr> {
    let (hex, rest) = name.strip_prefix(HOST_IF_PREFIX)?.split_at_checked(HOST_IF_DIGITS)?;
    let ours = rest.len() <= 1 && rest.bytes().all(|b| b.is_ascii_lowercase());
    ours.then(|| u32::from_str_radix(hex, 16).ok().map(Ipv4Addr::from))?
}

impl Endpoints {
    /// The containers of a host whose reservations are in `allocator`, and of whose interfaces `installed` tells.
    ///
    /// Where the kernel's maps outlived the controller a container whose interface is missing vanished, and its addresses
    /// are released after `grace`; otherwise (a reboot) they are kept for it, however often the controller is launched
    /// before it attaches again. A host end that no reservation explains, of this network's `range`, is removed: its
    /// address may be given to another.
    #[must_use]
    pub fn new(allocator: Allocator, range: Ipv4Net, installed: &Installed, grace: Duration, now: Instant) -> Self {
        let mut this = Self {
            range,
            allocator,
            stages: BTreeMap::new(),
            pending: Queue::default(),
            repairs: Repairs::default(),
            mtu_max: u32::MAX,
            lowering: BTreeMap::new(),
            grace,
            unix_start: installed.unix_start,
            host_since: None,
            freed: false,
            named: Vec::new(),
            released: Vec::new(),
            next_op: 0,
            out: VecDeque::new(),
        };
        for (owner, reservation) in this.allocator.reservations().clone() {
            this.resume(&owner, reservation, installed, now);
        }
        let known: Vec<&str> = this.allocator.reservations().values().filter_map(Reservation::host_if).collect();
        let orphans = installed.endpoints.keys().filter(|name| !known.contains(&name.as_str()));
        // That of the service endpoint is made again, or not, by whoever has it.
        let service = installed.service.as_ref().map(|_| this.allocator.service());
        let is_ours = |addr: Ipv4Addr| range.contains(&addr) && Some(addr) != service;
        let ours: Vec<String> = orphans.filter(|name| host_if_addr(name).is_some_and(is_ours)).cloned().collect();
        for host_if in ours {
            let op = this.op();
            this.out.push_back(Output::Link(op, LinkOp::Remove { host_if, masquerade: false }));
        }
        this
    }

    /// Where a reservation of an earlier run stands.
    fn resume(&mut self, owner: &str, reservation: Reservation, installed: &Installed, now: Instant) {
        let Some(attachment) = &reservation.attachment else {
            self.stages.insert(owner.to_owned(), Stage::Reserved);
            return;
        };
        let stage = match (installed.endpoints.get(&attachment.host_if), &attachment.place) {
            (Some(ifindex), _) if attachment.unfinished => {
                return self.renew(owner, reservation, Before::Attached(*ifindex));
            }
            (Some(ifindex), _) => Stage::Attached(*ifindex),
            (None, Place::Host { .. }) => {
                self.host_since = Some(now);
                Stage::Absent(None)
            }
            (None, Place::Netns(_)) if is_numbered(owner) => {
                self.event(Severity::Info, format!("{owner} is gone, and had no name to come back by: released"));
                return self.release(owner);
            }
            (None, Place::Netns(_)) if installed.adopted && !attachment.absent => Stage::Absent(Some(now + self.grace)),
            (None, Place::Netns(_)) => {
                if !attachment.absent {
                    let attachment = Some(Attachment { absent: true, ..attachment.clone() });
                    self.set(owner, Reservation { attachment, since: self.unix(now), ..reservation });
                }
                Stage::Absent(None)
            }
        };
        self.stages.insert(owner.to_owned(), stage);
    }

    /// The next thing to be done.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// Time for which the addresses of a container that vanished are kept.
    #[must_use]
    pub fn grace(&self) -> Duration {
        self.grace
    }

    /// Reservations, and which addresses are free.
    #[must_use]
    pub fn allocator(&self) -> &Allocator {
        &self.allocator
    }

    /// What the kernel's table of endpoints should hold: containers with an interface.
    #[must_use]
    pub fn installed(&self) -> BTreeMap<Ipv4Addr, EndpointTo> {
        let mut table = BTreeMap::new();
        for (_, ifindex, reservation, addrs) in self.present() {
            let Some(mac) = mac(reservation) else { continue };
            let host = reservation.masquerade();
            let to = EndpointTo { ifindex, mac, host: host.is_some(), gateway: host == Some(true), service: false };
            table.extend(addrs.map(|addr| (addr, to)));
        }
        table
    }

    /// Owners whose interface is there, with the addresses that work.
    #[must_use]
    pub fn addresses(&self) -> BTreeMap<&str, Vec<Ipv4Addr>> {
        self.present().map(|(owner, _, _, addrs)| (owner, addrs.collect())).collect()
    }

    /// Owners whose interface is there: its index, what they had when it was made, and those of these addresses that they
    /// keep.
    fn present(&self) -> impl Iterator<Item = (&str, u32, &Reservation, impl Iterator<Item = Ipv4Addr>)> {
        self.stages.iter().filter_map(|(owner, stage)| {
            let now = self.allocator.reservations().get(owner)?;
            let (ifindex, reservation) = match stage {
                Stage::Attached(ifindex) => (*ifindex, now),
                // While addresses are added or taken away, those that stay keep working.
                Stage::Working(work) => work.changed()?,
                Stage::Reserved | Stage::Absent(_) => return None,
            };
            let kept = reservation.addrs.iter().filter(|net| now.addrs.contains(net)).map(Ipv4Net::addr);
            Some((owner.as_str(), ifindex, reservation, kept))
        })
    }

    /// Owners that were attached since this was asked last, and what they shall be called.
    pub fn take_named(&mut self) -> Vec<(String, NameRequest)> {
        std::mem::take(&mut self.named)
    }

    /// Owners that have nothing any more since this was asked last.
    pub fn take_released(&mut self) -> Vec<String> {
        std::mem::take(&mut self.released)
    }

    /// The host's address through which containers leave the network, while they may.
    #[must_use]
    pub fn gateway(&self) -> Option<Ipv4Addr> {
        let host = self.allocator.reservations().get(HOST_OWNER).filter(|host| host.masquerade() == Some(true))?;
        let there = match self.stages.get(HOST_OWNER)? {
            Stage::Attached(_) => true,
            Stage::Working(work) => work.changed().is_some(),
            Stage::Reserved | Stage::Absent(_) => false,
        };
        host.addrs.first().filter(|_| there).map(Ipv4Net::addr)
    }

    /// Every reservation, for `status` and `ps`.
    #[must_use]
    pub fn status(&self, now: Instant) -> Vec<ContainerStatus> {
        self.allocator.reservations().iter().map(|(owner, r)| self.status_of(owner, r, now)).collect()
    }

    /// Names of the host ends that exist.
    pub fn host_ends(&self) -> impl Iterator<Item = &str> + '_ {
        self.attached().map(|(_, attachment)| attachment.host_if.as_str())
    }

    /// Containers whose interface is there.
    pub fn attached(&self) -> impl Iterator<Item = (&str, &Attachment)> + '_ {
        let attached = self.stages.iter().filter(|(_, stage)| matches!(stage, Stage::Attached(_)));
        attached.filter_map(|(owner, _)| {
            Some((owner.as_str(), self.allocator.reservations().get(owner)?.attachment.as_ref()?))
        })
    }

    fn status_of(&self, owner: &str, reservation: &Reservation, now: Instant) -> ContainerStatus {
        let attachment = reservation.attachment.as_ref();
        let for_now = Duration::from_secs(self.unix(now).saturating_sub(reservation.since));
        let (state, age) = match self.stages.get(owner) {
            Some(Stage::Attached(_)) => (ContainerState::Attached, for_now),
            Some(Stage::Working(_)) => (ContainerState::Changing, for_now),
            Some(Stage::Absent(None)) => (ContainerState::Absent, for_now),
            Some(Stage::Absent(Some(until))) => (ContainerState::Vanished, self.grace.saturating_sub(until.since(now))),
            Some(Stage::Reserved) | None => (ContainerState::Reserved, for_now),
        };
        ContainerStatus {
            owner: owner.to_owned(),
            state,
            age_s: age.as_secs(),
            netns: attachment.and_then(|a| a.place.path()).unwrap_or_default().to_owned(),
            mac: mac(reservation).map(|mac| mac.to_string()).unwrap_or_default(),
            addrs: reservation.addrs.clone(),
            host_if: attachment.map(|a| a.host_if.clone()).unwrap_or_default(),
            mtu: attachment.map_or(0, |a| a.mtu),
        }
    }

    /// Takes every container's interface and addresses away, those excepted that an operation is under way for; and
    /// refuses those who wait.
    pub fn remove_all(&mut self) {
        for owner in self.stages.keys().cloned().collect::<Vec<_>>() {
            match self.stages.get(&owner) {
                Some(Stage::Working(_)) | None => {}
                Some(Stage::Reserved) => self.release(&owner),
                Some(Stage::Absent(_) | Stage::Attached(_)) => self.remove(&owner, false, Vec::new()),
            }
        }
        self.refuse_pending(&AllocError::Leaving.to_string());
    }

    /// True while an operation is under way.
    #[must_use]
    pub fn is_working(&self) -> bool {
        self.stages.values().any(|stage| matches!(stage, Stage::Working(_)))
    }

    /// The host end called `host_if` vanished: the container behind it is gone, or restarts. `None` when there was none.
    pub fn vanished(&mut self, host_if: &str, now: Instant) -> Option<Vanished> {
        let mut all = self.allocator.reservations().iter();
        let (owner, reservation) = all.find(|(_, r)| r.host_if() == Some(host_if))?;
        // An operation under way finds out by itself.
        matches!(self.stages.get(owner), Some(Stage::Attached(_))).then_some(())?;
        let (owner, reservation) = (owner.clone(), reservation.clone());
        if reservation.netns().is_none() {
            self.stages.insert(owner.clone(), Stage::Absent(None));
            self.host_since = Some(now);
            return Some(Vanished::MadeAgain(owner));
        }
        if is_numbered(&owner) {
            self.release(&owner);
            return Some(Vanished::Released(owner));
        }
        self.stages.insert(owner.clone(), Stage::Absent(Some(now + self.grace)));
        Some(Vanished::Kept(owner))
    }

    /// Releases the addresses of containers that did not come back, and repairs interfaces.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.repair(now);
        let over = self.stages.iter().filter(|(_, s)| matches!(s, Stage::Absent(Some(until)) if *until <= now));
        let over: Vec<String> = over.map(|(owner, _)| owner.clone()).collect();
        over.iter().for_each(|owner| self.release(owner));
    }

    /// When [`Self::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let untils = self.stages.values().map(|s| if let Stage::Absent(until) = s { *until } else { None });
        let host = self.host_since.map(|since| since + HOST_WAIT);
        untils.flatten().chain(self.repairs.due()).chain(host).min()
    }

    /// Unix time in seconds.
    fn unix(&self, now: Instant) -> u64 {
        self.unix_start.saturating_add(now.since_start().as_secs())
    }

    fn set(&mut self, owner: &str, reservation: Reservation) {
        self.out.push_back(Output::Persist(Record::Reservation(owner.to_owned(), reservation.clone())));
        self.allocator.set(owner, reservation);
    }

    fn release(&mut self, owner: &str) {
        self.stages.remove(owner);
        self.allocator.remove(owner);
        self.freed = true;
        self.released.push(owner.to_owned());
        self.out.push_back(Output::Persist(Record::ReservationGone(owner.to_owned())));
    }

    fn op(&mut self) -> OpId {
        self.next_op += 1;
        OpId(self.next_op)
    }

    fn event(&mut self, severity: Severity, text: String) {
        self.out.push_back(Output::Event(severity, text));
    }

    fn reply(&mut self, id: RequestId, answer: Answer) {
        self.out.push_back(Output::Reply(id, Ok(answer)));
    }

    fn refuse(&mut self, waiters: &[RequestId], text: &str) {
        for id in waiters {
            self.out.push_back(Output::Reply(*id, Err(Refusal(text.to_owned()))));
        }
    }
}

/// MAC of the interface: from the name of the host end, which never changes, rather than from the first address, which may
/// be detached.
fn mac_of(host_if: &str, addrs: &[Ipv4Net]) -> Mac {
    let addr = host_if_addr(host_if).or(addrs.first().map(Ipv4Net::addr));
    Mac::of_container(addr.unwrap_or(Ipv4Addr::UNSPECIFIED).octets())
}

fn mac(reservation: &Reservation) -> Option<Mac> {
    Some(mac_of(reservation.host_if()?, &reservation.addrs))
}

#[cfg(test)]
mod tests;
