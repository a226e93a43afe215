//! The host from outside: a test gives it a manifest, and sends requests and messages to what it runs.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod cli;
mod http;
mod lanes;
mod limits;
mod outbound;
mod relay;
mod stores;
mod support;
mod triggers;
