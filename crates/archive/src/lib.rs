//! A project as one archive: its document, its tasks and its assets.
//!
//! [`export`] makes a tar archive, part by part, so that it holds the document and a piece of one asset at most in
//! memory. [`import`] takes a whole archive and makes a new project from it.
//!
//! ```text
//! project.json               the format, the name, and in a backup the owner and the members
//! document/000001.loro …     the document, as Loro blobs in their order
//! quarantine/000001.json, quarantine/000001 …     updates that Loro cannot apply
//! assets/{id}.json, assets/{id}
//! tasks/{id}.json            in the order of posting
//! ```

#![forbid(unsafe_code)]

mod batches;
mod contents;
mod export;
mod field;
mod import;
mod purge;
mod tar;
mod task_file;

pub use contents::ArchiveError;
pub use export::{ExportError, back_up, export};
pub use import::{ImportError, Imported, import, restore};
pub use purge::{purge, sweep};

/// The largest archive that is imported, in bytes, because the relay sends no longer body.
pub const MAX_BYTES: usize = wire::MAX_UPDATE_BYTES;

/// The media type of an archive.
pub const MEDIA_TYPE: &str = "application/x-tar";

/// The format that is written, and the newest that is read.
const FORMAT: u32 = 1;
