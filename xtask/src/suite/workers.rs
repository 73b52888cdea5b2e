//! Runs jobs on a number of workers, and prints a line for each that ended.
//!
//! Jobs start in the order given, but no job beside another of its name. Those that must run alone wait until all others
//! have ended, and follow one at a time.
//! The output of a job is shown when it failed, whole; of one that passed only lines that begin with [`NOTE`]. It is kept
//! in a file under `target/test-output` until the next run.

use std::{
    collections::{BTreeSet, VecDeque},
    fs,
    path::{Path, PathBuf},
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result};

use super::{
    job::Job,
    process::{self, Ended},
};
use crate::sh;

/// Start of a line that is shown although its test passed.
pub(crate) const NOTE: &str = "note: ";

/// See the module doc.
pub(crate) struct Workers {
    folder: PathBuf,
    /// Jobs that were started so far.
    started: AtomicUsize,
}

impl Workers {
    /// Removes the output of an earlier run.
    pub(crate) fn new() -> Result<Self> {
        Self::in_folder(sh::target("test-output"))
    }

    pub(super) fn in_folder(folder: PathBuf) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { folder, started: AtomicUsize::new(0) })
    }

    /// Runs all of them, at most `at_once` at a time; how each ended, in the order in which they did.
    pub(crate) fn run<'a>(&self, jobs: Vec<Job<'a>>, at_once: usize) -> Vec<(Job<'a>, Ended)> {
        let total = jobs.len();
        let (alone, together): (Vec<_>, Vec<_>) = jobs.into_iter().partition(Job::is_alone);
        let ended = Mutex::new(Vec::with_capacity(total));
        for (share, count) in [(together, at_once.max(1)), (alone, 1)] {
            let queue = Queue::new(share);
            let work = || {
                while let Some(job) = queue.next() {
                    let end = self.one(&job);
                    queue.ended(&job);
                    let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
                    tell(&job, &end, (ended.len() + 1, total));
                    ended.push((job, end));
                }
            };
            thread::scope(|scope| {
                for _ in 0..count {
                    scope.spawn(work);
                }
            });
        }
        ended.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn one(&self, job: &Job<'_>) -> Ended {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let log = self.folder.join(file_name(&job.name(), number));
        let mut ended =
            process::run(&mut job.command(), job.limit(), &log).unwrap_or_else(|error| Ended::not_run(&error));
        if job.test.is_some() && ended.counts.passed + ended.counts.failed == 0 {
            ended.fail("no test of this name ran");
        }
        ended
    }
}

/// Jobs that wait, and the names of those that run.
struct Queue<'a> {
    state: Mutex<(VecDeque<Job<'a>>, BTreeSet<String>)>,
    changed: Condvar,
}

impl<'a> Queue<'a> {
    fn new(jobs: Vec<Job<'a>>) -> Self {
        Self { state: Mutex::new((jobs.into(), BTreeSet::new())), changed: Condvar::new() }
    }

    /// The first job none of whose name runs; waits while there are others. Nothing when none is left.
    fn next(&self) -> Option<Job<'a>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let (jobs, running) = &mut *state;
            if jobs.is_empty() {
                return None;
            }
            if let Some(at) = jobs.iter().position(|job| !running.contains(&job.name())) {
                let job = jobs.remove(at)?;
                running.insert(job.name());
                return Some(job);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn ended(&self, job: &Job<'_>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1.remove(&job.name());
        self.changed.notify_all();
    }
}

/// One name for one run of a job, also when the same job runs several times.
fn file_name(job: &str, number: usize) -> impl AsRef<Path> {
    format!("{number:04}-{}.log", job.replace([' ', ':', '/'], "-"))
}

/// The lock on the results is held meanwhile, so that lines of jobs do not mix.
fn tell(job: &Job<'_>, ended: &Ended, (number, total): (usize, usize)) {
    let verdict = if ended.is_good() { "ok    " } else { "FAILED" };
    println!("{number:>4}/{total} {:>6.1} s  {verdict}  {}", ended.counts.seconds, job.name());
    if ended.is_good() {
        ended.output.lines().filter(|line| line.starts_with(NOTE)).for_each(|line| println!("{line}"));
    } else {
        println!("--- output of {} ---\n{}--- end ---", job.name(), ended.output);
    }
}
