//! What a machine said, line by line, and whether that is good.
//!
//! Lines that count start with [`MARK`]: `load NAME INSTRUCTIONS` (a number, or `unknown`), `packet NAME RESULT`,
//! `live NAME RESULT`, where RESULT is `ok` or words that say what was wrong, `steps live N` with the number of steps,
//! and `end`.

use std::time::Duration;

use anyhow::Error;

/// Starts each line that counts; the kernel writes to the same console.
pub(super) const MARK: &str = "WEAVE: ";

/// Passed steps, and what the failed ones said.
#[derive(Debug, Default, PartialEq, Eq)]
struct Steps {
    passed: usize,
    failed: Vec<String>,
}

impl Steps {
    fn add(&mut self, name: &str, result: &str) {
        if result == "ok" {
            self.passed += 1;
        } else {
            self.failed.push(format!("{name}: {result}"));
        }
    }

    fn is_good(&self) -> bool {
        self.passed > 0 && self.failed.is_empty()
    }

    fn cell(&self) -> String {
        format!("{} of {}", self.passed, self.passed + self.failed.len())
    }
}

/// One machine's run.
#[derive(Debug, Default)]
pub(super) struct Report {
    kernel: String,
    /// Programs with their verified instructions.
    programs: Vec<(String, String)>,
    load: Steps,
    packets: Steps,
    live: Steps,
    /// Steps that the live network announced.
    live_steps: usize,
    ended: bool,
    duration: Duration,
    not_run: Option<String>,
}

impl Report {
    pub(super) fn new(kernel: &str) -> Self {
        Self { kernel: kernel.to_owned(), ..Self::default() }
    }

    /// For a machine that never started.
    pub(super) fn not_run(kernel: &str, why: &Error) -> Self {
        Self { not_run: Some(format!("{why:#}")), ..Self::new(kernel) }
    }

    pub(super) fn kernel(&self) -> &str {
        &self.kernel
    }

    /// Takes a line of the console; true when it counts.
    pub(super) fn line(&mut self, line: &str) -> bool {
        let Some((_, words)) = line.split_once(MARK) else { return false };
        let words = words.trim();
        let mut parts = words.splitn(3, ' ');
        match (parts.next(), parts.next(), parts.next()) {
            (Some("load"), Some(name), Some(rest)) if rest == "unknown" || rest.parse::<u32>().is_ok() => {
                self.programs.push((name.to_owned(), rest.to_owned()));
                self.load.add(name, "ok");
            }
            (Some("load"), Some(name), Some(rest)) => self.load.add(name, rest),
            (Some("packet"), Some(name), Some(rest)) => self.packets.add(name, rest),
            (Some("live"), Some(name), Some(rest)) => self.live.add(name, rest),
            (Some("steps"), Some("live"), Some(number)) => self.live_steps = number.parse().unwrap_or(0),
            (Some("end"), None, None) => self.ended = true,
            _ => return false,
        }
        true
    }

    pub(super) fn took(&mut self, duration: Duration) {
        self.duration = duration;
    }

    /// Everything ran and passed.
    pub(super) fn is_good(&self, with_live: bool) -> bool {
        let live = self.live.is_good() && self.live.passed == self.live_steps;
        self.not_run.is_none() && self.ended && self.load.is_good() && self.packets.is_good() && (live || !with_live)
    }

    /// One line each.
    pub(super) fn complaints(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (what, steps) in [("load", &self.load), ("packet", &self.packets), ("live", &self.live)] {
            lines.extend(steps.failed.iter().map(|failed| format!("{what} {failed}")));
        }
        if !self.ended {
            lines.push("the machine did not come to its end".to_owned());
        }
        lines
    }

    pub(super) fn row(&self) -> [String; 5] {
        let seconds = format!("{:.1}", self.duration.as_secs_f64());
        if let Some(why) = &self.not_run {
            return [self.kernel.clone(), format!("not run: {why}"), String::new(), String::new(), seconds];
        }
        let short = |name: &str| name.trim_start_matches("weave_").to_owned();
        let programs: Vec<String> =
            self.programs.iter().map(|(name, count)| format!("{} {count}", short(name))).collect();
        let programs = format!("{} ({})", self.load.cell(), programs.join(", "));
        let live = match self.live_steps {
            0 => "-".to_owned(),
            steps => format!("{} of {steps}", self.live.passed),
        };
        [self.kernel.clone(), programs, self.packets.cell(), live, seconds]
    }
}
