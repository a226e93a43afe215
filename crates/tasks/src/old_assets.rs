//! Deletes assets that nothing needs any more, if an operator limits how long they are kept.
//!
//! The reader of a document finds out, in an instance of its own, whether the document shows an asset: it asks for
//! [`old`], reads the document, and then calls [`still_needed`] or [`remove`] for each asset.
//!
//! [`old`]: AssetStore::old
//! [`still_needed`]: AssetStore::still_needed
//! [`remove`]: AssetStore::remove

use platform::Value;

use crate::{
    assets::{AssetError, AssetStore},
    retention::DAY,
};

/// The most assets of all projects that one call claims for looks, the most assets of a project in one look, and the most
/// objects that one call deletes from the bucket.
const AT_ONCE: u64 = 64;

/// The assets of a project of which a look is claimed, those that were claimed last first.
const CLAIMED: &str = "SELECT asset_id FROM asset_looks
      WHERE project_id = ?1 AND created_at <= ?2 AND needed_at <= ?3 ORDER BY needed_at DESC, asset_id LIMIT ?4";

/// The condition of an asset to which a task refers.
const IS_OF_A_TASK: &str =
    "(EXISTS (SELECT 1 FROM aigc_tasks t WHERE t.task_id = asset_looks.task_id)
     OR EXISTS (SELECT 1 FROM aigc_tasks t WHERE t.project_id = asset_looks.project_id
                 AND (instr(t.params, asset_id) > 0 OR instr(t.result_url, asset_id) > 0
                      OR instr(t.result_data, asset_id) > 0)))";

/// An asset that was stored long ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldAsset {
    /// The id.
    pub id: String,
    /// The id by which the document of an imported project names it, if that is another.
    pub copy_of: Option<String>,
}

impl OldAsset {
    /// Returns whether a text names the asset, with its ending or without.
    pub fn is_in(&self, text: &str) -> bool {
        let names = [Some(&self.id), self.copy_of.as_ref()];
        names.into_iter().flatten().any(|name| {
            let stem = name.split('.').next().unwrap_or(name);
            text.contains(stem)
        })
    }
}

impl AssetStore<'_> {
    /// Claims the looks at a bounded number of assets that were stored, or were last found to be needed, `kept_for` seconds
    /// ago, and returns their projects. A look that fails is due again a day later, so that none holds up the others.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn claim_looks(&self, now: i64, kept_for: i64) -> Result<Vec<String>, AssetError> {
        let sql = "UPDATE asset_looks SET needed_at = ?1 + ?2 WHERE asset_id IN (
                 SELECT asset_id FROM asset_looks WHERE needed_at <= ?1 ORDER BY needed_at LIMIT ?3)
             RETURNING project_id";
        let parameters = vec![(now - kept_for).into(), DAY.into(), AT_ONCE.into()];
        let rows = self.database.execute(sql, parameters).await?;
        let mut projects = Vec::new();
        for mut row in rows {
            projects.push(row.text(0)?);
        }
        projects.sort_unstable();
        projects.dedup();
        Ok(projects)
    }

    /// Reads a bounded number of a project's assets of which a look is claimed, and to which no task refers. Assets to
    /// which a task refers are noted as needed.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn old(
        &self,
        project_id: &str,
        now: i64,
        kept_for: i64,
    ) -> Result<Vec<OldAsset>, AssetError> {
        let stored_until = now - kept_for;
        let parameters = |last: i64| -> Vec<Value> {
            vec![
                project_id.into(),
                stored_until.into(),
                (stored_until + DAY).into(),
                AT_ONCE.into(),
                last.into(),
            ]
        };
        let sql = format!(
            "UPDATE asset_looks SET needed_at = ?5 WHERE asset_id IN ({CLAIMED}) AND {IS_OF_A_TASK}"
        );
        self.database.execute(&sql, parameters(now)).await?;
        let sql = format!(
            "SELECT asset_id, (SELECT c.asset_id FROM asset_copies c
                                WHERE c.copy_id = asset_looks.asset_id AND c.project_id = ?1)
               FROM asset_looks WHERE asset_id IN ({CLAIMED}) AND (in_bucket = 0 OR ?5) AND NOT {IS_OF_A_TASK}"
        );
        let parameters = parameters(self.bucket.is_some().into());
        let rows = self.database.execute(&sql, parameters).await?;
        rows.into_iter()
            .map(|mut row| {
                Ok(OldAsset {
                    id: row.text(0)?,
                    copy_of: row.optional_text(1)?,
                })
            })
            .collect()
    }

    /// Notes that an asset is needed, so that the next look at it comes as late as the look at a new asset.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn still_needed(&self, id: &str, now: i64) -> Result<(), AssetError> {
        let sql = "UPDATE asset_looks SET needed_at = ?2 WHERE asset_id = ?1";
        let parameters = vec![id.into(), now.into()];
        self.database.execute(sql, parameters).await?;
        Ok(())
    }

    /// Deletes an asset by one statement, unless a task has come to refer to it, or its project's document has changed since
    /// the rev `read`; `head_sql` makes the expression of a room's newest rev. Returns whether it is deleted. What is in a
    /// bucket is deleted afterwards, by [`finish_removals`](Self::finish_removals).
    ///
    /// # Errors
    /// If the database fails. Doing it again is harmless.
    pub async fn remove(
        &self,
        id: &str,
        read: u64,
        head_sql: fn(&str) -> String,
    ) -> Result<bool, AssetError> {
        let sql = format!(
            "INSERT OR IGNORE INTO asset_removals (asset_id, in_bucket)
             SELECT asset_id, in_bucket FROM asset_looks
              WHERE asset_id = ?1 AND NOT {IS_OF_A_TASK} AND {} = ?2
             RETURNING 1",
            head_sql("asset_looks.project_id")
        );
        let parameters = vec![id.into(), read.into()];
        Ok(!self.database.execute(&sql, parameters).await?.is_empty())
    }

    /// Deletes from the bucket what is left of a bounded number of deleted assets. What the bucket does not delete is tried
    /// again, after the others.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn finish_removals(&self, now: i64) -> Result<(), AssetError> {
        let sql = "SELECT asset_id, in_bucket FROM asset_removals ORDER BY failed_at LIMIT ?1";
        let rows = self.database.execute(sql, vec![AT_ONCE.into()]).await?;
        for mut row in rows {
            let (id, is_in_bucket) = (row.text(0)?, row.integer(1)? != 0);
            if is_in_bucket && let Err(error) = self.delete_object(&id).await {
                tracing::warn!(asset_id = id, %error, "an object was not deleted from the bucket");
                let sql = "UPDATE asset_removals SET failed_at = ?2 WHERE asset_id = ?1";
                let parameters = vec![id.into(), now.into()];
                self.database.execute(sql, parameters).await?;
                // The others wait for a later call, so that a bucket that is away is not asked once for each object.
                return Ok(());
            }
            let sql = "DELETE FROM asset_removals WHERE asset_id = ?1";
            self.database.execute(sql, vec![id.into()]).await?;
        }
        Ok(())
    }
}
