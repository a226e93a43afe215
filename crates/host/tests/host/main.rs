//! The host from outside: a manifest in, requests and messages against what it runs.

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
