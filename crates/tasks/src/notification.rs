//! Notifies an agent that its task has begun or has ended, at the address that the agent chose.
//!
//! A notification is signed as Standard Webhooks says (<https://www.standardwebhooks.com>): `webhook-id`,
//! `webhook-timestamp` in Unix seconds, and `webhook-signature`, which is `v1,` and the base64 of the
//! HMAC-SHA256 of `{id}.{timestamp}.{body}`. Each task has a key of its own, which the agent got as
//! `callback_secret` when it posted the task. After a change of the server's key there are two signatures,
//! with a space between, and that secret fits one of them.

use std::time::Duration;

use auth::webhooks::WebhookKey;
use base64::{Engine, engine::general_purpose::STANDARD};
use platform::{Config, HttpClient, HttpError, http_client::Limits};
use thiserror::Error;

use crate::{address, public_url::public_url, task::Task};

const LIMITS: Limits = Limits {
    timeout: Duration::from_secs(10),
    max_bytes: 64 * 1024,
};

/// The secret with which the agent of this task verifies its notifications.
pub fn secret(key: &WebhookKey, task_id: &str) -> String {
    format!(
        "whsec_{}",
        STANDARD.encode(key.notification_secret(task_id))
    )
}

/// A notification that the agent did not confirm.
#[derive(Debug, Error)]
pub(crate) enum NotificationError {
    /// The agent's address may not be called, for this reason, in words for the agent.
    #[error("the address {0}")]
    Address(String),
    /// The notification cannot be written.
    #[error("the notification cannot be written: {0}")]
    Unwritten(#[from] serde_json::Error),
    /// The request cannot be made.
    #[error(transparent)]
    Request(#[from] http::Error),
    /// The agent did not answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The agent answered with another status than 2xx.
    #[error("status {0}")]
    Status(u16),
}

/// Notifies the agent of the status of its task. The agent confirms by a status of 2xx.
pub(crate) async fn send(
    http: &dyn HttpClient,
    key: &WebhookKey,
    task: &Task,
    now: i64,
    config: &dyn Config,
) -> Result<(), NotificationError> {
    let Some(url) = &task.callback_url else {
        return Ok(());
    };
    let url = address::check_callback(url, config).map_err(NotificationError::Address)?;
    let body = serde_json::to_vec(&task.clone().addressed(&public_url(config)))?;
    // The id is the same for every attempt, so that an agent can recognise a repeated notification.
    let id = format!("{}-{}", task.job(), task.version);
    let request = http::Request::post(url.as_str())
        .header("content-type", "application/json")
        .header("webhook-id", &id)
        .header("webhook-timestamp", now.to_string())
        .header(
            "webhook-signature",
            signatures(key, &task.task_id, &id, now, &body),
        )
        .body(body)?;
    let answer = http.send(request, LIMITS).await?;
    if answer.status().is_success() {
        Ok(())
    } else {
        Err(NotificationError::Status(answer.status().as_u16()))
    }
}

/// The value of `webhook-signature`.
fn signatures(key: &WebhookKey, task_id: &str, id: &str, now: i64, body: &[u8]) -> String {
    let codes = key.sign_notification(task_id, id, now, body);
    let signatures: Vec<String> = codes
        .iter()
        .map(|code| format!("v1,{}", STANDARD.encode(code)))
        .collect();
    signatures.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_of_an_older_task_finds_the_signature_of_its_secret() {
        let sign = |key: &WebhookKey| signatures(key, "task_1_a", "id", 7, b"{}");
        let (old, new) = (WebhookKey::new("old"), WebhookKey::new("new"));
        assert!(sign(&old).starts_with("v1,") && !sign(&old).contains(' '));
        let both = WebhookKey::new("new").with_previous("old");
        assert_eq!(sign(&both), format!("{} {}", sign(&new), sign(&old)));
        assert_eq!(secret(&both, "task_1_a"), secret(&new, "task_1_a"));
        let of_task = STANDARD.encode(new.notification_secret("task_1_a"));
        assert_eq!(secret(&new, "task_1_a"), format!("whsec_{of_task}"));
    }
}
