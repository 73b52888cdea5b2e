//! Reading a status.

use std::{sync::Arc, time::Duration};

use weave_ctl::proto::wire::entry::Content;

use super::*;
use crate::world::{Faults, name};

#[test]
fn a_link_that_one_end_tells_leads_nowhere() {
    let mut world = World::new(1, Faults::NONE);
    for id in 1..=4 {
        world.launch(id, &[1, 2, 3, 4], &[1]);
    }
    world.run(Duration::from_secs(5));
    let mut snapshot = world.status(1).unwrap();
    assert_eq!(reached(&snapshot), (2..=4).map(name).collect());
    let others = snapshot.records.iter_mut().filter_map(|entry| match &mut Arc::make_mut(entry).content {
        Content::Record(record) => Some(&mut **record),
        _ => None,
    });
    for record in others.chain([&mut snapshot.me]).filter(|record| record.name != name(3)) {
        record.sessions.retain(|s| s.peer != name(3));
    }
    assert_eq!(reached(&snapshot), [2, 4].map(name).into_iter().collect());
    world.crash(1);
    assert!(world.status(1).is_none());
}
