//! How large a packet one path takes: a search with padded probes.
//!
//! A run narrows (largest size that passed, smallest that did not) until nothing is between. It begins with the size
//! that most likely passes: the smaller MTU of the two hosts at first, the measured one when it is verified. A size counts
//! as too big when all its probes were lost, [`TRIES`] or more, and small ones that went along were answered so often that
//! loss explains it with a chance below one in [`DOUBT`]. What was measured stays published until a run ends, so that the
//! kernel is not told each step.
//!
//! Bounds: sizes from [`SMALLEST`] to [`LARGEST`]; [`PROBES_MAX`] padded probes a run. Sizes are bytes of the outer IP
//! packet.
//!
//! Does not: send, or notice that the path is gone.

use std::time::Duration;

use super::super::probe;
use crate::proto::time::Instant;

/// Size of a probe without padding: what any path takes.
pub const SMALLEST: u32 = (probe::OUTER + probe::LEN) as u32;
/// Size of the longest probe.
pub const LARGEST: u32 = (probe::OUTER + probe::MAX) as u32;
/// What the search tries second: every IPv4 host takes it (RFC 791).
pub const COMMON: u32 = 576;
/// Where neither host told its MTU.
pub const UNTOLD: u32 = 1500;
/// Lost probes of a size before it counts as too big, on a path that loses nothing else.
pub const TRIES: u32 = 3;
/// See the head of this file. Packets that find a size wrongly too big are refused to their sender, who remembers that for
/// minutes.
pub const DOUBT: u128 = 50;
/// Padded probes in one run. A search that loses nothing takes at most 14 sizes.
pub const PROBES_MAX: u32 = 96;
/// Shortest and longest pause between runs upwards, while less than the hosts' MTU passes: doubled after each that finds
/// nothing. Short at first, because what a bad path lost may have counted as too big.
pub const RAISE_EVERY: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(60));
/// Pause after a run that found nothing.
pub const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// Tries of a size that are counted.
const TRIES_COUNTED: u32 = 16;
/// Shortest and longest wait for the answer to a padded probe, unless the path is slower.
const WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// What to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    /// A probe padded to this size.
    pub(super) size: u32,
    /// One without padding as well: its answer tells a size that is too big from a path that loses.
    pub(super) control: bool,
}

/// The MTU of one path.
#[derive(Clone, Debug)]
pub(super) struct PathMtu {
    bound: u32,
    good: u32,
    /// Rarely one is under way.
    run: Option<Box<Run>>,
    /// When a need arose that no run has met.
    wanted: Instant,
    /// End of the last run; `None` when one is wanted.
    checked: Option<Instant>,
    /// The last attempt at the bound; `None` when one is wanted.
    raised: Option<Instant>,
    /// Pause until the next.
    raise_after: Duration,
}

#[derive(Clone, Debug)]
struct Run {
    /// Passes.
    low: u32,
    /// Does not pass.
    high: u32,
    size: u32,
    /// What to try after the first size.
    hint: u32,
    tries: u32,
    /// Small probes that went along with those of this size, all but the first, and were answered.
    controls: u32,
    left: u32,
    /// First probe of this size.
    begun: Instant,
    next: Instant,
}

/// The smaller of two MTUs, of which either may be unknown (zero).
#[must_use]
pub(super) fn bound(own: u32, peer: u32) -> u32 {
    let told = [own, peer].into_iter().filter(|mtu| *mtu > 0).min();
    told.unwrap_or(UNTOLD).clamp(SMALLEST, LARGEST)
}

impl PathMtu {
    /// A path of which nothing is known; sizes above `bound` are not tried.
    pub(super) fn new(bound: u32, now: Instant) -> Self {
        let raise_after = RAISE_EVERY.0;
        Self { bound, good: 0, run: None, wanted: now, checked: None, raised: None, raise_after }
    }

    /// What passes; zero until that is known.
    pub(super) fn measured(&self) -> u32 {
        self.good
    }

    /// The size that is tried first.
    pub(super) fn first(&self) -> u32 {
        self.bound
    }

    /// It is measured, and is less than the hosts would take.
    pub(super) fn narrow(&self) -> bool {
        self.good > 0 && self.good < self.bound
    }

    /// A run is wanted or under way, whoever waits for it.
    pub(super) fn unsettled(&self) -> bool {
        self.run.is_some() || self.checked.is_none() || (self.good < self.bound && self.raised.is_none())
    }

    /// It is another path now: forgets everything but the bound.
    pub(super) fn forget(&mut self, now: Instant) {
        *self = Self::new(self.bound, now);
    }

    /// The same path works again: what was measured is verified.
    pub(super) fn doubt(&mut self, now: Instant) {
        (self.run, self.checked, self.wanted) = (None, None, now);
    }

    /// Sizes above `bound` are not tried from now on.
    pub(super) fn set_bound(&mut self, bound: u32, now: Instant) {
        if bound == self.bound {
            return;
        }
        (self.bound, self.run, self.checked, self.raised, self.wanted) = (bound, None, None, None, now);
        // What takes the larger takes the smaller.
        self.good = self.good.min(bound);
    }

    /// When [`Self::ask`] has something to do, given how often a measured size is verified.
    pub(super) fn due(&self, verify: Option<Duration>) -> Option<Instant> {
        if let Some(run) = &self.run {
            return Some(run.next);
        }
        let Some(checked) = self.checked else { return Some(self.wanted) };
        if self.good == 0 {
            return verify.map(|_| checked + AGAIN_AFTER);
        }
        let raise = match self.raised {
            _ if self.good >= self.bound => None,
            None => Some(self.wanted),
            Some(raised) => verify.map(|_| raised + self.raise_after),
        };
        verify.map(|every| checked + every).into_iter().chain(raise).min()
    }

    /// A probe without padding, sent at `sent`, was answered.
    pub(super) fn small_passed(&mut self, sent: Instant) {
        if let Some(run) = self.run.as_mut().filter(|run| run.begun < sent) {
            run.controls = (run.controls + 1).min(run.tries.saturating_sub(1));
        }
    }

    /// Takes the next step of what is due. `rtt`: how long the last answer took.
    pub(super) fn ask(&mut self, verify: Option<Duration>, rtt: Duration, now: Instant) -> Option<Ask> {
        if self.due(verify).is_none_or(|due| due > now) {
            return None;
        }
        let mut run = self.run.take().unwrap_or_else(|| Box::new(self.start(verify, now)));
        if run.is_too_big() {
            run.high = run.size;
            if !run.step(now) {
                self.finish(&run, now);
                return None;
            }
        }
        if run.left == 0 {
            // Too much is lost to tell: what was known stays.
            self.checked = Some(now);
            return None;
        }
        if run.tries == 0 {
            run.begun = now;
        }
        run.tries += 1;
        run.left -= 1;
        run.next = now + (rtt * 4).clamp(WAIT.0, WAIT.1).max(rtt * 2);
        let ask = Ask { size: run.size, control: run.tries > 1 };
        self.run = Some(run);
        Some(ask)
    }

    /// A probe of `size` was answered, as received in full.
    pub(super) fn passed(&mut self, size: u32, now: Instant) {
        let Some(mut run) = self.run.take() else {
            if self.good == 0 && size == self.bound {
                // The question that found the path was of this size.
                (self.good, self.checked, self.raised) = (size, Some(now), Some(now));
            } else if self.good > 0 && size > self.good && size <= self.bound {
                // The answer to a size that counted as too big came late.
                (self.raised, self.wanted) = (None, now);
            }
            return;
        };
        run.low = run.low.max(size.min(self.bound));
        if run.low >= run.high {
            run.high = self.bound + 1;
        }
        let told = run.low >= run.size || run.size >= run.high;
        if told && !run.step(now) {
            return self.finish(&run, now);
        }
        self.run = Some(run);
    }

    fn start(&mut self, verify: Option<Duration>, now: Instant) -> Run {
        let verifies = match self.checked {
            None => true,
            Some(checked) => verify.is_some_and(|every| checked + every <= now),
        };
        let (low, high, size, hint) = match self.good {
            0 => (SMALLEST, self.bound + 1, self.bound, COMMON),
            good if verifies => (SMALLEST, good + 1, good, COMMON),
            good => {
                self.raise_after = (self.raise_after * 2).min(RAISE_EVERY.1);
                (good, self.bound + 1, self.bound, good + 1)
            }
        };
        if size == self.bound {
            self.raised = Some(now);
        }
        Run { low, high, size, hint, tries: 0, controls: 0, left: PROBES_MAX, begun: now, next: now }
    }

    fn finish(&mut self, run: &Run, now: Instant) {
        if self.good != run.low {
            self.raise_after = RAISE_EVERY.0;
        }
        (self.good, self.checked) = (run.low, Some(now));
    }
}

impl Run {
    /// Chooses the next size; false when nothing is left to find out.
    fn step(&mut self, now: Instant) -> bool {
        if self.low + 1 >= self.high {
            return false;
        }
        let between = self.low < self.hint && self.hint < self.high;
        self.size = if between { self.hint } else { self.low + (self.high - self.low) / 2 };
        (self.tries, self.controls, self.next) = (0, 0, now);
        true
    }

    /// Loss alone hardly explains that no probe of this size was answered. Its rate is estimated from the small ones by
    /// the rule of succession.
    fn is_too_big(&self) -> bool {
        let Some(controls) = self.tries.checked_sub(1).filter(|controls| *controls + 1 >= TRIES) else { return false };
        let (lost, of) = (u128::from(controls - self.controls + 1), u128::from(controls + 2));
        // Beyond that many the powers do not fit, and say nothing new.
        let tries = self.tries.min(TRIES_COUNTED);
        self.controls > 0 && lost.pow(tries) * DOUBT <= of.pow(tries)
    }
}

#[cfg(test)]
mod tests;
