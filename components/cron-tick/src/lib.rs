//! The component `cron` for Spin's cron plugin 0.3: every ten seconds it asks the poller to do what is due.

use bindings::{Error, Guest, Metadata};

mod bindings {
    // The macro generates unsafe code.
    #![allow(unsafe_code, missing_docs, unreachable_pub)]

    wit_bindgen::generate!({
        inline: r#"
            package loro-sync:cron;

            world cron {
                use fermyon:spin-cron/cron-types@2.0.0.{error, metadata};
                export handle-cron-event: func(metadata: metadata) -> result<_, error>;
            }

            package fermyon:spin-cron@2.0.0 {
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
