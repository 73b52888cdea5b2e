//! The queue of the virtual clock: what happens next, by time, and at one time in the order in which it was put in.
//!
//! Does not: bound itself; a run that does not come to rest ends by [`super::EVENTS_MAX`].

use std::{cmp::Reverse, collections::BinaryHeap};

use weave_ctl::proto::time::Instant;

/// See the head of this file. The heap moves small keys; events stay where they are.
pub(super) struct Queue<E> {
    heap: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    slots: Vec<Option<E>>,
    free: Vec<usize>,
    next: u64,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), slots: Vec::new(), free: Vec::new(), next: 0 }
    }
}

impl<E> Queue<E> {
    /// Lets `event` happen at `at`.
    pub(super) fn push(&mut self, at: Instant, event: E) {
        let slot = self.free.pop().unwrap_or(self.slots.len());
        if slot == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[slot] = Some(event);
        self.next += 1;
        self.heap.push(Reverse((at, self.next, slot)));
    }

    /// The next event, if it happens at `end` or before.
    pub(super) fn pop(&mut self, end: Instant) -> Option<(Instant, E)> {
        let Reverse((at, _, slot)) = *self.heap.peek().filter(|next| next.0.0 <= end)?;
        self.heap.pop();
        self.free.push(slot);
        self.slots[slot].take().map(|event| (at, event))
    }
}

#[cfg(test)]
mod tests;
