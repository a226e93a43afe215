//! Relays beside their app: two of them with a Redis between, an app that fails, hangs or is away, and storms of clients.

#![allow(clippy::unwrap_used)]

mod bursts;
mod idle;
mod neighbours;
mod outage;
mod repeats;
mod two_relays;
mod waiting;
