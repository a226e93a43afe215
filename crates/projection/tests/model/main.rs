//! A model test of the engine: a seed decides everything that happens, in virtual time.
//!
//! Several pollers, submissions, callbacks and projections run at once and are interleaved at each statement; any of them
//! may die there. Two fake services answer well, late, twice, never, with 401, 429, 500 or nonsense. The test checks
//! that each task ends; that nothing is submitted again unless its answer was lost; that the bounds of services and
//! projects hold after each statement; that no service is asked more often than its rule; that the oldest task of a
//! project is submitted first; that the first end of a task stands; and that rows and documents agree in the end. In a
//! crowd, many tasks wait at an account that has fewer places than the setting says: they may take little longer than
//! those places need.
//!
//! To show that the test notices mistakes, it also runs with mistakes in the engine's statements, and some seed must
//! find each of them.
//!
//! `MODEL_SEED=7 cargo test --release -p projection --test model` runs one seed.

#![allow(clippy::unwrap_used)]

mod mutant;
mod run;
mod service;
mod shared;
mod watch;
mod world;

use mutant::{MUTANTS, Mutant};
use platform::native::is_on_hrana;
use std::{
    panic::catch_unwind,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    thread,
    time::Instant,
};

/// The seeds that failed once.
const KEPT: &[u64] = &[];

/// The number of crowds.
const CROWDS: u64 = 40;

/// The most seeds that a mistake may need to be found.
const SEEDS_A_MUTANT: u64 = 400;

/// Returns how many of these seeds are run: on libSQL a fifth, because a statement takes longer there.
fn reduced(seeds: u64) -> u64 {
    if is_on_hrana() { seeds / 5 } else { seeds }
}

/// Runs this once for each core, at the same time.
fn on_all_cores(work: impl Fn() + Sync) {
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(&work);
        }
    });
}

/// Runs these seeds on all cores, and returns the number of tasks that ended.
fn run_all(seeds: &[u64]) -> usize {
    let (next, tasks, failed) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicU64::new(0));
    on_all_cores(|| {
        while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            match catch_unwind(|| run::run(*seed, Mutant::NONE)) {
                Ok(story) => drop(tasks.fetch_add(story.tasks, Ordering::Relaxed)),
                Err(_) => {
                    println!("MODEL_SEED={seed} fails: mend it, and add it to `KEPT`");
                    failed.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
        }
    });
    assert_eq!(failed.into_inner(), 0, "seeds failed");
    tasks.into_inner()
}

#[test]
fn every_task_ends_well_whatever_happens() {
    if let Ok(seed) = std::env::var("MODEL_SEED") {
        run_all(&[seed.parse().unwrap()]);
        return;
    }
    let seeds: Vec<u64> = KEPT.iter().copied().chain(0..reduced(300)).collect();
    run_all(&seeds);
}

/// A complaint: "Our account has three places, the setting said ten, and the films took an hour longer than they
/// should."
#[test]
fn a_crowd_at_a_small_account_is_served_by_all_of_its_places() {
    let refused: u64 = (0..reduced(CROWDS))
        .map(|seed| run::crowd(seed, Mutant::NONE))
        .sum();
    println!("{refused} refusals in {CROWDS} crowds");
}

#[test]
fn a_seed_decides_everything() {
    for seed in 0..8 {
        let [one, other] = [(); 2].map(|()| run::run(seed, Mutant::NONE));
        assert_eq!(one, other, "seed {seed}");
    }
}

#[test]
fn every_mistake_is_found() {
    let finds = |seed: &u64, mutant| {
        catch_unwind(|| run::run(*seed, mutant)).is_err()
            || catch_unwind(|| run::crowd(*seed, mutant)).is_err()
    };
    let next = AtomicUsize::new(0);
    on_all_cores(|| {
        while let Some(mutant) = MUTANTS.get(next.fetch_add(1, Ordering::Relaxed)) {
            let found = (0..SEEDS_A_MUTANT).find(|seed| finds(seed, *mutant));
            println!("{}: found by seed {found:?}", mutant.0);
            assert!(found.is_some(), "{}: no seed finds it", mutant.0);
        }
    });
}

#[test]
#[ignore = "takes minutes"]
fn thousands_of_seeds() {
    const SEEDS: u64 = 10_000;
    let start = Instant::now();
    let first = u64::from(std::process::id()) << 32;
    let seeds: Vec<u64> = (first..first + SEEDS).collect();
    let tasks = run_all(&seeds);
    let per_minute = SEEDS as f64 / start.elapsed().as_secs_f64() * 60.0;
    println!("{SEEDS} seeds from {first}, {tasks} tasks, {per_minute:.0} seeds a minute");
    for seed in seeds.iter().take(2000) {
        run::crowd(*seed, Mutant::NONE);
    }
}
