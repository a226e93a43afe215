//! The result of a task, and its end.

use std::pin::pin;

use futures_util::{future, join};
use serde_json::{Value, json};

use super::Engine;
use crate::{
    asset_address,
    assets::AssetError,
    error::TaskError,
    executor::{Failure, Media, POLL_PATIENCE, Product},
    result_address::{self, ResultAddress},
    rows::{self, End, Medium},
    task::{Status, Task},
};

/// The most pictures or videos of one result.
const MAX_MEDIA: usize = 16;

/// The most bytes of a service's description of a result.
const MAX_DATA_BYTES: usize = 64 * 1024;

/// The most bytes of the signature that a service expects back if a later task goes on from the result.
const MAX_SIGNATURE_BYTES: usize = 4 * 1024 * 1024;

impl Engine<'_> {
    /// Stores a product and completes its task, or leaves that to the instance that [copies](Self::keep_results) its results.
    pub(super) async fn complete(
        &self,
        task: &Task,
        external_task_id: Option<&str>,
        product: Product,
    ) -> Result<(), TaskError> {
        let mut urls = Vec::with_capacity(product.media.len());
        let are_images = product.media.iter().all(is_image);
        let source = product.media.first().and_then(source_url);
        for media in product.media.into_iter().take(MAX_MEDIA) {
            let media = match self.shortened_address(media).await {
                Ok(media) => media,
                Err(Failure::Permanent(error) | Failure::Access(error)) => {
                    let end = End::Failed { error: &error };
                    return self.end(task, external_task_id, end).await;
                }
                Err(
                    Failure::Retry { reason, .. }
                    | Failure::NoPlace { reason, .. }
                    | Failure::TooOften { reason, .. },
                ) => {
                    return Err(AssetError::NotFetched(reason).into());
                }
            };
            urls.push(self.url_of(task, media).await?);
        }
        if urls.is_empty() {
            let error = "the service answered without a result";
            let end = End::Failed { error };
            return self.end(task, external_task_id, end).await;
        }
        if let Some(signature) = product.signature {
            if signature.len() <= MAX_SIGNATURE_BYTES {
                rows::keep_signature(self.ports.database, task, &signature).await?;
            } else {
                let (task_id, bytes) = (&task.task_id, signature.len());
                tracing::warn!(
                    task_id,
                    bytes,
                    "a service's signature of a result is too long to keep"
                );
            }
        }
        let mut data = product.data;
        if data.to_string().len() > MAX_DATA_BYTES {
            data = json!({});
        }
        if let Some(data) = data.as_object_mut() {
            if are_images && urls.len() > 1 {
                data.insert("images".into(), json!(urls));
            }
            if let Some(source) = source {
                data.insert("source_url".into(), json!(source));
            }
        }
        let media = urls.into_iter().map(|url| Medium {
            is_settled: !self.is_to_keep(&url),
            url,
        });
        let told = rows::Product {
            media: media.collect(),
            data: data.to_string(),
            tries: 0,
            asset_id: None,
            told_at: self.ports.clock.unix_seconds(),
        };
        if told.media.iter().all(|medium| medium.is_settled) {
            return self.end_with(task, external_task_id, &told).await;
        }
        rows::store_product(self.ports.database, task, external_task_id, &told).await?;
        // The job has ended, and copying its results takes no place.
        self.fill_place(task).await;
        Ok(())
    }

    /// Completes a task with results whose addresses are final.
    pub(super) async fn end_with(
        &self,
        task: &Task,
        external_task_id: Option<&str>,
        product: &rows::Product,
    ) -> Result<(), TaskError> {
        let urls: Vec<&str> = product.media.iter().map(|one| one.url.as_str()).collect();
        let Some(url) = urls.first() else {
            return Ok(());
        };
        let mut data: Value = serde_json::from_str(&product.data).unwrap_or_default();
        if let (Some(data), true) = (data.as_object_mut(), urls.len() > 1) {
            data.insert("urls".into(), json!(urls));
        }
        let end = End::Completed {
            url,
            data: &data.to_string(),
            expires_at: self.expiry(task, url, product.told_at),
        };
        self.end(task, external_task_id, end).await
    }

    /// The time at which the service of a task deletes a result that it reported at this time. `None` if it is kept here.
    fn expiry(&self, task: &Task, url: &str, told_at: i64) -> Option<i64> {
        if url.starts_with('/') {
            return None;
        }
        let kept = self.executor(task)?.keeps_results()?;
        let seconds = i64::try_from(kept.as_secs()).ok()?;
        Some(told_at.saturating_add(seconds))
    }

    /// Fetches a result whose address is too long for a row. Any other result is returned as it is.
    async fn shortened_address(&self, media: Media) -> Result<Media, Failure> {
        let Media::Url(address) = media else {
            return Ok(media);
        };
        match result_address::read(address).map_err(Failure::Permanent)? {
            ResultAddress::Result(media) => Ok(media),
            ResultAddress::TooLong(url) => result_address::fetch(&url, self.ports.http).await,
        }
    }

    /// The address of a result as a row holds it. An inline result goes to the asset store first.
    async fn url_of(&self, task: &Task, media: Media) -> Result<String, AssetError> {
        match media {
            Media::Url(url) => Ok(url),
            Media::Inline { media_type, bytes } => {
                let now = self.ports.clock.unix_seconds();
                let (project, task) = (&task.project_id, &task.task_id);
                let stored = self.assets.store(project, task, &media_type, bytes, now);
                let id = stored.await?;
                Ok(asset_address::path(&id))
            }
        }
    }

    /// Ends a task, and publishes that. If the task has ended already, nothing happens.
    pub(super) async fn end(
        &self,
        task: &Task,
        external_task_id: Option<&str>,
        end: End<'_>,
    ) -> Result<(), TaskError> {
        let (database, now) = (self.ports.database, self.ports.clock.unix_seconds());
        let ended = rows::finish(database, task, external_task_id, end, now).await?;
        if let Some(ended) = ended {
            tracing::info!(
                task_id = ended.task_id,
                project = ended.project_id,
                status = ended.status.as_str(),
                "a task ended"
            );
            self.ended(&ended).await;
        }
        Ok(())
    }

    /// Does what follows from the end of a task: publishes it, notifies its agent, lets the next task have its place,
    /// and cancels the job of a cancelled task at its service.
    pub async fn ended(&self, task: &Task) {
        join!(
            self.announce(task),
            self.fill_place(task),
            self.cancel_at_service(task)
        );
    }

    async fn cancel_at_service(&self, ended: &Task) {
        if ended.status != Status::Cancelled || ended.external_task_id.is_none() {
            return;
        }
        if let Some(executor) = self.executor(ended) {
            let (context, too_long) = (self.context(""), self.ports.clock.sleep(POLL_PATIENCE));
            let cancelling = executor.cancel(ended, &context);
            future::select(pin!(cancelling), too_long).await;
        }
    }

    async fn announce(&self, ended: &Task) {
        self.publish(ended).await;
        if ended.callback_url.is_some() {
            self.notify(Some(&ended.task_id)).await;
        }
    }
}

/// Returns whether this is a picture that came with the service's answer.
fn is_image(media: &Media) -> bool {
    matches!(media, Media::Inline { media_type, .. } if media_type.starts_with("image/"))
}

/// The address of a result at its service, if a row can hold it.
fn source_url(media: &Media) -> Option<String> {
    let Media::Url(url) = media else {
        return None;
    };
    match result_address::read(url.clone()) {
        Ok(ResultAddress::Result(Media::Url(url))) => Some(url),
        _ => None,
    }
}
