//! Putting together the blobs of another room.

use loro::{EncodedBlobMode, ExportMode, LoroDoc};

use crate::{error::first_line, history::is_within};

/// Puts the blobs of another room together as one update, which takes a time that is linear in their size. Updates that
/// wait for others that are not among them follow as they are.
///
/// # Errors
/// If one of them cannot be read; in words for their sender.
pub fn joined(blobs: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, String> {
    let refusal = |error: loro::LoroError| first_line(&error.to_string()).to_owned();
    let doc = LoroDoc::new();
    doc.detach();
    let mut waiting = Vec::new();
    for blob in blobs {
        let meta = LoroDoc::decode_import_blob_meta(&blob, true).map_err(refusal)?;
        if meta.mode == EncodedBlobMode::ShallowSnapshot {
            return Err("a shallow snapshot cannot be merged".into());
        }
        let status = doc.import(&blob).map_err(refusal)?;
        if status.pending.is_some() {
            waiting.push(blob);
        }
    }
    let reached = doc.oplog_vv();
    waiting.retain(|blob| !is_within(blob, &reached));
    if reached.is_empty() {
        return Ok(waiting);
    }
    let all = doc.export(ExportMode::all_updates());
    let all = all.map_err(|error| first_line(&error.to_string()).to_owned())?;
    Ok(std::iter::once(all).chain(waiting).collect())
}
