//! A lane of appends: one connection to the app, over which one append goes after the other.

use crate::app::client::{App, AppError};
use crate::app::submission::{Submission, encode};
use crate::app::upstream::Dedicated;
use crate::metrics::Metrics;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// What every lane of a relay shares.
#[derive(Clone)]
pub(crate) struct Lanes {
    pub(crate) app: Arc<App>,
    pub(crate) metrics: Arc<Metrics>,
    /// The id of the relay.
    pub(crate) origin: Arc<str>,
}

impl Lanes {
    /// A lane that opens its connection with the first append.
    pub(crate) fn open(&self) -> Lane {
        Lane {
            shared: self.clone(),
            connection: None,
        }
    }
}

/// One lane.
pub(crate) struct Lane {
    shared: Lanes,
    connection: Option<Dedicated>,
}

impl Lane {
    /// Encodes an append. A repeated append must have the same bytes.
    pub(crate) fn encode(&self, batch: &[Submission]) -> Bytes {
        encode(&self.shared.origin, batch)
    }

    /// Whether the next append goes over a connection that was used before. The app may have closed it meanwhile.
    pub(crate) fn is_reused(&self) -> bool {
        self.connection.is_some()
    }

    /// Sends an append of this many updates, and waits for the answer for at most `patience`.
    pub(crate) async fn append(
        &mut self,
        body: Bytes,
        updates: usize,
        patience: Duration,
    ) -> Result<Vec<wire::Outcome>, AppError> {
        self.shared.metrics.appends_total.add(1);
        let app = &self.shared.app;
        app.append(&mut self.connection, body, updates, patience)
            .await
    }

    /// Counts an append that failed and is repeated.
    pub(crate) fn count_retry(&self) {
        self.shared.metrics.append_retries_total.add(1);
    }

    /// Whether the app answers an append of nothing. It is the control of a trial: if it fails too, the updates are not
    /// at fault.
    pub(crate) async fn passes_empty(&mut self, patience: Duration) -> bool {
        let nothing = self.encode(&[]);
        self.append(nothing, 0, patience).await.is_ok()
    }
}
