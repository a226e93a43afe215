//! The events about tasks, and the notifications of agents.

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
            tracing::warn!(task_id = task.task_id, %error, "the change of a task was not published");
        }
    }

    /// Notifies the agent of a task of this event, if the agent has asked for that.
    pub(super) async fn notify_of_event(&self, task: &Task, event: &str) {
        let is_chosen = |chosen: &str| chosen.split(',').any(|one| one == event);
        if !task.notify_of.as_deref().is_some_and(is_chosen) {
            return;
        }
        let now = self.ports.clock.unix_seconds();
        match rows::record_notification(self.ports.database, task, event, now).await {
            Ok(true) => self.notify(Some(&task.task_id)).await,
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(task_id = task.task_id, %error, "a notification was not recorded as due");
            }
        }
    }

    /// Sends the due notifications of all tasks, or only that of this task.
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
                tracing::error!(%error, "the due notifications could not be claimed");
                return;
            }
        };
        stream::iter(due)
            .for_each_concurrent(NOTIFICATIONS_AT_ONCE, |task| async move {
                match notification::send(http, &self.key, &task, now, config).await {
                    Ok(()) => {
                        if let Err(error) = rows::notified(database, &task).await {
                            tracing::warn!(task_id = task.task_id, %error, "the end of a notification was not recorded");
                        }
                    }
                    Err(error) => {
                        tracing::warn!(task_id = task.task_id, %error, "an agent was not notified");
                    }
                }
            })
            .await;
    }
}
