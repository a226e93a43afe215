//! The HTTP trigger: listens, routes, and runs a fresh instance for each request.

pub(crate) mod guest;
pub(crate) mod manifest;
pub(crate) mod router;
pub(crate) mod shared;
