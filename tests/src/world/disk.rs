//! Disks: commits that are slow, that fail, and that a crash cuts short.
//!
//! The driver waits for a commit before it does anything else, so a controller whose disk is slow takes nothing in
//! meanwhile. A commit that fails ends the controller before anything of its batch is done, and whoever supervises it
//! launches it again.

use std::time::Duration;

use weave_ctl::proto::io::Output;

use super::{Event, HostId, World};

/// Longest time that a slow commit takes.
const SLOW_MAX: Duration = Duration::from_secs(3);
/// Time after which a controller that is stopped is looked at again.
const STOPPED: Duration = Duration::from_millis(100);

impl World {
    /// The disk of `id` takes no commit from now on, until it is healed.
    pub fn fill_disk(&mut self, id: HostId) {
        self.note(|| format!("the disk of h{id} is full"));
        self.troubled();
        if let Some(host) = self.hosts.get_mut(&id) {
            host.full = true;
        }
    }

    pub(super) fn heal_disks(&mut self) {
        self.hosts.values_mut().for_each(|host| host.full = false);
    }

    /// Makes a batch durable, at once or later; true when its effects are to be carried out now.
    pub(super) fn commit(&mut self, id: HostId, batch: &[Output]) -> bool {
        if self.is_write_point(id) {
            return false;
        }
        if self.chance(self.faults.crash_before_commit) || self.hosts.get(&id).is_some_and(|host| host.full) {
            self.crash_and_return(id);
            return false;
        }
        if self.chance(self.faults.slow_commit) {
            let most = u64::try_from(SLOW_MAX.as_micros()).unwrap_or(1);
            let time = Duration::from_micros(self.rng.below(most));
            self.note(|| format!("h{id} commits for {time:?}"));
            self.troubled();
            let Some(host) = self.hosts.get_mut(&id) else { return false };
            host.committing = Some(batch.to_vec());
            let run = host.run;
            self.at(time, Event::Committed(id, run));
            return false;
        }
        self.write(id, batch);
        true
    }

    /// Kills the controller that comes to the `point`th write point, which is launched again a little later. Write points
    /// are before each commit, and before each effect of a batch that was committed.
    pub fn kill_at(&mut self, point: u64) {
        self.kill_at = Some(point);
    }

    /// Write points that were come to.
    #[must_use]
    pub fn write_points(&self) -> u64 {
        self.write_points
    }

    /// Counts a write point; true when the controller is killed there.
    pub(super) fn is_write_point(&mut self, id: HostId) -> bool {
        let point = self.write_points;
        self.write_points += 1;
        let killed = self.kill_at == Some(point);
        if killed {
            self.crash_and_return(id);
        }
        killed
    }

    fn write(&mut self, id: HostId, batch: &[Output]) {
        if let Some(host) = self.hosts.get_mut(&id) {
            for owner in host.commit(batch) {
                self.oracle.vanished(id, &owner);
            }
        }
        self.check_disk(id);
    }

    /// A slow commit came to its end.
    pub(super) fn committed(&mut self, id: HostId, run: u64) {
        let Some(host) = self.hosts.get_mut(&id).filter(|host| host.run == run) else { return };
        if host.pauses > 0 {
            return self.at(STOPPED, Event::Committed(id, run));
        }
        let Some(batch) = host.committing.take() else { return };
        self.write(id, &batch);
        self.carry_out(id, batch, true);
        if self.hosts.get(&id).is_some_and(|host| host.run == run) {
            self.troubled();
            self.catch_up(id);
        }
    }

    /// The controller ends while it commits: everything is written, or nothing.
    pub(super) fn cut_short(&mut self, id: HostId) {
        let batch = self.hosts.get_mut(&id).and_then(|host| host.committing.take());
        if let Some(batch) = batch.filter(|_| self.chance(500)) {
            self.note(|| format!("h{id} committed, though the controller is gone"));
            self.write(id, &batch);
        }
    }
}
