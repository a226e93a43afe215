//! The edits that the writers send: real Loro updates, made before the clock starts.

use anyhow::Result;
use bytes::Bytes;
use loro::{ExportMode, LoroDoc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// How many nodes of the board a writer moves about.
const NODES_EACH: usize = 8;

/// The updates of `writers` people, `each` of them, who edit one document together in turns: they
/// type words into a text and move nodes. The first of everybody is sent first, then the second
/// of everybody, and so on, and everybody has seen all that was sent before.
///
/// So there is as little to merge as can be. That favours a server that merges as it goes, as
/// the official one does: with edits that overlap, as in life, it is slower.
///
/// Peer ids begin at `first_peer`, so that no two rooms have an update in common.
///
/// # Errors
/// When Loro cannot make an edit.
pub(crate) fn together(writers: usize, each: usize, first_peer: u64) -> Result<Vec<Vec<Bytes>>> {
    let mut random = StdRng::seed_from_u64(first_peer);
    // One document that all of them take turns at.
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

/// The updates of `writers` people, `each` of them, who move nodes of their own in one document,
/// at any speed: nobody's depend on another's.
///
/// # Errors
/// When Loro cannot make an edit.
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

/// A document whose snapshot has about, and at most, `bytes` bytes: half text, half a map, of
/// letters that do not compress.
///
/// # Errors
/// When Loro cannot make it.
pub(crate) fn document(bytes: usize) -> Result<(LoroDoc, Vec<u8>)> {
    // A snapshot holds the content more than once (history and state): find how often.
    let mut content = bytes / 2;
    loop {
        let doc = filled(content)?;
        let snapshot = doc.export(ExportMode::Snapshot)?;
        if snapshot.len() <= bytes && snapshot.len() * 100 >= bytes * 97 {
            return Ok((doc, snapshot));
        }
        content = (content as f64 * bytes as f64 * 0.985 / snapshot.len() as f64) as usize;
    }
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
    fn what_people_made_together_is_one_document() {
        let updates = together(3, 8, 100).unwrap();
        assert_eq!(updates.iter().map(Vec::len).collect::<Vec<_>>(), [8, 8, 8]);
        let all: Vec<Bytes> = updates.concat();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 24, "no two alike");

        let doc = LoroDoc::new();
        for step in 0..8 {
            for writer in &updates {
                let status = doc.import(&writer[step]).unwrap();
                assert!(status.pending.is_none(), "all that it needs came before");
            }
        }
        assert!(doc.get_text("text").len_unicode() > 12 * 5);
        assert_eq!(doc.oplog_vv().len(), 3);
    }

    #[test]
    fn what_people_made_apart_comes_in_any_order_of_people() {
        let updates = apart(3, 8, 100).unwrap();
        let doc = LoroDoc::new();
        for update in updates.iter().rev().flatten() {
            assert!(doc.import(update).unwrap().pending.is_none());
        }
        assert_eq!(doc.oplog_vv().len(), 3);
    }

    #[test]
    fn a_document_has_the_size_that_was_asked_for() {
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
