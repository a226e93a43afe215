//! `loro-host` runs this app's `spin.toml` on this machine, in one process with the relay, on wasmtime.
//!
//! It serves development, tests and single-machine self-hosting. It is not a second Spin: it supports what the app's
//! manifests use, and refuses anything else with one sentence. What works here must work on Spin.
//!
//! ```text
//!  settings ─▶ plan ─▶ resources ─▶ running ── starts and stops all parts, and watches them
//!
//!  http_trigger ──┐
//!  redis_trigger ─┼─▶ guest ─▶ key_value  outbound_http  redis  sqlite  variables
//!  cron_trigger ──┘
//! ```
//!
//! Each trigger and each capability is a folder with the same three files, as far as it needs them: `manifest`, its part
//! of the manifest; `shared`, the part that the whole app shares; `guest`, the calls that a guest makes, or the call
//! that runs a guest. A process may run some of the triggers alone, beside others on the same state folder
//! ([`Triggers`]).

mod addresses;
mod budget;
pub mod cli;
mod cron_trigger;
mod engine;
mod environment;
mod guest;
mod http_trigger;
mod key_value;
mod logs;
mod machine;
mod manifest;
mod names;
mod other_host;
mod outbound_http;
mod outbound_networking;
mod parts;
mod plan;
mod programs;
mod redis;
mod redis_trigger;
mod relay;
mod resources;
mod running;
mod runtime_config;
mod settings;
mod sqlite;
mod state;
mod triggers;
mod variables;

pub use guest::limits::Limits;
pub use logs::start as start_logs;
pub use other_host::OtherHost;
pub use plan::declarations;
pub use relay::{Relay, RelayKind, RelaySettings};
pub use running::Running;
pub use settings::Settings;
pub use triggers::{Trigger, Triggers};

/// Starts everything that the settings name; when this returns, requests are served. It must be called within a
/// multi-threaded tokio runtime.
///
/// # Errors
/// With one sentence that names the file, the key or the address that is wrong.
pub async fn start(settings: Settings) -> anyhow::Result<Running> {
    let plan = plan::Plan::read(settings)?;
    let resources = resources::Resources::open(&plan).await?;
    Running::start(plan, resources).await
}
