//! A test double of Gemini: it checks its key, keeps the requests, and answers as the prompt says.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::server::{Reply, Request, Server};

/// The API key that Gemini knows.
pub const KEY: &str = "gemini-key-for-tests";

/// A picture of one pixel, in base64.
pub const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// The length of a `large` picture in base64.
pub const LARGE: usize = 8 << 20;

/// The double. Dropping it ends it.
///
/// Its answer depends on a word in the prompt: `refused`, `busy-first` (429 once), `large` (a picture of 8 MB in
/// base64), `as TYPE` (a picture that claims this media type); otherwise a picture, with a signature. If a request
/// repeats an earlier picture of Gemini's, it must also repeat that picture's signature. The model `gone` does not exist.
pub struct Gemini {
    server: Server,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Gemini {
    /// Starts a Gemini.
    pub async fn start() -> Self {
        let asked: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let kept = asked.clone();
        let server = Server::start(move |request| {
            let reply = answer(&request, &mut kept.lock().unwrap());
            async move { reply }
        })
        .await;
        Self { server, asked }
    }

    /// The origin of its address.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// The requests whose prompt has this word: the model's name and the body of each.
    pub fn asked(&self, word: &str) -> Vec<(String, Value)> {
        let asked = self.asked.lock().unwrap();
        let has = |body: &Value| prompt(body).contains(word);
        asked
            .iter()
            .filter(|(_, body)| has(body))
            .cloned()
            .collect()
    }
}

/// The newest prompt of a conversation.
fn prompt(body: &Value) -> &str {
    let turn = body["contents"].as_array().and_then(|turns| turns.last());
    turn.and_then(|turn| turn["parts"][0]["text"].as_str())
        .unwrap_or("")
}

/// The signature that comes with the picture of a prompt.
pub fn signature(prompt: &str) -> String {
    format!("signed: {prompt}")
}

/// Returns whether the turns before the newest prompt are none, or a prompt and its picture just as Gemini gave it.
fn is_remembered(body: &Value) -> bool {
    let Some([before @ .., _]) = body["contents"].as_array().map(Vec::as_slice) else {
        return false;
    };
    match before {
        [] => true,
        [asked, answered] => {
            let given = asked["parts"][0]["text"].as_str().map(signature);
            asked["role"] == "user"
                && answered["role"] == "model"
                && answered["parts"][0]["inlineData"]["data"] == PIXEL
                && answered["parts"][0]["thoughtSignature"].as_str() == given.as_deref()
        }
        _ => false,
    }
}

fn answer(request: &Request, asked: &mut Vec<(String, Value)>) -> Reply {
    let model = request
        .path
        .strip_prefix("/v1beta/models/")
        .and_then(|rest| rest.strip_suffix(":generateContent"));
    let Some(model) = model else {
        return error(404, "NOT_FOUND", "no such model");
    };
    if model == "gone" {
        return error(
            404,
            "NOT_FOUND",
            "models/gone is not found for API version v1beta",
        );
    }
    if request.header("x-goog-api-key") != KEY {
        return error(403, "PERMISSION_DENIED", "the key is wrong");
    }
    let body = request.json();
    let prompt = prompt(&body).to_owned();
    let is_valid = !prompt.is_empty()
        && body["contents"][0]["role"] == "user"
        && body["generationConfig"]["responseModalities"] == json!(["TEXT", "IMAGE"]);
    if !is_valid {
        return error(400, "INVALID_ARGUMENT", "the request is not valid");
    }
    if !is_remembered(&body) {
        return error(400, "INVALID_ARGUMENT", "Invalid thought signature.");
    }
    let before = asked
        .iter()
        .filter(|(_, b)| self::prompt(b) == prompt)
        .count();
    asked.push((model.to_owned(), body));
    if prompt.contains("busy-first") && before == 0 {
        return error(429, "RESOURCE_EXHAUSTED", "too many requests");
    }
    if prompt.contains("refused") {
        let candidate = json!({ "finishReason": "PROHIBITED_CONTENT", "content": { "parts": [] } });
        return Reply::json(200, &json!({ "candidates": [candidate] }));
    }
    let media_type = prompt
        .split_once("as ")
        .map_or("image/png", |(_, claimed)| claimed);
    let large = prompt.contains("large").then(|| "A".repeat(LARGE));
    let data = large.as_deref().unwrap_or(PIXEL);
    let parts = json!([
        { "text": "Here it is." },
        { "inlineData": { "mimeType": media_type, "data": data }, "thoughtSignature": signature(&prompt) },
    ]);
    let candidate =
        json!({ "finishReason": "STOP", "content": { "role": "model", "parts": parts } });
    Reply::json(200, &json!({ "candidates": [candidate] }))
}

fn error(status: u16, name: &str, message: &str) -> Reply {
    let error = json!({ "code": status, "status": name, "message": message });
    Reply::json(status, &json!({ "error": error }))
}
