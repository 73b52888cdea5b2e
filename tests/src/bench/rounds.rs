//! Rounds: every subject is measured in every round, in an order that turns.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, ensure};

use super::{
    Metric,
    cpu::Cores,
    dataplane::{self, Figures},
    programs, stats,
    subjects::{Subject, Subjects, Underlay},
};
use crate::lab::cmd;

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Figures a subject and metric.
    pub rounds: usize,
    /// Time of a TCP stream; the other measurements take half of it.
    pub stream: Duration,
}

/// A measurement.
type Measure = fn(&Subject, Cores, Duration) -> Result<Figures>;

/// Figures of every subject, of each metric of a kind `M`.
pub struct Samples<M> {
    /// Names of the subjects, in the order of the columns.
    pub subjects: Vec<&'static str>,
    figures: BTreeMap<(usize, M), Vec<f64>>,
}

impl<M: Copy + Ord> Samples<M> {
    /// No figures yet, for subjects of these names.
    #[must_use]
    pub fn new(subjects: Vec<&'static str>) -> Self {
        Self { subjects, figures: BTreeMap::new() }
    }

    /// Adds a figure of the subject in column `at`.
    pub fn add(&mut self, at: usize, metric: M, figure: f64) {
        self.figures.entry((at, metric)).or_default().push(figure);
    }

    /// Figures of the subject in column `at`, in the order taken.
    #[must_use]
    pub fn of(&self, at: usize, metric: M) -> &[f64] {
        self.figures.get(&(at, metric)).map_or(&[], Vec::as_slice)
    }

    /// How they compare with those of the subject in column `base`: see [`stats::ratio`].
    #[must_use]
    pub fn ratio(&self, at: usize, base: usize, metric: M) -> Option<f64> {
        stats::ratio(self.of(at, metric), self.of(base, metric))
    }
}

/// Measures all subjects on `underlay`. What could not be measured is said in `failures`, and left out.
///
/// # Errors
/// When the underlay cannot be had, or the run was interrupted.
pub fn measure(
    subjects: &Subjects,
    underlay: Underlay,
    cores: Cores,
    effort: Effort,
    failures: &mut Vec<String>,
) -> Result<Samples<Metric>> {
    subjects.set(underlay)?;
    let short = effort.stream / 2;
    let measures: [(&str, Measure, Duration); 5] = [
        ("TCP stream", dataplane::tcp_stream, effort.stream),
        ("TCP request-response", dataplane::tcp_exchange, short),
        ("UDP", dataplane::udp_packets, short),
        ("TCP connect", dataplane::tcp_connects, short),
        ("programs", programs::under_traffic, short),
    ];
    let all = subjects.all();
    let mut samples = Samples::new(all.iter().map(|s| s.name).collect());
    for round in 0..effort.rounds {
        eprintln!("  {}, round {} of {}", underlay.key(), round + 1, effort.rounds);
        for (what, measure, time) in measures {
            for turn in 0..all.len() {
                let at = (round + turn) % all.len();
                let figures = measure(&all[at], cores, time);
                ensure!(!cmd::interrupted(), "interrupted");
                match figures {
                    Ok(figures) => figures.into_iter().for_each(|(metric, figure)| samples.add(at, metric, figure)),
                    Err(e) => failures.push(format!("{what} by {} on {}: {e:#}", all[at].name, underlay.key())),
                }
            }
        }
    }
    Ok(samples)
}
