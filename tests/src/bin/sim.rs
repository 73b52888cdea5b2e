//! The World from the command line: many seeds, one seed with its log, or thousands of nodes. Run by `cargo xtask sim`.
//!
//! Ends with status 1 when an invariant broke, after telling for each seed which one and how to replay it, or when a figure
//! of a large network is over its limit.

use std::{
    alloc::{GlobalAlloc, Layout},
    cell::Cell,
    fs::File,
    io::{self, BufWriter, Write},
    ops::Range,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Parser;
use mimalloc::MiMalloc;
use weave_tests::world::{
    HostId,
    journal::{Detail, Journal},
    scale::{self, Plan, entries},
    seeds::{self, Failure, Totals},
};

/// Seconds of fresh seeds when nothing else is asked for.
const SECONDS: u64 = 60;

/// Random schedules of trouble in simulated networks.
#[derive(Parser)]
struct Args {
    /// Seeds to run, the last one not included; without, the fixed ones and then fresh ones.
    #[arg(long, value_parser = range, value_name = "A..B")]
    seeds: Option<Range<u64>>,
    /// Seconds for fresh seeds, or for those that are named.
    #[arg(long)]
    seconds: Option<u64>,
    /// Hosts of each network, instead of a random number of them.
    #[arg(long, value_parser = clap::value_parser!(HostId).range(2..=64))]
    hosts: Option<HostId>,
    /// Runs one seed and writes its log.
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "seconds"])]
    replay: Option<u64>,
    /// Logs frames and probes too.
    #[arg(long, requires = "replay")]
    frames: bool,
    /// Where the log goes instead of the terminal.
    #[arg(long, value_name = "FILE", requires = "replay")]
    log: Option<PathBuf>,
    /// Measures a network of this many nodes.
    #[arg(long, value_name = "N", conflicts_with_all = ["seeds", "seconds", "hosts", "replay"],
          value_parser = clap::value_parser!(HostId).range(4..=20000))]
    scale: Option<HostId>,
    /// Measures what this many entries cost, of a hundred peers.
    #[arg(long, value_name = "N", conflicts_with_all = ["seeds", "seconds", "hosts", "replay", "scale"],
          value_parser = clap::value_parser!(u32).range(1000..=1_000_000))]
    entries: Option<u32>,
}

/// An allocator made for many small things of many sizes, which counts what each thread holds.
struct Counting;

thread_local! {
    static LIVE: Cell<i64> = const { Cell::new(0) };
}

fn add(bytes: usize, sign: i64) {
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX) * sign;
    // A thread that ends frees memory after its locals are gone.
    let _counted = LIVE.try_with(|live| live.set(live.get() + bytes));
}

// SAFETY: each call is passed on to the allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size(), 1);
        // SAFETY: the caller's promises are those that the allocator asks for.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        add(layout.size(), -1);
        // SAFETY: as in `alloc`.
        unsafe { MiMalloc.dealloc(ptr, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size(), 1);
        // SAFETY: as in `alloc`.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        add(layout.size(), -1);
        add(new_size, 1);
        // SAFETY: as in `alloc`.
        unsafe { MiMalloc.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn live() -> i64 {
    LIVE.get()
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let bad = || format!("{text:?} is not a range: write 0..2000");
    let (start, end) = text.split_once("..").ok_or_else(bad)?;
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let range = number(start).zip(number(end)).map(|(start, end)| start..end).ok_or_else(bad)?;
    if range.is_empty() { Err(format!("{text:?} is empty")) } else { Ok(range) }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match (args.replay, args.scale, args.entries) {
        (Some(seed), ..) => replay(seed, &args),
        (None, Some(nodes), _) => Ok(measure(nodes)),
        (None, None, Some(entries)) => Ok(measure_entries(entries)),
        (None, None, None) => Ok(many(&args)),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sim: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one seed; true when it passed.
fn replay(seed: u64, args: &Args) -> Result<bool> {
    seeds::keep_panics();
    let sink: Box<dyn Write> = match &args.log {
        Some(file) => Box::new(File::create(file).with_context(|| format!("cannot write {}", file.display()))?),
        None => Box::new(io::stdout()),
    };
    let detail = if args.frames { Detail::Frames } else { Detail::Events };
    let outcome = seeds::one(seed, args.hosts, Journal::new(detail, Some(Box::new(BufWriter::new(sink)))));
    match &outcome {
        Ok(outcome) => eprintln!("seed {seed} passed: {outcome:?}"),
        Err(wrong) => eprintln!("seed {seed} failed: {}", wrong.lines().next().unwrap_or_default()),
    }
    Ok(outcome.is_ok())
}

/// Runs many seeds; true when all passed.
fn many(args: &Args) -> bool {
    seeds::keep_panics();
    let start = Instant::now();
    let hosts = args.hosts.map_or_else(String::new, |hosts| format!(" --hosts {hosts}"));
    let tell = |failure: &Failure| {
        let Failure { seed, wrong } = failure;
        println!("seed {seed} failed: {wrong}\n  replay it: cargo xtask sim --replay {seed}{hosts}");
    };
    let time = args.seconds.map(Duration::from_secs);
    let totals = match &args.seeds {
        Some(range) => seeds::many(range.clone(), args.hosts, time, &tell),
        None => {
            let first = seeds::first_fresh();
            println!("{} fixed seeds, then fresh ones, WEAVE_SIM_SEED={first}", seeds::FIXED);
            seeds::regular(first, args.hosts, time.unwrap_or(Duration::from_secs(SECONDS)), &tell)
        }
    };
    println!("{}", summary(&totals, start.elapsed()));
    totals.failures.is_empty()
}

/// Runs a network of many nodes and prints its figures; true when they are within their limits.
fn measure(nodes: HostId) -> bool {
    let report = scale::run(&Plan { nodes, seed: 1, live }, &mut |line| println!("{line}"));
    print!("{report}");
    let wrong = report.wrong();
    wrong.iter().for_each(|wrong| println!("over the limit: {wrong}"));
    wrong.is_empty()
}

/// Measures what entries cost and prints the figures; true when they are within their limits.
fn measure_entries(entries: u32) -> bool {
    let entries = usize::try_from(entries).unwrap_or(usize::MAX);
    let plan = entries::Plan { peers: 100, entries, away: Duration::from_secs(3600), live };
    let report = entries::run(&plan, &mut |line| println!("{line}"));
    print!("{report}");
    let wrong = report.wrong();
    wrong.iter().for_each(|wrong| println!("over the limit: {wrong}"));
    wrong.is_empty()
}

fn summary(totals: &Totals, wall: Duration) -> String {
    let failed = totals.failures.len();
    let hours = totals.lasted.as_secs_f64() / 3600.0;
    let rate = (totals.passed + failed as u64) as f64 / wall.as_secs_f64().max(0.001);
    let highest = totals.highest;
    let mut text = format!(
        "{} passed, {failed} failed: {hours:.1} virtual hours, {:.1} million events, {rate:.1} seeds a second\n",
        totals.passed,
        totals.events as f64 / 1e6,
    );
    text += &format!(
        "most outputs of one input: {}; most on one end of a link in a second: {} frames, {} bytes",
        highest.outputs, highest.frames, highest.bytes
    );
    text
}
