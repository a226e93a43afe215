//! `GET /health`: reports whether this app can serve.

use door::Reply;
use platform::Ports;
use serde_json::json;

/// Answers 200 if the database answers and the settings suffice, else 503 with the reason.
pub(crate) async fn check(ports: Ports<'_>) -> Reply<'_> {
    let reply = match reason(ports).await {
        None => Reply::json(200, &json!({ "status": "ok" })),
        Some(reason) => {
            let body = json!({ "status": "unavailable", "reason": reason });
            Reply::json(503, &body)
        }
    };
    reply.header("cache-control", "no-store")
}

async fn reason(ports: Ports<'_>) -> Option<String> {
    match door::missing_setting(ports.config) {
        Ok(None) => {}
        Ok(Some(setting)) => return Some(setting),
        Err(error) => {
            tracing::error!(
                setting = error.name,
                reason = error.reason,
                "a setting could not be read"
            );
            return Some("a setting cannot be read".to_owned());
        }
    }
    // No project has this id.
    match rooms::head(ports.database, "").await {
        Ok(_) => None,
        Err(error) => {
            tracing::error!(%error, "the database failed");
            Some("the database does not answer".to_owned())
        }
    }
}
