//! Checks access: which caller may do what, in development and in a deployment.

#![allow(clippy::unwrap_used)]

mod deployment;
mod field;
mod projects;
mod routes;
mod sessions;
