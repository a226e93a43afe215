//! An update on its way to the app.

use crate::socket::frame::Frame;
use crate::socket::socket::Socket;
use bytes::Bytes;
use std::sync::Arc;

/// The bytes that an update takes in a request beyond its payload and its project's name.
const ENVELOPE: usize = 32;

/// An update that a client sent and the app has not decided yet.
pub(crate) struct Submission {
    pub(crate) project: Arc<str>,
    pub(crate) socket: Arc<Socket>,
    /// The index of its frame among the binary frames of its connection, from 1.
    pub(crate) number: u64,
    /// The update, already encoded for the room's other sockets.
    pub(crate) frame: Frame,
}

impl Submission {
    /// The number of bytes for which it counts in limits.
    pub(crate) fn size(&self) -> usize {
        self.frame.payload().len() + self.project.len() + ENVELOPE
    }
}

/// Encodes a [`wire::AppendRequest`] from the relay `origin`.
pub(crate) fn encode(origin: &str, batch: &[Submission]) -> Bytes {
    let updates = batch.iter().map(|submission| wire::Update {
        project: submission.project.to_string(),
        payload: submission.frame.payload().to_vec().into(),
        serial: None,
    });
    let request = wire::AppendRequest {
        origin: origin.to_owned(),
        updates: updates.collect(),
    };
    wire::encode(&request).into()
}
