//! What must hold during a storm, and after it.

use std::time::{Duration, Instant};

use e2e::host::Host;
use e2e::server::{Reply, Server};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::kinds::Storm;
use crate::neighbours::{Health, look_until, type_until};
use crate::{setup, sources};

/// The pause between two looks at the memory of the host.
const LOOK: Duration = Duration::from_millis(100);

/// What must hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// How long the storm goes on.
    lasts: Duration,
    /// The 99th percentile of the time that a neighbour's edit takes.
    latency: Duration,
    /// The most memory of the host, in MiB.
    memory: u64,
    /// The time after the storm within which the host is as before.
    calm_within: Duration,
    /// A calm host uses less than this, in percent of a core, over this time. Its memory is within a fifth of that before
    /// the storm.
    processor: (f64, Duration),
}

impl Terms {
    /// The terms of a storm of tens of callers, beside which other tests run: no time of a machine, but no stop either.
    pub(crate) fn small() -> Self {
        Self {
            lasts: Duration::from_secs(1),
            latency: Duration::from_secs(2),
            memory: 1500,
            calm_within: Duration::from_secs(15),
            processor: (f64::INFINITY, Duration::from_millis(500)),
        }
    }

    /// The terms of a whole storm. `STORM_CALM` shortens the time after it, in seconds.
    pub(crate) fn whole() -> Self {
        let calm = std::env::var("STORM_CALM").ok();
        let calm = calm.map_or(300, |seconds| seconds.parse().unwrap());
        Self {
            lasts: Duration::from_secs(20),
            latency: Duration::from_millis(100),
            memory: 1500,
            calm_within: Duration::from_secs(calm),
            processor: (2.0, Duration::from_secs(10)),
        }
    }
}

/// What was seen.
struct Report {
    took: Vec<Duration>,
    health: Health,
    /// The host's memory before the storm and the most during it, in MiB.
    before: u64,
    most: u64,
    calm: Calm,
}

/// A host after a storm.
#[derive(Debug, Clone, Copy)]
struct Calm {
    /// Since the storm ended.
    after: Duration,
    /// In MiB.
    memory: u64,
    /// In percent of a core.
    processor: f64,
}

/// Lets a storm of `count` callers go over a host, prints what was seen, and checks it.
pub(crate) async fn hold(storm: Storm, count: usize, with_lanes: bool, terms: Terms) {
    sources::raise_descriptors();
    let service = Server::start(|_| async { Reply::Hang }).await;
    let host = setup(&format!("http://{}", service.address), with_lanes)
        .start()
        .await;
    let prepared = storm.prepare(&host).await;
    // The first edits and the first answers load what a host has in memory at any time.
    let (started, over) = watch::channel(false);
    let neighbours = async {
        tokio::join!(
            type_until(&host.address, over.clone()),
            look_until(&host.address, over.clone())
        )
    };
    let warm = async {
        sleep(Duration::from_millis(500)).await;
        started.send_replace(true);
    };
    tokio::join!(neighbours, warm);
    let before = host.process.memory();

    let (ended, over) = watch::channel(false);
    let raging = async {
        let raging = storm.begin(&host.address, prepared, count).await;
        sleep(terms.lasts).await;
        ended.send_replace(true);
        raging
    };
    let (took, health, most, raging) = tokio::join!(
        type_until(&host.address, over.clone()),
        look_until(&host.address, over.clone()),
        most_memory(&host, over.clone()),
        raging,
    );
    let seen = raging.seen.words();
    drop(raging);
    let calm = calm(&host, before, &terms).await;
    let report = Report {
        took,
        health,
        before,
        most,
        calm,
    };
    let lanes = if with_lanes { "" } else { ", without lanes" };
    report.print(&format!("{storm:?}, {count}{lanes}"), &seen);
    report.check(&terms);
}

/// The most memory of the host until `over`, in MiB.
async fn most_memory(host: &Host, over: watch::Receiver<bool>) -> u64 {
    let mut most = 0;
    while !*over.borrow() {
        most = most.max(host.process.memory());
        sleep(LOOK).await;
    }
    most
}

/// Waits until the host is as it was before the storm, or until the limit.
async fn calm(host: &Host, before: u64, terms: &Terms) -> Calm {
    let (most, over) = terms.processor;
    let end = Instant::now();
    loop {
        let (used, start) = (host.process.processor_time(), Instant::now());
        sleep(over).await;
        let used = host.process.processor_time() - used;
        let calm = Calm {
            after: end.elapsed(),
            memory: host.process.memory(),
            processor: 100.0 * used.as_secs_f64() / start.elapsed().as_secs_f64(),
        };
        if calm.is_as_before(before, most) || calm.after >= terms.calm_within {
            return calm;
        }
    }
}

impl Calm {
    fn is_as_before(self, before: u64, processor: f64) -> bool {
        self.memory * 5 <= before * 6 && self.processor < processor
    }
}

impl Report {
    /// A percentile of the time that an edit took.
    fn percentile(&self, percent: usize) -> Duration {
        let mut took = self.took.clone();
        took.sort_unstable();
        let last = took.len().saturating_sub(1);
        took.get(last * percent / 100).copied().unwrap_or_default()
    }

    fn print(&self, storm: &str, seen: &str) {
        let Health {
            asked,
            bad,
            slowest,
        } = &self.health;
        println!("{storm}: {seen}");
        println!(
            "    {} edits: p50 {:.1?}, p99 {:.1?}, slowest {:.1?}",
            self.took.len(),
            self.percentile(50),
            self.percentile(99),
            self.percentile(100)
        );
        println!(
            "    health: {} of {asked} are 200, slowest {slowest:.1?}",
            asked - bad.len()
        );
        println!(
            "    memory: {} MiB before, at most {} MiB",
            self.before, self.most
        );
        let calm = self.calm;
        println!(
            "    {:.0?} after: {} MiB, {:.1} % of a core",
            calm.after, calm.memory, calm.processor
        );
    }

    fn check(&self, terms: &Terms) {
        assert!(self.took.len() >= 10, "{} edits", self.took.len());
        let p99 = self.percentile(99);
        assert!(p99 <= terms.latency, "p99 is {p99:?}");
        assert!(self.health.bad.is_empty(), "{:?}", self.health);
        assert!(self.most <= terms.memory, "{} MiB", self.most);
        let (before, calm) = (self.before, self.calm);
        let is_calm = calm.is_as_before(before, terms.processor.0);
        assert!(is_calm, "{before} MiB before; {calm:?}");
    }
}
