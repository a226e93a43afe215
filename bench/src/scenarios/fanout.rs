//! The time until all other clients have each update, with writers at a steady rate, in one room or
//! in many. Our updates are on disk by then, so they may take one append longer than the official
//! server's.

use std::time::Duration;

use anyhow::Result;

use super::relays;
use super::sides::{Bench, Pair, Side};
use crate::load::{self, Outcome, Plan, Room};
use crate::machine;
use crate::stats::median;
use crate::table::{Cell, Row, Target};
use crate::updates;

/// The sizes, rates and targets of one fanout scenario.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: &'static str,
    rooms: usize,
    /// The clients in each room, including its writers.
    clients: usize,
    /// The writers in each room.
    writers: usize,
    /// The updates that each writer sends a second.
    rate: usize,
    /// Says whether p99 must be at or below the official server's, and p50 at most that and one append.
    beats_theirs: bool,
    /// The highest p99 that is allowed, in milliseconds.
    p99_ms: Option<f64>,
}

pub(super) const CASES: &[Case] = &[
    Case {
        name: "fanout-20",
        rooms: 1,
        clients: 100,
        writers: 10,
        rate: 20,
        beats_theirs: true,
        p99_ms: None,
    },
    Case {
        name: "fanout-60",
        rooms: 1,
        clients: 100,
        writers: 10,
        rate: 60,
        beats_theirs: true,
        p99_ms: None,
    },
    Case {
        name: "fanout-300",
        rooms: 1,
        clients: 300,
        writers: 10,
        rate: 20,
        beats_theirs: false,
        p99_ms: None,
    },
    Case {
        name: "room-1000",
        rooms: 1,
        clients: 100,
        writers: 50,
        rate: 20,
        beats_theirs: false,
        p99_ms: Some(100.0),
    },
    Case {
        name: "rooms-200",
        rooms: 200,
        clients: 5,
        writers: 1,
        rate: 5,
        beats_theirs: false,
        p99_ms: Some(100.0),
    },
];

/// The result of one run against one server.
struct Run {
    outcome: Outcome,
    server_cpu: f64,
    generator_cpu: f64,
    /// The CPU time of all other programs, and of the kernel outside of any program.
    other_cpu: f64,
}

pub(super) async fn run(bench: &Bench, case: &Case) -> Result<Vec<Row>> {
    let (seconds, repetitions) = if bench.quick { (2, 1) } else { (11, 2) };
    let plan = plan(case, seconds)?;
    let mut runs = Pair::<Vec<Run>>::default();
    for repetition in 0..repetitions {
        for side in Side::alternating(repetition) {
            match once(bench, case, side, &plan).await {
                Ok(run) => {
                    eprintln!("  {}: {}", side.name(), run.summary());
                    runs.side(side).push(run);
                }
                Err(error) => eprintln!("  {} failed: {error:#}", side.name()),
            }
        }
    }
    let mut rows = rows(case, &runs);
    if case.beats_theirs {
        rows.extend(beside_an_append(bench, case, &runs).await?);
    }
    Ok(rows)
}

/// Measures appends one after the other, each until our server reports to its client that it is saved, and compares our
/// latency with the official server's latency plus one append.
async fn beside_an_append(bench: &Bench, case: &Case, runs: &Pair<Vec<Run>>) -> Result<[Row; 2]> {
    let server = Side::Ours.start(bench, case.name)?;
    let append = relays::append(&server, if bench.quick { 20 } else { 200 }).await?;
    server.kill()?;
    let theirs = median_of(&runs.theirs, &Run::p50).map(|theirs| theirs + append);
    Ok([
        Row::new(case.name, "one append, p50, ms", append, Cell::None),
        Row::new(
            case.name,
            "latency p50, ms: ours | theirs and one append",
            median_of(&runs.ours, &Run::p50),
            Cell::from(theirs),
        )
        .must(Target::RatioAtMost(1.0)),
    ])
}

fn median_of(runs: &[Run], value: &dyn Fn(&Run) -> f64) -> Option<f64> {
    median(&runs.iter().map(value).collect::<Vec<_>>())
}

/// Plans the load, with the same updates for both servers and every repetition. The first second is
/// the warm-up.
fn plan(case: &Case, seconds: usize) -> Result<Plan> {
    let rooms = (0..case.rooms)
        .map(|number| {
            let first_peer = 1 + (number * 1000) as u64;
            Ok(Room {
                name: format!("{}-{number}", case.name),
                clients: case.clients,
                writers: updates::together(case.writers, case.rate * seconds, first_peer)?,
            })
        })
        .collect::<Result<_>>()?;
    Ok(Plan {
        rooms,
        rate: case.rate as f64,
        warm_up: Duration::from_secs(1),
    })
}

async fn once(bench: &Bench, case: &Case, side: Side, plan: &Plan) -> Result<Run> {
    let server = side.start(bench, case.name)?;
    let server_before = server.cpu_seconds()?;
    let generator_before = machine::cpu_time(std::process::id())?;
    let all_before = machine::all_cpu_time()?;
    let outcome = load::run(side.dialect(), server.address, plan).await?;
    let server_cpu = server.cpu_seconds()? - server_before;
    let generator = machine::cpu_time(std::process::id())?.saturating_sub(generator_before);
    let generator_cpu = generator.as_secs_f64();
    let all = machine::all_cpu_time()?.saturating_sub(all_before);
    let run = Run {
        outcome,
        server_cpu,
        generator_cpu,
        other_cpu: (all.as_secs_f64() - server_cpu - generator_cpu).max(0.0),
    };
    server.kill()?;
    Ok(run)
}

impl Run {
    fn percentile(&self, percent: f64) -> f64 {
        self.outcome
            .latencies
            .percentile(percent)
            .unwrap_or(f64::NAN)
    }

    fn p50(&self) -> f64 {
        self.percentile(50.0)
    }

    fn cores_busy(&self) -> f64 {
        (self.server_cpu + self.generator_cpu + self.other_cpu) / self.outcome.seconds
    }

    fn cores_busy_elsewhere(&self) -> f64 {
        self.other_cpu / self.outcome.seconds
    }

    fn summary(&self) -> String {
        let outcome = &self.outcome;
        let mut text = format!(
            "p50 {:.2} ms, p99 {:.2} ms, max {:.1} ms, {}/{} delivered in {:.1} s, CPU {:.1} s + generator {:.1} s + others {:.1} s",
            self.percentile(50.0),
            self.percentile(99.0),
            outcome.latencies.max().unwrap_or(f64::NAN),
            outcome.delivered,
            outcome.expected,
            outcome.seconds,
            self.server_cpu,
            self.generator_cpu,
            self.other_cpu,
        );
        if outcome.unknown > 0 {
            text += &format!(", {} unknown frames", outcome.unknown);
        }
        if outcome.lost_clients > 0 {
            text += &format!(", {} clients cut off", outcome.lost_clients);
        }
        text
    }
}

fn rows(case: &Case, runs: &Pair<Vec<Run>>) -> Vec<Row> {
    let row = |measure: &str, value: &dyn Fn(&Run) -> f64| {
        let cell = |runs: &[Run]| Cell::from(median_of(runs, value));
        Row::new(case.name, measure, cell(&runs.ours), cell(&runs.theirs))
    };
    let against_theirs = |row: Row| {
        if case.beats_theirs {
            row.must(Target::RatioAtMost(1.0))
        } else {
            row
        }
    };
    let p99 = row("latency p99, ms", &|run| run.percentile(99.0));
    let expected = runs
        .ours
        .iter()
        .chain(&runs.theirs)
        .map(|run| run.outcome.expected);
    let missing = format!("receipts missing, of {}", expected.max().unwrap_or(0));
    vec![
        row("latency p50, ms", &Run::p50),
        match case.p99_ms {
            Some(most) => p99.must(Target::AtMost(most)),
            None => against_theirs(p99),
        },
        row("latency max, ms", &|run| {
            run.outcome.latencies.max().unwrap_or(f64::NAN)
        }),
        row(&missing, &|run| {
            (run.outcome.expected - run.outcome.delivered) as f64
        })
        .must(Target::Exactly(0.0)),
        row("CPU of the server, s", &|run| run.server_cpu),
        row("CPU of the load generator, s", &|run| run.generator_cpu),
        row(
            &format!("cores busy, of {}", machine::cores()),
            &Run::cores_busy,
        ),
        row(
            "of these, busy with something else",
            &Run::cores_busy_elsewhere,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_sends_what_its_case_says() {
        let case = CASES.iter().find(|case| case.name == "rooms-200").unwrap();
        let plan = plan(case, 2).unwrap();
        assert_eq!(plan.rooms.len(), 200);
        let sent: usize = plan
            .rooms
            .iter()
            .flat_map(|room| &room.writers)
            .map(Vec::len)
            .sum();
        assert_eq!(sent, 2 * 1000, "1,000 a second");
    }
}
