//! The parts of a long command, and the time that each took.

use std::time::{Duration, Instant};

use anyhow::Result;

/// The times so far, in the order of the parts.
#[derive(Default)]
pub(crate) struct Parts(Vec<(&'static str, Duration)>);

impl Parts {
    /// Runs a part and keeps its time, even if it fails.
    pub(crate) fn time(
        &mut self,
        name: &'static str,
        part: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let start = Instant::now();
        let result = part();
        self.0.push((name, start.elapsed()));
        result
    }

    /// Prints a table of the parts and their seconds, and the sum.
    pub(crate) fn print(&self) {
        let sum = self.0.iter().map(|(_, time)| *time).sum();
        eprintln!("==> {:<14} seconds", "part");
        for (name, time) in self.0.iter().chain([&("all", sum)]) {
            eprintln!("    {name:<14} {:>7.1}", time.as_secs_f64());
        }
    }
}
