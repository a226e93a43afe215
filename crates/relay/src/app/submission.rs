//! An update on its way to the app.

use crate::app::decision::{Decision, Refusal};
use crate::socket::frame::Frame;
use crate::socket::socket::Socket;
use bytes::Bytes;
use std::sync::Arc;
use tokio::time::Instant;

/// The bytes that an update takes in a request beyond its payload and its project's name.
const ENVELOPE: usize = 32;

/// The largest update in the main lane, in bytes.
const LARGE: usize = 256 * 1024;

/// An update that a client sent and the app has not decided yet.
pub(crate) struct Submission {
    pub(crate) project: Arc<str>,
    pub(crate) socket: Arc<Socket>,
    /// The index of its frame among the binary frames of its connection, from 1.
    pub(crate) number: u64,
    /// Its number among all updates of this relay, by which the app knows it if it is appended again.
    pub(crate) serial: u64,
    /// The time at which it arrived.
    pub(crate) arrived: Instant,
    /// The update, already encoded for the room's other sockets.
    pub(crate) frame: Frame,
    /// The app's decision, while an update before this one is undecided.
    pub(crate) decision: Option<Decision>,
}

impl Submission {
    /// An update that has just arrived, and about which nothing is decided.
    pub(crate) fn new(
        project: Arc<str>,
        socket: Arc<Socket>,
        number: u64,
        serial: u64,
        frame: Frame,
    ) -> Self {
        Self {
            project,
            socket,
            number,
            serial,
            arrived: Instant::now(),
            frame,
            decision: None,
        }
    }

    /// The decision, if the app need not be asked: it has decided, or the update follows one that was refused because its
    /// peer id is in use twice. It builds on the refused one, and might fit the other client's operations by accident.
    pub(crate) fn known_decision(&mut self) -> Option<Decision> {
        let follows = || {
            Decision::Refused(Refusal {
                reason: "it follows an update whose peer id is in use twice: join again".to_owned(),
                code: wire::DUPLICATE_PEER.to_owned(),
            })
        };
        let decision = self.decision.take();
        decision.or_else(|| self.socket.is_duplicate().then(follows))
    }

    /// Returns whether it is too large for the main lane, where all other clients would wait for it.
    pub(crate) fn is_large(&self) -> bool {
        self.frame.payload().len() > LARGE
    }

    /// The number of bytes for which it counts in limits.
    pub(crate) fn size(&self) -> usize {
        self.frame.payload().len() + self.project.len() + ENVELOPE
    }
}

/// Encodes a [`wire::AppendRequest`] from the relay `origin`. If it `defers`, the app may leave updates undecided.
pub(crate) fn encode(origin: &str, batch: &[Submission], defers: bool) -> Bytes {
    let updates = batch.iter().map(|submission| wire::Update {
        project: submission.project.to_string(),
        payload: submission.frame.payload().to_vec().into(),
        serial: Some(submission.serial),
    });
    let request = wire::AppendRequest {
        origin: origin.to_owned(),
        updates: updates.collect(),
        defers: defers.then_some(true),
    };
    wire::encode(&request).into()
}
