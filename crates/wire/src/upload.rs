//! The sizes of uploads, on which relay and app agree.

/// The most bytes of an upload that is one request. A relay sends a larger one to the app in parts.
pub const MAX_WHOLE_UPLOAD: usize = 8 * 1024 * 1024;

/// The bytes of each part of an upload except the last: the fewest that S3 takes, and fewer than any host's limit of
/// bodies.
pub const UPLOAD_PART: usize = 5 * 1024 * 1024;
