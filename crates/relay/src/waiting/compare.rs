//! The comparison of tasks that are waited for with the app's.

use crate::app::client::App;
use crate::app::pubsub::PubSub;
use crate::waiting::waiters::Waiters;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often tasks are compared while nothing tells of their changes.
const WITHOUT_REDIS: Duration = Duration::from_secs(2);

/// How often they are compared while Redis tells, because it may lose a message.
const WITH_REDIS: Duration = Duration::from_secs(10);

/// Compares for as long as the relay runs. While no request waits, the app is asked nothing.
pub(crate) async fn run(app: Arc<App>, pubsub: Arc<PubSub>, waiters: Arc<Waiters>) {
    let mut compared = Instant::now();
    loop {
        sleep(WITHOUT_REDIS).await;
        if pubsub.is_connected() && compared.elapsed() < WITH_REDIS {
            continue;
        }
        compared = Instant::now();
        for tasks in waiters.tasks().chunks(wire::MAX_MARKS) {
            match app.marks(tasks.to_vec()).await {
                Ok(marks) => {
                    for (task, mark) in tasks.iter().zip(marks) {
                        waiters.compare(task, mark.as_deref());
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "tasks could not be compared");
                    break;
                }
            }
        }
    }
}
