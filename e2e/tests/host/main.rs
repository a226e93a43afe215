//! The host and its app, as an operator starts them and as any HTTP client uses them.

#![allow(clippy::unwrap_used)]

mod archives;
mod backup;
mod command_line;
mod field;
mod http;
mod libsql;
mod limits;
mod manifest;
mod manifests;
mod triggers;
