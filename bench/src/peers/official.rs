//! The crate `loro-websocket-server`: in memory, with its defaults.

use anyhow::{Result, anyhow};
use tokio::net::TcpListener;

/// Serves until the process is killed.
///
/// # Errors
/// If the server gives up.
pub(super) async fn serve(listener: TcpListener) -> Result<()> {
    loro_websocket_server::serve_incoming(listener)
        .await
        .map_err(|error| anyhow!("the official server: {error}"))
}
