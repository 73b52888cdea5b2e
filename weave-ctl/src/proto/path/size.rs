//! Path MTU search by padded probes (RFC 8899, DPLPMTUD) of one candidate path.
//!
//! States: docs/protocol.md, section 4.8. Sizes are bytes of the outer IP packet. Unknown uses the bound, the smaller MTU
//! of the two ends: senders that were told a smaller size keep it for minutes. A size counts as too big when all its probes
//! were lost, [`TRIES`] or more, and small ones that went along were answered so often that loss explains it with a chance
//! below one in [`DOUBT`].
//!
//! Bounds: sizes from [`SMALLEST`] to [`LARGEST`]; [`PROBES_MAX`] padded probes a search.
//! Does not: send, or notice that the path is dead.

use std::time::Duration;

use weave_common::vxlan::HEADER_LEN;

use super::timers::RAISE_EVERY;
use crate::proto::time::Instant;

/// Length in bytes of the outer IP packet of a probe without padding: IPv4, UDP, VXLAN, and 38 bytes of probe.
pub(crate) const SMALLEST: u32 = 20 + 8 + HEADER_LEN as u32 + 38;
/// Largest size that is searched for: the largest MTU of usual hardware.
pub(super) const LARGEST: u32 = 9600;
/// BASE_PLPMTU of RFC 8899: taken by practically every path.
pub(super) const BASE: u32 = 1200;
/// Size that every IPv4 host takes (RFC 791), where even [`BASE`] is lost.
pub(super) const LEAST: u32 = 576;
/// Bound where neither end's MTU is known.
pub(super) const UNKNOWN_BOUND: u32 = 1500;
/// Lost probes of a size before it counts as too big, on a path that loses nothing else.
pub(super) const TRIES: u32 = 3;
/// See the head of this file. Packets that a size was wrongly found too big for are refused to their sender, which keeps
/// that for minutes.
pub(super) const DOUBT: u128 = 50;
/// Padded probes in one search. A search on a path without loss takes at most 14 sizes.
pub(super) const PROBES_MAX: u32 = 96;
/// Pause after a search that was given up.
pub(super) const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// Tries of a size that are counted.
const TRIES_COUNTED: u32 = 16;
/// Shortest and longest wait for the answer to a padded probe, unless the path is slower.
const WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    /// A probe padded to this size.
    pub(super) size: u32,
    /// One without padding as well: its answer tells a size that is too big from a path that loses.
    pub(super) control: bool,
}

#[derive(Clone, Debug)]
pub(super) struct SizeSearch {
    bound: u32,
    /// Confirmed, or Base while a search runs; zero in state Unknown.
    good: u32,
    /// Rarely one is under way.
    run: Option<Box<Run>>,
    /// Since when a search is wanted that has not begun.
    wanted: Instant,
    /// End of the last search; `None` when one is wanted, or the size that it found is lost.
    checked: Option<Instant>,
    /// The last attempt at the bound; `None` when one is wanted.
    raised: Option<Instant>,
    /// Pause until the next.
    raise_after: Duration,
}

#[derive(Clone, Debug)]
struct Run {
    low: u32,
    high: u32,
    size: u32,
    /// Size to try after the first.
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
pub(super) fn bound(own: u32, peer: u32) -> u32 {
    let known = [own, peer].into_iter().filter(|mtu| *mtu > 0).min();
    known.unwrap_or(UNKNOWN_BOUND).clamp(SMALLEST, LARGEST)
}

impl SizeSearch {
    /// A path of which nothing is known; sizes above `bound` are not tried.
    pub(super) fn new(bound: u32, now: Instant) -> Self {
        let raise_after = RAISE_EVERY.0;
        Self { bound, good: 0, run: None, wanted: now, checked: None, raised: None, raise_after }
    }

    /// The size that data packets may have: the confirmed one, Base, or the bound while nothing is known.
    pub(super) fn size(&self) -> u32 {
        if self.good == 0 { self.bound } else { self.good }
    }

    pub(super) fn confirmed(&self) -> Option<u32> {
        (self.good > 0 && self.checked.is_some()).then_some(self.good)
    }

    /// The path answers again after it was dead: its size is verified.
    pub(super) fn verify(&mut self, now: Instant) {
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

    /// When [`Self::ask`] has something to do; `verify`: the confirmation interval, `None` without traffic and session.
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

    /// The next probe that is due. `rtt`: how long the last answer took.
    pub(super) fn ask(&mut self, verify: Option<Duration>, rtt: Duration, now: Instant) -> Option<Ask> {
        if self.due(verify).is_none_or(|due| due > now) {
            return None;
        }
        let mut run = self.run.take().unwrap_or_else(|| Box::new(self.start(verify, now)));
        if run.is_too_big() {
            run.high = run.size;
            if self.good == 0 || run.size <= self.good {
                // Packets of that size are being lost: smaller ones from now on, whatever the search finds.
                self.good = if run.size > BASE { BASE } else { LEAST.min(run.size - 1).max(SMALLEST) };
                self.checked = None;
            }
            if !run.step(now) {
                self.finish(&run, now);
                return None;
            }
        }
        if run.left == 0 {
            // Too much is lost to tell: the size stays.
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
                // The probe that found the path had this size.
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
        let decided = run.low >= run.size || run.size >= run.high;
        if decided && !run.step(now) {
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
            0 => (SMALLEST, self.bound + 1, self.bound, BASE),
            good if verifies => (SMALLEST, good + 1, good, BASE),
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
