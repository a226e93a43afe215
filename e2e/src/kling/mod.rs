//! A test double of Kling: it checks its tokens, keeps jobs, calls back, and fails as its plan says.

mod api;
mod body;
mod job;
mod plan;
mod token;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Uri};
use tokio::task::JoinSet;
use tokio::time::sleep;

pub use self::job::Job;
pub use self::plan::{Call, Course, CoursePlan, Fault, FaultPlan, Plan, UNTIL_TOLD};
pub use self::token::{ACCESS_KEY, SECRET_KEY};
use crate::http::Http;
use crate::server::Server;
use crate::sign;

/// The API key, which is sent instead of a token.
pub const API_KEY: &str = "kling-api-key-for-tests";

#[derive(Default)]
struct Kept {
    calls: Vec<Call>,
    jobs: Vec<Job>,
    /// The index of each job, by both of its names.
    by_name: HashMap<String, usize>,
    /// The number of failed calls about each job.
    wrong: HashMap<String, usize>,
    /// The number of calls about each job.
    calls_of: HashMap<String, usize>,
    /// The names that were submitted a second time.
    repeated: Vec<String>,
    /// The number of calls with an invalid token.
    rejected: usize,
    /// The number of calls with a token that was too early or expired by Kling's clock.
    untimely: usize,
    /// The number of calls with the API key.
    with_api_key: usize,
    /// The seconds by which Kling's clock is ahead of the machine's.
    clock_ahead: i64,
    /// The app's name for each job that called back, and the status of the answer; 0 if there was none.
    called_back: Vec<(String, u16)>,
}

struct Inner {
    plan: Plan,
    kept: Mutex<Kept>,
    work: Mutex<JoinSet<()>>,
}

/// The double. Dropping it ends it.
pub struct Kling {
    server: Server,
    inner: Arc<Inner>,
}

impl Kling {
    /// Starts a Kling that follows this plan.
    pub async fn start(plan: Plan) -> Self {
        let inner = Arc::new(Inner {
            plan,
            kept: Mutex::default(),
            work: Mutex::default(),
        });
        let serving = inner.clone();
        let server = Server::start(move |request| api::serve(serving.clone(), request)).await;
        Self { server, inner }
    }

    /// The origin of its address.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.inner.kept.lock().unwrap()
    }

    /// Returns all jobs, in the order of their submissions.
    pub fn jobs(&self) -> Vec<Job> {
        self.kept().jobs.clone()
    }

    /// The job with this name, the app's or Kling's.
    pub fn job(&self, name: &str) -> Option<Job> {
        let kept = self.kept();
        let n = *kept.by_name.get(name)?;
        Some(kept.jobs[n].clone())
    }

    /// Returns all calls so far, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.kept().calls.clone()
    }

    /// The names that were submitted a second time.
    pub fn repeated(&self) -> Vec<String> {
        self.kept().repeated.clone()
    }

    /// The number of calls with an invalid token.
    pub fn rejected(&self) -> usize {
        self.kept().rejected
    }

    /// The number of calls with a token that was too early or expired.
    pub fn untimely(&self) -> usize {
        self.kept().untimely
    }

    /// The number of calls with the API key.
    pub fn with_api_key(&self) -> usize {
        self.kept().with_api_key
    }

    /// Sets Kling's clock this many seconds ahead of the machine's; negative for behind.
    pub fn set_clock(&self, ahead: i64) {
        self.kept().clock_ahead = ahead;
    }

    /// The callbacks so far: the app's name for the job, and the status of the answer; 0 if there was none.
    pub fn called_back(&self) -> Vec<(String, u16)> {
        self.kept().called_back.clone()
    }

    /// Ends a job now, without a callback.
    pub fn finish(&self, name: &str) -> Job {
        let mut kept = self.kept();
        let n = kept.by_name[name];
        kept.jobs[n].finished = true;
        kept.jobs[n].clone()
    }

    /// Calls back about a job as it is now, and returns the status of the answer.
    pub async fn call_back(&self, name: &str) -> u16 {
        let job = self.job(name).unwrap();
        call_back(&self.inner, &job).await
    }
}

impl Drop for Kling {
    fn drop(&mut self) {
        self.inner.work.lock().unwrap().abort_all();
    }
}

/// Posts JSON to an address, and returns the status of the answer; 0 if there is none.
pub async fn notify(url: &str, body: impl Into<Bytes>) -> u16 {
    notify_with(url, &[], body).await
}

/// Posts JSON that is signed with this secret as of `age` seconds ago, as Standard Webhooks demands.
pub async fn notify_signed(url: &str, secret: &str, age: i64, body: &str) -> u16 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let at = (since.as_secs() as i64 - age).to_string();
    let message = format!("msg_1.{at}.{body}");
    let code = sign::code(secret.as_bytes(), message.as_bytes());
    let signature = format!("v1,{}", STANDARD.encode(code));
    let headers = [
        ("webhook-id", "msg_1"),
        ("webhook-timestamp", at.as_str()),
        ("webhook-signature", signature.as_str()),
    ];
    notify_with(url, &headers, body.to_owned()).await
}

/// Posts JSON with these headers, and returns the status of the answer; 0 if there is none.
pub async fn notify_with(url: &str, more: &[(&str, &str)], body: impl Into<Bytes>) -> u16 {
    let Ok(uri) = url.parse::<Uri>() else {
        return 0;
    };
    let (Some(authority), Some(path)) = (uri.authority(), uri.path_and_query()) else {
        return 0;
    };
    let mut headers = vec![("content-type", "application/json")];
    headers.extend_from_slice(more);
    let http = Http::new(authority.as_str());
    let sent = http.try_send(Method::POST, path.as_str(), &headers, body.into());
    match tokio::time::timeout(Duration::from_secs(10), sent).await {
        Ok(Ok(answer)) => answer.status.as_u16(),
        _ => 0,
    }
}

async fn call_back(inner: &Inner, job: &Job) -> u16 {
    let (url, body) = (job.callback_url(), job.data().to_string());
    let status = match inner.plan.secret {
        Some(secret) => notify_signed(url, secret, 0, &body).await,
        None => notify(url, body).await,
    };
    let mut kept = inner.kept.lock().unwrap();
    kept.called_back
        .push((job.external_task_id.clone(), status));
    status
}

/// Runs a job after its submission.
async fn work(inner: Arc<Inner>, job: Job) {
    sleep(job.course.duration).await;
    for _ in 0..job.course.callbacks {
        call_back(&inner, &job).await;
    }
}
