//! A Kling that is made up: it checks its tokens, keeps jobs, calls back, and misbehaves as it is told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Method, Uri};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::http::Http;
use crate::server::{Reply, Request, Server};
use crate::sign;

/// The keys that it knows.
pub const ACCESS_KEY: &str = "kling-access-key-for-tests";
/// The key that tokens are signed with.
pub const SECRET_KEY: &str = "kling-secret-key-for-tests";
/// The key that needs no token.
pub const API_KEY: &str = "kling-api-key-for-tests";

/// For so long it works on a job that only [`Kling::finish`] ends.
pub const UNTIL_TOLD: Duration = Duration::from_secs(3600);

/// One call, before it is answered.
#[derive(Debug, Clone)]
pub struct Call {
    /// How many came before it in all.
    pub number: usize,
    /// The job's name: ours for a submission, ours or Kling's for a question.
    pub name: String,
    /// The prompt of a submission, or of the job that is asked about.
    pub prompt: String,
    /// Whether it submits.
    pub is_submission: bool,
    /// How many of the job's calls came before it.
    pub before: usize,
    /// How many of those went wrong.
    pub wrong: usize,
}

/// How a call goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// With this status, code and words.
    Error(u16, i64, &'static str),
    /// The connection is dropped before anything was done.
    DropBefore,
    /// The connection is dropped after everything was done.
    DropAfter,
    /// There is never an answer.
    Hang,
    /// The answer is no JSON.
    Garbage,
}

impl Fault {
    /// 429, as to somebody who calls too fast.
    pub const TOO_FAST: Self = Self::Error(429, 1302, "too fast");
    /// 500.
    pub const BROKEN: Self = Self::Error(500, 5000, "internal error");
    /// The content is refused.
    pub const REFUSED: Self = Self::Error(400, 1301, "the risk control system objects");
}

/// How a job goes.
#[derive(Debug, Clone)]
pub struct Course {
    /// How long it takes.
    pub duration: Duration,
    /// How often its end is called back.
    pub callbacks: usize,
    /// The words with which it fails.
    pub failure: Option<&'static str>,
    /// Whether it ends, and calls back, before the submission is answered.
    pub is_early: bool,
}

impl Default for Course {
    fn default() -> Self {
        Self {
            duration: Duration::from_millis(200),
            callbacks: 1,
            failure: None,
            is_early: false,
        }
    }
}

/// How a call goes wrong, if it does.
pub type FaultPlan = Box<dyn Fn(&Call) -> Option<Fault> + Send + Sync>;

/// How a job goes, by its number and its prompt.
pub type CoursePlan = Box<dyn Fn(usize, &str) -> Course + Send + Sync>;

/// What it does: how each call goes wrong, and how each job goes, by its number and prompt.
pub struct Plan {
    /// How a call goes wrong, if it does.
    pub fault: FaultPlan,
    /// How a job goes.
    pub course: CoursePlan,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            fault: Box::new(|_| None),
            course: Box::new(|_, _| Course::default()),
        }
    }
}

impl Plan {
    /// Every job runs until it is told that it is finished.
    pub fn until_told() -> Self {
        Self {
            course: Box::new(|_, _| Course {
                duration: UNTIL_TOLD,
                ..Course::default()
            }),
            ..Self::default()
        }
    }
}

/// A job that it has accepted.
#[derive(Debug, Clone)]
pub struct Job {
    /// What it calls it.
    pub task_id: String,
    /// What we call it.
    pub external_task_id: String,
    /// `image2video` or `text2video`.
    pub endpoint: String,
    /// The body of its submission.
    pub body: Value,
    /// When that came.
    pub arrived: Instant,
    course: Course,
    /// When it was told to end, where that is before its time.
    finished: bool,
}

impl Job {
    /// Where its result is.
    pub fn result_url(&self) -> String {
        format!("https://cdn.kling.test/{}.mp4", self.task_id)
    }

    /// Where it is to call back.
    pub fn callback_url(&self) -> &str {
        self.body["callback_url"].as_str().unwrap_or("")
    }

    /// Its prompt.
    pub fn prompt(&self) -> &str {
        self.body["prompt"].as_str().unwrap_or("")
    }

    /// What Kling says of it now.
    pub fn data(&self) -> Value {
        let age = self.arrived.elapsed();
        let status = if !self.finished && age < self.course.duration {
            if age < self.course.duration / 4 {
                "submitted"
            } else {
                "processing"
            }
        } else if self.course.failure.is_some() {
            "failed"
        } else {
            "succeed"
        };
        let mut data = json!({
            "task_id": self.task_id,
            "task_status": status,
            "task_status_msg": "",
            "task_info": { "external_task_id": self.external_task_id },
            "created_at": 1_722_769_557_708_u64,
            "updated_at": 1_722_769_557_708_u64,
        });
        match status {
            "succeed" => {
                let video =
                    json!({ "id": self.task_id, "url": self.result_url(), "duration": "5" });
                data["task_result"] = json!({ "videos": [video] });
            }
            "failed" => data["task_status_msg"] = json!(self.course.failure),
            _ => {}
        }
        data
    }
}

#[derive(Default)]
struct Kept {
    calls: Vec<Call>,
    jobs: Vec<Job>,
    /// By both names.
    by_name: HashMap<String, usize>,
    wrong: HashMap<String, usize>,
    calls_of: HashMap<String, usize>,
    /// The names under which a second job was asked for.
    repeated: Vec<String>,
    /// The tokens that were wrong.
    strangers: usize,
    /// The tokens that were right, but too early or expired by its clock.
    untimely: usize,
    /// The calls with the API key.
    with_api_key: usize,
    /// How far its clock is ahead of the machine's, in seconds.
    clock_ahead: i64,
    /// The status of each callback's answer; 0 where none came.
    called_back: Vec<(String, u16)>,
}

struct Inner {
    plan: Plan,
    kept: Mutex<Kept>,
    work: Mutex<JoinSet<()>>,
}

/// The service. Dropping it ends it.
pub struct Kling {
    server: Server,
    inner: Arc<Inner>,
}

impl Kling {
    /// Starts it.
    pub async fn start(plan: Plan) -> Self {
        let inner = Arc::new(Inner {
            plan,
            kept: Mutex::default(),
            work: Mutex::default(),
        });
        let serving = inner.clone();
        let server = Server::start(move |request| serve(serving.clone(), request)).await;
        Self { server, inner }
    }

    /// Its origin.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.inner.kept.lock().unwrap()
    }

    /// All jobs, in the order in which they were accepted.
    pub fn jobs(&self) -> Vec<Job> {
        self.kept().jobs.clone()
    }

    /// The job of one of our names, or one of its own.
    pub fn job(&self, name: &str) -> Option<Job> {
        let kept = self.kept();
        let n = *kept.by_name.get(name)?;
        Some(kept.jobs[n].clone())
    }

    /// All calls so far, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.kept().calls.clone()
    }

    /// The names under which somebody asked for a second job.
    pub fn repeated(&self) -> Vec<String> {
        self.kept().repeated.clone()
    }

    /// How many calls had no right token.
    pub fn strangers(&self) -> usize {
        self.kept().strangers
    }

    /// How many calls had a token that was too early or expired.
    pub fn untimely(&self) -> usize {
        self.kept().untimely
    }

    /// How many calls came with the API key.
    pub fn with_api_key(&self) -> usize {
        self.kept().with_api_key
    }

    /// Sets its clock so many seconds ahead of the machine's, or behind.
    pub fn set_clock(&self, ahead: i64) {
        self.kept().clock_ahead = ahead;
    }

    /// The callbacks that were made: our name of the job, and the status of the answer.
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

    /// Calls back about a job as it is now, and gives the status of the answer.
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

/// Sends the body to an address, and gives the status of the answer; 0 where none comes.
pub async fn tell(url: &str, body: impl Into<Bytes>) -> u16 {
    let Ok(uri) = url.parse::<Uri>() else {
        return 0;
    };
    let (Some(authority), Some(path)) = (uri.authority(), uri.path_and_query()) else {
        return 0;
    };
    let headers = [("content-type", "application/json")];
    let http = Http::new(authority.as_str());
    let sent = http.try_send(Method::POST, path.as_str(), &headers, body.into());
    match tokio::time::timeout(Duration::from_secs(10), sent).await {
        Ok(Ok(answer)) => answer.status.as_u16(),
        _ => 0,
    }
}

async fn call_back(inner: &Inner, job: &Job) -> u16 {
    let status = tell(job.callback_url(), job.data().to_string()).await;
    let mut kept = inner.kept.lock().unwrap();
    kept.called_back
        .push((job.external_task_id.clone(), status));
    status
}

/// A job's life after its submission.
async fn work(inner: Arc<Inner>, job: Job) {
    sleep(job.course.duration).await;
    for _ in 0..job.course.callbacks {
        call_back(&inner, &job).await;
    }
}

async fn serve(inner: Arc<Inner>, request: Request) -> Reply {
    let arrived = Instant::now();
    if request.header("authorization") == format!("Bearer {API_KEY}") {
        inner.kept.lock().unwrap().with_api_key += 1;
    } else {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let mut kept = inner.kept.lock().unwrap();
        let now = since.as_secs() as i64 + kept.clock_ahead;
        match check_token(&request, now) {
            Ok(()) => {}
            Err(Stranger::Untimely(code)) => {
                kept.untimely += 1;
                return dated(
                    envelope(401, code, "the token is not valid now", Value::Null),
                    now,
                );
            }
            Err(Stranger::Unknown(words)) => {
                kept.strangers += 1;
                return envelope(401, 1000, words, Value::Null);
            }
        }
    }
    let segments: Vec<&str> = request.path.split('/').skip(1).collect();
    let (endpoint, asked) = match segments[..] {
        ["v1", "videos", endpoint @ ("image2video" | "text2video")] => (endpoint, None),
        [
            "v1",
            "videos",
            endpoint @ ("image2video" | "text2video"),
            name,
        ] => (endpoint, Some(name)),
        _ => return envelope(404, 1203, "no such path", Value::Null),
    };
    let body = request.json();
    let call = note_call(&inner, asked, &body);
    let fault = (inner.plan.fault)(&call);
    if fault.is_some() {
        let mut kept = inner.kept.lock().unwrap();
        *kept.wrong.entry(call.name.clone()).or_default() += 1;
    }
    match fault {
        Some(Fault::Error(status, code, words)) => {
            return envelope(status, code, words, Value::Null);
        }
        Some(Fault::DropBefore) => return Reply::Drop,
        Some(Fault::Hang) => return Reply::Hang,
        Some(Fault::Garbage) => return Reply::bytes(200, "text/html", "<p>Back soon</p>"),
        Some(Fault::DropAfter) | None => {}
    }
    let reply = match asked {
        Some(name) => find(&inner, endpoint, name),
        None if request.method == Method::POST => accept(&inner, endpoint, body, arrived).await,
        None => envelope(405, 1200, "POST a job", Value::Null),
    };
    if fault == Some(Fault::DropAfter) {
        Reply::Drop
    } else {
        reply
    }
}

fn note_call(inner: &Inner, asked: Option<&str>, body: &Value) -> Call {
    let mut kept = inner.kept.lock().unwrap();
    let name = asked.or(body["external_task_id"].as_str()).unwrap_or("");
    let known = kept.by_name.get(name).map(|n| &kept.jobs[*n]);
    let prompt = match (asked, known) {
        (None, _) => body["prompt"].as_str().unwrap_or(""),
        (Some(_), Some(job)) => job.prompt(),
        (Some(_), None) => "",
    };
    // Calls about a job count together, by whichever name.
    let ours = known.map_or(name, |job| &job.external_task_id).to_owned();
    let mut call = Call {
        number: kept.calls.len(),
        name: ours.clone(),
        prompt: prompt.to_owned(),
        is_submission: asked.is_none(),
        before: 0,
        wrong: kept.wrong.get(&ours).copied().unwrap_or(0),
    };
    let count = kept.calls_of.entry(ours).or_default();
    call.before = *count;
    *count += 1;
    kept.calls.push(call.clone());
    call
}

fn find(inner: &Inner, endpoint: &str, name: &str) -> Reply {
    let kept = inner.kept.lock().unwrap();
    match kept.by_name.get(name).map(|n| &kept.jobs[*n]) {
        Some(job) if job.endpoint == endpoint => envelope(200, 0, "SUCCEED", job.data()),
        _ => envelope(404, 1203, "there is no such task", Value::Null),
    }
}

async fn accept(inner: &Arc<Inner>, endpoint: &str, body: Value, arrived: Instant) -> Reply {
    if let Err(words) = check_body(endpoint, &body) {
        return envelope(400, 1201, words, Value::Null);
    }
    let name = body["external_task_id"].as_str().unwrap_or("").to_owned();
    let job = {
        let mut kept = inner.kept.lock().unwrap();
        if kept.by_name.contains_key(&name) {
            kept.repeated.push(name);
            return envelope(400, 1200, "external_task_id is not unique", Value::Null);
        }
        let n = kept.jobs.len();
        let prompt = body["prompt"].as_str().unwrap_or("").to_owned();
        let job = Job {
            task_id: format!("kling-{n}-{}", rand::random::<u32>()),
            external_task_id: name.clone(),
            endpoint: endpoint.to_owned(),
            body,
            arrived,
            course: (inner.plan.course)(n, &prompt),
            finished: false,
        };
        kept.by_name.insert(name, n);
        kept.by_name.insert(job.task_id.clone(), n);
        kept.jobs.push(job.clone());
        job
    };
    let mut data = job.data();
    data["task_status"] = json!("submitted");
    if job.course.is_early {
        sleep(job.course.duration).await;
        call_back(inner, &job).await;
    } else {
        let working = work(inner.clone(), job);
        inner.work.lock().unwrap().spawn(working);
    }
    envelope(200, 0, "SUCCEED", data)
}

fn envelope(status: u16, code: i64, message: &str, data: Value) -> Reply {
    let body = json!({ "code": code, "message": message, "request_id": "r", "data": data });
    Reply::json(status, &body)
}

fn check_body(endpoint: &str, body: &Value) -> Result<(), &'static str> {
    let text = |name: &str| body[name].as_str().filter(|text| !text.is_empty());
    text("model_name").ok_or("model_name")?;
    text("callback_url").ok_or("callback_url")?;
    text("external_task_id").ok_or("external_task_id")?;
    if !body["duration"].is_null() && !matches!(text("duration"), Some("5" | "10")) {
        return Err("duration");
    }
    if !body["mode"].is_null() && !matches!(text("mode"), Some("std" | "pro")) {
        return Err("mode");
    }
    if !body["cfg_scale"].is_null()
        && !body["cfg_scale"]
            .as_f64()
            .is_some_and(|n| (0.0..=1.0).contains(&n))
    {
        return Err("cfg_scale");
    }
    match (endpoint, text("image")) {
        ("image2video", Some(image)) if !image.starts_with("data:") => Ok(()),
        ("text2video", None) if text("prompt").is_some() => Ok(()),
        _ => Err("image"),
    }
}

/// With the time by its clock, as HTTP servers tell it.
fn dated(reply: Reply, now: i64) -> Reply {
    let Reply::Answer(mut answer) = reply else {
        return reply;
    };
    let date = chrono::DateTime::from_timestamp(now, 0).unwrap();
    let date = date.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    answer.headers_mut().insert("date", date.parse().unwrap());
    Reply::Answer(answer)
}

/// Why a token is refused.
enum Stranger {
    /// It is valid at another time; with the code that says so.
    Untimely(i64),
    /// It never was.
    Unknown(&'static str),
}

/// Checks the bearer token: HS256 under the secret key, of the access key, valid now.
fn check_token(request: &Request, now: i64) -> Result<(), Stranger> {
    let unknown = |words| move || Stranger::Unknown(words);
    let no_token = unknown("no token");
    let bearer = request.header("authorization").strip_prefix("Bearer ");
    let token = bearer.ok_or_else(no_token)?;
    let (signed, signature) = token.rsplit_once('.').ok_or_else(no_token)?;
    let (header, claims) = signed.split_once('.').ok_or_else(no_token)?;
    let right = URL_SAFE_NO_PAD.encode(sign::code(SECRET_KEY.as_bytes(), signed.as_bytes()));
    if signature != right {
        return Err(Stranger::Unknown("the signature is wrong"));
    }
    let read = |part: &str| -> Option<Value> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
    };
    let (header, claims) = read(header).zip(read(claims)).ok_or_else(no_token)?;
    if header != json!({ "alg": "HS256", "typ": "JWT" }) || claims["iss"] != ACCESS_KEY {
        return Err(Stranger::Unknown("the token is another's"));
    }
    let times = claims["nbf"].as_i64().zip(claims["exp"].as_i64());
    let (from, to) = times.ok_or_else(unknown("the token has no times"))?;
    if from > now || to > now + 1800 {
        return Err(Stranger::Untimely(1003));
    }
    if to <= now {
        return Err(Stranger::Untimely(1004));
    }
    Ok(())
}
