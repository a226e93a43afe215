//! The pictures and films that a user uploads, so that tasks can take them and nodes can show them.
//!
//! An upload is an asset of its project without a task. Until it is whole, it is a leftover that is deleted a day later;
//! from then on it is kept.

use platform::Ports;
use problem::{Kind, Problem};
use quota::QuotaError;
use thiserror::Error;

use crate::{
    asset_address,
    assets::{AssetError, AssetStore},
    media_type,
    parts::PART,
};

/// The largest upload that is one request, in bytes. A larger one [comes in parts](crate::large_upload).
pub const MAX_UPLOAD: usize = wire::MAX_WHOLE_UPLOAD;

/// A picture or a film that was stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Upload {
    /// The id of the asset.
    pub id: String,
    /// The path of the asset, for `params` and for a node.
    pub path: String,
    /// The media type by the first bytes, such as `image/png`.
    pub media_type: String,
    /// The length, in bytes.
    pub length: u64,
}

/// The reason for which an upload was not stored.
#[derive(Debug, Error)]
pub enum UploadError {
    /// The first bytes are not those of a picture or film that this server knows.
    #[error("the upload is neither a picture nor a film")]
    UnknownType,
    /// The upload is larger than allowed. The text is in words for the user.
    #[error("{0}")]
    TooLarge(String),
    /// The project has no upload with this id.
    #[error("there is no such upload")]
    NoUpload,
    /// A part of an upload has another length than it must have.
    #[error("a part has another length")]
    WrongLength,
    /// A part of an upload is not the next one, which begins at this byte.
    #[error("the next part begins at byte {0}")]
    NotNext(u64),
    /// The project's quota does not allow the upload, or could not be looked up.
    #[error(transparent)]
    Quota(#[from] QuotaError),
    /// The upload could not be stored. Bytes that were stored are deleted a day later.
    #[error(transparent)]
    Asset(#[from] AssetError),
}

/// Stores a picture or a film of a project, which is durable when this returns.
///
/// # Errors
/// See [`UploadError`].
pub async fn upload(
    ports: Ports<'_>,
    project_id: &str,
    bytes: Vec<u8>,
) -> Result<Upload, UploadError> {
    let media_type = media_type::recognised(&bytes).ok_or(UploadError::UnknownType)?;
    let length = bytes.len() as u64;
    let assets = AssetStore::open(ports.database, ports.http, ports.config)?;
    quota::take(ports, project_id, length).await?;
    let now = ports.clock.unix_seconds();
    let id = AssetStore::new_id() + media_type::ending(media_type);
    assets
        .store_as(&id, (project_id, None), media_type, bytes, now)
        .await?;
    assets.keep(&id).await?;
    Ok(Upload {
        path: asset_address::path(&id),
        id,
        media_type: media_type.to_owned(),
        length,
    })
}

impl From<UploadError> for Problem {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::UnknownType => Self::new(
                Kind::UNSUPPORTED_MEDIA_TYPE,
                "The body must be a PNG, JPEG, WebP, GIF, BMP, HEIC or AVIF picture, or an MP4, QuickTime or WebM film.",
            ),
            UploadError::TooLarge(words) => Self::new(Kind::PAYLOAD_TOO_LARGE, words),
            UploadError::NoUpload => Self::not_found(),
            UploadError::WrongLength => Self::bad_request(format!(
                "Each part of an upload must have {PART} bytes, except for the last, which must have 1 to {PART} bytes."
            )),
            UploadError::NotNext(at) => Self::new(
                Kind::NOT_NEXT_PART,
                format!("The next part of the upload begins at byte {at}."),
            ),
            UploadError::Quota(error) => error.into(),
            UploadError::Asset(error) => error.into(),
        }
    }
}
