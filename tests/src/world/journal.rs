//! The readable log of a run, a line an event; the same bytes for the same seed.
//!
//! Bounds: the last [`TAIL`] lines are kept; all of them go to the sink, when there is one. With [`Detail::Off`] no line
//! is made at all, and a run is the same run.

use std::{
    collections::{VecDeque, hash_map::DefaultHasher},
    hash::{Hash as _, Hasher as _},
    io::Write,
};

use weave_ctl::proto::time::Instant;

/// Lines kept for a failure's message.
const TAIL: usize = 200;

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// Nothing.
    Off,
    /// What happens, but not every frame and probe.
    Events,
    /// Frames and probes too.
    Frames,
}

/// See the head of this file.
pub struct Journal {
    detail: Detail,
    sink: Option<Box<dyn Write>>,
    tail: VecDeque<String>,
    hash: DefaultHasher,
}

impl Journal {
    /// A log that keeps its end and writes everything to `sink`.
    #[must_use]
    pub fn new(detail: Detail, sink: Option<Box<dyn Write>>) -> Self {
        Self { detail, sink, tail: VecDeque::new(), hash: DefaultHasher::new() }
    }

    /// Adds a line, made only if wanted.
    pub(super) fn note(&mut self, level: Detail, now: Instant, line: impl FnOnce() -> String) {
        if level > self.detail {
            return;
        }
        let time = now.since_start();
        let line = format!("{:>5}.{:06} {}", time.as_secs(), time.subsec_micros(), line());
        line.hash(&mut self.hash);
        if let Some(sink) = &mut self.sink {
            // A log that cannot be written must not change the run; the tail is kept in any case.
            let _written = writeln!(sink, "{line}");
        }
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    /// All lines so far, as one number.
    pub(super) fn hash(&self) -> u64 {
        self.hash.finish()
    }

    /// The last `n` lines.
    pub(super) fn tail(&self, n: usize) -> String {
        let lines: Vec<&str> = self.tail.iter().skip(self.tail.len().saturating_sub(n)).map(String::as_str).collect();
        lines.join("\n")
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if let Some(sink) = &mut self.sink {
            // As above.
            let _flushed = sink.flush();
        }
    }
}
