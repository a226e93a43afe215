//! HTTP: what reaches the relay first, and where it goes.

pub(crate) mod health;
pub(crate) mod internal;
pub(crate) mod limits;
pub(crate) mod listener;
pub(crate) mod problem;
pub(crate) mod proxy;
pub(crate) mod server;
pub(crate) mod upgrade;
