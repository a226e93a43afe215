//! The delivery of decided updates: rooms get those that were stored, and each sender gets an answer about its own.

use crate::app::decision::{Decision, Refusal};
use crate::app::pubsub::PubSub;
use crate::app::queue::CommitQueue;
use crate::app::submission::Submission;
use crate::metrics::Metrics;
use crate::room::rooms::Rooms;
use crate::room::stored::Stored;
use crate::room::waiting;
use crate::socket::raw;
use crate::socket::socket::Socket;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::mpsc;

/// The updates of a batch, and one decision for each.
pub(crate) type Decided = (Vec<Submission>, Vec<Decision>);

/// The task that delivers.
pub(crate) struct Delivery {
    queue: Arc<CommitQueue>,
    rooms: Arc<Rooms>,
    metrics: Arc<Metrics>,
    pubsub: Arc<PubSub>,
}

impl Delivery {
    /// Delivers to `rooms`, and releases in `queue` what is delivered.
    pub(crate) fn new(queue: Arc<CommitQueue>, rooms: Arc<Rooms>) -> Self {
        Self {
            metrics: rooms.metrics.clone(),
            pubsub: rooms.pubsub.clone(),
            queue,
            rooms,
        }
    }

    /// Delivers until every sender of `decided` is dropped.
    pub(crate) async fn run(self, mut decided: mpsc::Receiver<Decided>) {
        while let Some((batch, decisions)) = decided.recv().await {
            self.deliver(&batch, decisions).await;
            self.queue.release(&batch);
        }
    }

    async fn deliver(&self, batch: &[Submission], decisions: Vec<Decision>) {
        let mut stored = ByProject::default();
        let mut senders: HashMap<u64, Sender> = HashMap::new();
        let mut refused = 0;
        let mut watched: HashSet<Arc<str>> = HashSet::new();
        for (submission, decision) in batch.iter().zip(decisions) {
            let socket = &submission.socket;
            let sender = senders
                .entry(socket.id)
                .or_insert_with(|| Sender::new(socket.clone()));
            let took = submission.arrived.elapsed().as_secs_f64();
            self.metrics.histograms.commit_seconds.observe(took);
            sender.updates += 1;
            sender.bytes += submission.size();
            sender.number = submission.number;
            match decision {
                Decision::Stored { rev, waits } => {
                    sender.rev = rev;
                    if waits && socket.wants_events {
                        socket.waits.lock().add(submission.number, rev);
                        watched.insert(submission.project.clone());
                    }
                    let update = Stored::appended(&submission.frame, socket.id, rev);
                    stored.add(&submission.project, update);
                }
                Decision::Refused(Refusal { code, reason }) => {
                    refused += 1;
                    socket.refuse(&code, &reason, Some(submission.number));
                }
            }
        }
        self.metrics.updates_refused_total.add(refused);
        let count = batch.len() - refused;
        self.metrics.updates_stored_total.add(count);
        for (project, mut updates) in stored.projects {
            updates.sort_by_key(Stored::first);
            if self.rooms.is_shared(&project) {
                self.pubsub.publish_updates(&project, &updates);
            }
            self.rooms.deliver(&project, updates).await;
        }
        for sender in senders.into_values() {
            sender.acknowledge();
        }
        for project in watched {
            waiting::watch(&self.rooms, &project);
        }
    }
}

/// The updates that were stored, by project, in the order in which their projects first occur.
#[derive(Default)]
struct ByProject {
    projects: Vec<(Arc<str>, Vec<Stored>)>,
    index: HashMap<Arc<str>, usize>,
}

impl ByProject {
    fn add(&mut self, project: &Arc<str>, update: Stored) {
        let index = *self.index.entry(project.clone()).or_insert_with(|| {
            self.projects.push((project.clone(), Vec::new()));
            self.projects.len() - 1
        });
        self.projects[index].1.push(update);
    }
}

/// The part of one batch that one socket sent.
struct Sender {
    socket: Arc<Socket>,
    updates: usize,
    bytes: usize,
    /// The number of its last frame in the batch.
    number: u64,
    /// The rev of its last update that was stored, 0 if none was.
    rev: u64,
}

impl Sender {
    fn new(socket: Arc<Socket>) -> Self {
        Self {
            socket,
            updates: 0,
            bytes: 0,
            number: 0,
            rev: 0,
        }
    }

    /// Reports to the client that its frames are decided, if it asked for events, and lets it send on.
    fn acknowledge(self) {
        if self.socket.wants_events {
            self.socket.push([&raw::saved(self.number, self.rev)]);
        }
        self.socket.flush();
        self.socket.decided(self.updates, self.bytes);
    }
}
