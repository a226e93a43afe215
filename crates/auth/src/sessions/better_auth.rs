//! What Better Auth says about the cookies of a request.

use std::time::Duration;

use platform::{HttpError, Ports, http_client::Limits};
use serde::Deserialize;

use super::{BETTER_AUTH_BASE_PATH, DEFAULT_PATH, Question, Session, origin};
use crate::Denied;

const ASK: Limits = Limits {
    timeout: Duration::from_secs(3),
    max_bytes: 256 * 1024,
};

/// How long to wait after an answer of 429 that names no time, in seconds.
const USUAL_WAIT: i64 = 10;

/// The longest wait after an answer of 429, in seconds.
const LONGEST_WAIT: i64 = 60;

/// Better Auth did not tell.
#[derive(Debug)]
pub(super) enum AskError {
    /// It is asked too often by this client, and must not be asked again for so many seconds.
    Limited(i64),
    /// It failed, or a setting is missing.
    Denied(Denied),
}

impl From<Denied> for AskError {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

/// Asks Better Auth for the session of these cookies.
pub(super) async fn ask(
    ports: Ports<'_>,
    question: Question<'_>,
) -> Result<Option<Session>, AskError> {
    let unavailable = |words: &str| Denied::unavailable(words);
    let origin = origin(ports.config).map_err(Denied::from)?;
    let origin = origin.ok_or_else(|| unavailable("`better_auth_origin` is not set"))?;
    let path = ports.config.read(BETTER_AUTH_BASE_PATH);
    let path = path.map_err(Denied::from)?;
    let path = path.as_deref().unwrap_or(DEFAULT_PATH).trim_matches('/');
    // Better Auth must read its database: the copy in the cookies stays valid for minutes after signing out. It must
    // not prolong the session, because the browser's cookie would not change with it.
    let url = format!("{origin}/{path}/get-session?disableCookieCache=true&disableRefresh=true");
    let mut request = http::Request::get(url)
        .header("cookie", question.cookies)
        .header("accept", "application/json");
    if let Some(client) = question.client {
        // Otherwise Better Auth's limiter takes all users for one.
        request = request.header("x-forwarded-for", client);
    }
    let request = request
        .body(Vec::new())
        .map_err(|_| unavailable("the address or the cookies do not fit into a request"))?;
    let answer = ports.http.send(request, ASK).await;
    let answer = answer.map_err(|error| match error {
        HttpError::TooLarge => unavailable("the answer is too large"),
        error => unavailable(&error.to_string()),
    })?;
    match answer.status() {
        http::StatusCode::OK => {}
        http::StatusCode::TOO_MANY_REQUESTS => {
            return Err(AskError::Limited(wait_of(answer.headers())));
        }
        status => return Err(unavailable(&format!("status {}", status.as_u16())).into()),
    }
    Ok(read(answer.body()).map_err(unavailable)?)
}

/// The seconds that an answer of 429 asks to wait: in the header of the standard, or in Better Auth's own.
fn wait_of(headers: &http::HeaderMap) -> i64 {
    let named = ["retry-after", "x-retry-after"]
        .into_iter()
        .find_map(|name| {
            let value = headers.get(name)?.to_str().ok()?;
            value.trim().parse::<i64>().ok()
        });
    named.unwrap_or(USUAL_WAIT).clamp(1, LONGEST_WAIT)
}

/// An answer to `get-session`: `{"session": {"expiresAt", "userId", …}, "user": {"id", …}}` or `null`.
fn read(body: &[u8]) -> Result<Option<Session>, &'static str> {
    #[derive(Deserialize)]
    struct Answer {
        session: Of,
        user: User,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Of {
        expires_at: Time,
        user_id: Option<String>,
    }
    #[derive(Deserialize)]
    struct User {
        id: String,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Time {
        Iso(String),
        Milliseconds(i64),
    }
    let answer: Option<Answer> =
        serde_json::from_slice(body).map_err(|_| "the answer is not a session")?;
    let Some(Answer { session, user }) = answer else {
        return Ok(None);
    };
    if !(1..=255).contains(&user.id.len()) || user.id.chars().any(char::is_control) {
        return Err("the user's id is not valid");
    }
    if session.user_id.is_some_and(|id| id != user.id) {
        return Err("the session is of another user");
    }
    let expires_at = match session.expires_at {
        Time::Iso(text) => chrono::DateTime::parse_from_rfc3339(&text)
            .map_err(|_| "the end of the session is not a time")?
            .timestamp(),
        Time::Milliseconds(time) => time / 1000,
    };
    Ok(Some(Session {
        user_id: user.id,
        expires_at,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"session":{"id":"s","userId":"u","expiresAt":"1970-01-01T01:00:00.000Z"},
        "user":{"id":"u","email":"a@b"}}"#;

    #[test]
    fn answers_of_better_auth_are_read() {
        let session = read(GOOD.as_bytes()).unwrap().unwrap();
        assert_eq!((session.user_id.as_str(), session.expires_at), ("u", 3600));
        assert_eq!(read(b"null"), Ok(None));
        for garbage in [
            "",
            "<html>",
            "{}",
            "[]",
            "true",
            r#"{"session":null,"user":null}"#,
            r#"{"session":{"expiresAt":"soon"},"user":{"id":"u"}}"#,
            r#"{"session":{"expiresAt":"1970-01-01T01:00:00Z","userId":"v"},"user":{"id":"u"}}"#,
            r#"{"session":{"expiresAt":"1970-01-01T01:00:00Z"},"user":{"id":""}}"#,
            r#"{"session":{"expiresAt":"1970-01-01T01:00:00Z"},"user":{"id":7}}"#,
        ] {
            assert!(read(garbage.as_bytes()).is_err(), "{garbage}");
        }
    }

    #[test]
    fn the_wait_after_429_is_bounded() {
        for (name, value, wait) in [
            ("retry-after", "7", 7),
            ("x-retry-after", "7", 7),
            ("retry-after", "0", 1),
            ("retry-after", "86400", 60),
            ("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT", 10),
            ("x-other", "7", 10),
        ] {
            let mut headers = http::HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            assert_eq!(wait_of(&headers), wait, "{name}: {value}");
        }
    }
}
