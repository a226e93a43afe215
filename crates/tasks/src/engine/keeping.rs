//! Copies results from their services, because the services delete them.
//!
//! Without a bucket, a result of up to 8 MiB goes to the database, and a larger one stays at its service. With a bucket, a
//! result of any size goes there, in parts as they come, so that an instance holds one part at a time. The report of
//! the service is stored before the copy begins; an instance that has no more time leaves the rest to another.

use std::time::Duration;

use platform::{
    HttpError,
    http_client::{Limits, Pieces},
};
use url::Url;

use super::{
    Engine,
    source::{Source, sent_on},
};
use crate::{
    address, asset_address,
    assets::AssetError,
    error::TaskError,
    media_type,
    parts::{PART, PartUpload},
    rows::{self, Medium, Product},
    task::Task,
};

/// The largest result that is kept in the database, in bytes.
const IN_DATABASE: u64 = 8 * 1024 * 1024;

/// The time that the service may keep silent.
const SILENCE: Duration = Duration::from_secs(10);

/// The most redirects from the address of a result.
const HOPS: usize = 3;

/// The seconds for which a task is claimed for a copy: [`WORK`], and the time of another part.
const LEASE: i64 = 60;

/// The seconds for which an instance copies, because a host may end it after 30.
const WORK: i64 = 18;

/// The most failures in a row of one copy. The death of an instance counts as one. With a bucket, the tries take about
/// four minutes.
const TRIES: i64 = 8;
const TRIES_WITHOUT_BUCKET: i64 = 4;

/// The longest wait between two tries, in seconds.
const LONGEST_WAIT: i64 = 128;

/// The outcome of the copy of one result.
enum Copied {
    /// The result is an asset now.
    Kept(String),
    /// The result stays at its service, because it is too large.
    TooLarge,
    /// The time is up; the rest follows.
    Partly,
}

/// The copy of one result failed.
pub(super) enum Failed {
    /// The copy failed for this reason.
    For(String),
    /// Another instance has claimed the task.
    Claim,
    /// The result is larger than may be kept.
    TooLarge,
}

impl From<HttpError> for Failed {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::TooLarge => Self::TooLarge,
            error => Self::For(error.to_string()),
        }
    }
}

impl From<AssetError> for Failed {
    fn from(error: AssetError) -> Self {
        Self::For(error.to_string())
    }
}

impl Engine<'_> {
    /// Returns whether a result at this address is to be copied.
    pub(super) fn is_to_keep(&self, url: &str) -> bool {
        address::check_callback(url, self.ports.config).is_ok_and(|url| {
            url.host_str()
                .is_some_and(|host| !address::is_reserved(host))
        })
    }

    /// Copies the results of one task after the other, while there is time.
    pub(super) async fn keep_due(&self, begun: i64) {
        while self.is_time_left(begun) && self.keep_one(None).await {}
    }

    /// Copies the results of the task of a job, if its service has reported them and no other instance copies them.
    pub async fn keep_results(&self, job: &str) {
        self.keep_one(Some(Task::id_of_job(job))).await;
    }

    /// Copies the results of a task: of this one, or the one that has waited longest. Returns whether there was one.
    async fn keep_one(&self, task_id: Option<&str>) -> bool {
        let (database, now) = (self.ports.database, self.ports.clock.unix_seconds());
        let kept = match rows::claim_product(database, task_id, now, LEASE).await {
            Ok(None) => return false,
            Ok(Some(claimed)) => self.keep(claimed).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = kept {
            // The claim runs out, and another instance goes on.
            tracing::error!(%error, "the results of a task could not be copied");
            return false;
        }
        true
    }

    async fn keep(&self, mut claimed: Task) -> Result<(), TaskError> {
        let (database, clock) = (self.ports.database, self.ports.clock);
        let begun = clock.unix_seconds();
        let Some(mut product) = rows::product(database, &claimed).await? else {
            return Ok(());
        };
        while let Some(n) = product.media.iter().position(|medium| !medium.is_settled) {
            // The try is counted before it begins, because the death of this instance is a failure, too.
            product.tries += 1;
            if product.tries > self.most_tries() {
                let task_id = &claimed.task_id;
                tracing::warn!(
                    task_id,
                    "a result was not copied, because every try ended without an answer"
                );
                product.settle(n, None);
            }
            if !rows::note_product(database, &claimed, &product).await? {
                return Ok(());
            }
            if product.media[n].is_settled {
                continue;
            }
            let copied = self.copy(&mut claimed, &mut product, n, begun).await;
            let now = clock.unix_seconds();
            match copied {
                Ok(Copied::Partly) => {
                    product.tries = 0;
                    rows::note_product(database, &claimed, &product).await?;
                    rows::put_off_product(database, &claimed, None, now, 0).await?;
                    return Ok(());
                }
                Ok(Copied::Kept(path)) => product.settle(n, Some(path)),
                Ok(Copied::TooLarge) | Err(Failed::TooLarge) => product.settle(n, None),
                Err(Failed::Claim) => return Ok(()),
                Err(Failed::For(reason)) => {
                    // The count is 0 if a part was copied in this try; then this failure is the first in a row.
                    product.tries = product.tries.max(1);
                    let task_id = &claimed.task_id;
                    tracing::warn!(
                        task_id,
                        reason,
                        tries = product.tries,
                        "a result could not be copied"
                    );
                    if product.tries < self.most_tries() {
                        rows::note_product(database, &claimed, &product).await?;
                        let wait = (1_i64 << product.tries.min(7)).min(LONGEST_WAIT);
                        let words =
                            format!("the result is there, but could not be copied: {reason}");
                        rows::put_off_product(database, &claimed, Some(&words), now, wait).await?;
                        return Ok(());
                    }
                    product.settle(n, None);
                }
            }
            if !rows::note_product(database, &claimed, &product).await? {
                return Ok(());
            }
        }
        self.end_with(&claimed, None, &product).await
    }

    fn most_tries(&self) -> i64 {
        if self.assets.bucket.is_some() {
            TRIES
        } else {
            TRIES_WITHOUT_BUCKET
        }
    }

    /// Copies one result, or goes on with a copy.
    async fn copy(
        &self,
        claimed: &mut Task,
        product: &mut Product,
        n: usize,
        begun: i64,
    ) -> Result<Copied, Failed> {
        let mut upload = None;
        if let Some(id) = &product.asset_id {
            upload = self.assets.find_upload(id).await?;
            // An instance died after it had completed the upload.
            if upload.is_none() && self.assets.describe(id).await?.is_some() {
                return Ok(Copied::Kept(asset_address::path(id)));
            }
        }
        let most = if self.assets.bucket.is_some() {
            self.assets.most
        } else {
            IN_DATABASE
        };
        let from = upload.as_ref().map_or(0, |upload| upload.length);
        let url = product.media[n].url.clone();
        let Some(mut source) = self.source(&url, from, most).await? else {
            return Ok(Copied::TooLarge);
        };
        let copying = Copying {
            engine: self,
            claimed,
            product,
            begun,
            most,
        };
        copying.run(upload, &mut source).await
    }

    /// Opens a result at this byte; `None` if it is too large. An address may redirect to another, which is checked
    /// like the first.
    async fn source(&self, url: &str, from: u64, most: u64) -> Result<Option<Source<'_>>, Failed> {
        let url = address::check_callback(url, self.ports.config);
        let mut url = url.map_err(|reason| Failed::For(format!("its address {reason}")))?;
        for _ in 0..=HOPS {
            let answer = self.ask_for(&url, from, most).await?;
            let Some(next) = sent_on(&url, &answer) else {
                return Source::of(answer, from, most);
            };
            if !self.is_to_keep(next.as_str()) {
                let words = "its address sends on to one that is not public";
                return Err(Failed::For(words.into()));
            }
            url = next;
        }
        Err(Failed::For("its address sends on too often".into()))
    }

    /// Asks an address for a result from this byte on.
    async fn ask_for(
        &self,
        url: &Url,
        from: u64,
        most: u64,
    ) -> Result<http::Response<Box<dyn Pieces + '_>>, Failed> {
        let mut request = http::Request::get(url.as_str());
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
        }
        let request = request.body(Vec::new());
        let request = request.map_err(|error| Failed::For(error.to_string()))?;
        let limits = Limits {
            timeout: SILENCE,
            // A service without ranges sends the beginning again.
            max_bytes: usize::try_from(most).unwrap_or(usize::MAX),
        };
        Ok(self.ports.http.open(request, limits).await?)
    }
}

impl Product {
    /// Notes the final address of a result: this path, or the address at its service if there is no path.
    fn settle(&mut self, n: usize, path: Option<String>) {
        self.tries = 0;
        self.asset_id = None;
        let medium = &mut self.media[n];
        *medium = Medium {
            url: path.unwrap_or_else(|| std::mem::take(&mut medium.url)),
            is_settled: true,
        };
    }
}

/// The copy of one result.
struct Copying<'e, 'a, 'c> {
    engine: &'e Engine<'a>,
    claimed: &'c mut Task,
    product: &'c mut Product,
    begun: i64,
    most: u64,
}

impl Copying<'_, '_, '_> {
    async fn run(
        mut self,
        mut upload: Option<PartUpload>,
        source: &mut Source<'_>,
    ) -> Result<Copied, Failed> {
        let mut buffer = Vec::new();
        let mut has_moved = false;
        loop {
            let piece = source.next().await?;
            let is_end = piece.is_none();
            buffer.append(&mut piece.unwrap_or_default());
            if source.at > self.most {
                return Ok(Copied::TooLarge);
            }
            // A part is sent only once more bytes follow it, so that a small result needs no upload in parts.
            while self.engine.assets.bucket.is_some() && buffer.len() > PART {
                let rest = buffer.split_off(PART);
                let part = std::mem::replace(&mut buffer, rest);
                self.send(&mut upload, part, &source.media_type).await?;
                has_moved = true;
            }
            if is_end {
                return self.end(upload, buffer, source).await;
            }
            if self.now() - self.begun >= WORK {
                return if has_moved {
                    Ok(Copied::Partly)
                } else {
                    Err(Failed::For("the result comes too slowly".into()))
                };
            }
        }
    }

    fn now(&self) -> i64 {
        self.engine.ports.clock.unix_seconds()
    }

    /// Sends a part, and begins the upload if this is the first. The claim is renewed before and after.
    async fn send(
        &mut self,
        upload: &mut Option<PartUpload>,
        part: Vec<u8>,
        declared: &str,
    ) -> Result<(), Failed> {
        self.renew().await?;
        let assets = &self.engine.assets;
        let upload = match upload {
            Some(upload) => upload,
            None => {
                let media_type = kind(&part, declared)?;
                let project = &self.claimed.project_id;
                let begun = assets.begin_upload(project, media_type, self.now()).await?;
                self.product.asset_id = Some(begun.asset_id.clone());
                self.note().await?;
                upload.insert(begun)
            }
        };
        assets.add_part(upload, part, self.now()).await?;
        if self.product.tries > 0 {
            self.product.tries = 0;
            self.note().await?;
        }
        self.renew().await
    }

    /// Notes how far the copy is.
    async fn note(&self) -> Result<(), Failed> {
        let database = self.engine.ports.database;
        let noted = rows::note_product(database, self.claimed, self.product).await;
        if noted.map_err(AssetError::from)? {
            Ok(())
        } else {
            Err(Failed::Claim)
        }
    }

    async fn renew(&mut self) -> Result<(), Failed> {
        let (database, now) = (self.engine.ports.database, self.now());
        let renewed = rows::renew_claim(database, self.claimed, now, LEASE).await;
        *self.claimed = renewed.map_err(AssetError::from)?.ok_or(Failed::Claim)?;
        Ok(())
    }

    /// Stores the last bytes.
    async fn end(
        &mut self,
        upload: Option<PartUpload>,
        last: Vec<u8>,
        source: &Source<'_>,
    ) -> Result<Copied, Failed> {
        self.renew().await?;
        let assets = &self.engine.assets;
        let (task_id, now) = (&self.claimed.task_id, self.now());
        let id = match upload {
            None if last.is_empty() => return Err(Failed::For("the result is empty".into())),
            None => {
                let media_type = kind(&last, &source.media_type)?;
                let project = &self.claimed.project_id;
                assets
                    .store(project, task_id, media_type, last, now)
                    .await?
            }
            Some(mut upload) => {
                if !last.is_empty() {
                    assets.add_part(&mut upload, last, now).await?;
                }
                assets.complete_upload(&upload, Some(task_id), now).await?;
                upload.asset_id
            }
        };
        Ok(Copied::Kept(asset_address::path(&id)))
    }
}

/// The media type of a result by its first bytes, or else the one that its service named. A page is not a result: a
/// service sends a page in place of a result that it cannot find.
fn kind<'t>(first: &[u8], declared: &'t str) -> Result<&'t str, Failed> {
    match media_type::recognised(first) {
        Some(media_type) => Ok(media_type),
        None if media_type::is_page(first, declared) => {
            Err(Failed::For("the service sent a page instead".into()))
        }
        None => Ok(declared),
    }
}
