//! The dataplane beside the bare underlay and the kernel's own overlay, and the controller's figures. Run by
//! `cargo xtask bench`.
//!
//! Ends with an error only when something could not be measured. Interrupted with Ctrl-C it removes what it made.

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use serde_json::{Map, Value};
use weave_tests::{
    bench::{
        addresses, controller,
        cpu::Cores,
        facts::Machine,
        names, programs, report,
        rounds::{self, Effort},
        subjects::{Subjects, Underlay},
    },
    lab::cmd,
};

/// Exit status of a program ended by SIGINT, as shells give it.
const INTERRUPTED: u8 = 130;

/// The dataplane beside the bare underlay and the kernel's own overlay.
#[derive(Parser)]
struct Args {
    /// The controller to run.
    #[arg(long)]
    binary: PathBuf,
    /// Another controller to compare it with, in the same rounds.
    #[arg(long)]
    against: Option<PathBuf>,
    /// Rounds; figures are medians over them.
    #[arg(long)]
    rounds: u16,
    /// Seconds of each TCP stream; other traffic takes half of it.
    #[arg(long)]
    seconds: u16,
    /// Writes every figure to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Measures these parts; all when none is named.
    #[arg(long, value_enum)]
    only: Vec<Part>,
}

/// What can be measured by itself.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Packets, beside the bare underlay and the kernel's own overlay.
    Dataplane,
    /// Programs on made-up packets.
    Programs,
    /// Answers for names.
    Names,
    /// The controller.
    Controller,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(error) = ctrlc::set_handler(cmd::interrupt) {
        eprintln!("cannot listen for Ctrl-C: {error}");
        return ExitCode::FAILURE;
    }
    match bench(&args) {
        Ok(failures) if failures.is_empty() => ExitCode::SUCCESS,
        Ok(failures) => {
            eprintln!("not everything could be measured:\n  {}", failures.join("\n  "));
            ExitCode::FAILURE
        }
        Err(_) if cmd::interrupted() => {
            eprintln!("interrupted: everything was removed");
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            eprintln!("the bench failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Measures and prints; what could not be measured.
fn bench(args: &Args) -> Result<Vec<String>> {
    let machine = Machine::look();
    let effort = Effort { rounds: args.rounds.into(), stream: Duration::from_secs(args.seconds.into()) };
    println!("{}", machine.text());
    println!("{} rounds, {} s of each TCP stream; medians; ratios within a round\n", args.rounds, args.seconds);
    let mut all = Map::from_iter([("machine".to_owned(), machine.json())]);
    let mut failures = Vec::new();
    let parts = [Part::Dataplane, Part::Programs, Part::Names, Part::Controller];
    for part in parts.into_iter().filter(|part| args.only.is_empty() || args.only.contains(part)) {
        let (key, figures) = match part {
            Part::Dataplane => ("dataplane", dataplane(args, effort, &mut failures)?),
            Part::Programs => ("programs", programs(&mut failures)),
            Part::Names => ("names", names(args, effort, &mut failures)?),
            Part::Controller => ("controller", controller(args, effort, &mut failures)?),
        };
        all.insert(key.to_owned(), figures);
    }
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&all).context("write JSON")?;
        fs::write(file, text).with_context(|| format!("write {}", file.display()))?;
    }
    Ok(failures)
}

fn dataplane(args: &Args, effort: Effort, failures: &mut Vec<String>) -> Result<Value> {
    let cores = Cores::allowed()?;
    let subjects = Subjects::new(&args.binary, args.against.as_deref())?;
    let mut tables = Map::new();
    for underlay in Underlay::ALL {
        let samples = rounds::measure(&subjects, underlay, cores, effort, failures)?;
        println!("{}\n{}\n", underlay.title(), report::dataplane(&samples));
        tables.insert(underlay.key().to_owned(), report::dataplane_json(&samples));
    }
    Ok(tables.into())
}

fn programs(failures: &mut Vec<String>) -> Value {
    let rows = programs::on_made_up_packets().unwrap_or_else(|error| {
        failures.push(format!("programs: {error:#}"));
        Vec::new()
    });
    println!("programs on made-up packets\n{}\n", report::controller(&rows));
    report::controller_json(&rows)
}

fn names(args: &Args, effort: Effort, failures: &mut Vec<String>) -> Result<Value> {
    let samples = names::measure(&args.binary, effort.rounds, effort.stream, failures)?;
    println!("names: {}\n{}\n{}\n", names::HEAD, report::names(&samples), names::summary(&samples));
    Ok(report::names_json(&samples))
}

fn controller(args: &Args, effort: Effort, failures: &mut Vec<String>) -> Result<Value> {
    let mut rows = controller::measure(&args.binary, effort.rounds, failures)?;
    match addresses::measure(effort.rounds) {
        Ok(more) => rows.extend(more),
        Err(error) => failures.push(format!("addresses: {error:#}")),
    }
    println!("controller\n{}", report::controller(&rows));
    Ok(report::controller_json(&rows))
}
