//! The updates that clients write, for the tests of rooms.

use loro::{ExportMode, LoroDoc};

/// Lets two writers of these peer ids, who never meet, type so much that the state is not cheap. The updates are as
/// small as the frames of clients.
pub(crate) fn who_never_meet(peers: [u64; 2]) -> Vec<Vec<u8>> {
    let mut updates = Vec::new();
    for peer in peers {
        let doc = LoroDoc::new();
        doc.set_peer_id(peer).unwrap();
        for _ in 0..4 {
            let before = doc.oplog_vv();
            let text = doc.get_text("text");
            text.insert(text.len_unicode(), &"x".repeat(28_000))
                .unwrap();
            doc.commit();
            updates.push(doc.export(ExportMode::updates(&before)).unwrap());
        }
    }
    updates
}
