//! The Redis trigger: calls `handle-message` of components for messages on their channels.
//!
//! One subscription per server, exact channels, one message after the other. A lost connection is
//! made anew with backoff; what was published meanwhile is lost, as Redis has it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use tokio::sync::watch;

use crate::bindings::RedisTriggerPre;
use crate::guest::{Guest, Program};

/// A component that takes messages.
#[derive(Clone)]
pub struct Handler {
    /// The component.
    pub program: Arc<Program>,
    /// Its export.
    pub call: RedisTriggerPre<Guest>,
}

/// Handlers by channel.
pub type Channels = HashMap<String, Vec<Handler>>;

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
const CONNECT: Duration = Duration::from_secs(5);

/// Serves the channels of the server at `address` until `stop` turns true.
pub async fn run(address: String, channels: Channels, mut stop: watch::Receiver<bool>) {
    let mut wait = FIRST_WAIT;
    loop {
        let served = tokio::select! {
            served = serve(&address, &channels, &mut wait) => served,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let reason = served
            .err()
            .map_or_else(|| "closed".to_owned(), |error| error.to_string());
        tracing::warn!("the Redis trigger lost its server, next try in {wait:?}: {reason}");
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

async fn serve(address: &str, channels: &Channels, wait: &mut Duration) -> redis::RedisResult<()> {
    let timeout = |_| redis::RedisError::from((redis::ErrorKind::Io, "the server doesn't answer"));
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
        // In tasks of their own, so that a stop of the trigger doesn't cut them short.
        let calls = handlers.iter().map(|handler| {
            let (handler, payload) = (handler.clone(), message.get_payload_bytes().to_vec());
            tokio::spawn(async move { call(&handler, payload).await })
        });
        join_all(calls).await;
    }
    Ok(())
}

async fn call(handler: &Handler, payload: Vec<u8>) {
    let program = &handler.program;
    let mut store = match program.store().await {
        Ok(store) => store,
        Err(busy) => {
            tracing::warn!(component = program.id, "a message is lost: {busy}");
            return;
        }
    };
    let meter = Arc::clone(&store.data().meter);
    let result = program
        .run(meter, async {
            let instance = handler.call.instantiate_async(&mut store).await?;
            instance
                .fermyon_spin_inbound_redis()
                .call_handle_message(&mut store, &payload)
                .await
        })
        .await;
    if let Ok(Err(_)) = result {
        tracing::warn!(
            component = program.id,
            "the Redis handler answered an error"
        );
    }
}
