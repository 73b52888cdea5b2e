//! What a run of each kernel program costs: under traffic, by the kernel's own statistics of both builds alike, and on
//! made-up packets, by `BPF_PROG_TEST_RUN` on the programs of this build.
//!
//! The kernel counts time only while somebody asks for it, which costs each run some nanoseconds; so no other figure is
//! taken meanwhile. A made-up packet is a new one in each run: programs change it.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, anyhow, ensure};
use aya::{
    programs::loaded_programs,
    sys::{Stats, enable_stats},
};
use serde_json::Value;
use weave_common::map;
use weave_ctl::shell::datapath::object::OBJECT;

use super::{
    Metric,
    controller::{Row, row},
    cpu::Cores,
    dataplane::{Figures, udp_packets},
    subjects::Subject,
};
use crate::{lab::Host, packets};

/// Runs on each made-up packet.
const RUNS: usize = 2000;

/// Nanoseconds a run of the programs that small datagrams of `subject` pass; nothing for one without programs.
///
/// # Errors
/// When there is no traffic, or the kernel does not tell.
pub fn under_traffic(subject: &Subject, cores: Cores, time: Duration) -> Result<Figures> {
    let Some((from, to)) = &subject.hosts else { return Ok(Vec::new()) };
    let programs =
        [(Metric::ContainerRun, id(from, map::PROG_CONTAINER)?), (Metric::UnderlayRun, id(to, map::PROG_UNDERLAY)?)];
    let _counting = enable_stats(Stats::RunTime).context("have the kernel count the programs' time")?;
    let before = counts()?;
    udp_packets(subject, cores, time)?;
    let after = counts()?;
    let figure = |(metric, id): (Metric, u32)| {
        let (Some(before), Some(after)) = (before.get(&id), after.get(&id)) else {
            return Err(anyhow!("program {id} is gone"));
        };
        let runs = after.1.saturating_sub(before.1);
        ensure!(runs > 0, "program {id} never ran");
        Ok((metric, (after.0 - before.0).as_secs_f64() * 1e9 / runs as f64))
    };
    programs.into_iter().map(figure).collect()
}

/// Time and number of runs of every program in the kernel.
fn counts() -> Result<BTreeMap<u32, (Duration, u64)>> {
    // A program of somebody else may vanish while it is looked at.
    Ok(loaded_programs().flatten().map(|info| (info.id(), (info.run_time(), info.run_count()))).collect())
}

/// Seconds that all programs have run since the kernel began to count.
///
/// # Errors
/// When the kernel does not tell.
pub fn seconds() -> Result<f64> {
    Ok(counts()?.values().map(|(time, _)| time.as_secs_f64()).sum())
}

/// The kernel's number for the program `name` of a host's controller.
fn id(host: &Host, name: &str) -> Result<u32> {
    let report = host.json(&["report"])?;
    let programs = report["status"]["dataplane"]["programs"].as_array().cloned().unwrap_or_default();
    let found = programs.iter().find(|program| program["name"] == name);
    let id = found.and_then(|program| program["id"].as_u64()).and_then(|id| id.try_into().ok());
    id.with_context(|| format!("{} reports no program {name}: {}", host.netns(), Value::from(programs.clone())))
}

/// A row for each kind of made-up packet.
///
/// # Errors
/// When the programs cannot be loaded or run, or do something else with a packet than they should.
pub fn on_made_up_packets() -> Result<Vec<Row>> {
    let costs = packets::cost::measure(OBJECT, RUNS).map_err(|e| anyhow!(e))?;
    Ok(costs.into_iter().map(|cost| row(cost.title, cost.key, "ns a run", "", cost.nanoseconds)).collect())
}
