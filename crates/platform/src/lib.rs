//! The ports to the outside world, and their adapters.
//!
//! The libraries with the logic (`rooms`, `tasks`, `auth`) use only these traits, so they depend neither on Spin nor on
//! an HTTP framework, and read the time from a port alone. The front door (`door`) holds the adapters for Spin, so that
//! a component reaches a database through it alone; the adapters in [`native`] serve tests.

#![forbid(unsafe_code)]

pub mod clock;
pub mod config;
mod database;
mod form;
mod gauge;
pub mod hrana;
pub mod http_client;
mod key_value;
mod lazy_database;
pub mod migrations;
pub mod networks;
mod ports;
pub mod pubsub;
pub mod self_request;
pub mod setting;

#[cfg(not(target_arch = "wasm32"))]
pub mod native;
#[cfg(target_arch = "wasm32")]
mod sleep;

pub use clock::Clock;
pub use config::{Config, UnreadableSetting};
pub use database::{Condition, Database, DatabaseError, Row, Value};
pub use form::{Form, WrongForm};
pub use gauge::Gauge;
pub use http_client::{HttpClient, HttpError};
pub use key_value::{KeyValue, KeyValueError};
pub use lazy_database::{LazyDatabase, Opening};
pub use ports::Ports;
pub use problem::Problem;
pub use pubsub::{PubSub, PubSubError};
pub use self_request::AskError;
pub use setting::Setting;

/// The settings of the app as a whole.
pub fn settings() -> impl Iterator<Item = &'static setting::Declaration> {
    [config::SETTINGS, self_request::SETTINGS, pubsub::SETTINGS]
        .into_iter()
        .flatten()
}
