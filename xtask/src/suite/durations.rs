//! Remembers how long each job took, so that the next run starts with the longest.
//!
//! The file under `target/` has a line for each job: seconds, a space, the job's name. A job that it does not know comes
//! first, since it may be long; without the file jobs keep their order.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result};

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

    /// Puts the longest first; jobs of equal or unknown time keep their order.
    pub(crate) fn sort<T>(&self, jobs: &mut [T], name: impl Fn(&T) -> String) {
        if self.seconds.is_empty() {
            return;
        }
        let time = |job: &T| self.seconds.get(&name(job)).copied().unwrap_or(f64::INFINITY);
        jobs.sort_by(|one, other| time(other).total_cmp(&time(one)));
    }
}
