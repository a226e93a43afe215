//! The assets to which no task refers, because an instance stored them and died before the task's row had their
//! address.
//!
//! Only the row of its task gives the id of an asset to others: as an address of the result, or in the parameters. So
//! if the task has ended without it, or was never stored, nothing can refer to the asset, and no document can show it.
//! An instance that has stored an asset writes the row within minutes or never; this module looks a day later.

use crate::assets::{AssetError, AssetStore, SETTLED_AFTER};

/// The most assets that one call looks at.
const AT_ONCE: u64 = 32;

/// The condition of an asset whose task has not ended, and so may still refer to it.
const IS_AT_WORK: &str =
    "EXISTS (SELECT 1 FROM aigc_tasks WHERE aigc_tasks.task_id = assets.task_id
                                     AND status IN ('pending', 'processing'))";

/// The condition of an asset that the row of its task refers to.
const IS_KNOWN: &str = "EXISTS (SELECT 1 FROM aigc_tasks WHERE aigc_tasks.task_id = assets.task_id
                                   AND (instr(result_url, asset_id) > 0 OR instr(result_data, asset_id) > 0
                                        OR instr(params, asset_id) > 0))";

impl AssetStore<'_> {
    /// Looks at a bounded number of the assets that were stored a day ago. It keeps for good those to which a task
    /// refers, comes back to those whose task is at work, and deletes the others. An asset that the bucket does not delete is
    /// looked at again a day later, so that it does not hold up the others.
    ///
    /// # Errors
    /// If the database or the bucket fails. The others stay due for the next call, so that a bucket that is away is not
    /// asked once for each object.
    pub async fn drop_leftovers(&self, now: i64) -> Result<(), AssetError> {
        let settle = format!(
            "UPDATE assets SET settle_at = CASE WHEN {IS_AT_WORK} THEN ?1 + {SETTLED_AFTER} END
              WHERE asset_id IN (SELECT asset_id FROM assets INDEXED BY assets_to_settle
                                  WHERE settle_at <= ?1 ORDER BY settle_at LIMIT ?2)
                AND ({IS_AT_WORK} OR {IS_KNOWN})"
        );
        let parameters = || vec![now.into(), AT_ONCE.into()];
        self.database.execute(&settle, parameters()).await?;
        let leftovers = format!(
            "SELECT asset_id FROM assets INDEXED BY assets_to_settle
              WHERE settle_at <= ?1 AND NOT {IS_AT_WORK} AND NOT {IS_KNOWN} ORDER BY settle_at LIMIT ?2"
        );
        for mut row in self.database.execute(&leftovers, parameters()).await? {
            let id = row.text(0)?;
            if let Err(error) = self.discard(&id).await {
                let sql = "UPDATE assets SET settle_at = ?2 WHERE asset_id = ?1";
                let parameters = vec![id.into(), (now + SETTLED_AFTER).into()];
                self.database.execute(sql, parameters).await?;
                return Err(error);
            }
            tracing::info!(
                asset_id = id,
                "an asset was deleted, because no task refers to it"
            );
        }
        Ok(())
    }
}
