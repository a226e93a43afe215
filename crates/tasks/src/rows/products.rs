//! The reports of services about jobs that they have done, while the results are being copied.

use platform::{Database, DatabaseError, Value};
use serde::{Deserialize, Serialize};

use super::{
    claims::due,
    progress::{HOLDS, holder},
    row::{COLUMNS, OPEN, one},
};
use crate::task::{Task, shortened};

/// A picture or film of a product.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Medium {
    /// The address: at the service, or the path of an asset.
    pub(crate) url: String,
    /// Says whether the address is final.
    pub(crate) is_settled: bool,
}

/// The report of a service about a job that it has done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Product {
    pub(crate) media: Vec<Medium>,
    /// The service's description of the result, as JSON text.
    pub(crate) data: String,
    /// The failures in a row of the copy under way.
    pub(crate) tries: i64,
    /// The upload in parts of the copy under way.
    pub(crate) asset_id: Option<String>,
    /// The time of the report.
    pub(crate) told_at: i64,
}

/// Stores the product of a run that is not over, unless there is one. An instance that claims the task then copies the
/// results. The claim of an instance on the task ends.
pub(crate) async fn store_product(
    database: &dyn Database,
    task: &Task,
    external_task_id: Option<&str>,
    product: &Product,
) -> Result<(), DatabaseError> {
    let sql = format!(
        "INSERT INTO aigc_products (task_id, run, media, data, told_at)
         SELECT task_id, run, ?3, ?4, ?5 FROM aigc_tasks WHERE task_id = ?1 AND run = ?2 AND {OPEN}
         ON CONFLICT (task_id) DO UPDATE SET run = excluded.run, media = excluded.media, data = excluded.data,
             told_at = excluded.told_at, tries = 0, asset_id = NULL
          WHERE aigc_products.run <> excluded.run"
    );
    let parameters: Vec<Value> = vec![
        task.task_id.as_str().into(),
        task.run.into(),
        media(product).into(),
        product.data.as_str().into(),
        product.told_at.into(),
    ];
    database.execute(&sql, parameters).await?;
    // If the mark is not set, the next poll gets the product again.
    let sql = format!(
        "UPDATE aigc_tasks SET has_product = 1, external_task_id = ifnull(external_task_id, ?3),
             accepted_at = ifnull(accepted_at, ?4), lease_until = NULL, next_attempt_at = ?4, waits = 0
          WHERE task_id = ?1 AND run = ?2 AND has_product = 0 AND {OPEN}"
    );
    let job = task.job();
    let parameters: Vec<Value> = vec![
        task.task_id.as_str().into(),
        task.run.into(),
        external_task_id.unwrap_or(&job).into(),
        product.told_at.into(),
    ];
    database.execute(&sql, parameters).await?;
    Ok(())
}

fn media(product: &Product) -> String {
    serde_json::to_string(&product.media).unwrap_or_default()
}

/// Claims a task whose results are to be copied now, for `lease` seconds: this one, or any.
pub(crate) async fn claim_product(
    database: &dyn Database,
    task_id: Option<&str>,
    now: i64,
    lease: i64,
) -> Result<Option<Task>, DatabaseError> {
    let sql = format!(
        "UPDATE aigc_tasks SET lease_until = ?1 + ?2, next_attempt_at = ?1 + ?2
          WHERE task_id = (
             SELECT task_id FROM aigc_tasks
              WHERE has_product = 1 AND {OPEN} AND (?3 IS NULL OR task_id = ?3) AND {}
              ORDER BY next_attempt_at LIMIT 1)
         RETURNING {COLUMNS}",
        due()
    );
    one(
        database,
        &sql,
        vec![now.into(), lease.into(), task_id.into()],
    )
    .await
}

/// Reads the product of a task.
pub(crate) async fn product(
    database: &dyn Database,
    task: &Task,
) -> Result<Option<Product>, DatabaseError> {
    let sql = "SELECT media, data, tries, asset_id, told_at FROM aigc_products WHERE task_id = ?1 AND run = ?2";
    let parameters = vec![task.task_id.as_str().into(), task.run.into()];
    let rows = database.execute(sql, parameters).await?;
    let Some(mut row) = rows.into_iter().next() else {
        return Ok(None);
    };
    let media = row.text(0)?;
    Ok(Some(Product {
        media: serde_json::from_str(&media)
            .map_err(|error| DatabaseError::Unexpected(error.to_string()))?,
        data: row.text(1)?,
        tries: row.integer(2)?,
        asset_id: row.optional_text(3)?,
        told_at: row.integer(4)?,
    }))
}

/// Claims a claimed task anew, for `lease` seconds from now. `None` if the claim no longer holds.
pub(crate) async fn renew_claim(
    database: &dyn Database,
    claimed: &Task,
    now: i64,
    lease: i64,
) -> Result<Option<Task>, DatabaseError> {
    let sql = format!(
        "UPDATE aigc_tasks SET lease_until = ?4, next_attempt_at = ?4 WHERE {HOLDS} RETURNING {COLUMNS}"
    );
    let mut parameters = holder(claimed);
    parameters.push((now + lease).into());
    one(database, &sql, parameters).await
}

/// Notes how far the copy of a claimed task's results is. Returns whether the claim still holds.
pub(crate) async fn note_product(
    database: &dyn Database,
    claimed: &Task,
    product: &Product,
) -> Result<bool, DatabaseError> {
    let sql = format!(
        "UPDATE aigc_products SET media = ?4, tries = ?5, asset_id = ?6
          WHERE task_id = ?1 AND EXISTS (SELECT 1 FROM aigc_tasks WHERE {HOLDS}) RETURNING 1"
    );
    let mut parameters = holder(claimed);
    parameters.extend([
        media(product).into(),
        product.tries.into(),
        product.asset_id.as_deref().into(),
    ]);
    Ok(!database.execute(&sql, parameters).await?.is_empty())
}

/// Gives up the claim of a task whose results are to be copied on in `wait` seconds, with a message for its user if it waits
/// because of a failure.
pub(crate) async fn put_off_product(
    database: &dyn Database,
    claimed: &Task,
    message: Option<&str>,
    now: i64,
    wait: i64,
) -> Result<(), DatabaseError> {
    let sql = format!(
        "UPDATE aigc_tasks SET lease_until = NULL, next_attempt_at = ?4 + ?5, message = ?6, updated_at = ?4
          WHERE {HOLDS}"
    );
    let mut parameters = holder(claimed);
    let message = message.map(shortened);
    parameters.extend([now.into(), wait.into(), message.into()]);
    database.execute(&sql, parameters).await?;
    Ok(())
}
