//! Operations on containers' interfaces, how they end, and the repair of what they left half done.
//!
//! An operation that fails on an interface that is there may have done a part of its work. The allocation goes back to
//! what it was, and the interface is made to agree with it: tried again after [`REPAIR_MIN`], doubled up to
//! [`REPAIR_MAX`], for as long as it is there.

use std::{collections::BTreeMap, time::Duration};

use super::{Allocation, Before, Endpoints, Kind, Stage, Work, mac};
use crate::proto::{
    command::Answer,
    io::{EndpointSpec, LinkOp, OpId, Output, RequestId, Severity},
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
    pub(super) fn work(&mut self, id: &str, allocation: Allocation, kind: Kind, waiters: Vec<RequestId>) {
        let attached = matches!(&kind, Kind::Ensure { before: Some((_, Before::Attached(_))), .. });
        let allocation = Allocation { unfinished: attached, ..allocation };
        let op = self.op();
        let spec = EndpointSpec {
            netns: allocation.netns.clone(),
            host_if: allocation.host_if.clone(),
            mac: mac(&allocation),
            mtu: allocation.mtu,
            addrs: allocation.addrs.clone(),
        };
        self.set(id, allocation);
        self.stages.insert(id.to_owned(), Stage::Working(Work { op, kind, waiters }));
        self.out.push_back(Output::Link(op, LinkOp::Ensure(spec)));
    }

    pub(super) fn remove(&mut self, id: &str, host_if: String, waiters: Vec<RequestId>) {
        let (op, before) = (self.op(), self.before(id));
        let work = Work { op, kind: Kind::Remove { before }, waiters };
        self.stages.insert(id.to_owned(), Stage::Working(work));
        self.out.push_back(Output::Link(op, LinkOp::Remove(host_if)));
    }

    /// Lowers the MTU of running containers' interfaces to `mtu` bytes where it is larger, and keeps it there.
    pub fn limit_mtu(&mut self, mtu: u32) {
        if std::mem::replace(&mut self.mtu_max, mtu) == mtu {
            return;
        }
        for id in self.stages.keys().cloned().collect::<Vec<_>>() {
            self.lower_mtu(&id);
        }
    }

    fn lower_mtu(&mut self, id: &str) {
        let attached = matches!(self.stages.get(id), Some(Stage::Attached(_)));
        let allocation = self.allocator.containers().get(id).filter(|a| attached && a.mtu > self.mtu_max);
        let Some(Allocation { netns, host_if, .. }) = allocation.cloned() else { return };
        let (op, mtu) = (self.op(), self.mtu_max);
        self.out.push_back(Output::Link(op, LinkOp::SetMtu { host_if, netns, mtu }));
        self.lowering.insert(op, id.to_owned());
        if let Some(allocation) = self.allocator.containers().get(id).cloned() {
            // Until it is done, a relaunch has to make sure.
            self.set(id, Allocation { mtu, unfinished: true, ..allocation });
        }
    }

    fn lowered(&mut self, id: &str, result: Result<u32, String>, now: Instant) {
        // An operation that was begun meanwhile gives the interface its MTU as well.
        let attached = matches!(self.stages.get(id), Some(Stage::Attached(_)));
        let Some(allocation) = self.allocator.containers().get(id).filter(|_| attached).cloned() else { return };
        match result {
            Ok(_) if self.lowering.values().any(|other| other == id) || self.repairs.is_due(id) => {}
            Ok(_) => self.set(id, Allocation { unfinished: false, ..allocation }),
            Err(reason) => {
                let (mtu, wait) = (allocation.mtu, self.repairs.failed(id, now).as_secs());
                let text = format!(
                    "the interface of {id} did not get MTU {mtu}: {reason}; its larger packets are sent in pieces, tried \
                     again in {wait} s"
                );
                self.out.push_back(Output::Event(Severity::Warn, text));
            }
        }
    }

    /// An operation came to its end.
    pub fn done(&mut self, op: OpId, result: Result<u32, String>, now: Instant) {
        if let Some(id) = self.lowering.remove(&op) {
            return self.lowered(&id, result, now);
        }
        let found = self.stages.iter().find(|(_, s)| matches!(s, Stage::Working(w) if w.op == op));
        let Some((id, Stage::Working(work))) = found.map(|(id, s)| (id.clone(), s.clone())) else { return };
        match (work.kind, result) {
            (Kind::Ensure { released, .. }, Ok(ifindex)) => {
                self.stages.insert(id.clone(), Stage::Attached(ifindex));
                self.repairs.over(&id);
                self.freed |= !released.is_empty();
                let Some(allocation) = self.allocator.containers().get(&id).cloned() else { return };
                if allocation.unfinished {
                    self.set(&id, Allocation { unfinished: false, ..allocation.clone() });
                }
                let attached = Answer::Attached(self.status_of(&id, &allocation));
                let answer = if released.is_empty() { attached } else { Answer::Detached(released) };
                for waiter in work.waiters {
                    self.reply(waiter, answer.clone());
                }
                self.lower_mtu(&id);
            }
            (Kind::Ensure { before, .. }, Err(reason)) => {
                match before {
                    None => self.release(&id),
                    Some((old, before)) => {
                        self.freed = true;
                        // Nobody knows how far the kernel came.
                        let unfinished = matches!(before, Before::Attached(_));
                        self.set(&id, Allocation { unfinished, ..old });
                        self.stages.insert(id.clone(), before.into());
                        if unfinished {
                            let wait = self.repairs.failed(&id, now).as_secs();
                            let text = format!(
                                "the interface of {id} is not as it should be: {reason}; tried again in {wait} s"
                            );
                            self.out.push_back(Output::Event(Severity::Warn, text));
                        }
                    }
                }
                self.refuse(&work.waiters, &format!("{id}: {reason}; its addresses were left as they were"));
            }
            (Kind::Remove { .. }, Ok(_)) => {
                let released = self.allocator.containers().get(&id).map_or_else(Vec::new, |a| a.addrs.clone());
                self.release(&id);
                for waiter in work.waiters {
                    self.reply(waiter, Answer::Detached(released.clone()));
                }
            }
            (Kind::Remove { before }, Err(reason)) => {
                self.stages.insert(id.clone(), before.into());
                self.refuse(&work.waiters, &format!("{id}: {reason}; it was left attached, detach it again"));
            }
        }
    }

    /// Begins what is due of the repairs.
    pub(super) fn repair(&mut self, now: Instant) {
        let due = self.repairs.0.iter().filter(|(_, (at, _))| *at <= now).map(|(id, _)| id.clone());
        for id in due.collect::<Vec<_>>() {
            match (self.stages.get(&id), self.allocator.containers().get(&id).cloned()) {
                (Some(Stage::Attached(ifindex)), Some(allocation)) => {
                    self.repairs.begun(&id, now);
                    let before = Some((allocation.clone(), Before::Attached(*ifindex)));
                    self.work(&id, allocation, Kind::Ensure { before, released: Vec::new() }, Vec::new());
                }
                // What is under way says how it ended; what is gone needs no repair.
                (Some(Stage::Working(_)), _) => self.repairs.begun(&id, now),
                _ => self.repairs.over(&id),
            }
        }
    }
}
