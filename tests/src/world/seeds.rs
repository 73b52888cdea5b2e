//! Many seeds: each in a world of its own, on as many threads as there are processors; a failure of one is told and does
//! not stop the others.

use std::{
    cell::RefCell,
    ops::Range,
    panic::{self, AssertUnwindSafe},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    HostId,
    journal::{Detail, Journal},
    meter::Highest,
    schedule::{self, Outcome},
};

/// A seed that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which.
    pub seed: u64,
    /// The invariant and what was wrong, in one line.
    pub wrong: String,
}

/// What many seeds came to.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Seeds without a failure.
    pub passed: u64,
    /// In order of seed.
    pub failures: Vec<Failure>,
    /// Virtual time of those that passed.
    pub lasted: Duration,
    /// Events of those that passed.
    pub events: u64,
    /// The largest figures seen.
    pub highest: Highest,
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Lets panics be told by [`one`] alone, with their place, instead of being printed as they happen.
pub fn keep_panics() {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(String::new, ToString::to_string);
        let text = text(info.payload());
        // What the world finds wrong says so itself; the place is of use where the core panics.
        let ours = info.location().is_some_and(|l| l.file().contains("world"));
        let told = if ours { text } else { format!("panic at {place}: {text}") };
        PANIC.with(|last| last.replace(Some(told)));
    }));
}

fn text(payload: &dyn std::any::Any) -> String {
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| payload.downcast_ref::<&str>().map(|t| (*t).to_owned())).unwrap_or_else(|| "panic".to_owned())
}

/// Runs one seed.
///
/// # Errors
/// What was wrong: the invariant, what broke it, and the end of the log.
pub fn one(seed: u64, hosts: Option<HostId>, journal: Journal) -> Result<Outcome, String> {
    // Nothing of the world is looked at after a panic.
    let run = AssertUnwindSafe(|| schedule::run(seed, hosts, journal));
    panic::catch_unwind(run).map_err(|payload| PANIC.with(RefCell::take).unwrap_or_else(|| text(&*payload)))
}

/// Runs `seeds` in order, until all are done or `time` is over; `tell` hears of each failure at once.
pub fn many(
    seeds: &Range<u64>,
    hosts: Option<HostId>,
    time: Option<Duration>,
    tell: &(dyn Fn(&Failure) + Sync),
) -> Totals {
    let next = AtomicU64::new(seeds.start);
    let end = time.map(|time| Instant::now() + time);
    let totals = Mutex::new(Totals::default());
    let work = || {
        while end.is_none_or(|end| Instant::now() < end) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if !seeds.contains(&seed) {
                break;
            }
            let outcome = one(seed, hosts, Journal::new(Detail::Off, None));
            totals.lock().unwrap_or_else(PoisonError::into_inner).add(seed, outcome, tell);
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let mut totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    totals.failures.sort_by_key(|failure| failure.seed);
    totals
}

impl Totals {
    fn add(&mut self, seed: u64, outcome: Result<Outcome, String>, tell: &dyn Fn(&Failure)) {
        match outcome {
            Ok(outcome) => {
                self.passed += 1;
                self.lasted += outcome.lasted;
                self.events += outcome.events;
                self.highest = self.highest.max(outcome.highest);
            }
            Err(text) => {
                let failure = Failure { seed, wrong: text.lines().next().unwrap_or_default().to_owned() };
                tell(&failure);
                self.failures.push(failure);
            }
        }
    }
}
