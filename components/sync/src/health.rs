//! `GET /health`: whether this app can serve.

use platform::{
    Database,
    clock::SystemClock,
    migrations,
    spin::{Reply, SpinConfig, SpinDatabase},
};
use spin_sdk::http::Method;

/// How it is asked.
pub(crate) const METHODS: [Method; 2] = [Method::Get, Method::Head];

/// 200 when the database answers and the settings suffice, else 503 with the reason.
pub(crate) async fn check() -> Reply {
    let (status, body) = match reason().await {
        None => (200, serde_json::json!({ "status": "ok" })),
        Some(reason) => (
            503,
            serde_json::json!({ "status": "unavailable", "reason": reason }),
        ),
    };
    Reply::json(status, &body).header("cache-control", "no-store")
}

async fn reason() -> Option<String> {
    match auth::readiness::missing_setting(&SpinConfig) {
        Ok(None) => {}
        Ok(Some(setting)) => return Some(setting),
        Err(error) => {
            tracing::error!(
                setting = error.name,
                reason = error.reason,
                "setting not read"
            );
            return Some("a setting cannot be read".to_owned());
        }
    }
    let answered = async {
        let database = SpinDatabase::open()?;
        migrations::apply(&database, &SystemClock).await?;
        database
            .execute(
                "SELECT count(*) FROM loro_updates WHERE project_id = ''",
                vec![],
            )
            .await
    };
    match answered.await {
        Ok(_) => None,
        Err(error) => {
            tracing::error!(%error, "database failed");
            Some("the database does not answer".to_owned())
        }
    }
}
