//! The call of a guest: `handle-message` of `fermyon:spin/inbound-redis`.

use std::sync::Arc;

use anyhow::{Result, anyhow};

use crate::guest::lane::Lane;
use crate::guest::{Guest, Program};
use wit::RedisTriggerPre;

mod wit {
    #![allow(missing_docs, unreachable_pub)]

    wasmtime::component::bindgen!({
        inline: r#"
            package fermyon:spin;

            interface redis-types {
                enum error { success, error }
                type payload = list<u8>;
            }

            interface inbound-redis {
                use redis-types.{payload, error};
                handle-message: func(message: payload) -> result<_, error>;
            }

            world redis-trigger { export inbound-redis; }
        "#,
        exports: { default: async },
        require_store_data_send: true,
    });
}

/// A component that takes messages.
#[derive(Clone)]
pub(crate) struct Handler {
    program: Arc<Program>,
    call: RedisTriggerPre<Guest>,
}

impl Handler {
    /// Finds the export of a component.
    pub(crate) fn new(program: Arc<Program>) -> Result<Self> {
        let call = RedisTriggerPre::new(program.pre().clone()).map_err(|error| {
            anyhow!(
                "component {:?} has a Redis trigger but {error:#}",
                program.id
            )
        })?;
        Ok(Self { program, call })
    }

    /// Hands a message to a fresh instance and waits for its end.
    pub(crate) async fn run(&self, payload: Vec<u8>) {
        let program = &self.program;
        let mut store = match program.store(Lane::Redis).await {
            Ok(store) => store,
            Err(busy) => {
                tracing::warn!(
                    component = program.id,
                    "the Redis trigger lost a message: {busy}"
                );
                return;
            }
        };
        let meter = Arc::clone(&store.data().meter);
        let result = program
            .run(meter, async {
                let instance = self.call.instantiate_async(&mut store).await?;
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
}
