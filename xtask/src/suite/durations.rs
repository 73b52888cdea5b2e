//! Remembers how long each job took, so that the next run starts with the longest.
//!
//! The file under `target/` has a line for each job: seconds, a space, the job's name. A job that it does not know comes
//! first, since it may be long, those in [`LONGEST`] before others.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result};

/// What a first run starts with, so that it does not end with a single long test. A long one that is missing here costs
/// time once.
pub(super) const LONGEST: [&str; LONG] = [
    "world",
    "models",
    "lab_scene_stateful a_host_behind_a_stateful_filter_is_direct",
    "lab_restart terminated_by_a_signal_nothing_is_lost",
    "lab_scene_rmpeer a_peer_that_just_launched_is_not_removed",
    "lab_mesh_eight eight_hosts_with_at_most_three_links_each_reach_each_other_directly",
    "lab_mesh_eight eight_hosts_on_a_random_partial_underlay_reach_each_other_through_relays",
    "lab_scene_stateful two_hosts_behind_stateful_filters_reach_each_other",
    "lab_deploy rolling_upgrade",
    "world_kills",
    "lab_mesh_nat two_hosts_behind_translators_reach_each_other_through_an_open_one",
    "lab_scene_failover a_path_cut_in_both_directions_is_left_for_a_relay",
    "lab_mesh_reasons a_blocked_data_port_and_a_blocked_control_port_at_once_are_told_apart",
    "lab_scene_rmpeer a_peer_that_relaunched_is_not_removed",
    "lab_mesh_reasons a_relay_without_a_link_to_one_of_the_two_goes_on_and_both_troubles_are_told",
    "lab_relay tcp_crosses_a_relay_in_super_packets_and_in_frames",
    "lab_containers withheld_addresses_are_never_given_and_a_full_range_says_so",
    "lab_scene_rmpeer a_dead_host_is_removed",
    "lab_restart stopped_under_traffic_and_launched_again_nothing_is_lost",
];
const LONG: usize = 19;

/// Seconds by name of the job.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Durations {
    seconds: BTreeMap<String, f64>,
}

impl Durations {
    /// What the file says; nothing when there is none. Lines that cannot be read are passed over.
    pub(crate) fn read(file: &Path) -> Self {
        let text = fs::read_to_string(file).unwrap_or_default();
        let entry = |line: &str| {
            let (seconds, name) = line.split_once(' ')?;
            Some((name.to_owned(), seconds.parse().ok().filter(|s: &f64| s.is_finite())?))
        };
        Self { seconds: text.lines().filter_map(entry).collect() }
    }

    pub(crate) fn write(&self, file: &Path) -> Result<()> {
        let text: String = self.seconds.iter().map(|(name, seconds)| format!("{seconds:.2} {name}\n")).collect();
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    pub(crate) fn note(&mut self, name: String, seconds: f64) {
        self.seconds.insert(name, seconds);
    }

    /// Puts the longest first; jobs of equal time keep their order.
    pub(crate) fn sort<T>(&self, jobs: &mut [T], name: impl Fn(&T) -> String) {
        let time = |job: &T| self.seconds.get(&name(job)).copied().unwrap_or(f64::INFINITY);
        let place = |job: &T| LONGEST.iter().position(|long| *long == name(job)).unwrap_or(LONG);
        jobs.sort_by(|one, other| time(other).total_cmp(&time(one)).then(place(one).cmp(&place(other))));
    }
}
