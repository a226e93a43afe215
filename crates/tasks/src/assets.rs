//! The assets: results, pictures that came with a task, and uploads. Their bytes are in SQLite, or in an S3-compatible
//! bucket (R2, MinIO, …) if one is configured.
//!
//! An asset never changes, and its id cannot be guessed. Its row is always in SQLite; with a bucket, its
//! bytes are not.

use std::{ops::Range, time::Duration};

use auth::secrets;
use platform::{
    Config, Database, DatabaseError, HttpClient, HttpError, Problem, Row, Setting,
    UnreadableSetting, Value, config::number, http_client::Limits,
};
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use sha2::{Digest, Sha256};
use thiserror::Error;
use url::Url;

use crate::{asset_address, media_type, media_type::OCTET_STREAM};

/// The default of `s3_endpoint`: an address that can never exist (RFC 2606), because Spin requires one in
/// `allowed_outbound_hosts`.
const NO_ENDPOINT: &str = "https://not-set.invalid";

platform::settings! {
    /// A bucket (S3, R2, MinIO) for results and uploads. Without one, SQLite holds them, up to 8 MiB each
    S3_BUCKET = "s3_bucket", Unset;
    /// The bucket's address
    S3_ENDPOINT = "s3_endpoint", Placeholder(NO_ENDPOINT), Origin;
    /// The bucket's region
    S3_REGION = "s3_region", Value("auto");
    /// The access key of the bucket
    S3_ACCESS_KEY = "s3_access_key", Secret;
    /// The secret key of the bucket
    S3_SECRET_KEY = "s3_secret_key", Secret;
    /// The largest result that is copied from its service to the bucket, in MiB. A larger one stays at the service
    MAX_ASSET_MIB = "max_asset_mib", Value("2048"), Number(MOST_MIB);
}

/// The store of assets.
#[derive(Clone)]
pub struct AssetStore<'a> {
    pub(crate) database: &'a dyn Database,
    http: &'a dyn HttpClient,
    pub(crate) bucket: Option<(Bucket, Credentials)>,
    /// The most bytes of a result or an upload in a bucket.
    pub(crate) most: u64,
}

/// An asset, with all of its bytes, a part of them, or none.
#[derive(Debug, Clone, PartialEq)]
pub struct Asset {
    /// The project that the asset belongs to.
    pub project_id: String,
    /// The media type, such as `image/png`; [`OCTET_STREAM`](crate::OCTET_STREAM) unless it is a picture, a video or a sound.
    pub media_type: String,
    /// The length of the whole, in bytes.
    pub length: u64,
    /// The SHA-256 of the content, in hexadecimal.
    pub digest: String,
    /// Says whether its bytes are in a bucket.
    pub is_in_bucket: bool,
    /// The bytes that the caller asked for.
    pub bytes: Vec<u8>,
}

/// An asset in the list of its project.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedAsset {
    /// The id.
    pub id: String,
    /// The media type that the service or the uploader named.
    pub media_type: String,
    /// The SHA-256 of the content, in hexadecimal.
    pub digest: String,
    /// The length, in bytes.
    pub length: u64,
    /// The task that it is a result or a picture of.
    pub task_id: Option<String>,
}

/// An asset could not be stored or read.
#[derive(Debug, Error)]
pub enum AssetError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The bucket failed, or its settings are incomplete or wrong.
    #[error("asset store: {0}")]
    Bucket(String),
    /// The result cannot be fetched from its service at the moment. The reason is in words for the user.
    #[error("{0}")]
    NotFetched(String),
}

/// Checks that the settings of the bucket are whole, if there is one.
///
/// # Errors
/// If a setting is missing or cannot be read.
pub(crate) fn check_settings(config: &dyn Config) -> Result<(), AssetError> {
    bucket(config).map(drop)
}

/// The most bytes that are read from a bucket at once.
const MAX_ASSET_BYTES: usize = 64 * 1024 * 1024;

/// The most MiB that an operator may let an asset have: about the size of 10,000 parts, which are all that S3 takes.
pub(crate) const MOST_MIB: u32 = 48 * 1024;

/// The seconds for which an asset is left alone after it was stored, or after its task was found at work.
pub(crate) const SETTLED_AFTER: i64 = 24 * 3600;

const CALL: Limits = Limits {
    timeout: Duration::from_secs(30),
    max_bytes: MAX_ASSET_BYTES,
};

/// The time for which a signed request to the bucket is valid.
pub(crate) const SIGNED_FOR: Duration = Duration::from_secs(300);

/// The time for which the signed address of an asset is valid. A film is read in parts while it is shown.
const ADDRESS_SIGNED_FOR: Duration = Duration::from_secs(3600);

/// The largest asset of a bucket that an instance reads, in bytes.
const READ_HERE: u64 = 8 * 1024 * 1024;

impl<'a> AssetStore<'a> {
    /// Opens the store that the settings name: a bucket if `s3_bucket` is set.
    ///
    /// # Errors
    /// If the bucket's settings are incomplete or cannot be read.
    pub fn open(
        database: &'a dyn Database,
        http: &'a dyn HttpClient,
        config: &dyn Config,
    ) -> Result<Self, AssetError> {
        Ok(Self {
            database,
            http,
            bucket: bucket(config)?,
            most: u64::from(number(config, SETTINGS, MAX_ASSET_MIB)) * 1024 * 1024,
        })
    }

    /// The bucket, and the keys to it.
    pub(crate) fn bucket(&self) -> Result<(&Bucket, &Credentials), AssetError> {
        let bucket = self.bucket.as_ref().map(|(bucket, keys)| (bucket, keys));
        let words = "the asset is in a bucket, but `s3_bucket` is not set";
        bucket.ok_or_else(|| AssetError::Bucket(words.into()))
    }

    /// Makes an id that no asset has.
    pub(crate) fn new_id() -> String {
        let random = secrets::word(asset_address::RANDOM);
        format!("{}{random}", asset_address::ID)
    }

    /// Stores an asset and returns its id, which has an ending if it is a film. The asset is durable when this returns. The
    /// media type is the one that the service named; [`Asset::media_type`] says how it is kept.
    ///
    /// # Errors
    /// If the database or the bucket fails; then nothing refers to the bytes that may have been stored.
    pub async fn store(
        &self,
        project_id: &str,
        task_id: &str,
        media_type: &str,
        bytes: Vec<u8>,
        now: i64,
    ) -> Result<String, AssetError> {
        let id = Self::new_id() + media_type::ending(media_type);
        let stored = self.store_as(&id, (project_id, Some(task_id)), media_type, bytes, now);
        stored.await?;
        Ok(id)
    }

    /// Stores an asset of a project, and of a task if it belongs to one, under a [new id](Self::new_id). Its row comes
    /// first, so that an object in a bucket is always known here.
    pub(crate) async fn store_as(
        &self,
        id: &str,
        (project_id, task_id): (&str, Option<&str>),
        media_type: &str,
        bytes: Vec<u8>,
        now: i64,
    ) -> Result<(), AssetError> {
        let media_type = &media_type::safe(media_type);
        let length = bytes.len() as u64;
        let digest = digest(&bytes);
        let (inline, elsewhere) = match &self.bucket {
            None => (Value::Blob(bytes), None),
            Some(bucket) => (Value::Null, Some((bucket, bytes))),
        };
        self.database
            .execute(
                "INSERT INTO assets (asset_id, project_id, media_type, length, digest, bytes, created_at,
                     task_id, settle_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                vec![
                    id.into(),
                    project_id.into(),
                    media_type.as_str().into(),
                    length.into(),
                    digest.into(),
                    inline,
                    now.into(),
                    task_id.into(),
                    (now + SETTLED_AFTER).into(),
                ],
            )
            .await?;
        if let Some(((bucket, credentials), bytes)) = elsewhere {
            let url = bucket.put_object(Some(credentials), id).sign(SIGNED_FOR);
            let request = http::Request::put(url.as_str()).header("content-type", media_type);
            self.call(request, bytes).await?;
        }
        Ok(())
    }

    /// Keeps an asset that belongs to no task.
    pub(crate) async fn keep(&self, id: &str) -> Result<(), AssetError> {
        let sql = "UPDATE assets SET settle_at = NULL WHERE asset_id = ?1";
        self.database.execute(sql, vec![id.into()]).await?;
        Ok(())
    }

    /// Deletes an asset that nothing refers to. If its bytes are in a bucket, its row stays until they are deleted, because
    /// nothing else names the object.
    pub(crate) async fn discard(&self, id: &str) -> Result<(), AssetError> {
        let asset = self.describe(id).await?;
        if asset.is_some_and(|asset| asset.is_in_bucket) {
            self.delete_object(id).await?;
        }
        self.delete_row(id).await
    }

    async fn delete_row(&self, id: &str) -> Result<(), AssetError> {
        let sql = "DELETE FROM assets WHERE asset_id = ?1";
        self.database.execute(sql, vec![id.into()]).await?;
        Ok(())
    }

    /// Reads an asset without its bytes; `None` if there is no such asset.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn describe(&self, id: &str) -> Result<Option<Asset>, AssetError> {
        let sql = "SELECT media_type, length, digest, project_id, bytes IS NULL FROM assets WHERE asset_id = ?1";
        let rows = self.database.execute(sql, vec![id.into()]).await?;
        let Some(mut row) = rows.into_iter().next() else {
            return Ok(None);
        };
        Ok(Some(Asset {
            length: row.unsigned(1)?,
            // Rows of earlier releases have the types that services named.
            media_type: media_type::safe(&row.text(0)?),
            digest: row.text(2)?,
            project_id: row.text(3)?,
            is_in_bucket: row.integer(4)? != 0,
            bytes: Vec::new(),
        }))
    }

    /// Lists the assets of a project, by their ids.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn list(&self, project_id: &str) -> Result<Vec<ListedAsset>, DatabaseError> {
        let sql = "SELECT asset_id, media_type, digest, length, task_id FROM assets
                    WHERE project_id = ?1 ORDER BY asset_id";
        let rows = self.database.execute(sql, vec![project_id.into()]).await?;
        let read = |mut row: Row| {
            Ok(ListedAsset {
                id: row.text(0)?,
                media_type: row.text(1)?,
                digest: row.text(2)?,
                length: row.unsigned(3)?,
                task_id: row.optional_text(4)?,
            })
        };
        rows.into_iter().map(read).collect()
    }

    /// Reads an asset, or this range of its bytes; `None` if there is no such asset.
    ///
    /// # Errors
    /// If the database or the bucket fails.
    pub async fn read(
        &self,
        id: &str,
        range: Option<Range<u64>>,
    ) -> Result<Option<Asset>, AssetError> {
        let Some(mut asset) = self.describe(id).await? else {
            return Ok(None);
        };
        let range = range.unwrap_or(0..asset.length);
        let sql = "SELECT substr(bytes, ?2 + 1, ?3) FROM assets WHERE asset_id = ?1 AND bytes IS NOT NULL";
        let length = range.end.saturating_sub(range.start);
        let parameters = vec![id.into(), range.start.into(), length.into()];
        let mut rows = self.database.execute(sql, parameters).await?;
        asset.bytes = match rows.first_mut() {
            Some(row) => row.blob(0)?,
            None if length == 0 => Vec::new(),
            None => {
                let (bucket, credentials) = self.bucket()?;
                let url = bucket.get_object(Some(credentials), id).sign(SIGNED_FOR);
                let last = range.end.saturating_sub(1);
                let request = http::Request::get(url.as_str())
                    .header("range", format!("bytes={}-{last}", range.start));
                let bytes = self.call(request, Vec::new()).await?.into_body();
                if bytes.len() as u64 != length {
                    return Err(AssetError::Bucket("the bucket sent another range".into()));
                }
                bytes
            }
        };
        Ok(Some(asset))
    }

    /// The signed address at which the bucket serves a large asset for an hour, to any client that has the address;
    /// `None` if the asset is [read](Self::read) here.
    ///
    /// # Errors
    /// If the asset is in a bucket, but `s3_bucket` is not set.
    pub fn signed_address(&self, id: &str, asset: &Asset) -> Result<Option<String>, AssetError> {
        if !asset.is_in_bucket || asset.length <= READ_HERE {
            return Ok(None);
        }
        let (bucket, credentials) = self.bucket()?;
        let mut get = bucket.get_object(Some(credentials), id);
        let query = get.query_mut();
        query.insert("response-content-type", asset.media_type.as_str());
        // A picture that is opened on its own must not run scripts, and the bucket has no policy against that.
        if [OCTET_STREAM, "image/svg+xml"].contains(&asset.media_type.as_str()) {
            query.insert("response-content-disposition", "attachment");
        }
        Ok(Some(get.sign(ADDRESS_SIGNED_FOR).into()))
    }

    /// Deletes every asset of a project.
    ///
    /// # Errors
    /// If the database or the bucket fails; then some may be left, and doing it again is harmless.
    pub async fn delete(&self, project_id: &str) -> Result<(), AssetError> {
        let sql = "SELECT asset_id FROM assets WHERE project_id = ?1 AND bytes IS NULL";
        let rows = self.database.execute(sql, vec![project_id.into()]).await?;
        for mut row in rows {
            let id = row.text(0)?;
            self.delete_object(&id).await?;
            // One by one, so that the next call continues after a failure.
            self.delete_row(&id).await?;
        }
        let sql = "DELETE FROM assets WHERE project_id = ?1 AND bytes IS NOT NULL";
        self.database.execute(sql, vec![project_id.into()]).await?;
        self.forget_copies(project_id).await?;
        Ok(())
    }

    /// Deletes an object from the bucket, or finds that it is gone: S3 answers 204 to that, and other stores 404.
    pub(crate) async fn delete_object(&self, id: &str) -> Result<(), AssetError> {
        let (bucket, credentials) = self.bucket()?;
        let url = bucket.delete_object(Some(credentials), id).sign(SIGNED_FOR);
        self.delete_at(&url).await
    }

    /// Deletes what is at this signed address in the bucket, or finds that it is gone.
    pub(crate) async fn delete_at(&self, url: &Url) -> Result<(), AssetError> {
        let request = http::Request::delete(url.as_str());
        let answer = self.exchange(request, Vec::new()).await?;
        let status = answer.status();
        // If there is no such bucket, the setting is wrong, and the object may be in another.
        let has_bucket = !answer
            .body()
            .windows(12)
            .any(|text| text == b"NoSuchBucket");
        if status.is_success() || (status == http::StatusCode::NOT_FOUND && has_bucket) {
            return Ok(());
        }
        Err(AssetError::Bucket(format!("the bucket answered {status}")))
    }

    pub(crate) async fn call(
        &self,
        request: http::request::Builder,
        body: Vec<u8>,
    ) -> Result<http::Response<Vec<u8>>, AssetError> {
        let answer = self.exchange(request, body).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(AssetError::Bucket(format!(
            "the bucket answered {}",
            answer.status()
        )))
    }

    /// Sends a request to the bucket. An answer may have any status.
    pub(crate) async fn exchange(
        &self,
        request: http::request::Builder,
        body: Vec<u8>,
    ) -> Result<http::Response<Vec<u8>>, AssetError> {
        let request = request
            .body(body)
            .map_err(|error| AssetError::Bucket(error.to_string()))?;
        // A fault is retried once. A request that arrives twice leaves at worst an upload without parts in the bucket.
        for attempt in 0..2 {
            match self.http.send(request.clone(), CALL).await {
                Ok(answer) if attempt == 1 || !answer.status().is_server_error() => {
                    return Ok(answer);
                }
                Err(error @ HttpError::TooLarge) => {
                    return Err(AssetError::Bucket(error.to_string()));
                }
                Err(error) if attempt == 1 => return Err(AssetError::Bucket(error.to_string())),
                _ => {}
            }
        }
        Err(AssetError::Bucket("no answer".into()))
    }
}

/// The SHA-256 of an asset's bytes, in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    secrets::hex(&Sha256::digest(bytes))
}

fn bucket(config: &dyn Config) -> Result<Option<(Bucket, Credentials)>, AssetError> {
    let read = |setting: Setting| {
        let unreadable = |error: UnreadableSetting| AssetError::Bucket(error.to_string());
        config.read(setting).map_err(unreadable)
    };
    let Some(name) = read(S3_BUCKET)? else {
        return Ok(None);
    };
    let required = |setting: Setting| {
        let missing =
            || AssetError::Bucket(format!("`{S3_BUCKET}` is set, but `{setting}` is not"));
        let value = read(setting)?.filter(|value| value != NO_ENDPOINT);
        value.ok_or_else(missing)
    };
    let endpoint = Url::parse(&required(S3_ENDPOINT)?)
        .map_err(|_| AssetError::Bucket("`s3_endpoint` is not a URL".into()))?;
    let region = required(S3_REGION)?;
    let credentials = Credentials::new(required(S3_ACCESS_KEY)?, required(S3_SECRET_KEY)?);
    let bucket = Bucket::new(endpoint, UrlStyle::Path, name, region)
        .map_err(|error| AssetError::Bucket(error.to_string()))?;
    Ok(Some((bucket, credentials)))
}

impl From<AssetError> for Problem {
    fn from(error: AssetError) -> Self {
        match error {
            AssetError::Database(error) => error.into(),
            error @ (AssetError::Bucket(_) | AssetError::NotFetched(_)) => {
                tracing::error!(%error, "the asset store failed");
                Self::unavailable("The asset store does not answer as it should.")
            }
        }
    }
}
