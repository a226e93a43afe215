//! Rooms that take no more, because they, or a quota, are full. The crate `quota` notes which these are.

use std::collections::HashMap;

use platform::{Database, DatabaseError};
use wire::Outcome;

/// The end of an SQL condition on an incoming update `i`: neither its project nor the owner is too full for it. While no
/// holder is full, this costs one look into an empty table, however many the updates are.
pub(crate) fn takes_sql() -> String {
    "AND (NOT EXISTS (SELECT 1 FROM quota_full)
          OR NOT EXISTS (
              SELECT 1 FROM quota_full f
               WHERE f.holder IN ('project:' || i.project_id, 'owner:' || (
                         SELECT p.owner_id FROM projects p WHERE p.project_id = i.project_id))
                 AND f.largest < length(i.payload)))"
        .to_owned()
}

/// Why updates were not stored, by their project.
#[derive(Debug, Default)]
pub(crate) struct NotTaken(HashMap<String, (Option<String>, String)>);

impl NotTaken {
    /// Asks why this project takes no update.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn ask(
        &mut self,
        database: &dyn Database,
        project: &str,
    ) -> Result<(), DatabaseError> {
        if self.0.contains_key(project) {
            return Ok(());
        }
        let sql = "
            SELECT 0, NULL, 'the project was deleted' FROM projects
             WHERE project_id = ?1 AND deleted_at IS NOT NULL
            UNION ALL
            SELECT 1, code, reason FROM quota_full WHERE holder = 'project:' || ?1
            UNION ALL
            SELECT 2, f.code, f.reason FROM projects p JOIN quota_full f ON f.holder = 'owner:' || p.owner_id
             WHERE p.project_id = ?1
            ORDER BY 1";
        let rows = database.execute(sql, vec![project.into()]).await?;
        let why = match rows.into_iter().next() {
            Some(mut row) => (row.optional_text(1)?, row.text(2)?),
            None => {
                let words = "the project was full a moment ago: send the update again";
                (Some(quota::QUOTA.to_owned()), words.to_owned())
            }
        };
        self.0.insert(project.to_owned(), why);
        Ok(())
    }

    /// The outcome of an update for a project that was [asked](Self::ask).
    pub(crate) fn refusal(&self, project: &str) -> Outcome {
        let (code, reason) = self.0.get(project).cloned().unwrap_or_default();
        Outcome::Refused { reason, code }
    }
}
