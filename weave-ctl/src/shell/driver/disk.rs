//! A disk without room for the store to grow: what adds to the store is refused, all else goes on, and it heals by itself.
//!
//! The store tells early ([`crate::shell::store::Store::is_low`]), so what the core does by itself (rings, votes, releases) still finds room.

use std::sync::Arc;

use tracing::{info, warn};

use super::Driver;
use crate::proto::command::{Command, Refusal};

impl Driver {
    /// Why a command cannot be carried out while the disk is full; `None` when it can.
    pub(super) fn needs_room(&self, command: &Command) -> Option<Refusal> {
        let what = match command {
            Command::Attach(..) => "attach a container",
            Command::Reserve(..) => "reserve an address",
            Command::AddName { .. } => "remember a name",
            Command::Connect { .. } => "remember a peer",
            _ => return None,
        };
        self.store.is_low().then(|| {
            let dir = self.dirs.state.display();
            Refusal(format!(
                "cannot {what}: the disk of {dir} is full; nothing was changed, and containers keep talking; free some space \
                 there, and try again"
            ))
        })
    }

    /// What `status` says of it.
    pub(super) fn disk_warning(&self) -> Option<String> {
        let dir = self.dirs.state.display();
        self.store.is_low().then(|| {
            format!(
                "the disk of {dir} is full: attach and connect are refused until there is room again; all else goes on, and \
                 containers keep talking; free some space there"
            )
        })
    }

    /// Tells the log when it is full and when it has room again, once each; looks for room while it is full.
    pub(super) fn look_at_disk(&mut self) {
        let low = self.store.is_low();
        if std::mem::replace(&mut self.disk_low, low) != low {
            match self.disk_warning() {
                Some(text) => warn!("{text}"),
                None => info!("the disk of {} has room again", self.dirs.state.display()),
            }
        }
        if low {
            let store = Arc::clone(&self.store);
            // A disk that refuses for another reason shows by the next commit.
            drop(tokio::task::spawn_blocking(move || store.look_for_room().ok()));
        }
    }
}
