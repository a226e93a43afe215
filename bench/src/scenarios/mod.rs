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
mod sides;

use anyhow::{Result, bail};

use crate::table::Row;
pub(crate) use sides::Bench;

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
}
