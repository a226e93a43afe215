//! The newest rev of a room.

use platform::{Database, DatabaseError, Value};

/// The newest rev of a room as an SQL expression, 0 for a room without updates. `project` is an SQL
/// expression of its project id, such as `?1` or a column with its table.
///
/// The rev is in the room's log or, after a compaction, only in its snapshot's row.
pub fn head_sql(project: &str) -> String {
    format!(
        "max(ifnull((SELECT max(u.rev) FROM loro_updates u WHERE u.project_id = {project}), 0),
             ifnull((SELECT s.rev FROM loro_snapshots s WHERE s.project_id = {project}), 0))"
    )
}

/// The newest rev of a room; 0 if it has no updates.
///
/// # Errors
/// If the database fails.
pub async fn head(database: &dyn Database, project: &str) -> Result<u64, DatabaseError> {
    let revs = heads(database, &[project.to_owned()]).await?;
    Ok(revs.first().copied().unwrap_or(0))
}

/// The newest rev of each of these rooms, in their order.
///
/// # Errors
/// If the database fails.
pub async fn heads(
    database: &dyn Database,
    projects: &[String],
) -> Result<Vec<u64>, DatabaseError> {
    if projects.is_empty() {
        return Ok(Vec::new());
    }
    let asked: Vec<String> = (0..projects.len())
        .map(|n| format!("({n},?{})", n + 1))
        .collect();
    let sql = format!(
        "WITH asked (n, project_id) AS (VALUES {}) SELECT a.n, {} FROM asked a",
        asked.join(","),
        head_sql("a.project_id")
    );
    let parameters: Vec<Value> = projects.iter().map(|p| p.as_str().into()).collect();
    let mut revs = vec![0; projects.len()];
    for row in database.execute(&sql, parameters).await? {
        let n = usize::try_from(row.unsigned(0)?).unwrap_or(usize::MAX);
        if let Some(rev) = revs.get_mut(n) {
            *rev = row.unsigned(1)?;
        }
    }
    Ok(revs)
}
