//! The scenarios, each in a module of its own.

mod append_cost;
mod fanout;
mod idle;
mod join;
mod libsql;
mod lines;
mod merge;
mod relays;
mod restart;
mod saturation;

use anyhow::{Result, bail};

use crate::client::Dialect;
use crate::servers::{Places, Server};
use crate::table::Row;

/// The scenarios, in the order in which they run.
pub(crate) const NAMES: &[&str] = &[
    "fanout-20",
    "fanout-60",
    "fanout-300",
    "room-1000",
    "rooms-200",
    "saturation",
    "join",
    "idle",
    "restart",
    "append-cost",
    "relays",
    "lines",
    "libsql",
    "merge",
];

/// The things that every scenario needs.
#[derive(Debug)]
pub(crate) struct Bench {
    /// The folders of the programs and of their files.
    pub places: Places,
    /// Whether this is a smoke test: shorter and smaller, so that the numbers say little.
    pub quick: bool,
}

/// The two sides of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Ours,
    Theirs,
}

impl Side {
    const BOTH: [Self; 2] = [Self::Ours, Self::Theirs];

    /// Returns both sides, in an order that changes with each repetition.
    fn alternating(repetition: usize) -> [Self; 2] {
        let mut both = Self::BOTH;
        both.rotate_left(repetition % 2);
        both
    }

    fn dialect(self) -> Dialect {
        match self {
            Self::Ours => Dialect::Raw,
            Self::Theirs => Dialect::Official,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Theirs => "theirs",
        }
    }

    /// Starts a fresh server without any rooms.
    fn start(self, bench: &Bench, scenario: &str) -> Result<Server> {
        match self {
            Self::Ours => {
                let state = bench.places.state_dir(scenario)?;
                bench.places.start_ours(&state)
            }
            Self::Theirs => bench.places.start_official(),
        }
    }
}

/// A value for each side.
#[derive(Debug, Default)]
struct Pair<T> {
    ours: T,
    theirs: T,
}

impl<T> Pair<T> {
    fn side(&mut self, side: Side) -> &mut T {
        match side {
            Side::Ours => &mut self.ours,
            Side::Theirs => &mut self.theirs,
        }
    }
}

/// Runs a scenario.
///
/// # Errors
/// If there is no scenario of this name, or it cannot run at all. If only one side fails, the
/// failure is logged on stderr and the rows lack that side's values.
pub(crate) async fn run(bench: &Bench, name: &str) -> Result<Vec<Row>> {
    if let Some(case) = fanout::CASES.iter().find(|case| case.name == name) {
        return fanout::run(bench, case).await;
    }
    match name {
        "saturation" => saturation::run(bench).await,
        "join" => join::run(bench).await,
        "idle" => idle::run(bench).await,
        "restart" => restart::run(bench).await,
        "lines" => lines::run(bench).await,
        "libsql" => libsql::run(bench).await,
        "append-cost" => append_cost::run(bench).await,
        "relays" => relays::run(bench).await,
        "merge" => merge::run(bench).await,
        _ => bail!(
            "there is no scenario {name}; the scenarios are {}",
            NAMES.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_load_case_has_its_name_in_the_list() {
        for case in fanout::CASES {
            assert!(NAMES.contains(&case.name), "{}", case.name);
        }
    }

    #[test]
    fn the_sides_take_turns() {
        assert_eq!(Side::alternating(0), [Side::Ours, Side::Theirs]);
        assert_eq!(Side::alternating(1), [Side::Theirs, Side::Ours]);
        assert_eq!(Side::alternating(2), [Side::Ours, Side::Theirs]);
    }
}
