//! The callbacks of services.

use serde_json::Value;

use super::Engine;
use crate::{
    error::TaskError,
    executor::{Arrived, Authenticity, Callback, Failure, MAX_NAME_BYTES, Progress},
    public_url::public_url,
    rows::{self, End},
    task::Task,
    webhook,
};

impl Engine<'_> {
    /// The address at which a service may call back about this task.
    pub(super) fn callback_url(&self, service: &str, task: &Task) -> String {
        let job = task.job();
        let signature = self.key.sign(service, &job);
        let origin = public_url(self.ports.config);
        format!("{origin}/webhooks/{service}?job={job}&signature={signature}")
    }

    /// Checks the signature of a callback address. An address without a job, such as an operator enters in the console of
    /// a service, passes if the service signs its callbacks: then [`receive_callback`](Self::receive_callback) checks
    /// that.
    ///
    /// # Errors
    /// [`TaskError::NotFound`] if there is no such service, [`TaskError::BadSignature`] if the signature is not
    /// that of the service and the job.
    pub fn authenticate(&self, service: &str, job: &str, signature: &str) -> Result<(), TaskError> {
        let executor = self.registry.service(service).ok_or(TaskError::NotFound)?;
        let is_bare = job.is_empty() && signature.is_empty();
        if is_bare && executor.signs_callbacks(self.ports.config) {
            return Ok(());
        }
        if self.key.verifies(service, job, signature) {
            Ok(())
        } else {
            Err(TaskError::BadSignature)
        }
    }

    /// Takes a callback that has arrived at an [authenticated](Self::authenticate) address, if the service has signed it or
    /// signs none. Without a job in its address it is a test of the service's console, and changes nothing.
    ///
    /// # Errors
    /// [`TaskError::BadSignature`] if the service's own signature is wrong, missing or old,
    /// [`TaskError::NotChecked`] if it cannot be checked now, and those of [`call_back`](Self::call_back).
    pub async fn receive_callback(
        &self,
        service: &str,
        job: &str,
        callback: Arrived<'_>,
    ) -> Result<(), TaskError> {
        let executor = self.registry.service(service).ok_or(TaskError::NotFound)?;
        match executor.authenticity(&callback, &self.context("")).await {
            Authenticity::Right => {}
            Authenticity::NotSigned if !job.is_empty() => {}
            Authenticity::NotSigned | Authenticity::Wrong => {
                tracing::warn!(service, job, "a callback lacks the service's signature");
                return Err(TaskError::BadSignature);
            }
            Authenticity::Unclear(reason) => return Err(TaskError::NotChecked(reason)),
        }
        if job.is_empty() {
            tracing::info!(service, "a test callback was accepted");
            return Ok(());
        }
        self.call_back(service, job, callback.body).await
    }

    /// Takes a callback about the job whose address it came to. The caller has checked that it is the service's:
    /// [`receive_callback`](Self::receive_callback) does so for every callback that arrives over the network, because
    /// [`authenticate`](Self::authenticate) does not see the service's own signature. A late or repeated callback changes
    /// nothing.
    ///
    /// # Errors
    /// [`TaskError::NotFound`] if there is no such service or task, [`TaskError::NotACallback`] if the body is
    /// not a callback, or if the database or the asset store fails.
    pub async fn call_back(&self, service: &str, job: &str, body: &[u8]) -> Result<(), TaskError> {
        let executor = self.registry.service(service).ok_or(TaskError::NotFound)?;
        let body: Value = serde_json::from_slice(body).map_err(|_| TaskError::NotACallback)?;
        let callback = webhook::plain(&body)
            .or_else(|| executor.process_webhook(&body))
            .ok_or(TaskError::NotACallback)?;
        let Callback { about, news } = callback;
        let task = rows::get(self.ports.database, Task::id_of_job(job))
            .await?
            .ok_or(TaskError::NotFound)?;
        if task.external_service.as_deref() != Some(service) {
            return Err(TaskError::NotFound);
        }
        // A job that goes on changes nothing here. The tests of a service's console say this of a made-up job, so they
        // must not fail below because of its name.
        if matches!(news, Ok(Progress::Running { .. })) {
            return Ok(());
        }
        // If this run has taken over the job of an earlier run, the callback comes to the address of that run, and
        // names the job as the service does.
        let is_adopted = about.is_some() && about == task.external_task_id;
        if (task.job() != job && !is_adopted) || task.status.is_final() {
            return Ok(());
        }
        if let (Some(about), Some(known)) = (&about, &task.external_task_id)
            && about != known
            && about != job
        {
            return Err(TaskError::NotFound);
        }
        let external = about.filter(|about| about != job);
        let is_too_long = |name: &String| name.len() > MAX_NAME_BYTES;
        if external.as_ref().is_some_and(is_too_long) {
            return Err(TaskError::NotACallback);
        }
        tracing::info!(task_id = task.task_id, service, "a callback was accepted");
        match news {
            Ok(Progress::Running { .. }) => Ok(()),
            Ok(Progress::Done(product)) => self.complete(&task, external.as_deref(), product).await,
            Err(Failure::Permanent(reason)) => {
                let end = End::Failed { error: &reason };
                self.end(&task, external.as_deref(), end).await
            }
            // This does not concern the job. A poll finds out how the job is.
            Err(
                Failure::Access(_)
                | Failure::NoPlace { .. }
                | Failure::TooOften { .. }
                | Failure::Retry { .. },
            ) => Err(TaskError::NotACallback),
        }
    }
}
