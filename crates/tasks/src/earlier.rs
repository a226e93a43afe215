//! Goes on from the result of an earlier task.

use platform::{Database, DatabaseError};
use problem::FieldError;
use serde_json::Value;

use crate::{
    asset_address,
    assets::{AssetError, AssetStore},
    executor::{Earlier, Executor, Failure},
    image::MAX_IMAGE_BYTES,
    rows,
    task::{Status, Task},
};

/// The id of the task from whose result a task with these parameters goes on, with the name of the parameter; `None` if it
/// begins anew.
fn named<'a>(executor: &dyn Executor, params: &'a Value) -> Option<(&'static str, &'a str)> {
    let name = executor.continues()?;
    let id = params[name].as_str().filter(|id| !id.is_empty())?;
    Some((name, id))
}

/// Finds the task of this id if it is of the same project as another.
///
/// # Errors
/// If the database fails.
async fn find(
    database: &dyn Database,
    id: &str,
    beside: &Task,
) -> Result<Option<Task>, DatabaseError> {
    let found = rows::get(database, id).await?;
    Ok(found.filter(|found| found.project_id == beside.project_id))
}

/// Checks that the task that a new task names has a picture to go on from. Returns what is wrong with it, if it has
/// none.
///
/// # Errors
/// If the database fails.
pub(crate) async fn check(
    assets: &AssetStore<'_>,
    executor: &dyn Executor,
    task: &Task,
    params: &Value,
) -> Result<Option<FieldError>, AssetError> {
    let Some((name, id)) = named(executor, params) else {
        return Ok(None);
    };
    let wrong = |words: &str| Ok(Some(FieldError::new(format!("params.{name}"), words)));
    let Some(earlier) = find(assets.database, id, task).await? else {
        return wrong("is not the id of a task of this project");
    };
    // The signature that the service gave with the result is valid only for the model that made it.
    if earlier.task_type != task.task_type {
        return wrong(&format!("must be a task of the type {}", task.task_type));
    }
    if earlier.status != Status::Completed {
        return wrong(&format!(
            "must be a task that is completed, and it is {}",
            earlier.status.as_str()
        ));
    }
    let kept = match earlier.result_url.as_deref().and_then(asset_address::id_in) {
        Some(id) => assets.describe_in(&task.project_id, id).await?,
        None => None,
    };
    match kept {
        Some((_, asset)) if asset.length <= MAX_IMAGE_BYTES as u64 => Ok(None),
        Some(_) => wrong("has a picture that is too large to go on from"),
        None => wrong("has a picture that is no longer kept here"),
    }
}

/// Reads the earlier task from whose result a task that is being submitted goes on; `None` if it begins anew.
///
/// # Errors
/// Permanent if the earlier task is gone; to be tried again if the database fails.
pub(crate) async fn read(
    assets: &AssetStore<'_>,
    executor: &dyn Executor,
    task: &Task,
    params: &Value,
) -> Result<Option<Earlier>, Failure> {
    let Some((name, id)) = named(executor, params) else {
        return Ok(None);
    };
    let failed = |error: DatabaseError| {
        tracing::error!(task_id = task.task_id, %error, "the task to go on from could not be read");
        Failure::retry(format!(
            "the task that `{name}` names cannot be read at the moment"
        ))
    };
    let database = assets.database;
    let earlier = find(database, id, task).await.map_err(failed)?;
    let gone = || Failure::permanent(format!("the task that `{name}` names no longer exists"));
    let result_url = earlier
        .and_then(|earlier| earlier.result_url)
        .ok_or_else(gone)?;
    let params = rows::params(database, id).await.map_err(failed)?;
    let params = params.ok_or_else(gone)?;
    Ok(Some(Earlier {
        params: serde_json::from_str(&params).unwrap_or_default(),
        result_url,
        signature: rows::signature(database, id).await.map_err(failed)?,
    }))
}
