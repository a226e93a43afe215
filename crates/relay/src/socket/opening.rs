//! The beginning of a WebSocket, before its updates: the rest of its handshake, and the client's version if that comes
//! in a frame.

use std::time::Duration;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// The buffer that an idle connection keeps to read into, in bytes.
const READ_BUFFER: usize = 2 * 1024;

/// The largest version vector in a frame, in bytes: some 80,000 peers.
pub(crate) const MAX_VERSION: usize = 1024 * 1024;

/// The time that the answer to an upgrade waits for the first frames, with which it then goes out in one write. It is as
/// long as a client's system may put off an acknowledgement, for which a second write may have to wait (Nagle's
/// algorithm).
const HELD: Duration = Duration::from_millis(40);

/// The parts of a WebSocket before its first frame.
pub(crate) struct Opening {
    /// The answer to the upgrade, which is yet to be written.
    pub(crate) answer: Vec<u8>,
    /// The bytes that the client sent right after its request.
    pub(crate) early: Vec<u8>,
    /// Says whether the client's first frame is its version.
    pub(crate) awaits_version: bool,
}

impl Opening {
    /// The latest time at which the answer to the upgrade goes out. A client that sends its version needs it first.
    pub(crate) fn answer_by(&self, now: Instant) -> Instant {
        if self.awaits_version { now } else { now + HELD }
    }

    /// The configuration of the WebSocket until its first message has come. An update has `max_body` bytes at most.
    pub(crate) fn config(&self, max_body: usize) -> WebSocketConfig {
        for_messages(if self.awaits_version {
            MAX_VERSION
        } else {
            max_body
        })
    }
}

/// The configuration of a WebSocket that takes messages of up to this many bytes.
pub(crate) fn for_messages(max_message: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(usize::MAX)
        .max_message_size(Some(max_message))
        .max_frame_size(Some(max_message))
}
