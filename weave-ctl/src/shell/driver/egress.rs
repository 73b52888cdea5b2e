//! Containers that go out of the network through this host: its rules are written before the host has its interface, looked
//! at again by the reconcile loop, and removed with the interface.

use ipnet::Ipv4Net;
use tracing::{info, warn};

use super::Driver;
use crate::shell::{
    exposed::HOST_IF,
    masquerade::{self, Applied, MasqueradeError},
};

/// What begins each sentence in `status` on what keeps containers from going out.
const SUBJECT: &str = "masquerade: ";

/// Writes the rules. They take some time: programs of the host write them.
pub(super) async fn apply(range: Ipv4Net) -> Result<Applied, MasqueradeError> {
    ended(tokio::task::spawn_blocking(move || masquerade::ensure(range, HOST_IF)).await)
}

/// Removes the rules.
pub(super) async fn remove() -> Result<(), MasqueradeError> {
    ended(tokio::task::spawn_blocking(|| masquerade::remove().map(drop)).await)
}

fn ended<T: Default>(done: Result<Result<T, MasqueradeError>, tokio::task::JoinError>) -> Result<T, MasqueradeError> {
    // Cancelled with the runtime: nobody will look.
    done.unwrap_or_else(|_ended| Ok(T::default()))
}

impl Driver {
    /// Tells what is new of the rules, and remembers what `status` says of them.
    pub(super) fn masqueraded(&mut self, applied: Result<Applied, MasqueradeError>) {
        let Applied { changed, blocked } = match applied {
            Ok(applied) => applied,
            Err(error) => Applied { changed: Vec::new(), blocked: vec![error.to_string()] },
        };
        changed.iter().for_each(|text| info!("{text}"));
        let blocked: Vec<String> = blocked.into_iter().map(|text| format!("{SUBJECT}{text}")).collect();
        blocked.iter().filter(|text| !self.egress_blocked.contains(text)).for_each(|text| warn!("{text}"));
        self.egress_blocked = blocked;
    }
}
