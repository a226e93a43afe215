//! The operations up to which each peer has written. They show, without the document, whether an update fits, waits for
//! others, or overlaps with what is stored.
//!
//! The statement that appends writes the table `loro_peers`. Its counters are never ahead of the document, but may be
//! behind it: a room from before the table has none. So they are a hint: an update that may wait or that may be in
//! conflict is looked at exactly, by [`waiting`](crate::waiting) and by [`conflict`](crate::conflict).

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use loro::{Counter, PeerID, VersionVector};
use platform::{Database, DatabaseError};

use crate::update::Outline;

/// An update among the operations of its room.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    pub(crate) outline: Outline,
    /// The [`digest`] of its payload.
    pub(crate) digest: i64,
    /// The operations up to which each of these peers must have written before the request.
    pub(crate) needs: HashMap<PeerID, Counter>,
    /// Says whether it builds on others of its request.
    pub(crate) relies: bool,
    /// The number of its chain in the request.
    pub(crate) chain: usize,
}

impl Place {
    /// Makes the place of an update that comes alone.
    pub(crate) fn new(outline: Outline, digest: i64) -> Self {
        let mut place = Self {
            digest,
            outline,
            ..Self::default()
        };
        for (peer, counter) in place.outline.needs() {
            need(&mut place.needs, peer, counter);
        }
        place
    }

    /// Returns its spans as JSON.
    pub(crate) fn spans_json(&self) -> String {
        let spans = self.outline.spans.iter();
        array(spans.map(|span| format!("[{},{},{}]", signed(span.peer), span.start, span.end)))
    }

    /// Returns its needs as JSON.
    pub(crate) fn needs_json(&self) -> String {
        let needs = self.needs.iter();
        array(needs.map(|(peer, counter)| format!("[{},{counter}]", signed(*peer))))
    }
}

/// Computes a digest of a payload. If two releases compute different digests, a resend is compared with the document.
pub(crate) fn digest(payload: &[u8]) -> i64 {
    let mut hasher = DefaultHasher::new();
    payload.hash(&mut hasher);
    signed(hasher.finish())
}

/// Notes that a peer must have written up to this counter.
pub(crate) fn need(needs: &mut HashMap<PeerID, Counter>, peer: PeerID, counter: Counter) {
    let needed = needs.entry(peer).or_default();
    *needed = counter.max(*needed);
}

/// Makes a JSON array.
pub(crate) fn array(parts: impl Iterator<Item = String>) -> String {
    format!("[{}]", parts.collect::<Vec<_>>().join(","))
}

/// Converts a number into the signed one of the same bits, which SQL can hold.
pub(crate) fn signed(number: u64) -> i64 {
    number as i64
}

/// Returns the SQL expression that an update may wait for operations that its room lacks. `project` and `needs` are
/// SQL expressions.
pub(crate) fn waits_sql(project: &str, needs: &str) -> String {
    format!(
        "EXISTS (SELECT 1 FROM json_each({needs}) w
                  WHERE json_extract(w.value, '$[1]') > ifnull(
                        (SELECT p.counter FROM loro_peers p
                          WHERE p.project_id = {project} AND p.peer = json_extract(w.value, '$[0]')), 0))"
    )
}

/// The SQL query for the chains of a [`Request`](crate::request::Request) that overlap with what is stored: a
/// head of such a chain has operations whose ids are stored already, and does not repeat the last update of its peer.
/// `heads` is an SQL expression.
pub(crate) fn overlapping_sql(heads: &str) -> String {
    format!(
        "SELECT json_extract(h.value, '$[0]')
           FROM json_each({heads}) h CROSS JOIN loro_peers p
                ON p.project_id = json_extract(h.value, '$[1]') AND p.peer = json_extract(h.value, '$[2]')
          WHERE p.written > json_extract(h.value, '$[3]')
            AND NOT (p.start = json_extract(h.value, '$[3]') AND p.written = json_extract(h.value, '$[4]')
                     AND p.digest = json_extract(h.value, '$[5]'))"
    )
}

/// Forgets how far the peers of a room have written, so that it is found out again.
///
/// # Errors
/// If the database fails.
pub(crate) async fn forget(database: &dyn Database, project: &str) -> Result<(), DatabaseError> {
    let sql = "DELETE FROM loro_peers WHERE project_id = ?1";
    database.execute(sql, vec![project.into()]).await?;
    Ok(())
}

/// Notes that operations of these ids were written, although the document has not reached them. An update that has some
/// of them, too, is compared with the document.
///
/// # Errors
/// If the database fails.
pub(crate) async fn written(
    database: &dyn Database,
    project: &str,
    outline: &Outline,
) -> Result<(), DatabaseError> {
    let spans = outline.spans.iter();
    let ends = array(spans.map(|span| format!("[{},{}]", signed(span.peer), span.end)));
    let sql = "INSERT INTO loro_peers (project_id, peer, counter, written, start, digest)
               SELECT ?1, json_extract(v.value, '$[0]'), 0,
                      json_extract(v.value, '$[1]'), json_extract(v.value, '$[1]'), 0
                 FROM json_each(?2) v WHERE true
               ON CONFLICT (project_id, peer) DO UPDATE SET
                   written = max(loro_peers.written, excluded.written), start = excluded.start, digest = 0";
    let parameters = vec![project.into(), ends.into()];
    database.execute(sql, parameters).await.map(drop)
}

/// Notes that the document of a room has reached this version.
///
/// # Errors
/// If the database fails.
pub(crate) async fn reached(
    database: &dyn Database,
    project: &str,
    version: &VersionVector,
) -> Result<(), DatabaseError> {
    let peers = version.iter();
    let peers = array(peers.map(|(peer, end)| format!("[{},{end}]", signed(*peer))));
    let sql = format!(
        "INSERT INTO loro_peers (project_id, peer, counter, written, start, digest)
         SELECT ?1, json_extract(v.value, '$[0]'), json_extract(v.value, '$[1]'),
                json_extract(v.value, '$[1]'), json_extract(v.value, '$[1]'), 0
           FROM json_each(?2) v
          WHERE NOT {}
         ON CONFLICT (project_id, peer) DO UPDATE SET
             counter = max(loro_peers.counter, excluded.counter),
             written = max(loro_peers.written, excluded.written)",
        auth::conditions::deleted("?1")
    );
    let parameters = vec![project.into(), peers.into()];
    database.execute(&sql, parameters).await?;
    Ok(())
}
