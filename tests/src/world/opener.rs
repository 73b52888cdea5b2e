//! Opens what is gossiped once for all nodes of this process: what thousands of them would each verify and keep is verified
//! once and shared.
//!
//! Bounds: what no node holds any more is let go whenever there is twice as much as after the last time.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use foldhash::fast::FixedState;
use weave_ctl::proto::wire::{
    WireError,
    entry::{Entry, Head, Verifier, Verify},
};

/// Fewest entries at which it is looked for what nobody holds.
const PRUNE_MIN: usize = 1024;

/// See the head of this file.
#[derive(Default)]
pub(super) struct Shared(Mutex<Opened>);

#[derive(Default)]
struct Opened {
    /// Looked up by what was received; never walked in an order that matters.
    entries: HashMap<Arc<[u8]>, Weak<Entry>, FixedState>,
    prune_at: usize,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

impl Opened {
    fn prune(&mut self) {
        self.entries.retain(|_, entry| entry.strong_count() > 0);
        self.entries.shrink_to_fit();
        self.prune_at = (self.entries.len() * 2).max(PRUNE_MIN);
    }
}

impl Shared {
    /// Knows nothing any more; what nodes hold stays theirs. So that only that is weighed.
    pub(super) fn forget(&self) {
        *self.opened() = Opened::default();
    }

    fn opened(&self) -> MutexGuard<'_, Opened> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, raw: &[u8]) -> Option<Arc<Entry>> {
        self.opened().entries.get(raw)?.upgrade()
    }
}

impl Verifier for Shared {
    fn peek(&self, raw: &[u8]) -> Result<Head, WireError> {
        match self.known(raw) {
            Some(entry) => Ok((entry.key.clone(), entry.uid, entry.version)),
            None => Verify.peek(raw),
        }
    }

    fn open(&self, raw: &[u8]) -> Result<Arc<Entry>, WireError> {
        if let Some(entry) = self.known(raw) {
            return Ok(entry);
        }
        let entry = Verify.open(raw)?;
        let mut opened = self.opened();
        opened.entries.insert(Arc::clone(&entry.raw), Arc::downgrade(&entry));
        if opened.entries.len() > opened.prune_at {
            opened.prune();
        }
        Ok(entry)
    }
}

#[cfg(test)]
mod tests;
