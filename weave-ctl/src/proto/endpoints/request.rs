//! Requests of callers: reserve, bind, attach, detach, release. The same request again changes nothing and is answered
//! alike.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{
    Before, Endpoints, Kind, Means, Stage, WAITERS_MAX, host_ifs,
    pending::{Pending, Purpose},
};
use crate::proto::{
    command::{AddrRequest, Answer, Container, Holder, Refusal},
    io::{Output, Record, RequestId, Severity},
    ipam::allocator::{AllocError, Need},
    reservation::{Attachment, HOST_OWNER, NetnsId, OWNER_MAX, Place, Reservation},
    time::Instant,
};

/// Why a request is not done at once.
pub(super) enum Stop {
    Refuse(Refusal),
    Wait(Need, String),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(refusal)
    }
}

fn busy(owner: &str) -> Refusal {
    Refusal(format!("another operation on {owner} is under way; try again when it has ended"))
}

/// A key that an engine may choose.
fn check_owner(owner: &str) -> Result<(), Refusal> {
    let fits = (1..=OWNER_MAX).contains(&owner.len()) && !owner.chars().any(char::is_control);
    let refusal =
        || Refusal(format!("an owner is 1 to {OWNER_MAX} bytes without control characters: nothing was changed"));
    fits.then_some(()).ok_or_else(refusal)
}

impl Endpoints {
    /// Gives addresses for a purpose: those that its owner has and those asked for. The caller waits when none is free here.
    pub fn ask_for(&mut self, request: RequestId, purpose: Purpose, asked: Vec<AddrRequest>, means: &Means<'_>) {
        let done = match &purpose {
            Purpose::Attach(container) => {
                let attached = self.try_attach(request, container, &asked, means);
                attached.map(|owner| self.named.push((owner, container.names.clone())))
            }
            Purpose::Reserve(owner) => self.try_reserve(request, owner.as_deref(), &asked, means),
        };
        match done {
            Ok(()) => {}
            Err(Stop::Refuse(refusal)) => self.out.push_back(Output::Reply(request, Err(refusal))),
            Err(Stop::Wait(need, why)) => self.wait(Pending { request, purpose, asked, need, why }),
        }
    }

    fn try_reserve(
        &mut self,
        request: RequestId,
        owner: Option<&str>,
        asked: &[AddrRequest],
        means: &Means<'_>,
    ) -> Result<(), Stop> {
        owner.map_or(Ok(()), check_owner)?;
        if owner == Some(HOST_OWNER) {
            let text = format!("{HOST_OWNER} is the host's own interface: `expose` gives the host addresses");
            return Err(Refusal(text).into());
        }
        let since = self.unix(means.now);
        let (owner, before) = match owner {
            Some(owner) => (owner.to_owned(), self.allocator.reservations().get(owner).cloned()),
            None => (self.new_id(since), None),
        };
        if matches!(self.stages.get(&owner), Some(Stage::Working(_))) {
            // Its addresses may be on their way out.
            return Err(busy(&owner).into());
        }
        let held = before.as_ref().map_or(&[][..], |r| &r.addrs[..]);
        let addrs = self.settle(&owner, held, asked, means)?;
        let fixed = is_fixed(before.as_ref(), asked);
        match self.stages.get(&owner) {
            Some(Stage::Attached(_)) if addrs != held => {
                let text = format!("{owner} has an interface: `attach` gives it more addresses; nothing was changed");
                return Err(Refusal(text).into());
            }
            Some(Stage::Reserved) if addrs != held => {
                let since = before.as_ref().map_or(since, |before| before.since);
                let id = before.and_then(|before| before.id);
                self.set(&owner, Reservation { id, fixed, ..Reservation::of(addrs, since) });
            }
            Some(Stage::Attached(_) | Stage::Reserved) => {}
            // From now on they wait for it as long as it takes: those of a container that is gone would not.
            Some(Stage::Absent(_) | Stage::Working(_)) | None => {
                let id = before.and_then(|before| before.id);
                self.set(&owner, Reservation { id, fixed, ..Reservation::of(addrs, since) });
                self.stages.insert(owner.clone(), Stage::Reserved);
            }
        }
        self.reply_container(request, &owner, means.now);
        Ok(())
    }

    /// An id under which nothing is or was held.
    fn new_id(&self, unix: u64) -> String {
        let used =
            |id: &String| self.allocator.reservations().iter().any(|(o, r)| o == id || r.id.as_ref() == Some(id));
        let mut ids = (1..=u64::MAX).map(|n| format!("reserved-{unix}-{n}"));
        ids.find(|id| !used(id)).unwrap_or_default()
    }

    fn reply_container(&mut self, request: RequestId, owner: &str, now: Instant) {
        let Some(reservation) = self.allocator.reservations().get(owner) else { return };
        let status = self.status_of(owner, reservation, now);
        self.reply(request, Answer::Container(status));
    }

    /// Names the owner of what is held under `id`.
    pub fn bind(&mut self, request: RequestId, id: &str, owner: &str, now: Instant) {
        match self.try_bind(id, owner) {
            Ok(()) => self.reply_container(request, owner, now),
            Err(refusal) => self.out.push_back(Output::Reply(request, Err(refusal))),
        }
    }

    fn try_bind(&mut self, id: &str, owner: &str) -> Result<(), Refusal> {
        check_owner(owner)?;
        let all = self.allocator.reservations();
        let bound = all.iter().find(|(_, r)| r.id.as_deref() == Some(id)).map(|(bound, _)| bound.clone());
        match (bound, all.get(id)) {
            (Some(bound), _) if bound == owner => Ok(()),
            (Some(bound), _) => Err(Refusal(format!("{id} belongs to {bound} already; nothing was changed"))),
            (None, None) => Err(Refusal(format!("nothing is reserved under {id}; nothing was changed"))),
            (None, Some(_)) if id == owner => Ok(()),
            (None, Some(_)) if all.contains_key(owner) => {
                Err(Refusal(format!("{owner} has a reservation already: release it, or choose another owner")))
            }
            (None, Some(_)) if !matches!(self.stages.get(id), Some(Stage::Reserved)) => {
                Err(Refusal(format!("{id} has an interface, or had one: it keeps its name")))
            }
            (None, Some(reservation)) => {
                let reservation = Reservation { id: Some(id.to_owned()), ..reservation.clone() };
                self.stages.remove(id);
                self.allocator.remove(id);
                self.out.push_back(Output::Persist(Record::ReservationGone(id.to_owned())));
                self.stages.insert(owner.to_owned(), Stage::Reserved);
                self.set(owner, reservation);
                Ok(())
            }
        }
    }

    /// The owner key of `container`: that of the interface which its namespace has, else its own.
    fn owner_of(&self, container: &Container) -> Result<String, Refusal> {
        let Container { owner, chosen, place, names: _ } = container;
        check_owner(owner)?;
        let id = match place {
            Place::Host { .. } if owner != HOST_OWNER => {
                return Err(Refusal(format!("{owner} is not the host: `expose` gives the host addresses")));
            }
            Place::Netns(_) if owner == HOST_OWNER => {
                return Err(Refusal(format!("{HOST_OWNER} is the host's own interface: rename the namespace")));
            }
            Place::Host { .. } => return Ok(owner.clone()),
            Place::Netns(netns) => netns.id,
        };
        match self.owner_at(id) {
            Some(holder) if *chosen && holder != owner => {
                Err(Refusal(format!("this namespace is attached as {holder}, not as {owner}; nothing was changed")))
            }
            Some(holder) => Ok(holder.to_owned()),
            None => Ok(owner.clone()),
        }
    }

    /// The owner that has an interface in this namespace.
    fn owner_at(&self, id: NetnsId) -> Option<&str> {
        let held = |owner: &String| self.allocator.reservations().get(owner)?.netns();
        let there = |stage: &Stage| match stage {
            Stage::Attached(_) => true,
            Stage::Working(work) => matches!(work.kind, Kind::Ensure { .. }),
            // Its namespace may be gone, and the number another's by now.
            Stage::Reserved | Stage::Absent(_) => false,
        };
        let mut all = self.stages.iter().filter(|(_, stage)| there(stage));
        all.find(|(owner, _)| held(owner).is_some_and(|netns| netns.id == id)).map(|(owner, _)| owner.as_str())
    }

    fn try_attach(
        &mut self,
        request: RequestId,
        container: &Container,
        asked: &[AddrRequest],
        means: &Means<'_>,
    ) -> Result<String, Stop> {
        let owner = &self.owner_of(container)?;
        let before = self.allocator.reservations().get(owner).cloned();
        let held = before.as_ref().map_or(&[][..], |r| &r.addrs[..]);
        let addrs = self.settle(owner, held, asked, means)?;
        if let Some(Stage::Working(work)) = self.stages.get_mut(owner) {
            let same = matches!(work.kind, Kind::Ensure { .. }) && addrs == held && work.waiters.len() < WAITERS_MAX;
            if same {
                work.waiters.push(request);
                return Ok(owner.clone());
            }
            return Err(busy(owner).into());
        }
        let former = before.as_ref().and_then(|r| r.attachment.as_ref());
        let host_if = match former {
            Some(former) => former.host_if.clone(),
            None => self.free_host_if(&addrs).ok_or_else(|| busy(owner))?,
        };
        let attached = matches!(self.stages.get(owner), Some(Stage::Attached(_)));
        let mtu = former.filter(|_| attached).map_or(means.mtu, |former| former.mtu.min(means.mtu));
        let since = before.as_ref().filter(|_| attached).map_or_else(|| self.unix(means.now), |before| before.since);
        // What the host was exposed with stays until it is hidden.
        let place = match (&container.place, former.map(|former| &former.place)) {
            (Place::Host { .. }, Some(place @ Place::Host { masquerade: true })) => place.clone(),
            (place, _) => place.clone(),
        };
        let attachment = Attachment { place, host_if, mtu, absent: false, unfinished: false };
        let id = before.as_ref().and_then(|before| before.id.clone());
        let fixed = is_fixed(before.as_ref(), asked);
        let reservation = Reservation { addrs, since, id, fixed, attachment: Some(attachment) };
        let kind = Kind::Ensure { before: before.map(|b| (b, self.before(owner))), released: Vec::new() };
        self.work(owner, reservation, kind, vec![request]);
        Ok(owner.clone())
    }

    /// Where `owner` stands, no operation being under way.
    pub(super) fn before(&self, owner: &str) -> Before {
        match self.stages.get(owner) {
            Some(Stage::Attached(ifindex)) => Before::Attached(*ifindex),
            Some(Stage::Absent(until)) => Before::Absent(*until),
            Some(Stage::Reserved | Stage::Working(_)) | None => Before::Reserved,
        }
    }

    /// A name that no container has, also none whose first address was detached while its interface stayed.
    fn free_host_if(&self, addrs: &[Ipv4Net]) -> Option<String> {
        let taken = |name: &String| self.allocator.reservations().values().any(|r| r.host_if() == Some(name));
        host_ifs(addrs.first()?.addr()).find(|name| !taken(name))
    }

    /// The addresses that `owner` shall have: those held, and those asked for that it does not hold.
    fn settle(
        &self,
        owner: &str,
        held: &[Ipv4Net],
        asked: &[AddrRequest],
        means: &Means<'_>,
    ) -> Result<Vec<Ipv4Net>, Stop> {
        let access = means.access;
        let mut addrs = held.to_vec();
        let asked = if asked.is_empty() && held.is_empty() { &[AddrRequest::Default] } else { asked };
        let idle = |holder: &String| matches!(self.stages.get(holder), Some(Stage::Absent(_) | Stage::Reserved));
        let stop = |error: AllocError| match (error.need(), &error) {
            (Some(need), _) => Stop::Wait(need, error.to_string()),
            (None, AllocError::Taken(addr, holder)) if idle(holder) => Refusal(format!(
                "address {addr} is kept for {holder}, which is not attached: `weave-ctl release {holder}` frees it; \
                 {owner} was left as it was"
            ))
            .into(),
            (None, _) => Refusal(format!("{error}; {owner} was left as it was")).into(),
        };
        for request in asked {
            let default = self.allocator.default_subnet();
            let subnet = match request {
                AddrRequest::Fixed(addr, len) => {
                    let length = len.unwrap_or(default.prefix_len());
                    let net = Ipv4Net::new(*addr, length).map_err(|e| Refusal(format!("{addr}/{length}: {e}")))?;
                    self.allocator.claim(access, owner, *addr, len.map(|_| net)).map_err(stop)?;
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

    /// The owner that a caller means, and what it holds.
    pub(in crate::proto) fn find(&self, holder: &Holder) -> Option<(String, Reservation)> {
        let all = self.allocator.reservations();
        let owner = if all.contains_key(&holder.owner) { &holder.owner } else { self.owner_at(holder.netns?)? };
        Some((owner.to_owned(), all.get(owner)?.clone()))
    }

    /// Takes `addrs` away from a container; all, and the interface, when none is named or none remains. With `keep` the
    /// interface alone.
    pub fn detach(&mut self, request: RequestId, holder: &Holder, addrs: &[Ipv4Addr], keep: bool) {
        let Some((owner, held)) = self.find(holder) else { return self.reply(request, Answer::Released(Vec::new())) };
        let (taken, left) = split(&held.addrs, addrs);
        if taken.is_empty() {
            return self.reply(request, Answer::Released(Vec::new()));
        }
        match self.stages.get_mut(&owner) {
            Some(Stage::Working(work)) => match &work.kind {
                Kind::Remove { kept, .. }
                    if left.is_empty() && kept.is_some() == keep && work.waiters.len() < WAITERS_MAX =>
                {
                    work.waiters.push(request);
                }
                Kind::Remove { .. } | Kind::Ensure { .. } => {
                    self.out.push_back(Output::Reply(request, Err(busy(&owner))));
                }
            },
            Some(Stage::Attached(ifindex)) if !left.is_empty() => {
                let before = Before::Attached(*ifindex);
                let kind = Kind::Ensure { before: Some((held.clone(), before)), released: taken };
                self.work(&owner, Reservation { addrs: left, ..held }, kind, vec![request]);
            }
            Some(Stage::Reserved) if keep => self.reply(request, Answer::Released(Vec::new())),
            Some(Stage::Absent(_) | Stage::Attached(_)) if left.is_empty() => self.remove(&owner, keep, vec![request]),
            _ => self.give_up(request, &owner, held, taken, left),
        }
    }

    /// Gives up addresses that are held for `name`, an owner or the id of a reservation, without an interface.
    pub fn release_addrs(&mut self, request: RequestId, name: &str, addrs: &[Ipv4Addr]) {
        let all = self.allocator.reservations();
        let by_id = || all.iter().find(|(_, r)| r.id.as_deref() == Some(name));
        let Some((owner, held)) = all.get_key_value(name).or_else(by_id).map(|(o, r)| (o.clone(), r.clone())) else {
            return self.reply(request, Answer::Released(Vec::new()));
        };
        if matches!(self.stages.get(&owner), Some(Stage::Attached(_) | Stage::Working(_))) {
            let text = format!("{owner} has an interface with its addresses: detach it; nothing was changed");
            return self.refuse(&[request], &text);
        }
        let (taken, left) = split(&held.addrs, addrs);
        self.give_up(request, &owner, held, taken, left);
    }

    fn give_up(&mut self, request: RequestId, owner: &str, held: Reservation, taken: Vec<Ipv4Net>, left: Vec<Ipv4Net>) {
        if left.is_empty() {
            self.release(owner);
        } else if !taken.is_empty() {
            self.freed = true;
            self.set(owner, Reservation { addrs: left, ..held });
        }
        self.reply(request, Answer::Released(taken));
    }

    /// Gives up what is held for containers that are absent since a reboot.
    pub fn release_absent(&mut self, request: RequestId) {
        let absent = self.stages.iter().filter(|(_, stage)| matches!(stage, Stage::Absent(None)));
        let absent: Vec<String> = absent.map(|(owner, _)| owner.clone()).collect();
        let held = |owner: &String| self.allocator.reservations().get(owner).map(|r| (owner.clone(), r.addrs.clone()));
        let released = absent.iter().filter_map(held).collect();
        absent.iter().for_each(|owner| self.release(owner));
        self.reply(request, Answer::ReleasedAbsent(released));
    }

    /// Nothing is free in `subnet`, here or at peers in reach: the owner that is absent since a reboot longest gives way,
    /// those with an address that a caller named after all others.
    pub fn give_way(&mut self, subnet: Ipv4Net) {
        let absent = self.stages.iter().filter(|(_, stage)| matches!(stage, Stage::Absent(None)));
        let held = absent.filter_map(|(owner, _)| Some((owner, self.allocator.reservations().get(owner)?)));
        let helps =
            |addrs: &[Ipv4Net]| addrs.iter().any(|a| subnet.contains(&a.addr()) && self.range.contains(&a.addr()));
        let longest = held.filter(|(_, r)| helps(&r.addrs)).min_by_key(|(owner, r)| (r.fixed, r.since, *owner));
        let Some((owner, addrs)) = longest.map(|(owner, r)| (owner.clone(), r.addrs.clone())) else { return };
        let addrs: Vec<String> = addrs.iter().map(|net| net.addr().to_string()).collect();
        let text = format!(
            "no address is free in {subnet}: {} of {owner}, which has been absent longest since a reboot, can be given to \
             others now",
            addrs.join(" ")
        );
        self.event(Severity::Warn, text);
        self.release(&owner);
    }
}

/// True when one of the addresses was named, now or before.
fn is_fixed(before: Option<&Reservation>, asked: &[AddrRequest]) -> bool {
    before.is_some_and(|before| before.fixed) || asked.iter().any(|asked| matches!(asked, AddrRequest::Fixed(..)))
}

/// Of `held` those named, or all; and what is left.
fn split(held: &[Ipv4Net], named: &[Ipv4Addr]) -> (Vec<Ipv4Net>, Vec<Ipv4Net>) {
    held.iter().partition(|net| named.is_empty() || named.contains(&net.addr()))
}
