//! Deletes tasks, assets and updates in quarantine that are older than the operator keeps them.

use futures_util::{StreamExt, stream};
use platform::Ports;

use crate::projecting;

/// The number of documents that are searched at once.
const AT_ONCE: usize = 2;

/// Deletes what is due, and searches the documents of projects that have old assets.
pub(crate) async fn drop_due(ports: Ports<'_>) {
    let due = projection::drop_old(ports).await.unwrap_or_else(|error| {
        tracing::error!(%error, "old tasks, assets and updates could not be deleted");
        Vec::new()
    });
    stream::iter(due)
        .for_each_concurrent(AT_ONCE, |project| async move {
            if let Err(reason) = projecting::look_elsewhere(ports, &project).await {
                tracing::warn!(
                    project,
                    reason,
                    "a document was not searched for old assets"
                );
            }
        })
        .await;
}
