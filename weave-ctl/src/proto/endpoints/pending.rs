//! Callers that wait for an address that must come from another peer first.
//!
//! In the order in which they came, each tried again whenever something changed; given up when the caller goes away.
//! Bounds: [`PENDING_MAX`] callers.

use std::{
    collections::{BTreeSet, VecDeque},
    net::Ipv4Addr,
};

use super::{Endpoints, Means};
use crate::proto::{
    command::{AddrRequest, Container},
    io::RequestId,
    ipam::allocator::Need,
};

/// Most callers that wait.
pub(super) const PENDING_MAX: usize = 1024;

/// What addresses are asked for.
#[derive(Clone, Debug)]
pub enum Purpose {
    /// A container's interface.
    Attach(Container),
    /// To be held for an owner, or under a new id.
    Reserve(Option<String>),
}

impl Purpose {
    fn owner(&self) -> &str {
        match self {
            Self::Attach(container) => &container.owner,
            Self::Reserve(owner) => owner.as_deref().unwrap_or("the network"),
        }
    }
}

/// One caller.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) request: RequestId,
    pub(super) purpose: Purpose,
    pub(super) asked: Vec<AddrRequest>,
    pub(super) need: Need,
    pub(super) why: String,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Queue(VecDeque<Pending>);

impl Queue {
    /// Takes all out, in order.
    fn take(&mut self) -> VecDeque<Pending> {
        std::mem::take(&mut self.0)
    }

    /// Takes those out that need `need`.
    fn take_needing(&mut self, need: Need) -> Vec<Pending> {
        let (out, left) = self.take().into_iter().partition(|p| p.need == need);
        self.0 = left;
        let out: VecDeque<Pending> = out;
        out.into()
    }
}

impl Endpoints {
    /// Lets a caller wait; refused when too many do.
    pub(super) fn wait(&mut self, pending: Pending) {
        if self.pending.0.len() < PENDING_MAX {
            return self.pending.0.push_back(pending);
        }
        let text = format!("{PENDING_MAX} callers wait for addresses already: nothing was changed");
        self.refuse(&[pending.request], &text);
    }

    /// Tries again for those who wait.
    pub fn retry(&mut self, means: &Means<'_>) {
        self.freed = false;
        for Pending { request, purpose, asked, .. } in self.pending.take() {
            self.ask_for(request, purpose, asked, means);
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
        let asked = self.pending.0.iter().flat_map(|pending| &pending.asked);
        asked.filter_map(|asked| if let AddrRequest::Fixed(addr, _) = asked { Some(*addr) } else { None }).collect()
    }

    /// Addresses outside the range that may be given now.
    pub fn set_granted(&mut self, granted: BTreeSet<Ipv4Addr>) {
        self.allocator.set_granted(granted);
    }

    /// What those who wait need.
    #[must_use]
    pub fn needs(&self) -> BTreeSet<Need> {
        self.pending.0.iter().map(|p| p.need).collect()
    }

    /// How many wait, and why the first does.
    #[must_use]
    pub fn waiting(&self) -> Option<(usize, &str)> {
        self.pending.0.front().map(|p| (self.pending.0.len(), p.why.as_str()))
    }

    /// What is needed cannot be had.
    pub fn deny(&mut self, need: Need, why: &str) {
        for Pending { request, purpose, .. } in self.pending.take_needing(need) {
            self.refuse(&[request], &format!("{why}; {} was left as it was", purpose.owner()));
        }
    }

    /// A caller went away: what it asked for is not needed any more.
    pub fn request_gone(&mut self, request: RequestId) {
        self.pending.0.retain(|p| p.request != request);
    }

    /// Refuses all who wait.
    pub(super) fn refuse_pending(&mut self, why: &str) {
        for pending in self.pending.take() {
            self.refuse(&[pending.request], why);
        }
    }
}
