//! Telling an agent that its task is finished, at the address that it chose.
//!
//! Signed as Standard Webhooks says (<https://www.standardwebhooks.com>): `webhook-id`,
//! `webhook-timestamp` in Unix seconds, and `webhook-signature`, which is `v1,` and the base64 of the
//! HMAC-SHA256 of `{id}.{timestamp}.{body}`. The key is of that task alone; who posted it got it as
//! `callback_secret`. After a change of our own key there are two signatures, with a space between, of
//! which that secret fits one.

use std::time::Duration;

use auth::webhooks::WebhookKey;
use base64::{Engine, engine::general_purpose::STANDARD};
use platform::{Config, HttpClient, http_client::Limits};

use crate::{Task, address};

const LIMITS: Limits = Limits {
    timeout: Duration::from_secs(10),
    max_bytes: 64 * 1024,
};

/// The secret with which the agent of this task checks what it is told.
pub fn secret(key: &WebhookKey, task_id: &str) -> String {
    format!(
        "whsec_{}",
        STANDARD.encode(key.notification_secret(task_id))
    )
}

/// Tells the agent. It has heard if it answers 2xx.
pub(crate) async fn send(
    http: &dyn HttpClient,
    key: &WebhookKey,
    task: &Task,
    now: i64,
    config: &dyn Config,
) -> Result<(), String> {
    let Some(url) = &task.callback_url else {
        return Ok(());
    };
    let url = address::check_callback(url, config)?;
    let body = serde_json::to_vec(task).map_err(|error| error.to_string())?;
    // The same for every attempt, so that an agent which hears twice can tell.
    let id = format!("{}-{}", task.job(), task.version);
    let request = http::Request::post(url.as_str())
        .header("content-type", "application/json")
        .header("webhook-id", &id)
        .header("webhook-timestamp", now.to_string())
        .header(
            "webhook-signature",
            signatures(key, &task.task_id, &id, now, &body),
        )
        .body(body)
        .map_err(|error| error.to_string())?;
    let answer = http
        .send(request, LIMITS)
        .await
        .map_err(|error| error.to_string())?;
    if answer.status().is_success() {
        Ok(())
    } else {
        Err(format!("status {}", answer.status().as_u16()))
    }
}

/// What `webhook-signature` says.
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
    }
}
