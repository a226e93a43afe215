//! Ports to the outside world, and their adapters.
//!
//! The libraries with the logic (`rooms`, `tasks`, `auth`) speak to these traits alone and
//! so know no Spin, no HTTP framework and no clock. An adapter for Spin serves them inside a Wasm
//! component; a native one serves their tests.

#![forbid(unsafe_code)]

pub mod clock;
pub mod config;
pub mod database;
pub mod http_client;
pub mod key_value;
pub mod migrations;
pub mod networks;
pub mod ourselves;
pub mod ports;
pub mod problem;
pub mod pubsub;

#[cfg(not(target_arch = "wasm32"))]
pub mod native;
#[cfg(target_arch = "wasm32")]
pub mod spin;

pub use clock::Clock;
pub use config::{Config, UnreadableSetting};
pub use database::{Condition, Database, DatabaseError, Row, Value};
pub use http_client::{HttpClient, HttpError};
pub use key_value::{KeyValue, KeyValueError};
pub use ourselves::AskError;
pub use ports::Ports;
pub use problem::Problem;
pub use pubsub::{PubSub, PubSubError};
