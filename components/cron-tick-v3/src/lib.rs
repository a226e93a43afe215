//! The component `cron` for Spin's cron plugin 0.6: every ten seconds it asks the poller to do what is due.
//!
//! This file was written without that plugin's WIT, `spin:cron@3.0.0`. Its name and version are certain, and so are the
//! handler, `handle-cron-event: async func`, and its metadata, a timestamp in seconds. The names `cron-types`, `metadata`
//! and `error` are not certain, nor is it that `other` is the only error: they come from a user of the plugin 0.5, whose
//! component ran with them. If one of them is wrong, this file is the only one to change.
//!
//! The handler here is a plain `func`. Spin finds it by its name and compares its parameters and its result, but not
//! whether it is async (wasmtime 48, as in Spin 4.2), so Spin calls it like an async one. A component with an async
//! export would need a runtime with WASI 0.3, and would gain nothing, because the handler has no other work meanwhile.

use bindings::{Error, Guest, Metadata};

mod bindings {
    // The macro generates unsafe code.
    #![allow(unsafe_code, missing_docs, unreachable_pub)]

    wit_bindgen::generate!({
        inline: r#"
            package loro-sync:cron;

            world cron {
                use spin:cron/cron-types@3.0.0.{error, metadata};
                export handle-cron-event: func(metadata: metadata) -> result<_, error>;
            }

            package spin:cron@3.0.0 {
                interface cron-types {
                    record metadata { timestamp: u64 }
                    variant error { other(string) }
                }
            }
        "#,
        generate_all,
    });

    export!(Tick);

    pub(super) struct Tick;
}

impl Guest for bindings::Tick {
    fn handle_cron_event(_: Metadata) -> Result<(), Error> {
        tick::tick().map_err(Error::Other)
    }
}
