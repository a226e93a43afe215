//! The holders that take no more bytes. An append looks them up under the keys under which a count notes them.

use auth::conditions::owner;
use platform::{Database, DatabaseError};

use crate::usage::Holder;

/// The largest update, in bytes, that a full holder still takes, so that a user can tidy up. A holder that exceeds its
/// limit by a tenth takes none.
const SMALL: u64 = 4096;

/// The reason why a holder takes no more, and the size up to which it still takes updates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Full {
    /// The code: `room_full` or `quota`.
    pub(crate) code: &'static str,
    pub(crate) reason: String,
    /// The largest update that is still taken, in bytes.
    pub(crate) largest: u64,
}

impl Full {
    /// Returns the quota as full if `used` bytes are too many for `allowed`; `what` begins the sentence that says so.
    pub(crate) fn of(code: &'static str, what: &str, used: u64, allowed: u64) -> Option<Self> {
        let is_full = used >= allowed;
        let largest = if used >= allowed.saturating_add(allowed / 10) {
            0
        } else {
            SMALL
        };
        is_full.then(|| Self {
            code,
            reason: format!("{what}: {} of {} MiB", used >> 20, allowed >> 20),
            largest,
        })
    }
}

/// Notes whether a holder is full.
pub(crate) async fn note(
    database: &dyn Database,
    holder: &Holder,
    full: Option<&Full>,
    now: i64,
) -> Result<(), DatabaseError> {
    let Some(full) = full else {
        let sql = "DELETE FROM quota_full WHERE holder = ?1";
        let parameters = vec![holder.0.as_str().into()];
        return database.execute(sql, parameters).await.map(drop);
    };
    let sql = "
        INSERT INTO quota_full (holder, code, reason, largest, counted_at) VALUES (?1, ?2, ?3, ?4, ?5)
        ON CONFLICT (holder) DO UPDATE SET code = excluded.code, reason = excluded.reason,
            largest = excluded.largest, counted_at = excluded.counted_at";
    let parameters = vec![
        holder.0.as_str().into(),
        full.code.into(),
        full.reason.as_str().into(),
        full.largest.into(),
        now.into(),
    ];
    database.execute(sql, parameters).await.map(drop)
}

/// The SQL condition that neither a project nor its owner is too full for an update; `project` and `bytes` are expressions.
/// While no holder is full, this costs one look into an empty table, however many the updates are.
pub fn takes_sql(project: &str, bytes: &str) -> String {
    format!(
        "(NOT EXISTS (SELECT 1 FROM quota_full)
          OR NOT EXISTS (
              SELECT 1 FROM quota_full f
               WHERE f.holder IN ('project:' || {project}, 'owner:' || {})
                 AND f.largest < {bytes}))",
        owner(project)
    )
}

/// The statement that lists why the projects in the table `asked` take no update, or none above a size: for each reason
/// a number to sort by, the project, the largest update that is taken all the same, the code, and the words.
pub fn reasons_sql() -> String {
    format!(
        "SELECT 1, asked.project_id, f.largest, f.code, f.reason
           FROM asked JOIN quota_full f ON f.holder = 'project:' || asked.project_id
         UNION ALL
         SELECT 2, asked.project_id, f.largest, f.code, f.reason
           FROM asked JOIN quota_full f ON f.holder = 'owner:' || {}",
        owner("asked.project_id")
    )
}

/// Lists up to `most` holders that were last counted before `before`, in Unix seconds.
pub(crate) async fn to_recount(
    database: &dyn Database,
    before: i64,
    most: u64,
) -> Result<Vec<String>, DatabaseError> {
    let sql = "SELECT holder FROM quota_full WHERE counted_at < ?1 ORDER BY counted_at LIMIT ?2";
    let rows = database
        .execute(sql, vec![before.into(), most.into()])
        .await?;
    rows.into_iter().map(|mut row| row.text(0)).collect()
}
