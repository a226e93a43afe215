//! The call of a guest: `handle-cron-event` of `fermyon:spin-cron@2.0.0`. A component that exports the same function of
//! `spin:cron@3.0.0` is called, too, unless that function is async: the host finds an export by its name, and compares
//! types by their structure.

use std::sync::Arc;

use anyhow::{Result, anyhow};

use crate::guest::lane::Lane;
use crate::guest::{Guest, Program};
use wit::{Metadata, SpinCronPre};

mod wit {
    #![allow(missing_docs, unreachable_pub)]

    wasmtime::component::bindgen!({
        inline: r#"
            package fermyon:spin-cron@2.0.0;

            interface cron-types {
                record metadata { timestamp: u64 }
                variant error { other(string) }
            }

            world spin-cron {
                use cron-types.{error, metadata};
                export handle-cron-event: func(metadata: metadata) -> result<_, error>;
            }
        "#,
        exports: { default: async },
        require_store_data_send: true,
    });
}

/// A component that is called by a schedule.
#[derive(Clone)]
pub(crate) struct Handler {
    program: Arc<Program>,
    call: SpinCronPre<Guest>,
}

impl Handler {
    /// Finds the export of a component.
    pub(crate) fn new(program: Arc<Program>) -> Result<Self> {
        let call = SpinCronPre::new(program.pre().clone()).map_err(|error| {
            anyhow!(
                "component {:?} has a cron trigger but {error:#}",
                program.id
            )
        })?;
        Ok(Self { program, call })
    }

    /// Calls a fresh instance for the event at `timestamp`, in seconds of Unix time, and waits for its end.
    pub(crate) async fn run(&self, timestamp: u64) {
        let program = &self.program;
        let mut store = match program.store(Lane::Cron).await {
            Ok(store) => store,
            Err(busy) => {
                tracing::warn!(
                    component = program.id,
                    "the cron trigger skipped an event: {busy}"
                );
                return;
            }
        };
        let meter = Arc::clone(&store.data().meter);
        let result = program
            .run(meter, async {
                let instance = self.call.instantiate_async(&mut store).await?;
                instance
                    .call_handle_cron_event(&mut store, Metadata { timestamp })
                    .await
            })
            .await;
        if let Ok(Err(error)) = result {
            tracing::warn!(
                component = program.id,
                "the cron handler answered an error: {error:?}"
            );
        }
    }
}
