//! Random schedules: what a seed makes happen to a network.
//!
//! A seed draws a network (`shape`), then some acts of trouble (`acts`, `comings`), each with what must hold in it; in the end
//! everything is healed, and within [`SETTLE`] all must be as it should be.

mod acts;
mod comings;
mod shape;

use std::time::Duration;

use super::{
    Faults, HostId, World,
    journal::{Detail, Journal},
    meter::Highest,
};

pub use super::oracle::SETTLE;

/// True when the core relays, finds other ways for packets, measures them, and copes with NAT and bounds on links.
const MESH: bool = true;
/// Fewest and most hosts.
const HOSTS: (HostId, HostId) = (3, 9);
/// Fewest and most acts.
const ACTS: (u64, u64) = (1, 3);

/// What a run of a schedule came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The trace as one number.
    pub trace: u64,
    /// Virtual time.
    pub lasted: Duration,
    /// Events.
    pub events: u64,
    /// The largest figures seen.
    pub highest: Highest,
}

/// Runs the schedule of `seed`, on a random number of hosts or on `hosts`.
///
/// # Panics
/// When an invariant breaks: the first line of the message says which and how, the seed and the log's end follow.
#[must_use]
pub fn run(seed: u64, hosts: Option<HostId>, journal: Journal) -> Outcome {
    let mut world = World::logged(seed, Faults::NONE, journal);
    let drawn = within(&mut world, (u64::from(HOSTS.0), u64::from(HOSTS.1)));
    let hosts = hosts.unwrap_or(HostId::try_from(drawn).unwrap_or(HOSTS.0));
    shape::launch(&mut world, hosts);
    if MESH {
        let share = [0, 300, 1000][index(&mut world, 3)];
        world.talk(share);
    }
    for _ in 0..within(&mut world, ACTS) {
        acts::any(&mut world, hosts);
    }
    for id in 1..=hosts {
        let _request = world.attach(id, &format!("last-{id}"));
    }
    // Those who asked may all have ended with that: where disks are full.
    let asked = (1..=hosts).any(|id| world.up(id));
    heal(&mut world, hosts);
    if !asked {
        let _request = world.attach(1, "after");
    }
    come_to_rest(&mut world);
    if !world.divided() {
        world.fail("converges after healing", "there are containers, and not everybody has a ring");
    }
    Outcome {
        trace: world.trace(),
        lasted: world.now().since_start(),
        events: world.events(),
        highest: world.meter().highest(),
    }
}

/// As [`run`], with the end of the log kept for the message.
#[must_use]
pub fn run_logged(seed: u64) -> Outcome {
    run(seed, None, Journal::new(Detail::Events, None))
}

/// Lets up to `most` milliseconds pass.
fn pause(world: &mut World, most: u64) {
    let pause = Duration::from_millis(world.pick(most));
    world.run(pause);
}

fn within(world: &mut World, (least, most): (u64, u64)) -> u64 {
    least + world.pick(most - least + 1)
}

fn host(world: &mut World, hosts: HostId) -> HostId {
    1 + HostId::try_from(world.pick(u64::from(hosts))).unwrap_or(0)
}

fn index(world: &mut World, len: usize) -> usize {
    usize::try_from(world.pick(len as u64)).unwrap_or(0)
}

/// Mends everything.
fn heal(world: &mut World, hosts: HostId) {
    world.heal();
    world.set_faults(Faults::NONE);
    for id in 1..=hosts {
        world.go_on(id);
        world.start(id);
    }
}

/// Mends everything and gives it time; then all must be well.
fn settle(world: &mut World, hosts: HostId) {
    heal(world, hosts);
    come_to_rest(world);
}

fn come_to_rest(world: &mut World) {
    world.run(SETTLE);
    let mut wrong = world.unsettled();
    if MESH {
        wrong.extend(world.crowded().iter().map(|(id, links)| format!("h{id} has {links} links")));
    }
    if !wrong.is_empty() {
        world.fail("converges after healing", &wrong.join("; "));
    }
}
