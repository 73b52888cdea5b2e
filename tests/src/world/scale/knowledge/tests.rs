//! Reading a status.

use std::time::Duration;

use super::*;
use crate::world::{Faults, name};

#[test]
fn a_link_that_one_end_tells_leads_nowhere() {
    let mut world = World::new(1, Faults::NONE);
    for id in 1..=4 {
        world.launch(id, &[1, 2, 3, 4], &[1]);
    }
    world.run(Duration::from_secs(5));
    let mut status = world.status(1).unwrap();
    assert_eq!(reached(&status), (2..=4).map(name).collect());
    for peer in status.peers.iter_mut().filter(|peer| peer.record.name != name(3)) {
        peer.record.sessions.retain(|s| s.peer != name(3));
    }
    assert_eq!(reached(&status), [2, 4].map(name).into_iter().collect());
    world.crash(1);
    assert!(world.status(1).is_none());
}
