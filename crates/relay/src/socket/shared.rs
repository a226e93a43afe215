//! The parts of the relay that all WebSockets share.

use crate::app::queue::CommitQueue;
use crate::metrics::Metrics;
use crate::room::rooms::Rooms;
use crate::settings::Settings;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// The number of sockets with much to write that do so at once. The others wait in line, so that the task of an edit does
/// not wait behind a thousand that write states.
const LARGE_WRITES: usize = 4;

/// The parts of the relay that all connections share.
pub(crate) struct Shared {
    pub(crate) settings: Arc<Settings>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) queue: Arc<CommitQueue>,
    pub(crate) draining: CancellationToken,
    /// The permits for large writes. A socket that has much to write takes one for each write.
    pub(crate) large_writes: Semaphore,
    /// The id of the newest socket.
    sockets: AtomicU64,
}

impl Shared {
    /// The parts for connections that join `rooms` and submit to `queue`, until `draining`.
    pub(crate) fn new(
        rooms: Arc<Rooms>,
        queue: Arc<CommitQueue>,
        draining: CancellationToken,
    ) -> Self {
        Self {
            settings: rooms.settings.clone(),
            metrics: rooms.metrics.clone(),
            rooms,
            queue,
            draining,
            large_writes: Semaphore::new(LARGE_WRITES),
            sockets: AtomicU64::new(0),
        }
    }

    /// An id that no other socket of this relay has; never 0.
    pub(crate) fn next_socket_id(&self) -> u64 {
        self.sockets.fetch_add(1, Ordering::Relaxed) + 1
    }
}
