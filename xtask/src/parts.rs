//! The parts of a long command, and the time that each took.

use std::time::{Duration, Instant};

use anyhow::Result;

/// The times so far, in the order of the parts.
pub(crate) struct Parts {
    start: Instant,
    times: Vec<(&'static str, Duration)>,
}

impl Parts {
    /// Makes a table without parts, and starts the clock of the whole command.
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            times: Vec::new(),
        }
    }

    /// Runs a part and keeps its time, even if it fails.
    pub(crate) fn time(
        &mut self,
        name: &'static str,
        part: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let start = Instant::now();
        let result = part();
        self.times.push((name, start.elapsed()));
        result
    }

    /// Adds the parts of work that was done at the same time.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.times.append(&mut other.times);
    }

    /// Prints a table of the parts and their seconds, and the time of the whole, which is less than their sum if parts were
    /// done at the same time.
    pub(crate) fn print(&self) {
        eprintln!("==> {:<14} seconds", "part");
        for (name, time) in self.times.iter().chain([&("all", self.start.elapsed())]) {
            eprintln!("    {name:<14} {:>7.1}", time.as_secs_f64());
        }
    }
}
