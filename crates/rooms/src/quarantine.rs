//! The quarantine, into which updates that cannot be applied are moved. The owner restores or deletes them.

use platform::{Clock, Database, DatabaseError};

use crate::{error::RoomError, head::head_sql, own_peer, peers, refusal::Refusal, update::Outline};

/// The most updates in quarantine with which an update that is sent again is compared. If the room has more of them in
/// quarantine, a resend of the others is stored, and moved aside again.
const MOST_COMPARED: u64 = 256;

/// The most bytes of these updates that are read at once, unless a single one has more.
const READ_AT_ONCE: u64 = 1024 * 1024;

/// Moves an update from the log to the quarantine table. Its row stays, empty, so that its rev is
/// never given to another. A blob that holds it is dropped. The log has all the other updates of that blob, too.
/// Doing it twice is harmless, and so is a kill between its statements.
///
/// # Errors
/// If the database fails.
pub(crate) async fn quarantine(
    database: &dyn Database,
    clock: &dyn Clock,
    project: &str,
    rev: u64,
    reason: &str,
) -> Result<(), RoomError> {
    database
        .execute(
            "INSERT OR IGNORE INTO loro_quarantine
                 (project_id, rev, payload, origin, created_at, quarantined_at, reason)
             SELECT project_id, rev, payload, origin, created_at, ?3, ?4 FROM loro_updates
              WHERE project_id = ?1 AND rev = ?2 AND length(payload) > 0",
            vec![
                project.into(),
                rev.into(),
                clock.unix_seconds().into(),
                reason.into(),
            ],
        )
        .await?;
    own_peer::renew(database, project).await?;
    database
        .execute(
            "UPDATE loro_updates SET payload = x'' WHERE project_id = ?1 AND rev = ?2",
            vec![project.into(), rev.into()],
        )
        .await?;
    database
        .execute(
            "DELETE FROM loro_blobs WHERE project_id = ?1 AND rev >= ?2",
            vec![project.into(), rev.into()],
        )
        .await?;
    let payload = quarantined_update(database, project, rev).await?;
    if let Some(outline) = payload.and_then(|payload| Outline::read(&payload)) {
        peers::written(database, project, &outline).await?;
    }
    tracing::warn!(project, rev, reason, "an update was moved to quarantine");
    Ok(())
}

/// The refusal of an update with operations that are in quarantine. Clients that have such operations send them again
/// whenever they join.
///
/// # Errors
/// If the database fails.
pub(crate) async fn refusal(
    database: &dyn Database,
    project: &str,
    outline: &Outline,
) -> Result<Option<Refusal>, DatabaseError> {
    let updates = quarantined(database, project, 0, MOST_COMPARED).await?;
    for (first, last) in batches(&updates) {
        let sql = "SELECT rev, payload, reason FROM loro_quarantine
                    WHERE project_id = ?1 AND rev BETWEEN ?2 AND ?3 ORDER BY rev";
        let parameters = vec![project.into(), first.into(), last.into()];
        for mut row in database.execute(sql, parameters).await? {
            let aside = Outline::read(&row.blob(1)?);
            if aside.is_some_and(|aside| aside.overlaps(outline)) {
                let (rev, reason) = (row.unsigned(0)?, row.text(2)?);
                let reason = format!(
                    "it has operations of update {rev}, which was moved to quarantine: {reason}"
                );
                let code = wire::QUARANTINED.to_owned();
                return Ok(Some(Refusal { reason, code }));
            }
        }
    }
    Ok(None)
}

/// Parts a list of updates into batches that are [read at once](READ_AT_ONCE). Returns the first and the last rev of each.
fn batches(updates: &[Quarantined]) -> Vec<(u64, u64)> {
    let mut batches = Vec::new();
    let mut bytes = 0;
    for update in updates {
        bytes += update.bytes;
        match batches.last_mut() {
            Some((_, last)) if bytes <= READ_AT_ONCE => *last = update.rev,
            _ => {
                batches.push((update.rev, update.rev));
                bytes = update.bytes;
            }
        }
    }
    batches
}

/// The origin of restored updates in the log. It is no relay's id, so every relay takes them.
const RESTORED: &str = "restored";

/// An update in quarantine.
#[derive(Debug, Clone, PartialEq)]
pub struct Quarantined {
    /// The rev that it had in the log.
    pub rev: u64,
    /// The number of its bytes.
    pub bytes: u64,
    /// The writer, such as a relay's id.
    pub origin: String,
    /// The time at which it was stored, in Unix seconds.
    pub created_at: i64,
    /// The time at which it was moved aside, in Unix seconds.
    pub quarantined_at: i64,
    /// The reason for the move, in words.
    pub reason: String,
}

/// Lists up to `most` updates of a room that are in quarantine, by their revs, beginning after a rev.
///
/// # Errors
/// If the database fails.
pub async fn quarantined(
    database: &dyn Database,
    project: &str,
    after: u64,
    most: u64,
) -> Result<Vec<Quarantined>, DatabaseError> {
    let rows = database
        .execute(
            "SELECT rev, length(payload), origin, created_at, quarantined_at, reason FROM loro_quarantine
              WHERE project_id = ?1 AND rev > ?2 ORDER BY rev LIMIT ?3",
            vec![project.into(), after.into(), most.into()],
        )
        .await?;
    rows.into_iter()
        .map(|mut row| {
            Ok(Quarantined {
                rev: row.unsigned(0)?,
                bytes: row.unsigned(1)?,
                origin: row.text(2)?,
                created_at: row.integer(3)?,
                quarantined_at: row.integer(4)?,
                reason: row.text(5)?,
            })
        })
        .collect()
}

/// Counts the updates of each of these rooms that are in quarantine, in their order.
///
/// # Errors
/// If the database fails.
pub async fn quarantine_counts(
    database: &dyn Database,
    projects: &[String],
) -> Result<Vec<u64>, DatabaseError> {
    // Project ids need no escape in JSON.
    let sql = "SELECT j.key, count(*) FROM json_each(?1) j JOIN loro_quarantine q ON q.project_id = j.value
                GROUP BY j.key";
    let list = format!("[\"{}\"]", projects.join("\",\""));
    let mut counts = vec![0; projects.len()];
    for row in database.execute(sql, vec![list.into()]).await? {
        let index = usize::try_from(row.unsigned(0)?).unwrap_or(usize::MAX);
        if let Some(count) = counts.get_mut(index) {
            *count = row.unsigned(1)?;
        }
    }
    Ok(counts)
}

/// Reads an update that is in quarantine; `None` if there is none of this rev.
///
/// # Errors
/// If the database fails.
pub async fn quarantined_update(
    database: &dyn Database,
    project: &str,
    rev: u64,
) -> Result<Option<Vec<u8>>, DatabaseError> {
    let sql = "SELECT payload FROM loro_quarantine WHERE project_id = ?1 AND rev = ?2";
    let rows = database
        .execute(sql, vec![project.into(), rev.into()])
        .await?;
    rows.into_iter()
        .next()
        .map(|mut row| row.blob(0))
        .transpose()
}

/// Appends an update that is in quarantine to the log again and returns its new rev; `None` if there is none
/// of this rev. If it still cannot be applied, it is moved aside again. If the process is killed between the two
/// statements, the update is in both places, which is harmless.
///
/// # Errors
/// If the database fails.
pub async fn restore(
    database: &dyn Database,
    clock: &dyn Clock,
    project: &str,
    rev: u64,
) -> Result<Option<u64>, DatabaseError> {
    let sql = format!(
        "INSERT INTO loro_updates (project_id, rev, payload, origin, created_at)
         SELECT q.project_id, {} + 1, q.payload, ?3, ?4 FROM loro_quarantine q
          WHERE q.project_id = ?1 AND q.rev = ?2
         RETURNING rev",
        head_sql("?1")
    );
    let parameters = vec![
        project.into(),
        rev.into(),
        RESTORED.into(),
        clock.unix_seconds().into(),
    ];
    let rows = database.execute(&sql, parameters).await?;
    let restored = rows.first().map(|row| row.unsigned(0)).transpose()?;
    if restored.is_some() {
        discard(database, project, rev).await?;
    }
    Ok(restored)
}

/// Puts an update of another room into quarantine here, as an import does. It gets a rev of this room, in whose log its row
/// is empty. If the process is killed between the two statements, only the empty row is there, which is harmless.
///
/// # Errors
/// If the database fails.
pub async fn adopt_quarantined(
    database: &dyn Database,
    project: &str,
    update: &Quarantined,
    payload: Vec<u8>,
) -> Result<(), DatabaseError> {
    let sql = format!(
        "INSERT INTO loro_updates (project_id, rev, payload, origin, created_at)
         VALUES (?1, {} + 1, x'', ?2, ?3) RETURNING rev",
        head_sql("?1")
    );
    let parameters = vec![
        project.into(),
        update.origin.as_str().into(),
        update.created_at.into(),
    ];
    let rows = database.execute(&sql, parameters).await?;
    let rev = rows.first().map(|row| row.unsigned(0)).transpose()?;
    let rev = rev.ok_or_else(|| DatabaseError::Unexpected("an insert returned no row".into()))?;
    let sql = "INSERT INTO loro_quarantine
                   (project_id, rev, payload, origin, created_at, quarantined_at, reason)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let parameters = vec![
        project.into(),
        rev.into(),
        payload.into(),
        update.origin.as_str().into(),
        update.created_at.into(),
        update.quarantined_at.into(),
        update.reason.as_str().into(),
    ];
    database.execute(sql, parameters).await?;
    Ok(())
}

/// Deletes an update that is in quarantine for good, and returns whether there was one of this rev.
///
/// # Errors
/// If the database fails.
pub async fn discard(
    database: &dyn Database,
    project: &str,
    rev: u64,
) -> Result<bool, DatabaseError> {
    let sql = "DELETE FROM loro_quarantine WHERE project_id = ?1 AND rev = ?2 RETURNING rev";
    let rows = database
        .execute(sql, vec![project.into(), rev.into()])
        .await?;
    Ok(!rows.is_empty())
}

/// Deletes up to `most` updates, of any room, that were moved to quarantine at this time or before, and returns how many.
///
/// # Errors
/// If the database fails.
pub async fn discard_old(
    database: &dyn Database,
    until: i64,
    most: u64,
) -> Result<usize, DatabaseError> {
    let sql = "DELETE FROM loro_quarantine WHERE (project_id, rev) IN (
                   SELECT project_id, rev FROM loro_quarantine
                    WHERE quarantined_at <= ?1 ORDER BY quarantined_at LIMIT ?2)
               RETURNING rev";
    let rows = database.execute(sql, vec![until.into(), most.into()]);
    Ok(rows.await?.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{append, head, own_peer};
    use loro::{ExportMode, LoroDoc};
    use platform::native::{SetClock, SqliteFile, block_on};
    use wire::{Outcome, Update};

    struct World {
        database: SqliteFile,
        clock: SetClock,
    }

    impl World {
        fn new() -> Self {
            Self {
                database: SqliteFile::with_schema(),
                clock: SetClock::default(),
            }
        }

        /// Appends an update of a client of its own, and returns it with its rev.
        fn append(&self, project: &str, peer: u64) -> (u64, Vec<u8>) {
            let doc = LoroDoc::new();
            doc.set_peer_id(peer).unwrap();
            doc.get_text("text").insert(0, "x").unwrap();
            doc.commit();
            let payload = doc.export(ExportMode::all_updates()).unwrap();
            let update = Update {
                project: project.into(),
                payload: payload.clone().into(),
                serial: None,
            };
            let stored = append(&self.database, &self.clock, "relay", vec![update]);
            match block_on(stored).unwrap()[0] {
                Outcome::Stored { rev, .. } => (rev, payload),
                ref other => panic!("{other:?}"),
            }
        }

        /// Moves an update aside at this time.
        fn quarantine(&self, project: &str, rev: u64, now: i64) {
            self.clock.0.set(now);
            block_on(quarantine(&self.database, &self.clock, project, rev, "why")).unwrap();
        }

        fn listed(&self, project: &str, after: u64, most: u64) -> Vec<Quarantined> {
            block_on(quarantined(&self.database, project, after, most)).unwrap()
        }

        fn revs(&self, project: &str) -> Vec<u64> {
            let listed = self.listed(project, 0, 100);
            listed.iter().map(|update| update.rev).collect()
        }

        fn read(&self, project: &str, rev: u64) -> Option<Vec<u8>> {
            block_on(quarantined_update(&self.database, project, rev)).unwrap()
        }

        fn discard(&self, project: &str, rev: u64) -> bool {
            block_on(discard(&self.database, project, rev)).unwrap()
        }

        /// The update of the log with this rev, and its origin.
        fn logged(&self, project: &str, rev: u64) -> (Vec<u8>, String) {
            let sql = "SELECT payload, origin FROM loro_updates WHERE project_id = ?1 AND rev = ?2";
            let rows = self.database.execute(sql, vec![project.into(), rev.into()]);
            let mut row = block_on(rows).unwrap().remove(0);
            (row.blob(0).unwrap(), row.text(1).unwrap())
        }
    }

    #[test]
    fn an_owner_lists_reads_and_deletes_what_was_moved_aside() {
        let world = World::new();
        world.clock.0.set(5);
        let payloads: Vec<Vec<u8>> = (1..4).map(|peer| world.append("p", peer).1).collect();
        world.quarantine("p", 3, 8);
        world.quarantine("p", 1, 9);
        // Moving it aside again is harmless: the reason and the time of the first move stay.
        world.quarantine("p", 1, 10);
        let update = |rev: u64, quarantined_at| Quarantined {
            rev,
            bytes: payloads[rev as usize - 1].len() as u64,
            origin: "relay".into(),
            created_at: 5,
            quarantined_at,
            reason: "why".into(),
        };
        assert_eq!(world.listed("p", 0, 100), [update(1, 9), update(3, 8)]);
        assert_eq!(world.listed("p", 0, 1), [update(1, 9)]);
        assert_eq!(world.listed("p", 1, 100), [update(3, 8)]);
        assert!(world.revs("other").is_empty());
        let projects = ["other".to_owned(), "p".to_owned()];
        let counts = block_on(quarantine_counts(&world.database, &projects));
        assert_eq!(counts.unwrap(), [0, 2]);

        assert_eq!(world.read("p", 3).as_ref(), Some(&payloads[2]));
        assert_eq!(world.read("p", 2), None);
        assert_eq!(world.read("other", 3), None);
        assert!(!world.discard("other", 3));
        assert!(!world.discard("p", 2));
        assert!(world.discard("p", 3));
        assert!(!world.discard("p", 3));
        assert_eq!(world.revs("p"), [1]);
        // The rev of the update is not given to another.
        assert_eq!(world.append("p", 9).0, 4);
    }

    #[test]
    fn what_is_restored_is_in_the_log_again_under_a_new_rev() {
        let world = World::new();
        let (rev, payload) = world.append("p", 1);
        world.append("p", 2);
        world.quarantine("p", rev, 7);
        assert_eq!(world.logged("p", rev), (Vec::new(), "relay".into()));
        let restored = |rev| block_on(restore(&world.database, &world.clock, "p", rev)).unwrap();
        assert_eq!(restored(2), None);
        assert_eq!(restored(rev), Some(3));
        // No relay takes it for one of its own.
        assert_eq!(world.logged("p", 3), (payload, "restored".into()));
        assert_eq!(restored(rev), None);
        assert!(world.revs("p").is_empty());
        assert_eq!(block_on(head(&world.database, "p")).unwrap(), 3);
    }

    #[test]
    fn what_holds_the_update_is_given_up_with_it() {
        let world = World::new();
        for (project, rev, kept) in [
            ("before", 1u64, true),
            ("with", 2, false),
            ("after", 3, false),
        ] {
            for peer in 1..4 {
                world.append(project, peer);
            }
            let peer = block_on(own_peer(&world.database, project)).unwrap();
            let sql = "INSERT INTO loro_blobs (project_id, rev, blob, version, waiting, updated_at)
                       VALUES (?1, ?2, x'01', x'01', '[]', 0)";
            let insert = world
                .database
                .execute(sql, vec![project.into(), rev.into()]);
            block_on(insert).unwrap();
            world.quarantine(project, 2, 7);
            let sql = "SELECT 1 FROM loro_blobs WHERE project_id = ?1";
            let blobs = block_on(world.database.execute(sql, vec![project.into()]));
            assert_eq!(!blobs.unwrap().is_empty(), kept, "{project}");
            let next = block_on(own_peer(&world.database, project)).unwrap();
            assert_ne!(next, peer, "{project}");
        }
    }

    #[test]
    fn an_import_keeps_what_was_in_quarantine_apart() {
        let world = World::new();
        world.append("p", 1);
        let update = Quarantined {
            rev: 40,
            bytes: 3,
            origin: "elsewhere".into(),
            created_at: 2,
            quarantined_at: 3,
            reason: "a reason".into(),
        };
        block_on(adopt_quarantined(
            &world.database,
            "p",
            &update,
            vec![1, 2, 3],
        ))
        .unwrap();
        assert_eq!(
            world.listed("p", 0, 100),
            [Quarantined { rev: 2, ..update }]
        );
        assert_eq!(world.read("p", 2), Some(vec![1, 2, 3]));
        assert_eq!(world.logged("p", 2), (Vec::new(), "elsewhere".into()));
        assert_eq!(world.append("p", 2).0, 3);
    }

    #[test]
    fn updates_in_quarantine_are_compared_in_batches() {
        let update = |(rev, bytes)| Quarantined {
            rev,
            bytes,
            origin: "relay".into(),
            created_at: 0,
            quarantined_at: 0,
            reason: "why".into(),
        };
        const HALF: u64 = READ_AT_ONCE / 2;
        for (sizes, expected) in [
            (&[][..], &[][..]),
            (&[(3, 1), (5, 1), (9, 1)], &[(3, 9)]),
            (&[(1, HALF), (2, HALF), (4, 1)], &[(1, 2), (4, 4)]),
            (&[(1, 4 * HALF), (2, 1), (3, 1)], &[(1, 1), (2, 3)]),
            (&[(1, 1), (2, 4 * HALF), (3, 1)], &[(1, 1), (2, 2), (3, 3)]),
        ] {
            let updates: Vec<Quarantined> = sizes.iter().copied().map(update).collect();
            assert_eq!(batches(&updates), expected);
        }
    }

    #[test]
    fn each_update_in_quarantine_is_compared() {
        let world = World::new();
        let payloads: Vec<Vec<u8>> = (1..4).map(|peer| world.append("p", peer).1).collect();
        for rev in 1..4 {
            world.quarantine("p", rev, 7);
        }
        let refusal = |project, payload: &[u8]| {
            let outline = Outline::read(payload).unwrap();
            let refusal = block_on(refusal(&world.database, project, &outline)).unwrap();
            refusal.map(|refusal| refusal.reason)
        };
        for (rev, payload) in (1..).zip(&payloads) {
            let reason = refusal("p", payload).unwrap();
            assert!(reason.contains(&format!("update {rev},")), "{reason}");
            assert!(reason.ends_with(": why"), "{reason}");
            assert_eq!(refusal("other", payload), None);
        }
        let (_, fine) = world.append("other", 9);
        assert_eq!(refusal("p", &fine), None);
    }

    #[test]
    fn the_oldest_go_first_and_so_many_at_a_time() {
        let world = World::new();
        for (project, now) in [("a", 30), ("b", 10), ("c", 20), ("d", 40)] {
            world.append(project, 1);
            world.quarantine(project, 1, now);
        }
        let left = || -> Vec<&str> {
            let projects = ["a", "b", "c", "d"].into_iter();
            projects
                .filter(|project| world.read(project, 1).is_some())
                .collect()
        };
        let discard = |most| block_on(discard_old(&world.database, 30, most)).unwrap();
        assert_eq!((discard(2), left()), (2, vec!["a", "d"]));
        assert_eq!((discard(2), left()), (1, vec!["d"]));
        assert_eq!((discard(2), left()), (0, vec!["d"]));
    }
}
