//! Accepting links.
//!
//! Until its handshake is done a connection is anybody's: such connections are counted, by host too, and accepted no
//! faster than one in [`PACE`]. A refused connection is told to the log, at most [`COMPLAINTS_MAX`] in
//! [`COMPLAINTS_TIME`]; `status` shows the last one of a peer whose secret, range or version is another.
//!
//! Does not: tell the core of a connection that never became a link.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep},
};

use super::{
    HANDSHAKES_MAX, HANDSHAKES_PER_HOST, LINKS_MAX, Shared,
    handshake::{HandshakeError, Role},
    prepare,
};
use crate::proto::io::Direction;

/// Time between two connections accepted.
const PACE: Duration = Duration::from_millis(2);
/// Time before the next attempt when the kernel gives no connection, for want of file descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);
/// Refused connections told to the log within [`COMPLAINTS_TIME`].
const COMPLAINTS_MAX: u32 = 10;
const COMPLAINTS_TIME: Duration = Duration::from_secs(10);
/// `status` shows a refused peer for so long.
const REFUSAL_SHOWN: Duration = Duration::from_secs(300);

/// The last peer that was refused for what both sides must share, and why.
#[derive(Default)]
pub(super) struct Refused(Mutex<Option<(Instant, IpAddr, String)>>);

impl Refused {
    fn last(&self) -> MutexGuard<'_, Option<(Instant, IpAddr, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A sentence for `status`, for [`REFUSAL_SHOWN`] or until a handshake with that host succeeds.
    pub(super) fn warning(&self) -> Option<String> {
        let last = self.last();
        let (_, host, reason) = last.as_ref().filter(|(at, ..)| at.elapsed() < REFUSAL_SHOWN)?;
        Some(format!("refused a connection from {host}: {reason}"))
    }

    fn set(&self, host: IpAddr, error: &HandshakeError) {
        if error.is_disagreement() {
            *self.last() = Some((Instant::now(), host, error.to_string()));
        }
    }

    fn clear(&self, host: IpAddr) {
        self.last().take_if(|(_, refused, _)| *refused == host);
    }
}

/// Accepts until the task is aborted.
pub(super) async fn run(listener: TcpListener, shared: Arc<Shared>) {
    let slots = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let gate = Arc::new(Gate::default());
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, remote)) => match gate.enter(remote.ip(), &shared) {
                Ok(()) => {
                    let guest = Guest { remote, gate: Arc::clone(&gate), _slot: slot };
                    drop(tokio::spawn(guest.receive(stream, Arc::clone(&shared))));
                }
                Err(reason) => gate.complain(remote, reason),
            },
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                sleep(PAUSE).await;
            }
        }
        sleep(PACE).await;
    }
}

/// Counts connections that are not links yet.
#[derive(Default)]
struct Gate {
    hosts: Mutex<BTreeMap<IpAddr, usize>>,
    complaints: Mutex<Option<(Instant, u32)>>,
}

impl Gate {
    fn hosts(&self) -> MutexGuard<'_, BTreeMap<IpAddr, usize>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, host: IpAddr, shared: &Shared) -> Result<(), &'static str> {
        if shared.count() >= LINKS_MAX {
            return Err("there are too many links already");
        }
        let mut hosts = self.hosts();
        let count = hosts.entry(host).or_default();
        if *count >= HANDSHAKES_PER_HOST {
            return Err("too many handshakes of this host are under way");
        }
        *count += 1;
        Ok(())
    }

    fn leave(&self, host: IpAddr) {
        let mut hosts = self.hosts();
        if let Some(count) = hosts.get_mut(&host) {
            *count -= 1;
            if *count == 0 {
                hosts.remove(&host);
            }
        }
    }

    fn complain(&self, remote: SocketAddr, reason: impl std::fmt::Display) {
        let mut told = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (since, count) = told.filter(|(since, _)| now - *since < COMPLAINTS_TIME).unwrap_or((now, 0));
        *told = Some((since, count.saturating_add(1)));
        if count < COMPLAINTS_MAX {
            tracing::warn!("refused a connection from {remote}: {reason}");
        } else {
            tracing::debug!("refused a connection from {remote}: {reason}");
        }
    }
}

/// A connection whose handshake is under way. Gives its place back when dropped.
struct Guest {
    remote: SocketAddr,
    gate: Arc<Gate>,
    _slot: OwnedSemaphorePermit,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.gate.leave(self.remote.ip());
    }
}

impl Guest {
    async fn receive(self, mut stream: TcpStream, shared: Arc<Shared>) {
        if let Err(error) = prepare(&stream) {
            return self.gate.complain(self.remote, error);
        }
        let session = match shared.shake(&mut stream, Role::Responder).await {
            Ok(session) => session,
            Err(error) => {
                shared.refused.set(self.remote.ip(), &error);
                return self.gate.complain(self.remote, error);
            }
        };
        shared.refused.clear(self.remote.ip());
        let (remote, gate) = (self.remote, Arc::clone(&self.gate));
        drop(self);
        if let Err(error) = shared.serve(stream, session, Direction::Inbound).await {
            gate.complain(remote, error);
        }
    }
}
