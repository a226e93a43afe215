//! The uploads to a bucket in parts, which another instance can go on with.
//!
//! A row says how far an upload is, so that no part is sent twice unless its instance died before it wrote the row. The
//! row is written before the upload begins, and deleted after it has ended. An upload that nothing has touched for an
//! hour is given up.

use auth::secrets;
use platform::Row;
use rusty_s3::S3Action;
use sha2::{Digest, Sha256};

use crate::{
    assets::{AssetError, AssetStore, SETTLED_AFTER, SIGNED_FOR},
    media_type, signing,
};

/// The length of a part, in bytes: the shortest that S3 takes, except for the last part.
pub(crate) const PART: usize = wire::UPLOAD_PART;

/// An upload that nothing has touched for this many seconds is given up.
const GIVEN_UP_AFTER: i64 = 3600;

/// The most uploads that one call gives up.
const AT_ONCE: u64 = 16;

/// An upload in parts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PartUpload {
    /// The id of the asset that it becomes.
    pub(crate) asset_id: String,
    pub(crate) project_id: String,
    media_type: String,
    upload_id: String,
    tags: Vec<String>,
    /// The bytes of all parts.
    pub(crate) length: u64,
    digest: String,
}

impl AssetStore<'_> {
    /// Begins an upload. It needs a bucket.
    pub(crate) async fn begin_upload(
        &self,
        project_id: &str,
        declared: &str,
        now: i64,
    ) -> Result<PartUpload, AssetError> {
        let asset_id = Self::new_id() + media_type::ending(declared);
        let sql = "INSERT INTO asset_uploads (asset_id, project_id, media_type, tags, length, digest, touched_at)
             VALUES (?1, ?2, ?3, '[]', 0, '', ?4)";
        let media_type = media_type::safe(declared);
        let parameters = vec![
            asset_id.as_str().into(),
            project_id.into(),
            media_type.as_str().into(),
            now.into(),
        ];
        self.database.execute(sql, parameters).await?;
        let address = signing::post(self.bucket()?, &asset_id, &[("uploads", "1")], now)?;
        let request = http::Request::post(address).header("content-type", &media_type);
        let answer = self.call(request, Vec::new()).await?.into_body();
        let upload_id = upload_id(&answer)
            .ok_or_else(|| AssetError::Bucket("the bucket named no upload".into()))?;
        let sql = "UPDATE asset_uploads SET upload_id = ?2 WHERE asset_id = ?1";
        let parameters = vec![asset_id.as_str().into(), upload_id.as_str().into()];
        self.database.execute(sql, parameters).await?;
        Ok(PartUpload {
            asset_id,
            project_id: project_id.to_owned(),
            media_type,
            upload_id,
            tags: Vec::new(),
            length: 0,
            digest: String::new(),
        })
    }

    /// Finds an upload to go on with.
    pub(crate) async fn find_upload(
        &self,
        asset_id: &str,
    ) -> Result<Option<PartUpload>, AssetError> {
        let sql = "SELECT asset_id, project_id, media_type, upload_id, tags, length, digest FROM asset_uploads
             WHERE asset_id = ?1 AND upload_id IS NOT NULL";
        let rows = self.database.execute(sql, vec![asset_id.into()]).await?;
        let found = rows.into_iter().next().map(read).transpose()?;
        Ok(found)
    }

    /// Sends the next part. If another instance has gone on with the upload, that is an error.
    pub(crate) async fn add_part(
        &self,
        upload: &mut PartUpload,
        bytes: Vec<u8>,
        now: i64,
    ) -> Result<(), AssetError> {
        let (bucket, credentials) = self.bucket()?;
        let number = u16::try_from(upload.tags.len() + 1)
            .map_err(|_| AssetError::Bucket("too many parts".into()))?;
        let before = upload.length;
        let length = before + bytes.len() as u64;
        let chained = [upload.digest.as_bytes(), &Sha256::digest(&bytes)[..]].concat();
        let part = bucket.upload_part(
            Some(credentials),
            &upload.asset_id,
            number,
            &upload.upload_id,
        );
        let request = http::Request::put(part.sign(SIGNED_FOR).as_str());
        let answer = self.call(request, bytes).await?;
        let tag = answer
            .headers()
            .get("etag")
            .and_then(|tag| tag.to_str().ok());
        let tag = tag.ok_or_else(|| AssetError::Bucket("a part has no tag".into()))?;
        upload.tags.push(tag.to_owned());
        upload.length = length;
        upload.digest = secrets::hex(&Sha256::digest(chained));
        let sql = "UPDATE asset_uploads SET tags = ?2, length = ?3, digest = ?4, touched_at = ?5
             WHERE asset_id = ?1 AND length = ?6 RETURNING 1";
        let parameters = vec![
            upload.asset_id.as_str().into(),
            serde_json::json!(upload.tags).to_string().into(),
            length.into(),
            upload.digest.as_str().into(),
            now.into(),
            before.into(),
        ];
        if self.database.execute(sql, parameters).await?.is_empty() {
            let words = "another instance has gone on with the upload";
            return Err(AssetError::Bucket(words.into()));
        }
        Ok(())
    }

    /// Completes an upload. Its asset belongs to a task, if one is named, and otherwise to its project alone. Doing it
    /// again is harmless.
    pub(crate) async fn complete_upload(
        &self,
        upload: &PartUpload,
        task_id: Option<&str>,
        now: i64,
    ) -> Result<(), AssetError> {
        let sql = "INSERT OR IGNORE INTO assets (asset_id, project_id, media_type, length, digest, created_at,
                 task_id, settle_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let id = upload.asset_id.as_str();
        let parameters = vec![
            id.into(),
            upload.project_id.as_str().into(),
            upload.media_type.as_str().into(),
            upload.length.into(),
            upload.digest.as_str().into(),
            now.into(),
            task_id.into(),
            (now + SETTLED_AFTER).into(),
        ];
        self.database.execute(sql, parameters).await?;
        let query = [("uploadId", upload.upload_id.as_str())];
        let address = signing::post(self.bucket()?, id, &query, now)?;
        let request = http::Request::post(address);
        let answer = self
            .exchange(request, completion(&upload.tags).into_bytes())
            .await?;
        // S3 may find an error after it has answered 200.
        let is_error = |body: &[u8]| body.windows(6).any(|bytes| bytes == b"<Error");
        let is_complete = answer.status().is_success() && !is_error(answer.body());
        // The bucket does not know an upload that was complete before, but then it has the object.
        if !is_complete && self.length_in_bucket(id).await? != Some(upload.length) {
            let words = format!("the bucket answered {} to an upload", answer.status());
            return Err(AssetError::Bucket(words));
        }
        self.forget_upload(id).await
    }

    async fn forget_upload(&self, asset_id: &str) -> Result<(), AssetError> {
        let sql = "DELETE FROM asset_uploads WHERE asset_id = ?1";
        self.database.execute(sql, vec![asset_id.into()]).await?;
        Ok(())
    }

    async fn length_in_bucket(&self, id: &str) -> Result<Option<u64>, AssetError> {
        let (bucket, credentials) = self.bucket()?;
        let head = bucket.head_object(Some(credentials), id).sign(SIGNED_FOR);
        let answer = self
            .exchange(http::Request::head(head.as_str()), Vec::new())
            .await?;
        let length = answer.headers().get("content-length");
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        Ok(length.filter(|_| answer.status().is_success()))
    }

    /// Gives up the uploads that nothing has touched for an hour, a bounded number at a time, so that their parts do not stay
    /// in the bucket. An upload that the bucket does not give up is due again an hour later, so that it does not hold up the
    /// others.
    ///
    /// # Errors
    /// If the database or the bucket fails. The others stay due for the next call, so that a bucket that is away is not
    /// asked once for each upload.
    pub async fn drop_uploads(&self, now: i64) -> Result<(), AssetError> {
        if self.bucket.is_none() {
            return Ok(());
        }
        let sql =
            "SELECT asset_id, project_id, media_type, ifnull(upload_id, ''), tags, length, digest
             FROM asset_uploads WHERE touched_at <= ?1 ORDER BY touched_at LIMIT ?2";
        let parameters = vec![(now - GIVEN_UP_AFTER).into(), AT_ONCE.into()];
        for row in self.database.execute(sql, parameters).await? {
            let upload = read(row)?;
            if !upload.upload_id.is_empty()
                && let Err(error) = self.abort(&upload).await
            {
                let sql = "UPDATE asset_uploads SET touched_at = ?2 WHERE asset_id = ?1";
                let parameters = vec![upload.asset_id.into(), now.into()];
                self.database.execute(sql, parameters).await?;
                return Err(error);
            }
            self.forget_upload(&upload.asset_id).await?;
            tracing::info!(asset_id = upload.asset_id, "an upload was given up");
        }
        Ok(())
    }

    /// Gives an upload up, whether it is complete at the bucket or not. Doing it again is harmless.
    pub(crate) async fn give_up_upload(&self, upload: &PartUpload) -> Result<(), AssetError> {
        self.abort(upload).await?;
        if self.describe(&upload.asset_id).await?.is_some() {
            self.discard(&upload.asset_id).await?;
        }
        self.forget_upload(&upload.asset_id).await
    }

    async fn abort(&self, upload: &PartUpload) -> Result<(), AssetError> {
        let (bucket, credentials) = self.bucket()?;
        let (id, name) = (&upload.asset_id, &upload.upload_id);
        let abort = bucket.abort_multipart_upload(Some(credentials), id, name);
        // The bucket does not know an upload that is complete, or was given up before: that is no error.
        self.delete_at(&abort.sign(SIGNED_FOR)).await
    }
}

/// The name of an upload in the bucket's answer, which is XML. Names have no character that XML escapes but `&`.
fn upload_id(answer: &[u8]) -> Option<String> {
    let answer = std::str::from_utf8(answer).ok()?;
    let (_, rest) = answer.split_once("<UploadId>")?;
    let (name, _) = rest.split_once("</UploadId>")?;
    let name = name.trim().replace("&amp;", "&");
    (!name.is_empty()).then_some(name)
}

/// The XML that completes an upload: its parts, each with its tag.
fn completion(tags: &[String]) -> String {
    let part = |(n, tag): (usize, &String)| {
        let tag = tag.replace('&', "&amp;").replace('<', "&lt;");
        format!(
            "<Part><PartNumber>{}</PartNumber><ETag>{tag}</ETag></Part>",
            n + 1
        )
    };
    let all: String = tags.iter().enumerate().map(part).collect();
    format!("<CompleteMultipartUpload>{all}</CompleteMultipartUpload>")
}

fn read(mut row: Row) -> Result<PartUpload, AssetError> {
    let tags = row.text(4)?;
    Ok(PartUpload {
        asset_id: row.text(0)?,
        project_id: row.text(1)?,
        media_type: row.text(2)?,
        upload_id: row.text(3)?,
        tags: serde_json::from_str(&tags).map_err(|error| AssetError::Bucket(error.to_string()))?,
        length: row.unsigned(5)?,
        digest: row.text(6)?,
    })
}
