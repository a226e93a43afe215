//! The harness of the end-to-end tests: it starts the real programs on free ports and talks to
//! them through the doors that everybody uses.
//!
//! - [`host`], [`relay`], [`redis`], [`better_auth`]: the programs, each a child process that ends with its
//!   handle.
//! - [`raw`], [`http`]: clients. [`cable`]: a slow line between a relay and its app; [`faults`]: one that fails in bursts.
//! - [`kling`], [`gemini`], [`agent`]: services that tasks go to, and an agent that wants to be told,
//!   made up on [`server`]. [`tasks`]: a host with them.
//! - [`port`]: a port that is kept while its server is down. [`wait`]: every wait is for a condition and has an end.
//!
//! What fails here panics with what was expected; a child process whose handle is dropped by a panic
//! prints the end of its log. `cargo xtask test` builds what is started here.

// A harness: to fail is what it is for.
#![allow(clippy::unwrap_used, clippy::expect_used)]

pub mod agent;
pub mod better_auth;
pub mod built;
pub mod cable;
pub mod faults;
pub mod gemini;
pub mod host;
pub mod http;
pub mod kling;
pub mod people;
pub mod port;
pub mod process;
pub mod raw;
pub mod redis;
pub mod relay;
pub mod server;
pub mod sign;
pub mod tasks;
pub mod wait;

/// Makes each scenario two tests, `native` and `wasm`: one for each build of the relay.
///
/// ```text
/// both_relays! {
///     async fn clients_converge(relay: Kind) { … }
/// }
/// ```
#[macro_export]
macro_rules! both_relays {
    ($($(#[$attribute:meta])* async fn $name:ident($relay:ident: Kind) $body:block)+) => {$(
        mod $name {
            use super::*;

            async fn scenario($relay: $crate::host::Kind) $body

            $(#[$attribute])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn native() {
                scenario($crate::host::Kind::Native).await;
            }

            $(#[$attribute])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn wasm() {
                scenario($crate::host::Kind::Wasm).await;
            }
        }
    )+};
}
