//! What follows on a decision about updates: rooms get what was stored, and senders hear what became
//! of theirs.

use crate::Relay;
use crate::app::committer::Submission;
use crate::room::room::Update;
use crate::room::rooms;
use crate::socket::raw;
use crate::socket::socket::Socket;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Updates, and one outcome for each.
pub(crate) type Decided = (Vec<Submission>, Vec<wire::Outcome>);

/// Tells rooms and senders what became of updates.
pub(crate) async fn deliver(relay: Arc<Relay>, mut decided: mpsc::Receiver<Decided>) {
    while let Some((batch, outcomes)) = decided.recv().await {
        let mut stored: Vec<(Arc<str>, Vec<Update>)> = Vec::new();
        let mut index: HashMap<Arc<str>, usize> = HashMap::new();
        let mut senders: HashMap<u64, Sender> = HashMap::new();
        let mut refused = 0;
        for (submission, outcome) in batch.iter().zip(outcomes) {
            let sender = senders
                .entry(submission.socket.id)
                .or_insert_with(|| Sender::new(submission.socket.clone()));
            sender.updates += 1;
            sender.bytes += submission.size();
            sender.number = submission.number;
            match outcome {
                wire::Outcome::Stored { rev } => {
                    sender.rev = rev;
                    let room = *index.entry(submission.project.clone()).or_insert_with(|| {
                        stored.push((submission.project.clone(), Vec::new()));
                        stored.len() - 1
                    });
                    stored[room].1.push(Update {
                        first: rev,
                        last: rev,
                        frames: vec![submission.frame.clone()],
                        sender: submission.socket.id,
                    });
                }
                wire::Outcome::Refused { reason } => {
                    refused += 1;
                    submission
                        .socket
                        .refuse("invalid_update", &reason, Some(submission.number));
                }
            }
        }
        relay.metrics.updates_refused_total.add(refused);
        relay
            .metrics
            .updates_stored_total
            .add(batch.len() - refused);
        for (project, mut updates) in stored {
            updates.sort_by_key(|update| update.first);
            if rooms::is_shared(&relay, &project) {
                relay.pubsub.publish_updates(&project, &relay.id, &updates);
            }
            rooms::deliver(&relay, &project, updates).await;
        }
        for sender in senders.into_values() {
            if sender.socket.wants.events {
                sender.socket.push([&raw::saved(sender.number, sender.rev)]);
            }
            sender.socket.flush();
            sender.socket.decided(sender.updates, sender.bytes);
        }
        relay.committer.release(&relay, &batch);
    }
}

/// What one batch decided for one socket.
struct Sender {
    socket: Arc<Socket>,
    updates: usize,
    bytes: usize,
    number: u64,
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
}
