//! A test double of fal: a queue of jobs that end when the test says so, callbacks with fal's signature, and results.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer, SigningKey};
use http::{Method, Uri};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::bucket::hex;
use crate::gemini::PIXEL;
use crate::kling::notify_with;
use crate::server::{Reply, Request, Server};

/// The API key that fal knows.
pub const KEY: &str = "fal-key-for-tests";

/// The first bytes of the file of a film.
pub const FILM: &[u8] = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isomfilm";

/// A job.
#[derive(Debug, Clone)]
pub struct Job {
    /// The name that fal gave it.
    pub request_id: String,
    /// The model in the path of the submission.
    pub model: String,
    /// The body of the submission.
    pub input: Value,
    /// The address for the callback.
    pub callback_url: String,
    /// The number of requests for its status.
    pub looks: usize,
    /// Says whether fal received a request to cancel it.
    pub is_cancelled: bool,
    has_ended: bool,
}

impl Job {
    /// The prompt.
    pub fn prompt(&self) -> &str {
        self.input["prompt"].as_str().unwrap_or("")
    }

    fn path(&self) -> String {
        let app: Vec<&str> = self.model.split('/').take(2).collect();
        format!("/{}/requests/{}", app.join("/"), self.request_id)
    }
}

#[derive(Default)]
struct Kept {
    jobs: Vec<Job>,
    asked_for_keys: usize,
    wrong: Vec<String>,
}

/// The double. Dropping it ends it.
///
/// A model with `video` in its name makes a film, any other makes `num_images` pictures. The model `gone/model` does not
/// exist.
pub struct Fal {
    server: Server,
    kept: Arc<Mutex<Kept>>,
}

impl Fal {
    /// Starts a fal.
    pub async fn start() -> Self {
        let kept: Arc<Mutex<Kept>> = Arc::default();
        let serving = kept.clone();
        let server = Server::start(move |request| {
            let reply = serve(&request, &mut serving.lock().unwrap());
            async move { reply }
        })
        .await;
        Self { server, kept }
    }

    /// The origin of its addresses.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap()
    }

    /// The job with this name.
    pub fn job(&self, request_id: &str) -> Job {
        let kept = self.kept();
        let job = kept.jobs.iter().find(|job| job.request_id == request_id);
        job.unwrap().clone()
    }

    /// The number of submissions so far.
    pub fn submissions(&self) -> usize {
        self.kept().jobs.len()
    }

    /// The number of requests for the public keys.
    pub fn asked_for_keys(&self) -> usize {
        self.kept().asked_for_keys
    }

    /// The requests that were not valid, each with the reason.
    pub fn wrong(&self) -> Vec<String> {
        self.kept().wrong.clone()
    }

    /// Ends a job, without a callback.
    pub fn finish(&self, request_id: &str) {
        for job in &mut self.kept().jobs {
            job.has_ended |= job.request_id == request_id;
        }
    }

    /// Calls back about a job that ended `age` seconds ago, and returns the status of the answer. An `error` replaces the
    /// result.
    pub async fn call_back(&self, request_id: &str, age: i64, error: Option<&str>) -> u16 {
        let job = self.job(request_id);
        let mut body = json!({ "request_id": request_id, "gateway_request_id": request_id });
        match error {
            None => {
                body["status"] = json!("OK");
                body["payload"] = output(&job, &self.url());
            }
            Some(words) => {
                body["status"] = json!("ERROR");
                body["error"] = json!(words);
            }
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let at = (since.as_secs() as i64 - age).to_string();
        let body = body.to_string();
        let message = format!("{request_id}\nuser\n{at}\n{}", hex(&Sha256::digest(&body)));
        let signature = hex(&key().sign(message.as_bytes()).to_bytes());
        let headers = [
            ("x-fal-webhook-request-id", request_id),
            ("x-fal-webhook-user-id", "user"),
            ("x-fal-webhook-timestamp", at.as_str()),
            ("x-fal-webhook-signature", signature.as_str()),
        ];
        notify_with(&job.callback_url, &headers, body).await
    }
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn serve(request: &Request, kept: &mut Kept) -> Reply {
    match request.path.as_str() {
        "/.well-known/jwks.json" => {
            kept.asked_for_keys += 1;
            let x = URL_SAFE_NO_PAD.encode(key().verifying_key());
            let known = json!({ "kty": "OKP", "crv": "Ed25519", "use": "sig", "x": x });
            return Reply::json(200, &json!({ "keys": [known] }));
        }
        path if path.starts_with("/files/") && path.ends_with(".mp4") => {
            return Reply::bytes(200, "video/mp4", FILM);
        }
        path if path.starts_with("/files/") => {
            return Reply::bytes(200, "image/png", STANDARD.decode(PIXEL).unwrap());
        }
        _ => {}
    }
    if request.header("authorization") != format!("Key {KEY}") {
        kept.wrong
            .push(format!("{}: without the key", request.target));
        return Reply::json(401, &json!({ "detail": "Cannot access application" }));
    }
    let origin = format!("http://{}", request.header("host"));
    let known = kept
        .jobs
        .iter_mut()
        .find(|job| request.path.starts_with(&job.path()));
    match known {
        Some(job) => about(job, request, &origin),
        None if request.method == Method::POST => submission(request, kept, &origin),
        None => Reply::json(404, &json!({ "detail": "Request not found" })),
    }
}

fn submission(request: &Request, kept: &mut Kept, origin: &str) -> Reply {
    let model = request.path.trim_start_matches('/').to_owned();
    if model == "gone/model" {
        return Reply::json(404, &json!({ "detail": "Application \"model\" not found" }));
    }
    let uri: Uri = request.target.parse().unwrap();
    let query = url::form_urlencoded::parse(uri.query().unwrap_or("").as_bytes());
    let query: HashMap<String, String> = query.into_owned().collect();
    let input = request.json();
    let (Some(callback_url), true) = (query.get("fal_webhook"), input.is_object()) else {
        let words = format!("{}: no input or no callback", request.target);
        kept.wrong.push(words);
        return Reply::json(422, &json!({ "detail": "not an object" }));
    };
    let job = Job {
        request_id: format!("request-{}-{}", kept.jobs.len(), rand::random::<u32>()),
        model,
        input,
        callback_url: callback_url.clone(),
        looks: 0,
        is_cancelled: false,
        has_ended: false,
    };
    let at = format!("{origin}{}", job.path());
    let accepted = json!({
        "request_id": job.request_id, "queue_position": 0, "response_url": at,
        "status_url": format!("{at}/status"), "cancel_url": format!("{at}/cancel"),
    });
    kept.jobs.push(job);
    Reply::json(200, &accepted)
}

/// Answers a request about a job.
fn about(job: &mut Job, request: &Request, origin: &str) -> Reply {
    let path = job.path();
    match (&request.method, request.path.strip_prefix(&path)) {
        (&Method::GET, Some("/status")) => {
            job.looks += 1;
            let status = match (job.has_ended, job.looks) {
                (true, _) => json!({ "status": "COMPLETED", "request_id": job.request_id }),
                (false, 1) => json!({ "status": "IN_QUEUE", "queue_position": 3 }),
                (false, _) => json!({ "status": "IN_PROGRESS" }),
            };
            Reply::json(if job.has_ended { 200 } else { 202 }, &status)
        }
        (&Method::GET, Some("")) if job.has_ended => Reply::json(200, &output(job, origin)),
        (&Method::GET, Some("")) => {
            Reply::json(400, &json!({ "detail": "Request is still in progress" }))
        }
        (&Method::PUT, Some("/cancel")) if job.has_ended => {
            Reply::json(400, &json!({ "status": "ALREADY_COMPLETED" }))
        }
        (&Method::PUT, Some("/cancel")) => {
            job.is_cancelled = true;
            Reply::json(202, &json!({ "status": "CANCELLATION_REQUESTED" }))
        }
        _ => Reply::json(404, &json!({ "detail": "Not Found" })),
    }
}

/// The output of a job's model.
fn output(job: &Job, origin: &str) -> Value {
    let file =
        |ending: &str| json!({ "url": format!("{origin}/files/{}{ending}", job.request_id) });
    if job.model.contains("video") {
        return json!({ "video": file(".mp4") });
    }
    let count = job.input["num_images"].as_u64().unwrap_or(1);
    let images: Vec<Value> = (0..count).map(|n| file(&format!("-{n}.png"))).collect();
    json!({ "images": images, "seed": 7 })
}
