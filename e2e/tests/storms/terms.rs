//! The terms that must hold during a storm, and after it.

use std::time::{Duration, Instant};

use e2e::host::Host;
use e2e::server::{Reply, Server};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::kinds::Storm;
use crate::neighbours::{Health, Neighbours};
use crate::{setup, sources};

/// The pause between two readings of the host's memory.
const LOOK: Duration = Duration::from_millis(100);

/// The time over which the processor time of a calm host is measured.
const CALM: Duration = Duration::from_secs(10);

/// The time over which the memory of a host that has settled does not fall.
const SETTLED: Duration = Duration::from_secs(5);

/// The terms that must hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// The time for which the neighbours are observed before the storm.
    pub(crate) before: Duration,
    /// The time for which the storm goes on.
    pub(crate) lasts: Duration,
    /// The 99th percentile of the time that a neighbour's edit takes.
    pub(crate) latency: Duration,
    /// The longest time until all sockets have joined.
    joined: Duration,
    /// The most memory of the host, in MiB.
    pub(crate) memory: u64,
    /// The time after the storm within which the host is as before: its memory within a fifth, and under 2 % of a core.
    /// `None` if that is not checked.
    pub(crate) calm_within: Option<Duration>,
}

impl Terms {
    /// The terms of a storm of tens of callers, beside which other tests run. They are too loose to measure the machine, but
    /// find a server that stands still.
    pub(crate) fn small() -> Self {
        Self {
            before: Duration::from_millis(500),
            lasts: Duration::from_secs(1),
            latency: Duration::from_secs(2),
            joined: Duration::from_secs(3),
            memory: 1500,
            calm_within: None,
        }
    }

    /// The terms of a whole storm. `STORM_CALM` shortens the time after it, in seconds.
    pub(crate) fn whole() -> Self {
        let calm = std::env::var("STORM_CALM").ok();
        let calm = calm.map_or(300, |seconds| seconds.parse().unwrap());
        Self {
            before: Duration::from_secs(3),
            lasts: Duration::from_secs(20),
            latency: Duration::from_millis(100),
            joined: Duration::from_secs(3),
            memory: 1500,
            calm_within: Some(Duration::from_secs(calm)),
        }
    }
}

/// The measurements of a storm.
struct Report {
    /// The times that edits took before the storm, and during it.
    calm_took: Vec<Duration>,
    took: Vec<Duration>,
    /// The time that it took until all sockets had joined, if any did.
    joined: Option<Duration>,
    health: Health,
    /// The host's memory before the storm and the most during it, in MiB.
    before: u64,
    most: u64,
    /// The processor time that the host used while the storm went on.
    used: Duration,
    calm: Option<Calm>,
}

/// A host after a storm.
#[derive(Debug, Clone, Copy)]
struct Calm {
    /// The time since the storm ended.
    after: Duration,
    /// The memory of the host, in MiB.
    memory: u64,
    /// The processor time that the host uses, in percent of a core.
    processor: f64,
}

/// Runs a storm of `count` callers against a host, prints the measurements, and checks them.
pub(crate) async fn hold(storm: Storm, count: usize, with_lanes: bool, terms: Terms) {
    sources::raise_descriptors();
    let service = Server::start(|_| async { Reply::Hang }).await;
    let host = setup(&format!("http://{}", service.address), with_lanes)
        .start()
        .await;
    let prepared = storm.prepare(&host).await;
    // The first edits and the first answers load what a host has in memory at any time.
    let neighbours = Neighbours::begin(&host.address);
    sleep(terms.before).await;
    let (calm_took, _) = neighbours.end().await;
    if terms.calm_within.is_some() {
        settle(&host).await;
    }
    let before = host.process.memory();

    let used = host.process.processor_time();
    let neighbours = Neighbours::begin(&host.address);
    let (ended, over) = watch::channel(false);
    let raging = async {
        let raging = storm.begin(&host.address, prepared, count).await;
        sleep(terms.lasts).await;
        ended.send_replace(true);
        raging
    };
    let (most, raging) = tokio::join!(most_memory(&host, over), raging);
    let (took, health) = neighbours.end().await;
    let (seen, joined) = (raging.seen.words(), raging.joined);
    let used = host.process.processor_time() - used;
    drop(raging);
    let calm = match terms.calm_within {
        Some(limit) => Some(calm(&host, before, limit).await),
        None => None,
    };
    let report = Report {
        calm_took,
        took,
        joined,
        health,
        before,
        most,
        used,
        calm,
    };
    let lanes = if with_lanes { "" } else { ", without lanes" };
    report.print(&format!("{storm:?}, {count}{lanes}"), &seen);
    report.check(&terms);
}

/// Waits until the memory of the host no longer falls, because the host gives back over some seconds what it took to
/// start. If it were compared with its start, it would be allowed that much more.
pub(crate) async fn settle(host: &Host) {
    let mut least = host.process.memory();
    for _ in 0..12 {
        sleep(SETTLED).await;
        let memory = host.process.memory();
        if memory >= least {
            return;
        }
        least = memory;
    }
}

/// The most memory of the host until `over`, in MiB.
pub(crate) async fn most_memory(host: &Host, over: watch::Receiver<bool>) -> u64 {
    let mut most = 0;
    while !*over.borrow() {
        most = most.max(host.process.memory());
        sleep(LOOK).await;
    }
    most
}

/// Waits until the host is as it was before the storm, or until the limit.
async fn calm(host: &Host, before: u64, limit: Duration) -> Calm {
    let end = Instant::now();
    loop {
        let processor = processor(host).await;
        let calm = Calm {
            after: end.elapsed(),
            memory: host.process.memory(),
            processor,
        };
        if calm.is_as_before(before) || calm.after >= limit {
            return calm;
        }
    }
}

/// The processor time that the host uses, in percent of a core, over some seconds.
pub(crate) async fn processor(host: &Host) -> f64 {
    let (used, start) = (host.process.processor_time(), Instant::now());
    sleep(CALM).await;
    let used = host.process.processor_time() - used;
    100.0 * used.as_secs_f64() / start.elapsed().as_secs_f64()
}

impl Calm {
    fn is_as_before(self, before: u64) -> bool {
        self.memory * 5 <= before * 6 && self.processor < 2.0
    }
}

impl Report {
    fn print(&self, storm: &str, seen: &str) {
        let Health {
            asked,
            bad,
            slowest,
        } = &self.health;
        println!("{storm}: {seen}");
        if let Some(joined) = self.joined {
            println!("    all have joined a room of 1 MiB after {joined:.1?}");
        }
        for (when, took) in [("before", &self.calm_took), ("during", &self.took)] {
            println!(
                "    {} edits {when}: p50 {:.1?}, p99 {:.1?}, slowest {:.1?}",
                took.len(),
                percentile(took, 50),
                percentile(took, 99),
                percentile(took, 100)
            );
        }
        println!(
            "    health: {} of {asked} are 200, slowest {slowest:.1?}",
            asked - bad.len()
        );
        println!(
            "    memory: {} MiB before, at most {} MiB; processor time {:.1?}",
            self.before, self.most, self.used
        );
        if let Some(calm) = self.calm {
            println!(
                "    {:.0?} after: {} MiB, {:.1} % of a core",
                calm.after, calm.memory, calm.processor
            );
        }
    }

    fn check(&self, terms: &Terms) {
        assert!(self.took.len() >= 10, "{} edits", self.took.len());
        let p99 = percentile(&self.took, 99);
        assert!(p99 <= terms.latency, "p99 is {p99:?}");
        let joined = self.joined.unwrap_or_default();
        assert!(joined <= terms.joined, "all have joined after {joined:?}");
        assert!(self.health.bad.is_empty(), "{:?}", self.health);
        assert!(self.most <= terms.memory, "{} MiB", self.most);
        if let Some(calm) = self.calm {
            let before = self.before;
            assert!(calm.is_as_before(before), "{before} MiB before; {calm:?}");
        }
    }
}

/// A percentile of the time that an edit took.
pub(crate) fn percentile(took: &[Duration], percent: usize) -> Duration {
    let mut took = took.to_vec();
    took.sort_unstable();
    let last = took.len().saturating_sub(1);
    took.get(last * percent / 100).copied().unwrap_or_default()
}
