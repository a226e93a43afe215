//! The edits that the writers send: real Loro updates, made before the clock starts.

use anyhow::{Result, bail};
use bytes::Bytes;
use loro::{ExportMode, LoroDoc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// The number of nodes that each writer moves about on the board.
const NODES_EACH: usize = 8;

/// Makes `each` updates for each of `writers` writers that edit one document in turns: they type
/// words into a text and move nodes. The first updates of all writers come first, then their second
/// updates, and so on; each writer has seen all earlier updates.
///
/// So there is as little to merge as possible. That favours a server that merges each update as it
/// arrives, such as the official server, which is slower with edits that overlap, as real edits do.
///
/// Peer ids begin at `first_peer`, so that no two rooms have an update in common.
///
/// # Errors
/// If Loro cannot make an edit.
pub(crate) fn together(writers: usize, each: usize, first_peer: u64) -> Result<Vec<Vec<Bytes>>> {
    let mut random = StdRng::seed_from_u64(first_peer);
    // The one document that all writers edit in turns.
    let doc = LoroDoc::new();
    let mut updates = vec![Vec::with_capacity(each); writers];
    for step in 0..each {
        for (number, updates) in updates.iter_mut().enumerate() {
            doc.set_peer_id(first_peer + number as u64)?;
            let before = doc.oplog_vv();
            if step.is_multiple_of(2) {
                type_word(&doc, &mut random)?;
            } else {
                move_node(&doc, number, &mut random)?;
            }
            doc.commit();
            updates.push(doc.export(ExportMode::updates(&before))?.into());
        }
    }
    Ok(updates)
}

/// Makes `each` updates for each of `writers` writers that move nodes of their own in one document.
/// No writer's updates depend on another's, so each writer may send at its own speed.
///
/// # Errors
/// If Loro cannot make an edit.
pub(crate) fn apart(writers: usize, each: usize, first_peer: u64) -> Result<Vec<Vec<Bytes>>> {
    let mut random = StdRng::seed_from_u64(first_peer);
    (0..writers)
        .map(|number| {
            let doc = LoroDoc::new();
            doc.set_peer_id(first_peer + number as u64)?;
            (0..each)
                .map(|_| {
                    let before = doc.oplog_vv();
                    move_node(&doc, number, &mut random)?;
                    doc.commit();
                    Ok(doc.export(ExportMode::updates(&before))?.into())
                })
                .collect()
        })
        .collect()
}

fn type_word(doc: &LoroDoc, random: &mut StdRng) -> Result<()> {
    let text = doc.get_text("text");
    let place = random.random_range(0..=text.len_unicode());
    text.insert(place, &format!("word{} ", random.random_range(0..1000)))?;
    Ok(())
}

fn move_node(doc: &LoroDoc, writer: usize, random: &mut StdRng) -> Result<()> {
    let node = format!("node-{writer}-{}", random.random_range(0..NODES_EACH));
    let node = doc.get_map("nodes").ensure_mergeable_map(&node)?;
    node.insert("x", random.random_range(0.0..4096.0))?;
    node.insert("y", random.random_range(0.0..4096.0))?;
    Ok(())
}

/// The most tries to make a document of a size. Two or three are usual.
const TRIES: usize = 20;

/// Makes a document whose snapshot has about, and at most, `bytes` bytes: half of it text, half a
/// map, both of letters that do not compress.
///
/// # Errors
/// If Loro cannot make the document.
pub(crate) fn document(bytes: usize) -> Result<(LoroDoc, Vec<u8>)> {
    // A snapshot holds the content more than once, in its history and its state. The loop finds
    // out how much content makes a snapshot of this size.
    let mut content = bytes / 2;
    for _ in 0..TRIES {
        let doc = filled(content)?;
        let snapshot = doc.export(ExportMode::Snapshot)?;
        if snapshot.len() <= bytes && snapshot.len() * 100 >= bytes * 97 {
            return Ok((doc, snapshot));
        }
        content = (content as f64 * bytes as f64 * 0.985 / snapshot.len() as f64) as usize;
    }
    bail!("no content was found whose snapshot has about {bytes} bytes")
}

fn filled(content: usize) -> Result<LoroDoc> {
    const PIECE: usize = 512;
    let mut random = StdRng::seed_from_u64(7);
    let doc = LoroDoc::new();
    doc.set_peer_id(1)?;
    for number in 0..content.div_ceil(PIECE) {
        let piece: String = (0..PIECE.min(content - number * PIECE))
            .map(|_| char::from(random.random_range(b'0'..=b'z')))
            .collect();
        if number.is_multiple_of(2) {
            let text = doc.get_text("text");
            text.insert(random.random_range(0..=text.len_unicode()), &piece)?;
        } else {
            doc.get_map("notes")
                .insert(&format!("note-{number}"), piece)?;
        }
        doc.commit();
    }
    Ok(doc)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn updates_made_together_apply_in_order() {
        let updates = together(3, 8, 100).unwrap();
        assert_eq!(updates.iter().map(Vec::len).collect::<Vec<_>>(), [8, 8, 8]);
        let all: Vec<Bytes> = updates.concat();
        assert_eq!(
            all.iter().collect::<HashSet<_>>().len(),
            24,
            "no two updates are alike"
        );

        let doc = LoroDoc::new();
        for step in 0..8 {
            for writer in &updates {
                let status = doc.import(&writer[step]).unwrap();
                assert!(status.pending.is_none(), "every dependency came before");
            }
        }
        assert!(doc.get_text("text").len_unicode() > 12 * 5);
        assert_eq!(doc.oplog_vv().len(), 3);
    }

    #[test]
    fn updates_made_apart_apply_in_any_order_of_writers() {
        let updates = apart(3, 8, 100).unwrap();
        let doc = LoroDoc::new();
        for update in updates.iter().rev().flatten() {
            assert!(doc.import(update).unwrap().pending.is_none());
        }
        assert_eq!(doc.oplog_vv().len(), 3);
    }

    #[test]
    fn a_document_has_the_requested_size() {
        let (doc, snapshot) = document(64 * 1024).unwrap();
        assert!(
            (62 * 1024..=64 * 1024).contains(&snapshot.len()),
            "{}",
            snapshot.len()
        );
        let copy = LoroDoc::new();
        copy.import(&snapshot).unwrap();
        assert_eq!(copy.get_deep_value(), doc.get_deep_value());
    }
}
