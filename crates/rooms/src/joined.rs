//! Puts together the blobs of another room.

use loro::{EncodedBlobMode, ExportMode, LoroDoc};

use crate::{error::first_line, history::is_within};

/// Puts the blobs of another room together as one update, which takes a time that is linear in their size. Updates that
/// wait for others that the blobs do not hold follow as they are.
///
/// # Errors
/// If one of the blobs cannot be read or has no history. The reason is in words, for the sender.
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

#[cfg(test)]
mod tests {
    use super::*;
    use loro::VersionVector;

    /// The updates of one client, a letter each.
    fn letters(letters: &str) -> (LoroDoc, Vec<Vec<u8>>) {
        let doc = LoroDoc::new();
        let updates = letters.chars().map(|letter| {
            let before = doc.oplog_vv();
            let text = doc.get_text("text");
            let end = text.len_unicode();
            text.insert(end, &letter.to_string()).unwrap();
            doc.commit();
            doc.export(ExportMode::updates(&before)).unwrap()
        });
        let updates = updates.collect();
        (doc, updates)
    }

    fn text(blobs: &[Vec<u8>]) -> String {
        let doc = LoroDoc::new();
        for blob in blobs {
            doc.import(blob).unwrap();
        }
        doc.get_text("text").to_string()
    }

    #[test]
    fn the_blobs_of_a_room_become_one_and_what_waits_follows() {
        let (doc, updates) = letters("abcdef");
        let early = LoroDoc::new();
        early.import(&updates[0]).unwrap();
        let snapshot = early.export(ExportMode::Snapshot).unwrap();
        let [_, b, c, d, _, f] = updates.try_into().unwrap();
        for (blobs, expected, waits) in [
            (vec![], "", vec![]),
            (vec![snapshot.clone()], "a", vec![]),
            (vec![snapshot.clone(), b.clone(), c.clone()], "abc", vec![]),
            // The second blob waits for the third.
            (vec![snapshot.clone(), c.clone(), b.clone()], "abc", vec![]),
            (vec![snapshot.clone(), b, d.clone()], "ab", vec![d.clone()]),
            (vec![f.clone(), d.clone()], "", vec![f.clone(), d.clone()]),
            (
                vec![doc.export(ExportMode::all_updates()).unwrap(), snapshot, d],
                "abcdef",
                vec![],
            ),
        ] {
            let whole = joined(blobs).unwrap();
            assert_eq!(text(&whole), expected);
            let ones = usize::from(!expected.is_empty());
            assert_eq!(whole.len(), ones + waits.len(), "{expected}");
            assert_eq!(whole[ones..], waits, "{expected}");
        }
    }

    #[test]
    fn what_cannot_be_read_or_has_no_history_is_refused() {
        let (doc, updates) = letters("abc");
        let end = doc.oplog_frontiers();
        let shallow = doc.export(ExportMode::shallow_snapshot(&end)).unwrap();
        let since = VersionVector::default();
        let whole = doc.export(ExportMode::updates(&since)).unwrap();
        for wrong in [
            shallow,
            vec![],
            b"nonsense".to_vec(),
            updates[0][1..].to_vec(),
        ] {
            assert!(joined(vec![whole.clone(), wrong]).is_err());
        }
    }
}
