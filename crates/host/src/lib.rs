//! `loro-host` runs a `spin.toml` on this machine, in one process with the relay, on wasmtime.
//!
//! It serves development, tests and single-machine self-hosting. It is no second Spin: what works
//! here must work there, and what Spin refuses is refused here.
//!
//! ```text
//!  manifest ─┬─ variables         host ── starts and stops all of it
//!            ├─ routes ── http ───┐
//!            │   redis_trigger ───┼─▶ guest ── limits        relay   broker
//!            │   cron_trigger ────┘     │
//!            └─ sqlite  key_value  redis  outbound_http  variables  files
//!                  (each: what the manifest says of it, and the calls that a guest makes)
//! ```

pub mod allowed_hosts;
pub mod bindings;
pub mod broker;
pub mod cli;
pub mod cron_trigger;
pub mod database;
pub mod engine;
pub mod files;
pub mod guest;
pub mod host;
pub mod http;
pub mod key_value;
pub mod limits;
pub mod logs;
pub mod manifest;
pub mod networks;
pub mod outbound_http;
pub mod redis;
pub mod redis_trigger;
pub mod relay;
pub mod relay_streams;
pub mod routes;
pub mod sqlite;
pub mod state;
pub mod variables;

pub use host::{Host, Settings};
