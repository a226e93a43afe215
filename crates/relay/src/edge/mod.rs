//! HTTP: the way of a request into the relay, and through it to the app.

pub(crate) mod address;
pub(crate) mod answers;
pub(crate) mod arrivals;
pub(crate) mod body;
pub(crate) mod buckets;
pub(crate) mod caps;
pub(crate) mod credentials;
pub(crate) mod files;
pub(crate) mod headers;
pub(crate) mod health;
pub(crate) mod internal;
pub(crate) mod limits;
pub(crate) mod listener;
pub(crate) mod open_files;
pub(crate) mod paths;
pub(crate) mod problem;
pub(crate) mod proxy;
pub(crate) mod refused_pages;
pub(crate) mod server;
pub(crate) mod shares;
pub(crate) mod stream;
pub(crate) mod unsent;
pub(crate) mod upgrade;
pub(crate) mod uploads;
pub(crate) mod visitor;
