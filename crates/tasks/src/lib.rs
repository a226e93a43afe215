//! Tasks: generation jobs that run elsewhere, and their results.
//!
//! A task is a row in `aigc_tasks`; [`create`] makes it, the [`Engine`] carries it on, and an
//! [`Executor`] talks to the service that does the work. Nothing here knows documents: what a document
//! shows of a task is the crate `projection`'s business.

#![forbid(unsafe_code)]

mod address;
mod assets;
mod create;
mod delete;
mod engine;
mod error;
mod executors;
mod fields;
pub mod image;
mod media_type;
pub mod notification;
mod result_address;
pub mod rows;
mod task;
mod webhook;

pub use assets::{Asset, AssetError, AssetStore, MAX_ASSET_BYTES};
pub use create::{CreateError, create};
pub use delete::delete;
pub use engine::{EVENTS_CHANNEL, Engine, SUBMISSIONS_PATH, event, project_of_event};
pub use error::TaskError;
pub use executors::{
    Callback, Executor, Failure, Media, Outside, POLL_PATIENCE, Product, Progress, Registry,
};
pub use fields::{FieldError, Fields};
pub use media_type::OCTET_STREAM;
pub use task::{Status, Task, shortened};

/// The page about adding a service, whose example is compiled as a test.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/adding-a-service.md")]
mod adding_a_service {}
