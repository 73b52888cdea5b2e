//! Opening a link.
//!
//! A handshake that fails is logged, once until its reason changes: attempts go on, each with the same end.
//!
//! Bounds: a name is given [`RESOLVE_TIME`], at most [`ADDRS_MAX`] of its addresses are tried, from a random one on, each
//! with [`CONNECT_TIME`] and the time of a handshake. Reasons of [`FAILURES_MAX`] addresses are remembered.
//!
//! Does not: try again; the core does.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, RandomState},
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

use super::{Shared, handshake::Role, plain, prepare};
use crate::proto::io::{DialId, Direction, Input, Target};

/// Time for a name server to answer.
const RESOLVE_TIME: Duration = Duration::from_secs(5);
/// Time for a host to answer.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Addresses of one name that are tried.
const ADDRS_MAX: usize = 8;
/// Addresses whose last failed handshake is remembered; a further one takes the place of the lowest.
const FAILURES_MAX: usize = 64;

/// Why the last handshake with each address failed, as the log says.
#[derive(Default)]
pub(super) struct Failures(Mutex<BTreeMap<SocketAddrV4, String>>);

impl Failures {
    fn all(&self) -> MutexGuard<'_, BTreeMap<SocketAddrV4, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True when this was not the reason of the attempt before.
    fn is_new(&self, addr: SocketAddrV4, reason: &str) -> bool {
        let mut all = self.all();
        if all.get(&addr).is_some_and(|before| before == reason) {
            return false;
        }
        if all.len() >= FAILURES_MAX && !all.contains_key(&addr) {
            all.pop_first();
        }
        all.insert(addr, reason.to_owned());
        true
    }
}

/// Dials, and serves the link that comes of it.
pub(super) async fn run(dial: DialId, target: Target, shared: Arc<Shared>) {
    let reason = match try_all(dial, &target, &shared).await {
        Ok(()) => return,
        Err(reason) => reason,
    };
    // Nobody listens only when the controller stops.
    drop(shared.inputs.send(Input::DialFailed(dial, reason)).await);
}

/// Tries the target's addresses until one is a peer, and serves it. The reason is that of the last address.
async fn try_all(dial: DialId, target: &Target, shared: &Shared) -> Result<(), String> {
    let mut addrs = resolve(target, shared.control_port).await?;
    // One that is no peer, or this host itself, must not stand before the others at each attempt.
    let first = (RandomState::new().hash_one(dial.0) as usize).checked_rem(addrs.len());
    addrs.rotate_left(first.unwrap_or(0));
    let mut reason = format!("{} has no IPv4 address", target.host);
    for addr in addrs.into_iter().take(ADDRS_MAX) {
        let mut stream = match connect(addr).await {
            Ok(stream) => stream,
            Err(error) => {
                reason = format!("cannot connect to {addr}: {}", plain(&error));
                continue;
            }
        };
        match shared.shake(&mut stream, Role::Initiator).await {
            Ok(session) => {
                shared.failures.all().remove(&addr);
                let served = shared.serve(stream, session, Direction::Outbound(dial)).await;
                return served.map_err(|error| format!("{addr}: {}", plain(&error)));
            }
            Err(error) => {
                reason = format!("{addr}: {error}");
                if shared.failures.is_new(addr, &reason) {
                    tracing::warn!("no session to {reason}");
                }
            }
        }
    }
    Err(reason)
}

async fn resolve(target: &Target, control_port: u16) -> Result<Vec<SocketAddrV4>, String> {
    let port = target.port.unwrap_or(control_port);
    if let Ok(addr) = target.host.parse::<Ipv4Addr>() {
        return Ok(vec![SocketAddrV4::new(addr, port)]);
    }
    let host = &target.host;
    match timeout(RESOLVE_TIME, lookup_host((host.as_str(), port))).await {
        Ok(Ok(addrs)) => Ok(addrs
            .filter_map(|addr| match addr {
                SocketAddr::V4(addr) => Some(addr),
                SocketAddr::V6(_) => None,
            })
            .collect()),
        Ok(Err(error)) => Err(format!("cannot resolve {host}: {}", plain(&error))),
        Err(_elapsed) => Err(format!("cannot resolve {host}: no answer within {} s", RESOLVE_TIME.as_secs())),
    }
}

async fn connect(addr: SocketAddrV4) -> io::Result<TcpStream> {
    let stream = match timeout(CONNECT_TIME, TcpStream::connect(addr)).await {
        Ok(connected) => connected?,
        Err(_elapsed) => {
            let text = format!("no answer within {} s", CONNECT_TIME.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
    };
    prepare(&stream)?;
    Ok(stream)
}

#[cfg(test)]
mod tests;
