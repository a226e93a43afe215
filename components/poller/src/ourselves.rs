//! Requests to the app itself, for work that gets an instance of its own.

use std::time::Duration;

use platform::{AskError, Ports, http_client::Limits};

/// The time that a request to ourselves may take.
const OURSELVES: Limits = Limits {
    timeout: Duration::from_secs(60),
    max_bytes: 64 * 1024,
};

/// Sends a request to an internal route of the app itself, and returns the status.
pub(crate) async fn ask_ourselves(ports: Ports<'_>, path: &str) -> Result<u16, AskError> {
    let answer = ports.ask_ourselves(path, Vec::new(), OURSELVES).await?;
    Ok(answer.status().as_u16())
}
