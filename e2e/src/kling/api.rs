//! The HTTP API of Kling.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::job::Job;
use super::plan::{Call, Fault};
use super::token::{self, Rejected};
use super::{API_KEY, Inner, call_back, work};
use crate::server::{Reply, Request};

/// Answers a request.
pub(super) async fn serve(inner: Arc<Inner>, request: Request) -> Reply {
    let arrived = Instant::now();
    if request.header("authorization") == format!("Bearer {API_KEY}") {
        inner.kept.lock().unwrap().with_api_key += 1;
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
    // A job has two names; calls by either are counted together.
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
        if kept.jobs.iter().filter(|job| job.is_running()).count() >= inner.plan.places {
            return envelope(
                429,
                1303,
                "parallel task over resource pack limit",
                Value::Null,
            );
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
