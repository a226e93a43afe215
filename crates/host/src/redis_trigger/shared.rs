//! The part that the whole app shares: one subscription for all Redis triggers.
//!
//! The channels are exact names, and one message is handled after another. If the connection is lost, the trigger
//! connects again with backoff, or ends ([`AtLoss`]); messages that were published meanwhile are lost, as with Redis.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Result, bail};
use futures_util::StreamExt;
use futures_util::future::join_all;
use tokio::sync::watch;

use super::guest::Handler;

/// The handlers by channel.
pub(crate) type Channels = HashMap<String, Vec<Handler>>;

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
const CONNECT: Duration = Duration::from_secs(5);

/// The reaction of the trigger to the loss of its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtLoss {
    /// The trigger connects again, because the process has more to do.
    ConnectAgain,
    /// The trigger ends, as Spin's does, and the process ends with it, so that a supervisor starts it again.
    End,
}

/// Serves the channels of the server at `address` until `stop` turns true.
///
/// # Errors
/// If the server is lost, and the trigger ends with it.
pub(crate) async fn run(
    address: String,
    channels: Channels,
    at_loss: AtLoss,
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    let mut wait = FIRST_WAIT;
    loop {
        let served = tokio::select! {
            served = serve(&address, &channels, &mut wait) => served,
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        };
        let reason = served
            .err()
            .map_or_else(|| "closed".to_owned(), |error| error.to_string());
        if at_loss == AtLoss::End {
            bail!("it lost its server: {reason}");
        }
        tracing::warn!("the Redis trigger lost its server, next try in {wait:?}: {reason}");
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

async fn serve(address: &str, channels: &Channels, wait: &mut Duration) -> redis::RedisResult<()> {
    let timeout = |_| redis::RedisError::from((redis::ErrorKind::Io, "the server does not answer"));
    let client = redis::Client::open(address)?;
    let mut subscription = tokio::time::timeout(CONNECT, client.get_async_pubsub())
        .await
        .map_err(timeout)??;
    let names: Vec<&String> = channels.keys().collect();
    tokio::time::timeout(CONNECT, subscription.subscribe(&names))
        .await
        .map_err(timeout)??;
    tracing::debug!("the Redis trigger listens to {names:?}");
    *wait = FIRST_WAIT;
    let mut messages = subscription.on_message();
    while let Some(message) = messages.next().await {
        let handlers = channels
            .get(message.get_channel_name())
            .map(Vec::as_slice)
            .unwrap_or_default();
        // Each call has a task of its own, so that the end of the trigger does not cut it short.
        let calls = handlers.iter().map(|handler| {
            let (handler, payload) = (handler.clone(), message.get_payload_bytes().to_vec());
            tokio::spawn(async move { handler.run(payload).await })
        });
        join_all(calls).await;
    }
    Ok(())
}
