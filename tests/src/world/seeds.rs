//! Runs many seeds: each in a world of its own, on as many threads as there are processors; a failure of one is told and
//! does not stop the others.
//!
//! A [`regular`] run has two parts: [`FIXED`] seeds, the same every time, those among them that found a bug before; and
//! fresh ones for as long as there is time, from a seed that the system's randomness gives, or `$WEAVE_SIM_SEED`.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    env,
    fs::File,
    io::Read as _,
    panic::{self, AssertUnwindSafe},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::{
    HostId,
    journal::{Detail, Journal},
    meter::Highest,
    schedule::{self, Outcome},
};

/// Seeds of every regular run that are the same every time.
pub const FIXED: usize = 300;
/// What was found wrong before: the seeds named there are among the fixed ones.
const LEDGER: &str = include_str!("../../LEDGER.md");
/// Fresh seeds begin above this: fixed ones are below.
const FRESH_MIN: u64 = 1_000_000;

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

/// The fixed seeds, in order: all that the ledger names, and the lowest others.
#[must_use]
pub fn fixed() -> BTreeSet<u64> {
    let mut seeds: BTreeSet<u64> = named(LEDGER).collect();
    let others: Vec<u64> = (0..).filter(|seed| !seeds.contains(seed)).take(FIXED.saturating_sub(seeds.len())).collect();
    seeds.extend(others);
    seeds
}

/// Numbers after the word "seed", and all of "seeds 1, 2 and 3".
fn named(text: &str) -> impl Iterator<Item = u64> {
    text.split("seed").skip(1).flat_map(|rest| {
        let words = rest.trim_start_matches('s').split([' ', ',', ';', ')', '|', '`']);
        words.filter(|word| !word.is_empty() && *word != "and").map_while(|word| word.parse().ok())
    })
}

/// The first of the fresh seeds: `$WEAVE_SIM_SEED`, or one that nobody chose.
///
/// # Panics
/// When the variable is not a number, or the system gives no randomness.
#[must_use]
pub fn first_fresh() -> u64 {
    if let Some(seed) = env::var_os("WEAVE_SIM_SEED") {
        return seed.to_str().and_then(|seed| seed.parse().ok()).expect("WEAVE_SIM_SEED is a number");
    }
    let mut bytes = [0; 4];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).expect("the system's randomness");
    FRESH_MIN + u64::from(u32::from_le_bytes(bytes))
}

/// Runs the fixed seeds, and then fresh ones from `first` on for `time`; `tell` hears of each failure at once.
pub fn regular(first: u64, hosts: Option<HostId>, time: Duration, tell: &(dyn Fn(&Failure) + Sync)) -> Totals {
    let mut totals = many(fixed(), hosts, None, tell);
    totals.join(many(first.., hosts, Some(time), tell));
    totals
}

/// Runs `seeds` in order, until all are done or `time` is over; `tell` hears of each failure at once.
pub fn many(
    seeds: impl IntoIterator<Item = u64, IntoIter: Send>,
    hosts: Option<HostId>,
    time: Option<Duration>,
    tell: &(dyn Fn(&Failure) + Sync),
) -> Totals {
    let seeds = Mutex::new(seeds.into_iter());
    let end = time.map(|time| Instant::now() + time);
    let totals = Mutex::new(Totals::default());
    let next = || seeds.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        while end.is_none_or(|end| Instant::now() < end) {
            let Some(seed) = next() else { break };
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
    fn join(&mut self, other: Self) {
        self.passed += other.passed;
        self.lasted += other.lasted;
        self.events += other.events;
        self.highest = self.highest.max(other.highest);
        self.failures.extend(other.failures);
    }

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

#[cfg(test)]
mod tests;
