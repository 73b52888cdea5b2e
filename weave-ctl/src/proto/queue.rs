//! Queues that are filled and emptied in turn.

use std::collections::VecDeque;

/// Most room in items that an empty queue keeps: a burst to thousands of peers is rare.
const KEPT: usize = 64;

/// Takes the next item out; an empty queue does not keep the room of a burst.
pub(crate) fn pop<T>(queue: &mut VecDeque<T>) -> Option<T> {
    let next = queue.pop_front();
    if next.is_none() && queue.capacity() > KEPT {
        *queue = VecDeque::new();
    }
    next
}

#[cfg(test)]
mod tests;
