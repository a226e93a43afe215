//! Who may come in.
//!
//! In development everybody is user `dev`. Anywhere else the app refuses to serve what it cannot
//! protect: it fails closed ([`readiness`]). The relay proves itself by a token ([`internal`]),
//! and services by the address that they were given ([`webhooks`]).

#![forbid(unsafe_code)]

pub mod internal;
pub mod readiness;
pub mod webhooks;
