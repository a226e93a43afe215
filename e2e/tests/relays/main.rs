//! Checks relays beside their app: two of them with a Redis between, neighbouring releases, an app that fails, hangs or is
//! away, and clients that are idle or wait.

#![allow(clippy::unwrap_used)]

mod bursts;
mod idle;
mod neighbours;
mod outage;
mod repeats;
mod two_relays;
mod waiting;
