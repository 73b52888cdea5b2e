//! Everything comes out in order, and room is given back.

use super::*;

#[test]
fn a_burst_is_forgotten_once_it_is_over() {
    let mut queue: VecDeque<u32> = (0..1000).collect();
    let all: Vec<u32> = std::iter::from_fn(|| pop(&mut queue)).collect();
    assert_eq!(all, (0..1000).collect::<Vec<_>>());
    assert_eq!(queue.capacity(), 0);
}
