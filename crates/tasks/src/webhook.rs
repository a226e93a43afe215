//! The plain callback, which every service's address accepts in addition to the service's own form.

use serde_json::{Value, json};

use crate::executor::{Callback, Failure, Media, Product, Progress};

/// Reads `{"task_id", "status": "success" | "failed" | "processing", "result_url", "error"}`.
pub(crate) fn plain(body: &Value) -> Option<Callback> {
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let about = text("task_id")?.to_owned();
    let news = match text("status")? {
        "success" | "completed" => Ok(Progress::Done(Product {
            media: vec![Media::Url(text("result_url")?.to_owned())],
            data: json!({}),
            signature: None,
        })),
        "failed" => Err(Failure::permanent(
            text("error")
                .filter(|error| !error.trim().is_empty())
                .unwrap_or("the service reported a failure"),
        )),
        "processing" => Ok(Progress::Running {
            external_task_id: about.clone(),
            look_again: None,
        }),
        _ => return None,
    };
    Some(Callback {
        about: Some(about),
        news,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_form() {
        let read = |body: Value| plain(&body).map(|callback| callback.news);
        assert_eq!(
            read(json!({ "task_id": "x", "status": "success", "result_url": "https://a/b" })),
            Some(Ok(Progress::Done(Product {
                media: vec![Media::Url("https://a/b".into())],
                data: json!({}),
                signature: None,
            })))
        );
        assert_eq!(
            read(json!({ "task_id": "x", "status": "failed", "error": "no" })),
            Some(Err(Failure::permanent("no")))
        );
        assert_eq!(
            read(json!({ "task_id": "x", "status": "failed", "error": " " })),
            Some(Err(Failure::permanent("the service reported a failure")))
        );
        assert_eq!(
            read(json!({ "task_id": "x", "status": "processing" })),
            Some(Ok(Progress::Running {
                external_task_id: "x".into(),
                look_again: None,
            }))
        );
        for nonsense in [
            json!(null),
            json!([]),
            json!({ "task_id": "x" }),
            json!({ "task_id": 7, "status": "success", "result_url": "https://a/b" }),
            json!({ "task_id": "x", "status": "success" }),
            json!({ "task_id": "x", "status": "perhaps" }),
        ] {
            assert_eq!(read(nonsense.clone()), None, "{nonsense}");
        }
    }
}
