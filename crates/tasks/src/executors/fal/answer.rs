//! The meaning of fal's answers and callbacks.

use std::time::Duration;

use serde_json::Value;

use super::model::Model;
use crate::executor::{Callback, Failure, Media, Product, Progress, is_job_name, retry_after};

/// The answer of fal to a request.
type Answer = http::Response<Vec<u8>>;

/// The names under which models put their results.
const RESULTS: &[&str] = &["images", "image", "videos", "video", "audio", "audio_file"];

const UNCLEAR: &str = "fal sent an answer that cannot be understood";

/// Reads the answer to a submission.
pub(super) fn accepted(answer: &Answer, model: &Model<'_>) -> Result<Progress, Failure> {
    let body = body(answer);
    if answer.status().is_success() {
        let name = body["request_id"].as_str().filter(|name| is_job_name(name));
        return match name {
            Some(name) => Ok(running(name)),
            None => Err(Failure::retry(UNCLEAR)),
        };
    }
    if answer.status() == http::StatusCode::NOT_FOUND && body.is_object() {
        let (name, words) = (model.name(), words(&body));
        return Err(Failure::Permanent(format!(
            "fal has no model `{name}` (any more): name another in `task_type` ({words})"
        )));
    }
    Err(failure(answer, &body))
}

/// Reads how a job is; `None` if it has ended and its result is to be asked for.
pub(super) fn status(answer: &Answer, name: &str) -> Result<Option<Progress>, Failure> {
    let body = body(answer);
    if !answer.status().is_success() {
        return Err(failure(answer, &body));
    }
    match body["status"].as_str() {
        Some("IN_QUEUE" | "IN_PROGRESS") => Ok(Some(running(name))),
        Some("COMPLETED") if body["error"].is_string() => Err(failed(&body)),
        Some("COMPLETED") => Ok(None),
        _ => Err(Failure::retry(UNCLEAR)),
    }
}

/// Reads the result of a job that has ended. A job that failed has an error in place of a result.
pub(super) fn result(answer: &Answer) -> Result<Progress, Failure> {
    let body = body(answer);
    if answer.status().is_success() {
        return product(body);
    }
    match failure(answer, &body) {
        Failure::Permanent(_) => Err(failed(&body)),
        Failure::Retry { .. } if answer.headers().contains_key("x-fal-error-type") => {
            Err(failed(&body))
        }
        other => Err(other),
    }
}

/// Reads a callback; `None` if it is not one.
pub(super) fn callback(body: &Value) -> Option<Callback> {
    let name = body.get("request_id")?.as_str()?;
    let news = match body.get("status")?.as_str()? {
        "OK" if body["payload"].is_object() => product(body["payload"].clone()),
        // The result was too large for a callback. A poll gets it.
        "OK" => Ok(running(name)),
        "ERROR" if body["payload"]["detail"].is_null() => Err(failed(body)),
        "ERROR" => Err(failed(&body["payload"])),
        _ => return None,
    };
    Some(Callback {
        about: Some(name.to_owned()),
        news,
    })
}

/// Takes over a job of an earlier run. Its name is noted first, and a poll follows at once.
pub(super) fn adopted(name: &str) -> Progress {
    Progress::Running {
        external_task_id: name.to_owned(),
        look_again: Some(Duration::ZERO),
    }
}

fn running(name: &str) -> Progress {
    Progress::Running {
        external_task_id: name.to_owned(),
        look_again: None,
    }
}

fn body(answer: &Answer) -> Value {
    serde_json::from_slice(answer.body()).unwrap_or_default()
}

/// The product of an output: every picture, film or sound in it. Its description is the output itself.
fn product(output: Value) -> Result<Progress, Failure> {
    let found = RESULTS.iter().flat_map(|name| match &output[*name] {
        Value::Array(list) => list.iter().collect(),
        one => vec![one],
    });
    let address = |one: &Value| one.as_str().or(one["url"].as_str()).map(str::to_owned);
    let media: Vec<Media> = found.filter_map(address).map(Media::Url).collect();
    if media.is_empty() {
        return Err(Failure::permanent(
            "fal: the job ended without a picture, film or sound",
        ));
    }
    Ok(Progress::Done(Product {
        media,
        data: output,
        signature: None,
    }))
}

fn failed(body: &Value) -> Failure {
    Failure::Permanent(format!("fal: the job failed: {}", words(body)))
}

/// Classifies an error. fal always has a place: it keeps jobs in its queue until the account may have one more.
fn failure(answer: &Answer, body: &Value) -> Failure {
    let (status, after) = (answer.status().as_u16(), retry_after(answer.headers()));
    let reason = format!("fal: {} (status {status})", words(body));
    match status {
        429 => Failure::too_often(reason, after),
        503 if after.is_some() => Failure::too_often(reason, after),
        408 | 425 | 500.. => Failure::Retry { reason, after },
        // A wrong key, an account without balance or locked.
        401..=403 => Failure::Access(reason),
        400..=499 if body.is_object() => Failure::Permanent(reason),
        // A proxy between us and fal may have answered.
        400..=499 => Failure::Access(reason),
        _ => Failure::Retry { reason, after },
    }
}

/// The words of an error: a sentence, or one for each parameter that is wrong.
fn words(body: &Value) -> String {
    let words = match &body["detail"] {
        Value::Array(list) => {
            let one = |wrong: &Value| {
                let place = wrong["loc"].as_array().and_then(|loc| loc.last());
                let place = place.and_then(Value::as_str).unwrap_or("input");
                format!("{place}: {}", wrong["msg"].as_str().unwrap_or_default())
            };
            list.iter().take(8).map(one).collect::<Vec<_>>().join("; ")
        }
        detail => [detail, &body["error"], &body["message"]]
            .into_iter()
            .find_map(Value::as_str)
            .unwrap_or("it does not say more")
            .to_owned(),
    };
    // The words are cut, so that the status that follows them is not.
    words.chars().take(400).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        let answer = http::Response::builder().status(status);
        answer.body(body.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn each_error_has_its_class() {
        let class = |failure: Failure| match failure {
            Failure::Permanent(_) => "the job",
            Failure::Access(_) => "us",
            Failure::Retry { .. } => "the moment",
            Failure::TooOften { .. } => "the rate",
            Failure::NoPlace { .. } => "the places",
        };
        let model = Model::of("fal:fal-ai/flux/dev").unwrap();
        let said = r#"{"detail":"words"}"#;
        for (status, body, expected) in [
            (400, said, "the job"),
            (404, said, "the job"),
            (422, said, "the job"),
            (
                422,
                r#"{"detail":[{"loc":["body","prompt"],"msg":"words","type":"missing"}]}"#,
                "the job",
            ),
            (401, said, "us"),
            (402, said, "us"),
            (403, said, "us"),
            (404, "<html>", "us"),
            (429, said, "the rate"),
            (408, said, "the moment"),
            (500, said, "the moment"),
            (502, "<html>", "the moment"),
            (503, said, "the moment"),
            (302, "", "the moment"),
            (200, "nonsense", "the moment"),
            (200, r#"{"request_id":"../x"}"#, "the moment"),
        ] {
            let failure = accepted(&answer(status, body), &model).unwrap_err();
            if body.contains("words") {
                let shown = format!("{failure:?}");
                assert!(shown.contains("words"), "{shown}");
            }
            assert_eq!(class(failure), expected, "{status} {body}");
        }
        let later = http::Response::builder()
            .status(503)
            .header("retry-after", "7");
        let later = later.body(said.into()).unwrap();
        assert!(matches!(
            accepted(&later, &model),
            Err(Failure::TooOften { after: Some(after), .. }) if after.as_secs() == 7
        ));
        let gone = accepted(&answer(404, said), &model);
        let Err(Failure::Permanent(words)) = gone else {
            panic!("{gone:?}");
        };
        assert!(
            words.contains("fal-ai/flux/dev") && words.contains("task_type"),
            "{words}"
        );
    }

    #[test]
    fn a_job_that_failed_is_distinguished_from_a_service_that_is_away() {
        let is_final = |read: Result<_, Failure>| matches!(read, Err(Failure::Permanent(_)));
        let said = r#"{"detail":"words"}"#;
        assert!(is_final(result(&answer(422, said)).map(drop)));
        assert!(!is_final(result(&answer(500, said)).map(drop)));
        assert!(!is_final(result(&answer(401, said)).map(drop)));
        let named = http::Response::builder()
            .status(500)
            .header("x-fal-error-type", "x");
        assert!(is_final(
            result(&named.body(said.into()).unwrap()).map(drop)
        ));
        let told = r#"{"status":"COMPLETED","error":"words"}"#;
        assert!(is_final(status(&answer(200, told), "a").map(drop)));
        let unknown = status(&answer(200, r#"{"status":"NEW"}"#), "a");
        assert!(matches!(unknown, Err(Failure::Retry { .. })), "{unknown:?}");
    }

    #[test]
    fn every_result_of_an_output_is_found() {
        for (output, expected) in [
            (
                json!({ "images": [{ "url": "a" }, { "url": "b" }], "seed": 1 }),
                &["a", "b"][..],
            ),
            (json!({ "image": { "url": "a" } }), &["a"]),
            (
                json!({ "video": { "url": "a" }, "audio": { "url": "b" } }),
                &["a", "b"],
            ),
            (json!({ "video": "a" }), &["a"]),
        ] {
            let Ok(Progress::Done(product)) = product(output.clone()) else {
                panic!("{output}");
            };
            let expected: Vec<Media> = expected.iter().map(|a| Media::Url((*a).into())).collect();
            assert_eq!((product.media, product.data), (expected, output));
        }
        for nothing in [json!({}), json!(null), json!({ "images": [], "video": {} })] {
            assert!(matches!(product(nothing), Err(Failure::Permanent(_))));
        }
    }

    #[test]
    fn callbacks_are_read() {
        let news = |body: Value| callback(&body).map(|read| read.news);
        let done =
            json!({ "request_id": "r", "status": "OK", "payload": { "video": { "url": "a" } } });
        assert!(matches!(news(done), Some(Ok(Progress::Done(_)))));
        let large =
            json!({ "request_id": "r", "status": "OK", "payload": null, "payload_error": "x" });
        assert!(matches!(news(large), Some(Ok(Progress::Running { .. }))));
        for body in [
            json!({ "request_id": "r", "status": "ERROR", "error": "words" }),
            json!({ "request_id": "r", "status": "ERROR", "error": "x", "payload": { "detail": "words" } }),
        ] {
            let read = news(body);
            assert!(
                matches!(&read, Some(Err(Failure::Permanent(why))) if why.contains("words")),
                "{read:?}"
            );
        }
        for nonsense in [
            json!(null),
            json!({ "request_id": "r" }),
            json!({ "status": "OK" }),
        ] {
            assert_eq!(news(nonsense), None);
        }
    }
}
