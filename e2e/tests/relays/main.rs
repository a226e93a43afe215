//! Relays beside their app: two of them with a Redis between, and an app that fails, hangs or is away.

#![allow(clippy::unwrap_used)]

mod bursts;
mod idle;
mod outage;
mod repeats;
mod two_relays;
