//! The Loro peer under which the app itself writes into a room.
//!
//! Each room of a database has one, so that a room doesn't get a new peer with each change. It is random, so that no
//! other writer has it. Loro tells operations apart by peer and number alone, so a number must never be used again.
//! Therefore the app gives the peer up before operations under it may leave the document.

use loro::VersionVector;
use platform::{Condition, Database, DatabaseError};

/// The peer of a room. The first call makes it.
///
/// # Errors
/// If the database fails.
pub async fn own_peer(database: &dyn Database, project: &str) -> Result<u64, DatabaseError> {
    if let Some(peer) = stored(database, project).await? {
        return Ok(peer);
    }
    // If two callers insert a peer at once, the first peer stays, and both get it.
    let insert = "INSERT INTO loro_projection_peers AS p (project_id, peer) VALUES (?1, ?2)
                  ON CONFLICT (project_id) DO UPDATE SET peer = p.peer RETURNING peer";
    // SQL integers have a sign.
    let peer = (rand::random::<u64>() >> 1).max(1);
    let rows = database
        .execute(insert, vec![project.into(), peer.into()])
        .await?;
    let row = rows
        .first()
        .ok_or_else(|| DatabaseError::Unexpected("a room has no peer".into()))?;
    row.unsigned(0)
}

async fn stored(database: &dyn Database, project: &str) -> Result<Option<u64>, DatabaseError> {
    let select = "SELECT peer FROM loro_projection_peers WHERE project_id = ?1";
    let rows = database.execute(select, vec![project.into()]).await?;
    rows.first().map(|row| row.unsigned(0)).transpose()
}

/// Adds to a condition that this peer is still the room's. A change under the peer is appended on this condition. The
/// caller must have read the peer before the document.
pub fn and_own_peer(mut condition: Condition, project: &str, peer: u64) -> Condition {
    condition.parameters.extend([project.into(), peer.into()]);
    let last = condition.parameters.len();
    condition.sql = format!(
        "({}) AND EXISTS (SELECT 1 FROM loro_projection_peers w WHERE w.project_id = ?{} AND w.peer = ?{last})",
        condition.sql,
        last - 1
    );
    condition
}

/// Gives up the room's peer, so that the next change is written under a new one. This comes before operations leave the
/// document, so that no change that was made without them is appended.
///
/// # Errors
/// If the database fails.
pub(crate) async fn renew(database: &dyn Database, project: &str) -> Result<(), DatabaseError> {
    let sql = "DELETE FROM loro_projection_peers WHERE project_id = ?1";
    database.execute(sql, vec![project.into()]).await.map(drop)
}

/// Gives up the peer if a client knows more operations under it than the room has: then the database is a copy from
/// before they were written, and the app would use their numbers again.
///
/// # Errors
/// If the database fails.
pub(crate) async fn renew_if_behind(
    database: &dyn Database,
    project: &str,
    room: &VersionVector,
    client: &VersionVector,
) -> Result<(), DatabaseError> {
    // Most clients know nothing that the room lacks.
    if room.includes_vv(client) {
        return Ok(());
    }
    let Some(peer) = stored(database, project).await? else {
        return Ok(());
    };
    if client.get(&peer) > room.get(&peer) {
        tracing::warn!(project, "the database is older than a client's copy");
        renew(database, project).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::{
        migrations,
        native::{SetClock, SqliteFile, block_on},
    };

    fn database(folder: &tempfile::TempDir) -> SqliteFile {
        let database = SqliteFile::open(&folder.path().join("peers.db")).unwrap();
        block_on(migrations::apply(&database, &SetClock::default())).unwrap();
        database
    }

    #[test]
    fn a_room_keeps_its_peer_until_it_is_renewed() {
        let folder = tempfile::tempdir().unwrap();
        let database = database(&folder);
        let peer = |room| block_on(own_peer(&database, room)).unwrap();
        let holds = |peer| {
            let earlier = Condition {
                sql: "?1 = 5".into(),
                parameters: vec![5_u64.into()],
            };
            let Condition { sql, parameters } = and_own_peer(earlier, "p", peer);
            let sql = format!("SELECT {sql}");
            let rows = block_on(database.execute(&sql, parameters)).unwrap();
            rows[0].unsigned(0).unwrap() == 1
        };
        let first = peer("p");
        assert_eq!(peer("p"), first);
        assert_ne!(peer("q"), first);
        assert!(holds(first) && !holds(first + 1));
        block_on(renew(&database, "p")).unwrap();
        assert!(!holds(first));
        assert_ne!(peer("p"), first);
        assert!(holds(peer("p")));
    }

    #[test]
    fn a_client_that_knows_more_of_it_renews_the_peer() {
        let folder = tempfile::tempdir().unwrap();
        let database = database(&folder);
        let peer = block_on(own_peer(&database, "p")).unwrap();
        let version = |ends: &[(u64, i32)]| ends.iter().copied().collect::<VersionVector>();
        let room = version(&[(peer, 5), (1, 5)]);
        for (client, is_renewed) in [
            (version(&[]), false),
            (version(&[(peer, 5)]), false),
            (version(&[(1, 9), (peer, 3)]), false),
            (version(&[(1, 9), (peer, 5)]), false),
            (version(&[(1, 9), (2, 9)]), false),
            (version(&[(peer, 6)]), true),
        ] {
            block_on(renew_if_behind(&database, "p", &room, &client)).unwrap();
            let now = block_on(own_peer(&database, "p")).unwrap();
            assert_eq!(now != peer, is_renewed, "{client:?}");
        }
    }
}
