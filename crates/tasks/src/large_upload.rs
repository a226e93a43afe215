//! The uploads that are too large for one request: they come in parts, each in a request of its own, and go to the
//! bucket.
//!
//! So no instance waits for a slow client, or holds more than a part. Any instance may take the next part, because a
//! row says how far the upload is. Until the last part nothing refers to the upload. If no part comes for an hour, the
//! poller gives it up.

use platform::{
    Ports,
    config::{max_body, number},
};

use crate::{
    asset_address,
    assets::{AssetStore, MOST_MIB},
    media_type,
    parts::{PART, PartUpload},
    upload::{MAX_UPLOAD, Upload, UploadError},
};

platform::settings! {
    /// The largest picture or film that a user may upload if there is a bucket, in MiB. Without a bucket it is 8 MiB
    MAX_UPLOAD_MIB = "max_upload_mib", Value("512"), Number(MOST_MIB);
}

/// The progress of an upload.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// The parts up to this byte are stored.
    Partly {
        /// The id by which the next part names the upload.
        upload: String,
        /// The byte at which the next part begins.
        next: u64,
    },
    /// The upload is an asset of its project.
    Whole(Upload),
}

/// Begins an upload of `total` bytes, and stores its first part.
///
/// # Errors
/// See [`UploadError`]. Then nothing is left of the upload, or the poller deletes it.
pub async fn begin(
    ports: Ports<'_>,
    project_id: &str,
    total: u64,
    first: Vec<u8>,
) -> Result<Progress, UploadError> {
    let assets = AssetStore::open(ports.database, ports.http, ports.config)?;
    check_size(ports, &assets, total)?;
    if first.len() != PART {
        return Err(UploadError::WrongLength);
    }
    let media_type = media_type::recognised(&first).ok_or(UploadError::UnknownType)?;
    quota::check(ports, project_id, total).await?;
    quota::take(ports, project_id, first.len() as u64).await?;
    let now = ports.clock.unix_seconds();
    let mut upload = assets.begin_upload(project_id, media_type, now).await?;
    if let Err(error) = assets.add_part(&mut upload, first, now).await {
        assets.give_up_upload(&upload).await?;
        return Err(error.into());
    }
    Ok(Progress::Partly {
        next: upload.length,
        upload: upload.asset_id,
    })
}

/// Stores the part of an upload that begins at this byte, and completes the upload if it is the last. Doing it again is
/// harmless.
///
/// # Errors
/// See [`UploadError`]. The parts before stay, so that the part may come again.
pub async fn go_on(
    ports: Ports<'_>,
    (project_id, id): (&str, &str),
    from: u64,
    part: Vec<u8>,
    is_last: bool,
) -> Result<Progress, UploadError> {
    let assets = AssetStore::open(ports.database, ports.http, ports.config)?;
    let length = part.len() as u64;
    if !(1..=PART).contains(&part.len()) || (!is_last && part.len() != PART) {
        return Err(UploadError::WrongLength);
    }
    let mut upload = match find(&assets, project_id, id).await {
        Err(UploadError::NoUpload) if is_last => {
            // The answer to the last part may have been lost.
            return complete(&assets, project_id, id).await;
        }
        found => found?,
    };
    let now = ports.clock.unix_seconds();
    let is_stored = from.checked_add(length) == Some(upload.length);
    if !is_stored {
        if from != upload.length {
            return Err(UploadError::NotNext(upload.length));
        }
        check_size(ports, &assets, upload.length + length)?;
        quota::take(ports, project_id, length).await?;
        assets.add_part(&mut upload, part, now).await?;
    }
    if !is_last {
        return Ok(Progress::Partly {
            next: upload.length,
            upload: upload.asset_id,
        });
    }
    assets.complete_upload(&upload, None, now).await?;
    assets.keep(&upload.asset_id).await?;
    complete(&assets, project_id, &upload.asset_id).await
}

/// The upload that has become this asset of the project.
async fn complete(
    assets: &AssetStore<'_>,
    project_id: &str,
    id: &str,
) -> Result<Progress, UploadError> {
    let asset = assets.describe(id).await?;
    let asset = asset.filter(|asset| asset.project_id == project_id);
    let asset = asset.ok_or(UploadError::NoUpload)?;
    Ok(Progress::Whole(Upload {
        id: id.to_owned(),
        path: asset_address::path(id),
        media_type: asset.media_type,
        length: asset.length,
    }))
}

/// Gives an upload up, and deletes its parts.
///
/// # Errors
/// [`UploadError::NoUpload`] if there is no such upload, because it may be complete already, and those of the bucket
/// and the database.
pub async fn give_up(ports: Ports<'_>, project_id: &str, id: &str) -> Result<(), UploadError> {
    let assets = AssetStore::open(ports.database, ports.http, ports.config)?;
    let upload = find(&assets, project_id, id).await?;
    Ok(assets.give_up_upload(&upload).await?)
}

async fn find(
    assets: &AssetStore<'_>,
    project_id: &str,
    id: &str,
) -> Result<PartUpload, UploadError> {
    let found = assets.find_upload(id).await?;
    let is_its_own = |upload: &PartUpload| upload.project_id == project_id;
    found.filter(is_its_own).ok_or(UploadError::NoUpload)
}

/// Refuses an upload in parts if there is no bucket or if it is larger than allowed, in words that name the limit and
/// the setting.
fn check_size(ports: Ports<'_>, assets: &AssetStore<'_>, total: u64) -> Result<(), UploadError> {
    if assets.bucket.is_none() {
        let of_host = max_body(ports.config);
        let (most, of) = if of_host < MAX_UPLOAD {
            (of_host, ", the limit of a body (`max_body_mib`)")
        } else {
            (MAX_UPLOAD, "")
        };
        let words = format!(
            "Without a bucket (`s3_bucket`) an upload has at most {} MiB ({most} bytes){of}.",
            most >> 20
        );
        return Err(UploadError::TooLarge(words));
    }
    let most = number(ports.config, SETTINGS, MAX_UPLOAD_MIB);
    if total > u64::from(most) << 20 {
        let words = format!("An upload has at most {most} MiB (`{MAX_UPLOAD_MIB}`).");
        return Err(UploadError::TooLarge(words));
    }
    Ok(())
}
