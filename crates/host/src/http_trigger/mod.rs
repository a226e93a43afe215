//! The HTTP trigger: listens, routes, and runs a fresh instance for each request.

mod answered;
mod at_most;
pub(crate) mod guest;
pub(crate) mod internal_token;
pub(crate) mod manifest;
pub(crate) mod router;
pub(crate) mod shared;
