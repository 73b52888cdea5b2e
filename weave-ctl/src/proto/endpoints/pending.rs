//! Callers whose containers wait for an address that must come from another peer first.
//!
//! In the order in which they came, each tried again whenever something changed; given up when the caller goes away.
//! Bounds: [`PENDING_MAX`] callers.

use std::{
    collections::{BTreeSet, VecDeque},
    net::Ipv4Addr,
};

use super::{Endpoints, Stop};
use crate::proto::{
    command::{AddrRequest, Container},
    io::{Output, RequestId},
    ipam::allocator::{Access, Need},
};

/// Most callers that wait.
pub(super) const PENDING_MAX: usize = 1024;

/// One caller.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) request: RequestId,
    pub(super) container: Container,
    pub(super) asked: Vec<AddrRequest>,
    pub(super) need: Need,
    pub(super) why: String,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Queue(VecDeque<Pending>);

impl Queue {
    /// Lets a caller wait; false when too many do.
    pub(super) fn push(&mut self, pending: Pending) -> bool {
        let room = self.0.len() < PENDING_MAX;
        if room {
            self.0.push_back(pending);
        }
        room
    }

    /// Takes all out, in order.
    pub(super) fn take(&mut self) -> VecDeque<Pending> {
        std::mem::take(&mut self.0)
    }

    /// Takes those out that need `need`.
    pub(super) fn take_needing(&mut self, need: Need) -> Vec<Pending> {
        let (out, left) = self.take().into_iter().partition(|p| p.need == need);
        self.0 = left;
        let out: VecDeque<Pending> = out;
        out.into()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Pending> {
        self.0.iter()
    }

    /// The caller went away.
    pub(super) fn gone(&mut self, request: RequestId) {
        self.0.retain(|p| p.request != request);
    }

    /// What is needed.
    pub(super) fn needs(&self) -> BTreeSet<Need> {
        self.0.iter().map(|p| p.need).collect()
    }

    /// How many wait, and why the first does.
    pub(super) fn first(&self) -> Option<(usize, &str)> {
        self.0.front().map(|p| (self.0.len(), p.why.as_str()))
    }
}

impl Endpoints {
    /// Gives `container` an interface with the addresses it has and those asked for; it waits when none is free here.
    pub fn attach(
        &mut self,
        request: RequestId,
        container: Container,
        asked: Vec<AddrRequest>,
        access: Access<'_>,
        mtu: u32,
    ) {
        match self.try_attach(request, &container, &asked, access, mtu) {
            Ok(()) => {}
            Err(Stop::Refuse(refusal)) => self.out.push_back(Output::Reply(request, Err(refusal))),
            Err(Stop::Wait(need, why)) => {
                if !self.pending.push(Pending { request, container, asked, need, why }) {
                    let text = format!("{PENDING_MAX} callers wait for addresses already: nothing was changed");
                    self.refuse(&[request], &text);
                }
            }
        }
    }

    /// Tries again for those who wait.
    pub fn retry(&mut self, access: Access<'_>, mtu: u32) {
        self.freed = false;
        for Pending { request, container, asked, .. } in self.pending.take() {
            self.attach(request, container, asked, access, mtu);
        }
    }

    /// True when addresses came back since the last [`Self::retry`].
    #[must_use]
    pub fn freed(&self) -> bool {
        self.freed
    }

    /// Fixed addresses that callers wait for, and may have in part already.
    #[must_use]
    pub fn fixed(&self) -> BTreeSet<Ipv4Addr> {
        let asked = self.pending.iter().flat_map(|pending| &pending.asked);
        asked.filter_map(|asked| if let AddrRequest::Fixed(addr, _) = asked { Some(*addr) } else { None }).collect()
    }

    /// Addresses outside the range that may be given now.
    pub fn set_granted(&mut self, granted: BTreeSet<Ipv4Addr>) {
        self.allocator.set_granted(granted);
    }

    /// What those who wait need.
    #[must_use]
    pub fn needs(&self) -> BTreeSet<Need> {
        self.pending.needs()
    }

    /// How many wait, and why the first does.
    #[must_use]
    pub fn waiting(&self) -> Option<(usize, &str)> {
        self.pending.first()
    }

    /// What is needed cannot be had.
    pub fn deny(&mut self, need: Need, why: &str) {
        for Pending { request, container, .. } in self.pending.take_needing(need) {
            self.refuse(&[request], &format!("{why}; {} was left as it was", container.id));
        }
    }

    /// A caller went away: what it asked for is not needed any more.
    pub fn request_gone(&mut self, request: RequestId) {
        self.pending.gone(request);
    }

    /// Refuses all who wait.
    pub(super) fn refuse_pending(&mut self, why: &str) {
        for pending in self.pending.take() {
            self.refuse(&[pending.request], why);
        }
    }
}
