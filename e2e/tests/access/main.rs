//! Access: which caller may do what, in a development and in a deployment.

#![allow(clippy::unwrap_used)]

mod deployment;
mod field;
mod projects;
mod routes;
mod sessions;
