//! Operations on containers' interfaces, how they end, and the repair of what they left half done.
//!
//! An operation that fails on an interface that is there may have done a part of its work. The allocation goes back to
//! what it was, and the interface is made to agree with it: tried again after [`REPAIR_MIN`], doubled up to
//! [`REPAIR_MAX`], for as long as it is there.

use std::{collections::BTreeMap, time::Duration};

use ipnet::Ipv4Net;

use super::{Before, Endpoints, HOST_WAIT, Kind, Means, Stage, Work, mac_of};
use crate::proto::{
    command::Answer,
    io::{EndpointSpec, LinkOp, OpId, Output, RequestId, Severity},
    ipam::allocator::Access,
    reservation::{Attachment, HOST_OWNER, Place, Reservation},
    time::Instant,
};

/// Time until the first repair.
const REPAIR_MIN: Duration = Duration::from_secs(1);
/// Longest time between two.
const REPAIR_MAX: Duration = Duration::from_secs(60);

/// Containers whose interfaces are to be repaired: when, and after which wait.
#[derive(Debug, Default)]
pub(super) struct Repairs(BTreeMap<String, (Instant, Duration)>);

impl Repairs {
    fn failed(&mut self, id: &str, now: Instant) -> Duration {
        let wait = self.0.get(id).map_or(REPAIR_MIN, |(_, wait)| (*wait * 2).min(REPAIR_MAX));
        self.0.insert(id.to_owned(), (now + wait, wait));
        wait
    }

    fn begun(&mut self, id: &str, now: Instant) {
        if let Some((at, wait)) = self.0.get_mut(id) {
            *at = now + *wait;
        }
    }

    fn is_due(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }

    fn over(&mut self, id: &str) {
        self.0.remove(id);
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.0.values().map(|(at, _)| *at).min()
    }
}

impl Endpoints {
    /// Makes the interface that `reservation` says.
    pub(super) fn work(&mut self, owner: &str, reservation: Reservation, kind: Kind, waiters: Vec<RequestId>) {
        let Some(attachment) = reservation.attachment.clone() else { return };
        let routes = match attachment.place {
            Place::Host { .. } => vec![self.range],
            // Where no subnet of its own leads there, a container could not ask for names.
            Place::Netns(_) => {
                let service = self.allocator.service();
                let leads = reservation.addrs.iter().any(|addr| addr.contains(&service));
                if leads { Vec::new() } else { vec![Ipv4Net::from(service)] }
            }
        };
        let spec = EndpointSpec {
            place: attachment.place.clone(),
            host_if: attachment.host_if.clone(),
            mac: mac_of(&attachment.host_if, &reservation.addrs),
            mtu: attachment.mtu,
            addrs: reservation.addrs.clone(),
            routes,
        };
        let work = Box::new(Work { op: self.op(), kind, waiters });
        let attachment = Some(Attachment { unfinished: work.changed().is_some(), ..attachment });
        self.set(owner, Reservation { attachment, ..reservation });
        let op = work.op;
        self.stages.insert(owner.to_owned(), Stage::Working(work));
        self.out.push_back(Output::Link(op, LinkOp::Ensure(spec)));
    }

    /// Makes the interface of a container agree with its reservation.
    pub(super) fn renew(&mut self, owner: &str, reservation: Reservation, before: Before) {
        let before = Some((reservation.clone(), before));
        self.work(owner, reservation, Kind::Ensure { before, released: Vec::new() }, Vec::new());
    }

    /// Makes the host's own interface again where it is gone, once peers were `heard` of, or after [`HOST_WAIT`]; unless its
    /// addresses are another peer's by now.
    pub fn restore_host(&mut self, heard: bool, means: &Means<'_>) {
        if !self.host_since.is_some_and(|since| heard || means.now.since(since) >= HOST_WAIT) {
            return;
        }
        let held = self.allocator.reservations().get(HOST_OWNER).cloned();
        let Some(held) = held.filter(|_| matches!(self.stages.get(HOST_OWNER), Some(Stage::Absent(_)))) else {
            self.host_since = None;
            return;
        };
        let Access::Ring(ring) = means.access else {
            // Not yet, or never again: looked at again later.
            self.host_since = Some(means.now);
            return;
        };
        self.host_since = None;
        let lost =
            held.addrs.iter().find(|net| self.range.contains(&net.addr()) && !self.allocator.owns(ring, net.addr()));
        if let Some(lost) = lost.map(Ipv4Net::addr) {
            let text =
                format!("{lost}, an address of this host's interface, is another peer's by now: the host is hidden");
            self.event(Severity::Warn, text);
            return self.remove(HOST_OWNER, false, Vec::new());
        }
        self.renew(HOST_OWNER, held, Before::Absent(None));
    }

    /// Takes the interface away; with `keep` its addresses stay reserved.
    pub(super) fn remove(&mut self, owner: &str, keep: bool, waiters: Vec<RequestId>) {
        let Some(held) = self.allocator.reservations().get(owner).cloned() else { return };
        let Some(host_if) = held.host_if().map(str::to_owned) else { return };
        let masquerade = held.masquerade() == Some(true);
        let (op, before) = (self.op(), self.before(owner));
        let kept = keep.then(|| held.clone());
        if let Some(held) = kept.clone() {
            // Before the interface is gone: without it, a controller that is killed in between would take the container for
            // one that vanished, and release its addresses. An interface that nothing explains is removed by a relaunch.
            self.set(owner, Reservation { attachment: None, ..held });
        }
        let work = Box::new(Work { op, kind: Kind::Remove { before, kept }, waiters });
        self.stages.insert(owner.to_owned(), Stage::Working(work));
        self.out.push_back(Output::Link(op, LinkOp::Remove { host_if, masquerade }));
    }

    /// Lowers the MTU of running containers' interfaces to `mtu` bytes where it is larger, and keeps it there.
    pub fn limit_mtu(&mut self, mtu: u32) {
        if std::mem::replace(&mut self.mtu_max, mtu) == mtu {
            return;
        }
        for owner in self.stages.keys().cloned().collect::<Vec<_>>() {
            self.lower_mtu(&owner);
        }
    }

    fn lower_mtu(&mut self, owner: &str) {
        let Some((reservation, attachment)) = self.here(owner).filter(|(_, a)| a.mtu > self.mtu_max) else { return };
        let (op, mtu) = (self.op(), self.mtu_max);
        let (place, host_if) = (attachment.place.clone(), attachment.host_if.clone());
        self.out.push_back(Output::Link(op, LinkOp::SetMtu { host_if, place, mtu }));
        self.lowering.insert(op, owner.to_owned());
        // Until it is done, a relaunch has to make sure.
        let attachment = Some(Attachment { mtu, unfinished: true, ..attachment });
        self.set(owner, Reservation { attachment, ..reservation });
    }

    /// What `owner` has, while its interface is there and nothing is done to it.
    fn here(&self, owner: &str) -> Option<(Reservation, Attachment)> {
        matches!(self.stages.get(owner), Some(Stage::Attached(_))).then_some(())?;
        let reservation = self.allocator.reservations().get(owner)?.clone();
        let attachment = reservation.attachment.clone()?;
        Some((reservation, attachment))
    }

    fn lowered(&mut self, owner: &str, result: Result<u32, String>, now: Instant) {
        // An operation that was begun meanwhile gives the interface its MTU as well.
        let Some((reservation, attachment)) = self.here(owner) else { return };
        match result {
            Ok(_) if self.lowering.values().any(|other| other == owner) || self.repairs.is_due(owner) => {}
            Ok(_) => {
                let attachment = Some(Attachment { unfinished: false, ..attachment });
                self.set(owner, Reservation { attachment, ..reservation });
            }
            Err(reason) => {
                let (mtu, wait) = (attachment.mtu, self.repairs.failed(owner, now).as_secs());
                let text = format!(
                    "the interface of {owner} did not get MTU {mtu}: {reason}; its larger packets are sent in pieces, tried \
                     again in {wait} s"
                );
                self.event(Severity::Warn, text);
            }
        }
    }

    /// An operation came to its end.
    pub fn done(&mut self, op: OpId, result: Result<u32, String>, now: Instant) {
        if let Some(owner) = self.lowering.remove(&op) {
            return self.lowered(&owner, result, now);
        }
        let found = self.stages.iter().find(|(_, s)| matches!(s, Stage::Working(w) if w.op == op));
        let Some((owner, Stage::Working(work))) = found.map(|(owner, s)| (owner.clone(), s.clone())) else { return };
        match (work.kind, result) {
            (Kind::Ensure { released, .. }, Ok(ifindex)) => self.made(&owner, ifindex, released, &work.waiters, now),
            (Kind::Ensure { before, .. }, Err(reason)) => {
                self.not_made(&owner, before, &reason, now);
                self.refuse(&work.waiters, &format!("{owner}: {reason}; its addresses were left as they were"));
            }
            (Kind::Remove { kept: Some(_), .. }, Ok(_)) => {
                self.stages.insert(owner, Stage::Reserved);
                work.waiters.iter().for_each(|waiter| self.reply(*waiter, Answer::Released(Vec::new())));
            }
            (Kind::Remove { kept: None, .. }, Ok(_)) => {
                let held = self.allocator.reservations().get(&owner);
                let released = held.map_or_else(Vec::new, |held| held.addrs.clone());
                self.release(&owner);
                for waiter in work.waiters {
                    self.reply(waiter, Answer::Released(released.clone()));
                }
            }
            (Kind::Remove { before, kept }, Err(reason)) => {
                if let Some(held) = kept {
                    self.set(&owner, held);
                }
                self.stages.insert(owner.clone(), before.into());
                self.refuse(&work.waiters, &format!("{owner}: {reason}; it was left attached, detach it again"));
            }
        }
    }

    fn made(&mut self, owner: &str, ifindex: u32, released: Vec<Ipv4Net>, waiters: &[RequestId], now: Instant) {
        self.stages.insert(owner.to_owned(), Stage::Attached(ifindex));
        self.repairs.over(owner);
        self.freed |= !released.is_empty();
        let Some((reservation, attachment)) = self.here(owner) else { return };
        let answer = if released.is_empty() {
            Answer::Container(self.status_of(owner, &reservation, now))
        } else {
            Answer::Released(released)
        };
        if attachment.unfinished {
            let attachment = Some(Attachment { unfinished: false, ..attachment });
            self.set(owner, Reservation { attachment, ..reservation });
        }
        for waiter in waiters {
            self.reply(*waiter, answer.clone());
        }
        self.lower_mtu(owner);
    }

    /// Goes back to what was before. What the kernel did of it nobody knows: an interface that is there is repaired, and
    /// so is the host's own.
    fn not_made(&mut self, owner: &str, before: Option<(Reservation, Before)>, reason: &str, now: Instant) {
        let Some((old, before)) = before else { return self.release(owner) };
        self.freed = true;
        let repaired = matches!(before, Before::Attached(_)) || (old.attachment.is_some() && old.netns().is_none());
        let attachment = old.attachment.clone().map(|a| Attachment { unfinished: repaired, ..a });
        self.set(owner, Reservation { attachment, ..old });
        self.stages.insert(owner.to_owned(), before.into());
        if repaired {
            let wait = self.repairs.failed(owner, now).as_secs();
            let text = format!("the interface of {owner} is not as it should be: {reason}; tried again in {wait} s");
            self.event(Severity::Warn, text);
        }
    }

    /// Begins what is due of the repairs.
    pub(super) fn repair(&mut self, now: Instant) {
        let due = self.repairs.0.iter().filter(|(_, (at, _))| *at <= now).map(|(owner, _)| owner.clone());
        for owner in due.collect::<Vec<_>>() {
            match (self.stages.get(&owner), self.allocator.reservations().get(&owner).cloned()) {
                (Some(Stage::Attached(_)), Some(reservation)) => {
                    self.repairs.begun(&owner, now);
                    self.renew(&owner, reservation, self.before(&owner));
                }
                (Some(Stage::Absent(_)), Some(reservation)) if reservation.netns().is_none() => {
                    self.repairs.begun(&owner, now);
                    self.host_since = Some(now);
                }
                // What is under way says how it ended; what is gone needs no repair.
                (Some(Stage::Working(_)), _) => self.repairs.begun(&owner, now),
                _ => self.repairs.over(&owner),
            }
        }
    }
}
