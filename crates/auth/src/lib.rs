//! Who may come in, and what they may do.
//!
//! Every request of a public route passes the [`door`], which knows all [`routes`] and what each wants. Who
//! asks is a [`Principal`]: a user with a session ([`sessions`]), an agent with a token of a project
//! ([`tokens`]), or the trusted backend. What they may do is a matter of the project ([`projects`]). Pages of
//! other sites may do nothing ([`origins`]).
//!
//! The relay proves itself by a token ([`internal`]), and services by the address that they were given
//! ([`webhooks`]). Where a setting is missing that this needs, nothing is served ([`readiness`]).

#![forbid(unsafe_code)]

mod access;
mod denied;
pub mod door;
pub mod internal;
pub mod origins;
mod principal;
pub mod projects;
pub mod readiness;
pub mod routes;
pub mod secrets;
pub mod sessions;
pub mod tokens;
#[cfg(target_arch = "wasm32")]
pub mod visit;
pub mod webhooks;
#[cfg(all(test, not(target_arch = "wasm32")))]
mod world;

pub use access::{Grant, Role};
pub use denied::Denied;
pub use principal::{Credentials, DEVELOPER, Principal};
