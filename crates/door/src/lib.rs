//! The front door: every HTTP request of every component passes it, whether public or internal.
//!
//! [`routes`] is the one list of routes, each with what it requires of the caller. A component gives [`serve`] a
//! handler, which gets an [`Admitted`] request: its settings suffice, its route exists, its caller is identified and
//! may do this. An `Admitted` is the only way to the ports. The handler is an exhaustive `match` over the component's
//! routes and returns a [`Reply`], with the work that follows it, or a [`problem::Problem`].
//!
//! A message of the Redis trigger passes [`receive`] in the same way, and [`judge`] answers a relay that asks about a
//! WebSocket.

#![forbid(unsafe_code)]
// The triggers, which use all of this, are built for Wasm only.
#![cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]

mod admit;
mod body;
mod head;
mod judge;
mod line;
mod message;
mod readiness;
mod reply;
mod route;
pub mod routes;
#[cfg(target_arch = "wasm32")]
mod spin;
mod tag;
mod version;
mod visit;

pub use admit::Admitted;
pub use head::Head;
pub use judge::judge;
pub use line::{Answering, line};
pub use message::Message;
pub use readiness::missing_setting;
pub use reply::{Headers, Reply};
pub use route::{Mark, Need, Needs, ProjectSource, Routes, Spec};
#[cfg(target_arch = "wasm32")]
pub use spin::{receive, report_panics, serve};
pub use tag::Tag;
pub use visit::PRINCIPAL;
