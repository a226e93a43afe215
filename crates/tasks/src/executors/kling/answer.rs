//! The meaning of Kling's answers and callbacks.

use std::time::Duration;

use chrono::DateTime;
use serde_json::{Value, json};

use crate::executor::{Failure, Media, Product, Progress, is_job_name, retry_after};

/// Returns whether Kling says that the token is not valid yet, or has expired.
pub(super) fn is_token_off(answer: &http::Response<Vec<u8>>) -> bool {
    let envelope: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    matches!(envelope["code"].as_i64(), Some(1003 | 1004))
}

/// The time at Kling, by the `Date` header of an answer.
pub(super) fn date(answer: &http::Response<Vec<u8>>) -> Option<i64> {
    let date = answer.headers().get("date")?.to_str().ok()?;
    Some(DateTime::parse_from_rfc2822(date).ok()?.timestamp())
}

/// The name that Kling gave a job, in the words of either generation; empty if there is none that can be asked about.
pub(super) fn id(data: &Value) -> &str {
    let id = data["task_id"].as_str().or_else(|| data["id"].as_str());
    id.filter(|id| is_job_name(id)).unwrap_or_default()
}

/// The status of a job, in the words of either generation.
pub(super) fn status(data: &Value) -> &str {
    let status = data["task_status"].as_str();
    let status = status.or_else(|| data["status"].as_str());
    status.unwrap_or_default()
}

/// Reads the `data` of an answer, or its error. A code counts more than the HTTP status, because errors come
/// with 200 as well.
pub(super) fn read_answer(answer: &http::Response<Vec<u8>>) -> Result<Value, Failure> {
    let status = answer.status().as_u16();
    let envelope: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    let message = envelope["message"].as_str().unwrap_or_default();
    let code = envelope["code"].as_i64();
    let data = &envelope["data"];
    if code == Some(0) && (200..300).contains(&status) && (data.is_object() || data.is_array()) {
        return Ok(data.clone());
    }
    let reason = match code {
        Some(code) if code != 0 => {
            // The message is cut, so that the code that follows it is not.
            let message: String = message.chars().take(400).collect();
            format!("Kling: {message} (code {code}, status {status})")
        }
        _ => format!("Kling sent an answer that cannot be understood (status {status})"),
    };
    let after = retry_after(answer.headers());
    let too_often = || Failure::too_often(reason.clone(), after);
    let later = Failure::Retry {
        reason: reason.clone(),
        after,
    };
    Err(match code {
        Some(1302) => too_often(),
        // Too many at once, or the quota used up.
        Some(1303) => Failure::no_place(reason, after),
        // A token that is too early or expired.
        Some(1003 | 1004) => later,
        // Authentication, the account, policies about callers.
        Some(1000..=1002 | 1100..=1103 | 1300 | 1304) => Failure::Access(reason),
        // A bad request, such as an unknown job; refused content.
        Some(1200..=1203 | 1301) => Failure::Permanent(reason),
        // Errors within Kling.
        Some(5000..=5002) => later,
        _ => match status {
            429 => too_often(),
            503 if after.is_some() => too_often(),
            408 | 425 | 500.. => later,
            // Without a known code, a proxy between us and Kling may have answered.
            400..=499 => Failure::Access(reason),
            _ => later,
        },
    })
}

/// Reads what Kling says of a job, in the words of either generation.
pub(super) fn progress(data: &Value) -> Result<Progress, Failure> {
    let external_task_id = id(data);
    match status(data) {
        "succeed" | "succeeded" => done(data),
        "failed" => {
            let message = data["task_status_msg"].as_str();
            let reason = message.or_else(|| data["message"].as_str());
            let reason = reason.filter(|reason| !reason.is_empty());
            Err(Failure::permanent(format!(
                "Kling: {}",
                reason.unwrap_or("the job failed without a reason")
            )))
        }
        "submitted" | "processing" if !external_task_id.is_empty() => Ok(Progress::Running {
            external_task_id: external_task_id.to_owned(),
            look_again: None,
        }),
        _ => Err(nonsense()),
    }
}

/// Reads the result of a job.
fn done(data: &Value) -> Result<Progress, Failure> {
    let (first, second) = (&data["task_result"]["videos"], &data["outputs"]);
    let is_shown = |output: &&Value| output["type"].is_null() || output["type"] == "video";
    let videos: Vec<Value> = [first, second]
        .into_iter()
        .filter_map(Value::as_array)
        .flatten()
        .filter(is_shown)
        .cloned()
        .collect();
    let media: Vec<Media> = videos
        .iter()
        .filter_map(|video| Some(Media::Url(video["url"].as_str()?.to_owned())))
        .collect();
    if media.is_empty() {
        let reason = "Kling: the job succeeded without a video";
        return Err(Failure::permanent(reason));
    }
    let mut about = json!({ "videos": videos });
    if let Some(cost) = cost(data) {
        about["cost"] = cost;
    }
    let data = about;
    Ok(Progress::Done(Product {
        media,
        data,
        signature: None,
    }))
}

/// The price of a job: a list of sums, each with its source in the words of the second generation: `unit` of a resource
/// pack, or `cash`.
fn cost(data: &Value) -> Option<Value> {
    if let Some(billing) = data["billing"].as_array() {
        return Some(json!(billing)).filter(|_| !billing.is_empty());
    }
    let of_first = [
        ("unit", "final_unit_deduction"),
        ("cash", "final_balance_deduction"),
    ];
    let sums: Vec<Value> = of_first
        .into_iter()
        .filter(|(_, name)| data[name].is_string() || data[name].is_number())
        .map(|(kind, name)| json!({ "charge_type": kind, "amount": data[name] }))
        .collect();
    Some(json!(sums)).filter(|_| !sums.is_empty())
}

/// Takes over a job that an earlier attempt began. Its name is noted first, and a poll follows at once.
pub(super) fn adopted(data: &Value) -> Result<Progress, Failure> {
    match id(data) {
        "" => Err(nonsense()),
        id => Ok(Progress::Running {
            external_task_id: id.to_owned(),
            look_again: Some(Duration::ZERO),
        }),
    }
}

fn nonsense() -> Failure {
    Failure::retry("Kling sent an answer that cannot be understood")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> http::Response<Vec<u8>> {
        let answer = http::Response::builder().status(status);
        answer.body(body.as_bytes().to_vec()).unwrap()
    }

    /// The part that an error concerns.
    #[derive(Debug, PartialEq)]
    enum Concerns {
        TheJob,
        Us,
        TheMoment,
        /// The account has no place for a job now.
        ThePlaces,
        /// Calls come too fast.
        TheRate,
    }
    use Concerns::{TheJob, TheMoment, ThePlaces, TheRate, Us};

    fn concerns(failure: &Failure) -> Concerns {
        match failure {
            Failure::Permanent(_) => TheJob,
            Failure::Access(_) => Us,
            Failure::Retry { .. } => TheMoment,
            Failure::NoPlace { .. } => ThePlaces,
            Failure::TooOften { .. } => TheRate,
        }
    }

    /// Checks every class of errors that Kling has, and the part that it concerns.
    #[test]
    fn errors_concern_the_job_or_us_or_the_moment() {
        let cases = [
            (401, 1000, Us),
            (401, 1002, Us),
            (401, 1003, TheMoment),
            (401, 1004, TheMoment),
            (429, 1100, Us),
            (429, 1102, Us),
            (403, 1103, Us),
            (400, 1200, TheJob),
            (404, 1203, TheJob),
            (400, 1300, Us),
            (200, 1301, TheJob),
            (429, 1302, TheRate),
            (200, 1302, TheRate),
            (200, 1303, ThePlaces),
            (429, 1304, Us),
            (500, 5000, TheMoment),
            (503, 5001, TheMoment),
            (200, 5002, TheMoment),
            (400, 5002, TheMoment),
        ];
        for (status, code, expected) in cases {
            let body = json!({ "code": code, "message": "words" }).to_string();
            let failure = read_answer(&answer(status, &body)).unwrap_err();
            assert_eq!(concerns(&failure), expected, "{status} {code}");
            let (Failure::Permanent(reason)
            | Failure::Access(reason)
            | Failure::NoPlace { reason, .. }
            | Failure::TooOften { reason, .. }
            | Failure::Retry { reason, .. }) = failure;
            assert!(reason.contains("words"), "{reason}");
        }
        for (status, body, expected) in [
            (500, "", TheMoment),
            (502, "<html>", TheMoment),
            (429, "", TheRate),
            (200, "", TheMoment),
            (200, "{\"code\":0}", TheMoment),
            (200, "{\"data\":{}}", TheMoment),
            (500, "{\"code\":0,\"data\":{}}", TheMoment),
            (408, "", TheMoment),
            (425, "", TheMoment),
            (200, "nonsense", TheMoment),
            (404, "", Us),
            (401, "{}", Us),
            (403, "<html>", Us),
        ] {
            let failure = read_answer(&answer(status, body)).unwrap_err();
            assert_eq!(concerns(&failure), expected, "{status} {body}");
            let words = format!("{failure:?}");
            assert!(words.contains("cannot be understood"), "{words}");
        }
    }

    #[test]
    fn a_job_that_goes_on_has_a_name() {
        for status in ["submitted", "processing"] {
            let named = progress(&json!({ "id": "k1", "status": status }));
            assert!(matches!(named, Ok(Progress::Running { .. })), "{named:?}");
            let long = "k".repeat(256);
            for name in ["", "..", "../k1", "k1,k2", "k1&task_ids=k2", "k 1", &long] {
                let nameless = progress(&json!({ "id": name, "status": status }));
                assert!(
                    matches!(nameless, Err(Failure::Retry { .. })),
                    "{name}: {nameless:?}"
                );
                assert!(adopted(&json!({ "task_id": name })).is_err(), "{name}");
            }
        }
    }

    #[test]
    fn the_time_at_the_service_is_read() {
        let dated = |date: &str| {
            let answer = http::Response::builder().header("date", date);
            super::date(&answer.body(Vec::new()).unwrap())
        };
        assert_eq!(dated("Thu, 26 Nov 2026 15:33:39 GMT"), Some(1_795_707_219));
        assert_eq!(dated("soon"), None);
    }

    #[test]
    fn a_wait_that_is_asked_for_is_kept() {
        let answer = http::Response::builder()
            .status(429)
            .header("retry-after", "7")
            .body(b"{\"code\":1302}".to_vec())
            .unwrap();
        let Err(Failure::TooOften { after, .. }) = read_answer(&answer) else {
            panic!("not to be tried again");
        };
        assert_eq!(after, Some(Duration::from_secs(7)));
        // A service that is overloaded names a time, too; one that is down does not.
        for (wait, expected) in [(Some("7"), TheRate), (None, TheMoment)] {
            let mut answer = http::Response::builder().status(503);
            if let Some(wait) = wait {
                answer = answer.header("retry-after", wait);
            }
            let failure = read_answer(&answer.body(Vec::new()).unwrap()).unwrap_err();
            assert_eq!(concerns(&failure), expected, "{wait:?}");
        }
    }
}
