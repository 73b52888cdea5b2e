//! The service endpoint: the interface of the namespace in which this host answers questions for names.
//!
//! Its address is the same on every host ([`crate::proto::ipam::service_address`]), given to no container, and reached by
//! containers of this host alone. The namespace is the controller's own and ends with it, so the interface is made at each
//! launch, and again when it vanishes.
//!
//! ```text
//! Wanted(at) ---> Making(op) --- done ---> Up(ifindex)
//!     ^---- failed ----+                       |
//!     +-------------- vanished ----------------+
//! ```
//! Bounds: tried again after [`RETRY_MIN`], doubled up to [`RETRY_MAX`].

use std::{net::Ipv4Addr, time::Duration};

use ipnet::Ipv4Net;
use weave_common::addr::Mac;

use super::{
    endpoints::host_if_of,
    io::{EndpointSpec, EndpointTo, LinkOp, OpId, Output, Severity},
    reservation::{Netns, Place},
    time::Instant,
};

/// Time until the first attempt after one that failed.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// Longest time between two.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// MTU in bytes of the interface: what the resolver sends fits any container's.
const MTU: u32 = 1280;
/// Set in the ids of its operations, which are none of a container's.
const OPS: u64 = 1 << 63;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Wanted(Instant),
    Making(OpId),
    Up(u32),
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Service {
    addr: Ipv4Addr,
    netns: Netns,
    stage: Stage,
    wait: Duration,
    ops: u64,
}

impl Service {
    /// An endpoint at `addr`, to be made in `netns`.
    pub(crate) fn new(addr: Ipv4Addr, netns: Netns, now: Instant) -> Self {
        Self { addr, netns, stage: Stage::Wanted(now), wait: RETRY_MIN, ops: OPS }
    }

    /// What is to be done now.
    pub(crate) fn turn(&mut self, now: Instant) -> Option<Output> {
        let Stage::Wanted(at) = self.stage else { return None };
        (at <= now).then(|| {
            self.ops += 1;
            let op = OpId(self.ops);
            self.stage = Stage::Making(op);
            Output::Link(op, LinkOp::Ensure(self.spec()))
        })
    }

    fn spec(&self) -> EndpointSpec {
        EndpointSpec {
            place: Place::Netns(self.netns.clone()),
            host_if: self.host_if(),
            mac: self.mac(),
            mtu: MTU,
            addrs: vec![Ipv4Net::from(self.addr)],
            // Containers may have any address.
            routes: vec![Ipv4Net::default()],
        }
    }

    /// Name of its host end.
    pub(crate) fn host_if(&self) -> String {
        host_if_of(self.addr)
    }

    fn mac(&self) -> Mac {
        Mac::of_container(self.addr.octets())
    }

    /// An operation came to its end; `None` when it was not one of this endpoint.
    pub(crate) fn done(&mut self, op: OpId, result: &Result<u32, String>, now: Instant) -> Option<Vec<Output>> {
        if op.0 & OPS == 0 {
            return None;
        }
        if self.stage != Stage::Making(op) {
            return Some(Vec::new());
        }
        Some(match result {
            Ok(ifindex) => {
                (self.stage, self.wait) = (Stage::Up(*ifindex), RETRY_MIN);
                Vec::new()
            }
            Err(reason) => {
                let wait = self.wait;
                (self.stage, self.wait) = (Stage::Wanted(now + wait), (wait * 2).min(RETRY_MAX));
                let text = format!(
                    "containers of this host cannot ask {} for names: {reason}; tried again in {} s",
                    self.addr,
                    wait.as_secs()
                );
                vec![Output::Event(Severity::Warn, text)]
            }
        })
    }

    /// The host end of that name vanished; false when it is not this one's.
    pub(crate) fn vanished(&mut self, host_if: &str, now: Instant) -> bool {
        let ours = host_if == self.host_if();
        if ours && matches!(self.stage, Stage::Up(_)) {
            self.stage = Stage::Wanted(now);
        }
        ours
    }

    /// What the kernel's table of endpoints should hold for it.
    pub(crate) fn installed(&self) -> Option<(Ipv4Addr, EndpointTo)> {
        let Stage::Up(ifindex) = self.stage else { return None };
        Some((self.addr, EndpointTo { service: true, ..EndpointTo::container(ifindex, self.mac()) }))
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if let Stage::Wanted(at) = self.stage { Some(at) } else { None }
    }
}

#[cfg(test)]
mod tests;
