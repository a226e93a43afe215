//! Events about tasks, and notifications of agents.

use futures_util::{StreamExt, stream};
use platform::Ports;

use super::Engine;
use crate::{event::event, notification, rows, task::Task};

/// The most notifications that one call sends.
const NOTIFICATIONS: u64 = 64;

/// The most notifications that one instance has under way at once.
const NOTIFICATIONS_AT_ONCE: usize = 32;

impl Engine<'_> {
    /// Publishes a task's change. If the message is lost, the sweep of projections finds the task.
    pub(super) async fn publish(&self, task: &Task) {
        if let Err(error) = self
            .ports
            .pubsub
            .publish(wire::TASK_CHANGES, event(task))
            .await
        {
            tracing::warn!(task_id = task.task_id, %error, "change not published");
        }
    }

    /// Notifies the agents of all finished tasks for which that is due, or of this task.
    pub(super) async fn notify(&self, task_id: Option<&str>) {
        let Ports {
            database,
            http,
            config,
            ..
        } = self.ports;
        let now = self.ports.clock.unix_seconds();
        let due = match rows::claim_notifications(database, task_id, now, NOTIFICATIONS).await {
            Ok(due) => due,
            Err(error) => {
                tracing::error!(%error, "due notifications not claimed");
                return;
            }
        };
        stream::iter(due)
            .for_each_concurrent(NOTIFICATIONS_AT_ONCE, |task| async move {
                match notification::send(http, &self.key, &task, now, config).await {
                    Ok(()) => {
                        if let Err(error) = rows::notified(database, &task).await {
                            tracing::warn!(task_id = task.task_id, %error, "notification not noted");
                        }
                    }
                    Err(error) => {
                        tracing::warn!(task_id = task.task_id, %error, "agent not notified");
                    }
                }
            })
            .await;
    }
}
