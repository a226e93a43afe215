//! The HTTP API of Kling.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::body::{check_first, check_second};
use super::job::{self, Job};
use super::plan::{Call, Fault};
use super::token::{self, Rejected};
use super::{API_KEY, Inner, call_back, work};
use crate::server::{Reply, Request};

/// Answers a request.
pub(super) async fn serve(inner: Arc<Inner>, request: Request) -> Reply {
    let arrived = Instant::now();
    if let Some(film) = request.path.strip_prefix("/films/") {
        return serve_film(&inner, film);
    }
    if request.header("authorization") == format!("Bearer {API_KEY}") {
        inner.kept.lock().unwrap().with_api_key += 1;
    } else if !request.path.starts_with("/v1/") {
        inner.kept.lock().unwrap().rejected += 1;
        return envelope(401, 1002, "this API takes the API key alone", Value::Null);
    } else {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let mut kept = inner.kept.lock().unwrap();
        let now = since.as_secs() as i64 + kept.clock_ahead;
        match token::check(&request, now) {
            Ok(()) => {}
            Err(Rejected::Untimely(code)) => {
                kept.untimely += 1;
                return token::dated(
                    envelope(401, code, "the token is not valid now", Value::Null),
                    now,
                );
            }
            Err(Rejected::Unknown(words)) => {
                kept.rejected += 1;
                return envelope(401, 1000, words, Value::Null);
            }
        }
    }
    let Some(asked) = Asked::read(&request) else {
        return envelope(404, 1203, "no such path", Value::Null);
    };
    let body = request.json();
    let origin = format!("http://{}", request.header("host"));
    let call = note_call(&inner, &asked, &body);
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
        Asked::One { endpoint, name } => find(&inner, endpoint, name),
        Asked::Many(names) => find_all(&inner, &names),
        Asked::Submission { endpoint, model } if request.method == Method::POST => {
            accept(&inner, (endpoint, model), body, (arrived, origin)).await
        }
        Asked::Submission { .. } => envelope(405, 1200, "POST a job", Value::Null),
    };
    if fault == Some(Fault::DropAfter) {
        Reply::Drop
    } else {
        reply
    }
}

/// Serves the film of a job. This request needs no token.
fn serve_film(inner: &Inner, film: &str) -> Reply {
    let kept = inner.kept.lock().unwrap();
    let name = film.strip_suffix(".mp4").unwrap_or_default();
    let job = kept.by_name.get(name).map(|n| &kept.jobs[*n]);
    match job.and_then(|job| job.course.film.clone()) {
        Some(film) => Reply::bytes(200, "video/mp4", film),
        None => Reply::bytes(404, "text/plain", "no such film"),
    }
}

/// The operation that a request asks for.
enum Asked<'r> {
    /// The submission of a job. In the second generation, the path names the model.
    Submission {
        endpoint: &'r str,
        model: Option<&'r str>,
    },
    /// A query of the first generation about a job.
    One { endpoint: &'r str, name: &'r str },
    /// A query of the second generation about jobs.
    Many(Vec<&'r str>),
}

impl<'r> Asked<'r> {
    fn read(request: &'r Request) -> Option<Self> {
        let segments: Vec<&str> = request.path.split('/').skip(1).collect();
        Some(match segments[..] {
            ["v1", "videos", endpoint @ ("image2video" | "text2video")] => Self::Submission {
                endpoint,
                model: None,
            },
            [
                "v1",
                "videos",
                endpoint @ ("image2video" | "text2video"),
                name,
            ] => Self::One { endpoint, name },
            [endpoint @ ("image-to-video" | "text-to-video"), model] => Self::Submission {
                endpoint,
                model: Some(model),
            },
            ["tasks"] => {
                let (_, query) = request.target.split_once('?')?;
                let (kind, names) = query.split_once('=')?;
                matches!(kind, "task_ids" | "external_task_ids").then_some(())?;
                Self::Many(names.split(',').collect())
            }
            _ => return None,
        })
    }
}

fn note_call(inner: &Inner, asked: &Asked<'_>, body: &Value) -> Call {
    let mut kept = inner.kept.lock().unwrap();
    let submitted = job::name(body);
    // A query about many jobs counts as a query about the first.
    let (name, jobs) = match asked {
        Asked::Submission { .. } => (submitted, 1),
        Asked::One { name, .. } => (*name, 1),
        Asked::Many(names) => (names[0], names.len()),
    };
    let is_submission = matches!(asked, Asked::Submission { .. });
    let known = kept.by_name.get(name).map(|n| &kept.jobs[*n]);
    let prompt = match known {
        _ if is_submission => job::prompt(body),
        Some(job) => job.prompt(),
        None => "",
    };
    // A job has two names; calls by either are counted together.
    let ours = known.map_or(name, |job| &job.external_task_id).to_owned();
    let mut call = Call {
        number: kept.calls.len(),
        name: ours.clone(),
        prompt: prompt.to_owned(),
        is_submission,
        jobs,
        before: 0,
        wrong: kept.wrong.get(&ours).copied().unwrap_or(0),
    };
    let count = kept.calls_of.entry(ours).or_default();
    call.before = *count;
    *count += 1;
    kept.calls.push(call.clone());
    call
}

/// Answers a query about jobs of the second generation. Unknown jobs are left out.
fn find_all(inner: &Inner, names: &[&str]) -> Reply {
    let kept = inner.kept.lock().unwrap();
    let known = names.iter().filter_map(|name| kept.by_name.get(*name));
    let jobs = known.map(|n| &kept.jobs[*n]);
    let data: Vec<Value> = jobs
        .filter(|job| job.model.is_some())
        .map(Job::data)
        .collect();
    envelope(200, 0, "SUCCEED", json!(data))
}

fn find(inner: &Inner, endpoint: &str, name: &str) -> Reply {
    let kept = inner.kept.lock().unwrap();
    match kept.by_name.get(name).map(|n| &kept.jobs[*n]) {
        Some(job) if job.endpoint == endpoint => envelope(200, 0, "SUCCEED", job.data()),
        _ => envelope(404, 1203, "there is no such task", Value::Null),
    }
}

async fn accept(
    inner: &Arc<Inner>,
    (endpoint, model): (&str, Option<&str>),
    body: Value,
    (arrived, origin): (Instant, String),
) -> Reply {
    let checked = match model {
        None => check_first(endpoint, &body),
        Some(_) => check_second(endpoint, &body),
    };
    if let Err(words) = checked {
        return envelope(400, 1201, words, Value::Null);
    }
    let name = job::name(&body).to_owned();
    let job = {
        let mut kept = inner.kept.lock().unwrap();
        if kept.by_name.contains_key(&name) {
            kept.repeated.push(name);
            return envelope(400, 1200, "external_task_id is not unique", Value::Null);
        }
        if kept.jobs.iter().filter(|job| job.is_running()).count() >= inner.plan.places {
            return envelope(
                429,
                1303,
                "parallel task over resource pack limit",
                Value::Null,
            );
        }
        let n = kept.jobs.len();
        let prompt = job::prompt(&body).to_owned();
        let job = Job {
            task_id: format!("kling-{n}-{}", rand::random::<u32>()),
            external_task_id: name.clone(),
            endpoint: endpoint.to_owned(),
            model: model.map(str::to_owned),
            body,
            arrived,
            origin,
            course: (inner.plan.course)(n, &prompt),
            finished: false,
        };
        kept.by_name.insert(name, n);
        kept.by_name.insert(job.task_id.clone(), n);
        kept.jobs.push(job.clone());
        job
    };
    let mut data = job.data();
    let status = if model.is_some() {
        "status"
    } else {
        "task_status"
    };
    data[status] = json!("submitted");
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
