//! The part that the whole app shares: a timer for each schedule.

use std::time::Duration;

use anyhow::Result;
use chrono::Utc;
use cron::Schedule;
use tokio::sync::watch;

use super::guest::Handler;

/// Calls `handler` by its schedule until `stop` turns true. A time that comes while an instance is still at work is
/// skipped.
pub(crate) async fn run(
    handler: Handler,
    schedule: Schedule,
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    loop {
        let next = schedule.upcoming(Utc).next();
        let sleep = async {
            match next {
                Some(next) => {
                    let wait = (next - Utc::now()).to_std().unwrap_or(Duration::ZERO);
                    tokio::time::sleep(wait).await;
                    u64::try_from(next.timestamp()).unwrap_or(0)
                }
                // A schedule with a year may have no more times.
                None => std::future::pending().await,
            }
        };
        let timestamp = tokio::select! {
            timestamp = sleep => timestamp,
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        };
        handler.run(timestamp).await;
    }
}
