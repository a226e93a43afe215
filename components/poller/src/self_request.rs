//! Requests to the app itself, for work that gets an instance of its own.

use std::time::Duration;

use platform::{AskError, Ports, http_client::Limits};

/// The longest that a request to the app itself may take, and the largest answer that it may have.
const LIMITS: Limits = Limits {
    timeout: Duration::from_secs(60),
    max_bytes: 64 * 1024,
};

/// Sends a request to an internal route of the app itself, and returns the status.
pub(crate) async fn ask_self(ports: Ports<'_>, path: &str) -> Result<u16, AskError> {
    let answer = ports.ask_self(path, Vec::new(), LIMITS).await?;
    Ok(answer.status().as_u16())
}
