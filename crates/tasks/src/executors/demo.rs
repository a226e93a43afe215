//! A service that needs no key: it draws a picture from the prompt, so that a newcomer sees everything work.
//! It stands in for any kind of service, because its parameters say how it behaves.

use std::{fmt::Write, time::Duration};

use async_trait::async_trait;
use platform::http_client::Limits;
use problem::Fields;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    executor::{Callback, Context, Executor, Failure, Media, Product, Progress},
    task::Task,
};

/// The service `demo`.
pub(super) struct Demo;

/// The time that a drawing takes unless `seconds` says otherwise, in seconds.
const DRAWING: f64 = 3.0;

/// The largest value of `seconds`.
const LONGEST: i64 = 600;

const CALL: Limits = Limits {
    timeout: Duration::from_secs(5),
    max_bytes: 64 * 1024,
};

#[async_trait(?Send)]
impl Executor for Demo {
    fn service(&self) -> &'static str {
        "demo"
    }

    fn task_types(&self) -> &'static [&'static str] {
        &["demo"]
    }

    fn check(&self, _task_type: &str, params: &mut Fields<'_>) {
        params.required_text("prompt", 2000);
        params.one_of("complete", &["poll", "webhook", "at_once"]);
        params.number("seconds", 0.0, LONGEST as f64);
        if params.value("fail").is_some_and(|fail| !fail.is_boolean()) {
            params.text("fail", 500);
        }
    }

    async fn submit(
        &self,
        task: &Task,
        params: &Value,
        context: &Context<'_>,
    ) -> Result<Progress, Failure> {
        if params["complete"] == "at_once" {
            return result(params);
        }
        let seconds = params["seconds"].as_f64().unwrap_or(DRAWING);
        Ok(Progress::Running {
            // The name holds the time at which the job is done.
            external_task_id: format!(
                "demo_{}_{}",
                context.clock.unix_seconds() + seconds.ceil() as i64,
                task.job()
            ),
            look_again: Some(Duration::from_secs_f64(seconds)),
        })
    }

    async fn poll(
        &self,
        task: &Task,
        params: &Value,
        context: &Context<'_>,
    ) -> Result<Progress, Failure> {
        let name = task.external_task_id.as_deref().unwrap_or_default();
        let done = name
            .split('_')
            .nth(1)
            .and_then(|done| done.parse::<i64>().ok())
            .unwrap_or(0);
        let running = Progress::Running {
            external_task_id: name.to_owned(),
            look_again: None,
        };
        // The name holds whole seconds. A time beyond the longest drawing comes from a clock that was set back since.
        let left = done.saturating_sub(context.clock.unix_seconds());
        if left > 1 && left <= LONGEST {
            return Ok(running);
        }
        if params["complete"] != "webhook" {
            return result(params);
        }
        call_back(name, params, context).await?;
        Ok(running)
    }

    fn process_webhook(&self, body: &Value) -> Option<Callback> {
        let about = Some(body.get("demo_job")?.as_str()?.to_owned());
        let news = match body.get("error").and_then(Value::as_str) {
            Some(error) => Err(Failure::permanent(error)),
            None => Ok(drawn(body.get("prompt")?.as_str()?)),
        };
        Some(Callback { about, news })
    }
}

/// Calls back, as some services do.
async fn call_back(name: &str, params: &Value, context: &Context<'_>) -> Result<(), Failure> {
    let mut body = json!({ "demo_job": name, "prompt": params["prompt"] });
    if let Err(Failure::Permanent(words)) = result(params) {
        body["error"] = json!(words);
    }
    let request = http::Request::post(context.callback_url)
        .header("content-type", "application/json")
        .body(body.to_string().into_bytes())
        .map_err(|_| Failure::permanent("`public_url` is not a URL"))?;
    let answer = context.http.send(request, CALL).await;
    match answer {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(Failure::retry(format!(
            "the callback got {}",
            answer.status()
        ))),
        Err(error) => Err(Failure::retry(format!(
            "the callback got no answer: {error}"
        ))),
    }
}

fn result(params: &Value) -> Result<Progress, Failure> {
    match &params["fail"] {
        Value::Bool(true) => Err(Failure::permanent("the demo was told to fail")),
        Value::String(words) if !words.is_empty() => Err(Failure::permanent(words)),
        _ => Ok(drawn(params["prompt"].as_str().unwrap_or_default())),
    }
}

fn drawn(prompt: &str) -> Progress {
    Progress::Done(Product {
        media: vec![Media::Inline {
            media_type: "image/svg+xml".into(),
            bytes: draw(prompt).into_bytes(),
        }],
        data: json!({ "prompt": prompt }),
        signature: None,
    })
}

/// Draws a landscape of hills under a sun, in colours and forms that the prompt decides: the same for the
/// same prompt.
fn draw(prompt: &str) -> String {
    let seed = Sha256::digest(prompt);
    let hue = u32::from(seed[0]) * 360 / 256;
    let (sun_x, sun_y) = (60 + u32::from(seed[1]) * 2, 50 + u32::from(seed[2]) / 4);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 640 480\" width=\"640\" height=\"480\">\
         <title>{}</title>\
         <defs><linearGradient id=\"sky\" x2=\"0\" y2=\"1\">\
         <stop stop-color=\"hsl({hue} 70% 62%)\"/>\
         <stop offset=\"1\" stop-color=\"hsl({} 80% 88%)\"/></linearGradient></defs>\
         <rect width=\"640\" height=\"480\" fill=\"url(#sky)\"/>\
         <circle cx=\"{sun_x}\" cy=\"{sun_y}\" r=\"{}\" fill=\"hsl({} 95% 82%)\"/>",
        escaped(prompt),
        (hue + 40) % 360,
        28 + u32::from(seed[3]) / 10,
        (hue + 60) % 360,
    );
    for layer in 0..4_usize {
        let base = 230 + layer as u32 * 60;
        let _ = write!(
            svg,
            "<path fill=\"hsl({} 45% {}%)\" d=\"M0 480V{base}",
            (hue + 150) % 360,
            58 - layer * 12
        );
        for step in 0..4_usize {
            let height = u32::from(seed[4 + layer * 4 + step]) / 3;
            let _ = write!(svg, "q80 -{height} 160 0");
        }
        svg += "V480Z\"/>";
    }
    let words: String = prompt.chars().take(48).collect();
    let _ = write!(
        svg,
        "<text x=\"320\" y=\"456\" text-anchor=\"middle\" font-family=\"sans-serif\" font-size=\"20\" fill=\"white\">{}</text></svg>",
        escaped(&words)
    );
    svg
}

/// Escapes text for XML. Characters that XML cannot hold are left out.
fn escaped(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control() && !('\u{fffe}'..='\u{ffff}').contains(c))
        .map(|c| match c {
            '<' => "&lt;".into(),
            '>' => "&gt;".into(),
            '&' => "&amp;".into(),
            '"' => "&quot;".into(),
            c => c.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks that a canvas that is drawn anew looks as it did before.
    #[test]
    fn a_prompt_has_the_same_picture_in_every_release() {
        let all: String = ["a hill", "a lake", "rain"].map(draw).concat();
        let digest = auth::secrets::hex(&Sha256::digest(all));
        assert_eq!(
            digest,
            "58fc4d7c7e7163b8a91ec76934014b28b6d295eeb40e008c2b1a0c086afeafd0"
        );
    }

    #[test]
    fn the_title_of_a_picture_is_its_prompt_without_characters_that_xml_cannot_hold() {
        let svg = draw("<a> & \"b\"\u{0}\n\u{fffe}\u{ffff}\u{fffd}");
        let title = "<title>&lt;a&gt; &amp; &quot;b&quot;\u{fffd}</title>";
        assert!(svg.contains(title), "{svg}");
        let long = draw(&"x".repeat(60));
        assert!(
            long.contains(&format!(">{}</text>", "x".repeat(48))),
            "{long}"
        );
    }

    #[test]
    fn the_same_prompt_gives_the_same_picture_and_no_markup() {
        assert_eq!(draw("a hill"), draw("a hill"));
        assert_ne!(draw("a hill"), draw("a lake"));
        let svg = draw("<script>alert(1)</script>&\u{0}");
        assert!(!svg.contains("<script>"), "{svg}");
    }
}
