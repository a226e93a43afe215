//! The support of the end-to-end tests: it starts the real programs on free ports, and talks to them as their
//! clients do.
//!
//! - [`host`], [`relay`], [`redis`], [`better_auth`]: the programs, each a child process that ends with its handle.
//! - [`raw`], [`http`], [`events`]: clients. [`people`]: callers with credentials.
//! - [`cable`], [`faults`]: proxies between a relay and its app: a slow one, and one that fails in bursts. [`sub_path`]: a
//!   proxy in front of a relay, below a path.
//! - [`kling`], [`gemini`], [`fal`], [`bucket`], [`agent`]: test doubles of the services, of a bucket and of an agent that
//!   is notified. They run on [`server`]. [`tasks`]: a host with them. [`document`]: what a document shows of tasks.
//! - [`elsewhere`]: the hosts other than this machine. [`libsql`]: their database.
//! - [`manifest`]: `spin.toml`, and the variables that each compiled component reads.
//! - [`port`]: a port that stays reserved while its server is down. [`wait`]: waiting for a condition, with a limit.
//!
//! A failure here panics with what was expected. A child process whose handle a panic drops prints the end of its log.
//! `cargo xtask test` builds the programs.

// A failed test is a panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

pub mod agent;
pub mod better_auth;
pub mod bucket;
pub mod built;
pub mod cable;
pub mod document;
pub mod elsewhere;
pub mod events;
pub mod fal;
pub mod faults;
pub mod gemini;
pub mod host;
pub mod http;
pub mod kling;
pub mod libsql;
pub mod manifest;
pub mod people;
pub mod port;
pub mod process;
pub mod raw;
pub mod redis;
pub mod relay;
pub mod server;
pub mod sign;
pub mod sub_path;
pub mod tasks;
pub mod wait;

/// Turns each scenario into two tests, `native` and `wasm`, one for each build of the relay.
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
