//! The assets of a project that was imported although the project that it was exported from still exists here.
//!
//! The document names its assets by ids that the assets of that other project have. So the copies have other ids, and a
//! caller who has access to the imported project alone gets the copy under the id that the document has.

use auth::conditions::{exists, of_user};
use platform::DatabaseError;

use crate::{
    assets::{Asset, AssetError, AssetStore},
    media_type,
};

impl AssetStore<'_> {
    /// Stores an asset of an imported project and of this task, under its id if that is free, and else under a new one.
    /// Returns the id.
    ///
    /// # Errors
    /// If the database or the bucket fails. What may have been stored is deleted with the project.
    pub async fn adopt(
        &self,
        id: &str,
        (project_id, task_id): (&str, Option<&str>),
        media_type: &str,
        bytes: Vec<u8>,
        now: i64,
    ) -> Result<String, AssetError> {
        let is_free = self.describe(id).await?.is_none();
        let own = if is_free {
            id.to_owned()
        } else {
            Self::new_id() + media_type::ending(media_type)
        };
        let of = (project_id, task_id);
        self.store_as(&own, of, media_type, bytes, now).await?;
        self.keep(&own).await?;
        if !is_free {
            let sql = "INSERT INTO asset_copies (asset_id, project_id, copy_id) VALUES (?1, ?2, ?3)
                       ON CONFLICT DO NOTHING";
            let parameters = vec![id.into(), project_id.into(), own.as_str().into()];
            self.database.execute(sql, parameters).await?;
        }
        Ok(own)
    }

    /// Finds the copy of an asset. If a user is given, the copy is in a project of this user, and if a project is
    /// given, it is in this project.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn copy_for(
        &self,
        id: &str,
        user_id: Option<&str>,
        project_id: Option<&str>,
    ) -> Result<Option<String>, DatabaseError> {
        let sql = format!(
            "SELECT c.copy_id FROM asset_copies c
              WHERE c.asset_id = ?1 AND (?3 IS NULL OR c.project_id = ?3) AND {}
                AND (?2 IS NULL OR {})
              LIMIT 1",
            exists("c.project_id"),
            of_user("c.project_id", "?2")
        );
        let parameters = vec![id.into(), user_id.into(), project_id.into()];
        let rows = self.database.execute(&sql, parameters).await?;
        rows.into_iter()
            .next()
            .map(|mut row| row.text(0))
            .transpose()
    }

    /// Describes the asset of this id, or its copy, in a project, with its own id there; `None` if the project has neither.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn describe_in(
        &self,
        project_id: &str,
        id: &str,
    ) -> Result<Option<(String, Asset)>, AssetError> {
        let copy = self.copy_for(id, None, Some(project_id)).await?;
        let id = copy.as_deref().unwrap_or(id);
        let found = self.describe(id).await?;
        Ok(found
            .filter(|asset| asset.project_id == project_id)
            .map(|asset| (id.to_owned(), asset)))
    }

    /// Forgets which copies a project has.
    pub(crate) async fn forget_copies(&self, project_id: &str) -> Result<(), DatabaseError> {
        let sql = "DELETE FROM asset_copies WHERE project_id = ?1";
        self.database.execute(sql, vec![project_id.into()]).await?;
        Ok(())
    }
}
