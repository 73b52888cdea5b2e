//! Containers of this host: from the request for addresses to the interface that has them, and back.
//!
//! ```text
//!            attach                     done                        detach
//! (nothing) -------> Working(Ensure) ----------> Attached(ifindex) -------> Working(Remove) ---> (nothing)
//!                        | failed: as before, repaired | interface vanished
//! store ---> Absent -----^ <---------------------------+
//! ```
//! An absent container's addresses are kept for it: after a reboot until it attaches again or is detached, after its
//! interface vanished for [`GRACE`], so that one that is restarted has the same again.
//! One operation a container at a time; a second request meanwhile is refused, except the same attach again, which waits
//! for the first. An allocation is durable before the interface is made and released only after the interface is gone,
//! so an address is never on two containers whatever crashes in between.
//! A container for which no address is free here waits in [`pending`] until one is.
//! An interface gets its MTU when it is made. A running container's is lowered when routes to peers take less
//! ([`Endpoints::limit_mtu`]), and never raised: what its connections have learnt of the path would be wrong for both ends.
//! Bounds: [`WAITERS_MAX`] callers a container; addresses by the allocator.

mod pending;
mod work;

use std::{
    collections::{BTreeMap, VecDeque},
    net::Ipv4Addr,
    time::Duration,
};

use ipnet::Ipv4Net;
use weave_common::addr::Mac;

use self::{pending::Queue, work::Repairs};
use super::{
    command::{AddrRequest, Answer, Container, ContainerStatus, Refusal},
    io::{EndpointTo, LinkOp, OpId, Output, Record, RequestId},
    ipam::{
        Allocation, Allocator,
        allocator::{Access, AllocError, Need},
    },
    time::Instant,
};

/// Time for which the addresses of a container whose interface vanished are kept for it.
pub const GRACE: Duration = Duration::from_secs(30);

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
    /// It has addresses but no interface: the host was rebooted, or it vanished and its addresses are kept until then.
    Absent(Option<Instant>),
    /// The interface is there.
    Attached(u32),
    /// An operation is under way.
    Working(Work),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Work {
    op: OpId,
    kind: Kind,
    waiters: Vec<RequestId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// Make the interface; on failure go back to what was before, `None` for nothing.
    Ensure { before: Option<(Allocation, Before)>, released: Vec<Ipv4Net> },
    /// Remove the interface; on failure it stands where it stood.
    Remove { before: Before },
}

/// Where a container stood before an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Attached(u32),
    Absent(Option<Instant>),
}

impl From<Before> for Stage {
    fn from(before: Before) -> Self {
        match before {
            Before::Attached(ifindex) => Self::Attached(ifindex),
            Before::Absent(until) => Self::Absent(until),
        }
    }
}

/// Why a container is not attached at once.
enum Stop {
    Refuse(Refusal),
    Wait(Need, String),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(refusal)
    }
}

/// See the head of this file.
#[derive(Debug)]
pub struct Endpoints {
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
    /// Addresses came back since the pending were last tried.
    freed: bool,
    next_op: u64,
    out: VecDeque<Output>,
}

/// Names of the host end for a container whose first address is `addr`, in order of preference.
fn host_ifs(addr: Ipv4Addr) -> impl Iterator<Item = String> {
    let name = format!("{HOST_IF_PREFIX}{:0HOST_IF_DIGITS$x}", u32::from(addr));
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
    /// The containers of a host whose allocations are in `allocator` and whose host ends are `present`.
    ///
    /// With `adopted` (the kernel's maps outlived the controller) a container whose interface is missing vanished, and
    /// its addresses are released after `grace`; without (a reboot) they are kept for it, however often the controller
    /// is launched before it attaches again. A host end that no allocation explains, of
    /// this network's range, is removed: its address may be given to another.
    #[must_use]
    pub fn new(
        allocator: Allocator,
        range: Ipv4Net,
        adopted: bool,
        present: &BTreeMap<String, u32>,
        grace: Duration,
        now: Instant,
    ) -> Self {
        let (stages, pending, out) = (BTreeMap::new(), Queue::default(), VecDeque::new());
        let mut this = Self {
            allocator,
            stages,
            pending,
            repairs: Repairs::default(),
            mtu_max: u32::MAX,
            lowering: BTreeMap::new(),
            grace,
            freed: false,
            next_op: 0,
            out,
        };
        for (id, allocation) in this.allocator.containers().clone() {
            match present.get(&allocation.host_if) {
                Some(ifindex) if allocation.unfinished => {
                    let before = Some((allocation.clone(), Before::Attached(*ifindex)));
                    this.work(&id, allocation, Kind::Ensure { before, released: Vec::new() }, Vec::new());
                }
                Some(ifindex) => drop(this.stages.insert(id, Stage::Attached(*ifindex))),
                None if adopted && !allocation.absent => drop(this.stages.insert(id, Stage::Absent(Some(now + grace)))),
                None => {
                    this.set(&id, Allocation { absent: true, ..allocation });
                    this.stages.insert(id, Stage::Absent(None));
                }
            }
        }
        let known: Vec<&String> = this.allocator.containers().values().map(|a| &a.host_if).collect();
        let orphans = present.keys().filter(|name| !known.contains(name));
        let ours: Vec<String> =
            orphans.filter(|n| host_if_addr(n).is_some_and(|a| range.contains(&a))).cloned().collect();
        for host_if in ours {
            let op = this.op();
            this.out.push_back(Output::Link(op, LinkOp::Remove(host_if)));
        }
        this
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

    /// Allocations.
    #[must_use]
    pub fn allocator(&self) -> &Allocator {
        &self.allocator
    }

    /// What the kernel's table of endpoints should hold: containers with an interface.
    #[must_use]
    pub fn installed(&self) -> BTreeMap<Ipv4Addr, EndpointTo> {
        let mut table = BTreeMap::new();
        for (id, stage) in &self.stages {
            let Some(now) = self.allocator.containers().get(id) else { continue };
            let (ifindex, allocation) = match stage {
                Stage::Attached(ifindex) => (*ifindex, now),
                // While addresses are added or taken away, those that stay keep working.
                Stage::Working(Work {
                    kind: Kind::Ensure { before: Some((old, Before::Attached(ifindex))), .. },
                    ..
                }) => (*ifindex, old),
                Stage::Absent(_) | Stage::Working(_) => continue,
            };
            let mac = mac(allocation);
            let kept = allocation.addrs.iter().filter(|net| now.addrs.contains(net));
            table.extend(kept.map(|net| (net.addr(), EndpointTo::container(ifindex, mac))));
        }
        table
    }

    /// Every container, for `status` and `ps`.
    #[must_use]
    pub fn status(&self) -> Vec<ContainerStatus> {
        self.allocator.containers().iter().map(|(id, a)| self.status_of(id, a)).collect()
    }

    fn status_of(&self, id: &str, allocation: &Allocation) -> ContainerStatus {
        ContainerStatus {
            id: id.to_owned(),
            netns: allocation.netns.clone(),
            mac: mac(allocation),
            addrs: allocation.addrs.clone(),
            host_if: allocation.host_if.clone(),
            mtu: allocation.mtu,
            attached: matches!(self.stages.get(id), Some(Stage::Attached(_))),
        }
    }

    fn try_attach(
        &mut self,
        request: RequestId,
        container: &Container,
        asked: &[AddrRequest],
        access: Access<'_>,
        mtu: u32,
    ) -> Result<(), Stop> {
        let id = &container.id;
        let before = self.allocator.containers().get(id).cloned();
        let held = before.as_ref().map_or(&[][..], |a| &a.addrs[..]);
        let addrs = self.settle(id, held, asked, access)?;
        if let Some(Stage::Working(work)) = self.stages.get_mut(id) {
            let same = matches!(work.kind, Kind::Ensure { .. }) && addrs == held && work.waiters.len() < WAITERS_MAX;
            if same {
                work.waiters.push(request);
                return Ok(());
            }
            return Err(busy(id).into());
        }
        let host_if = match &before {
            Some(allocation) => allocation.host_if.clone(),
            None => self.free_host_if(&addrs).ok_or_else(|| busy(id))?,
        };
        let running = matches!(self.stages.get(id), Some(Stage::Attached(_)));
        let mtu = before.as_ref().filter(|_| running).map_or(mtu, |before| before.mtu.min(mtu));
        let allocation =
            Allocation { netns: container.netns.clone(), host_if, addrs, mtu, absent: false, unfinished: false };
        let kind = Kind::Ensure { before: before.map(|b| (b, self.before(id))), released: Vec::new() };
        self.work(id, allocation, kind, vec![request]);
        Ok(())
    }

    /// Where `id` stands, no operation being under way.
    fn before(&self, id: &str) -> Before {
        match self.stages.get(id) {
            Some(Stage::Attached(ifindex)) => Before::Attached(*ifindex),
            Some(Stage::Absent(until)) => Before::Absent(*until),
            Some(Stage::Working(_)) | None => Before::Absent(None),
        }
    }

    /// A name that no container has, also none whose first address was detached while its interface stayed.
    fn free_host_if(&self, addrs: &[Ipv4Net]) -> Option<String> {
        let taken = |name: &String| self.allocator.containers().values().any(|a| a.host_if == *name);
        host_ifs(addrs.first()?.addr()).find(|name| !taken(name))
    }

    /// The addresses that `id` shall have: those held, and those asked for that it does not hold.
    fn settle(
        &self,
        id: &str,
        held: &[Ipv4Net],
        asked: &[AddrRequest],
        access: Access<'_>,
    ) -> Result<Vec<Ipv4Net>, Stop> {
        let mut addrs = held.to_vec();
        let asked = if asked.is_empty() && held.is_empty() { &[AddrRequest::Default] } else { asked };
        let absent = |holder: &String| matches!(self.stages.get(holder), Some(Stage::Absent(_)));
        let stop = |error: AllocError| match (error.need(), &error) {
            (Some(need), _) => Stop::Wait(need, error.to_string()),
            (None, AllocError::Taken(addr, holder)) if absent(holder) => Refusal(format!(
                "address {addr} is kept for {holder}, which is not attached: detach {holder} to free it; {id} was left \
                 as it was"
            ))
            .into(),
            (None, _) => Refusal(format!("{error}; {id} was left as it was")).into(),
        };
        for request in asked {
            let default = self.allocator.default_subnet();
            let subnet = match request {
                AddrRequest::Fixed(addr, len) => {
                    let length = len.unwrap_or(default.prefix_len());
                    let net = Ipv4Net::new(*addr, length).map_err(|e| Refusal(format!("{addr}/{length}: {e}")))?;
                    self.allocator.claim(access, id, *addr, len.map(|_| net)).map_err(stop)?;
                    if !addrs.iter().any(|a| a.addr() == *addr) {
                        addrs.push(net);
                    }
                    continue;
                }
                AddrRequest::Subnet(subnet) => *subnet,
                AddrRequest::Default => default,
            };
            let has = addrs.iter().any(|a| a.trunc() == subnet.trunc());
            if !has {
                addrs.push(self.allocator.pick(access, subnet, &addrs).map_err(stop)?);
            }
        }
        Ok(addrs)
    }

    /// Takes `addrs` away from container `id`; all, and the interface, when none is named or none remains.
    pub fn detach(&mut self, request: RequestId, id: &str, addrs: &[Ipv4Addr]) {
        if let Err(refusal) = self.try_detach(request, id, addrs) {
            self.out.push_back(Output::Reply(request, Err(refusal)));
        }
    }

    fn try_detach(&mut self, request: RequestId, id: &str, addrs: &[Ipv4Addr]) -> Result<(), Refusal> {
        let unknown = || Refusal(format!("{id} is not attached to this network; `weave-ctl ps` lists what is"));
        let allocation = self.allocator.containers().get(id).cloned().ok_or_else(unknown)?;
        if let Some(addr) = addrs.iter().find(|a| !allocation.addrs.iter().any(|n| n.addr() == **a)) {
            return Err(Refusal(format!("{id} does not have address {addr}; it was left as it was")));
        }
        let (taken, left): (Vec<_>, Vec<_>) =
            allocation.addrs.iter().copied().partition(|n| addrs.is_empty() || addrs.contains(&n.addr()));
        match self.stages.get(id) {
            Some(Stage::Working(_)) => Err(busy(id)),
            Some(Stage::Attached(ifindex)) if !left.is_empty() => {
                let before = Before::Attached(*ifindex);
                let kind = Kind::Ensure { before: Some((allocation.clone(), before)), released: taken };
                self.work(id, Allocation { addrs: left, ..allocation }, kind, vec![request]);
                Ok(())
            }
            _ if !left.is_empty() => {
                self.freed = true;
                self.set(id, Allocation { addrs: left, ..allocation });
                self.reply(request, Answer::Detached(taken));
                Ok(())
            }
            _ => {
                self.remove(id, allocation.host_if, vec![request]);
                Ok(())
            }
        }
    }

    /// Takes every container's interface and addresses away, those excepted that an operation is under way for; and
    /// refuses those who wait.
    pub fn remove_all(&mut self) {
        let still: Vec<(String, String)> =
            self.allocator.containers().iter().map(|(id, a)| (id.clone(), a.host_if.clone())).collect();
        for (id, host_if) in still {
            if !matches!(self.stages.get(&id), Some(Stage::Working(_))) {
                self.remove(&id, host_if, Vec::new());
            }
        }
        self.refuse_pending(&AllocError::Leaving.to_string());
    }

    /// True while an operation is under way.
    #[must_use]
    pub fn is_working(&self) -> bool {
        self.stages.values().any(|stage| matches!(stage, Stage::Working(_)))
    }

    /// The host end called `host_if` vanished: the container behind it is gone, or restarts. True when there was one.
    pub fn vanished(&mut self, host_if: &str, now: Instant) -> bool {
        let holder = self.allocator.containers().iter().find(|(_, a)| a.host_if == host_if).map(|(id, _)| id.clone());
        let Some(id) = holder else { return false };
        // An operation under way finds out by itself.
        let attached = matches!(self.stages.get(&id), Some(Stage::Attached(_)));
        if attached {
            self.stages.insert(id, Stage::Absent(Some(now + self.grace)));
        }
        attached
    }

    /// Releases the addresses of containers that did not come back, and repairs interfaces.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.repair(now);
        let over = self.stages.iter().filter(|(_, s)| matches!(s, Stage::Absent(Some(until)) if *until <= now));
        let over: Vec<String> = over.map(|(id, _)| id.clone()).collect();
        over.iter().for_each(|id| self.release(id));
    }

    /// When [`Self::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let untils = self.stages.values().map(|s| if let Stage::Absent(until) = s { *until } else { None });
        untils.flatten().chain(self.repairs.due()).min()
    }

    fn set(&mut self, id: &str, allocation: Allocation) {
        self.out.push_back(Output::Persist(Record::Allocation(id.to_owned(), allocation.clone())));
        self.allocator.set(id, allocation);
    }

    fn release(&mut self, id: &str) {
        self.stages.remove(id);
        self.allocator.remove(id);
        self.freed = true;
        self.out.push_back(Output::Persist(Record::AllocationGone(id.to_owned())));
    }

    fn op(&mut self) -> OpId {
        self.next_op += 1;
        OpId(self.next_op)
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

fn mac(allocation: &Allocation) -> Mac {
    // From the name of the host end, which never changes, rather than from the first address, which may be detached.
    let addr = host_if_addr(&allocation.host_if)
        .unwrap_or_else(|| allocation.addrs.first().map_or(Ipv4Addr::UNSPECIFIED, Ipv4Net::addr));
    Mac::of_container(addr.octets())
}

fn busy(id: &str) -> Refusal {
    Refusal(format!("another operation on {id} is under way; try again when it has ended"))
}

#[cfg(test)]
mod tests;
