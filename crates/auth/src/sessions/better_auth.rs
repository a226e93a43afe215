//! The answer of Better Auth about the cookies of a request.

use std::time::Duration;

use platform::{Config, HttpError, Ports, UnreadableSetting, config::number, http_client::Limits};
use serde::Deserialize;

use crate::{denied::Denied, projects::is_user_id};

/// The default of `better_auth_origin`: an address that can never exist (RFC 2606), because Spin requires one in
/// `allowed_outbound_hosts`.
const NOT_SET: &str = "http://not-set.invalid";

const DEFAULT_PATH: &str = "/api/better-auth";

platform::settings! {
    /// The origin of Better Auth, such as `https://auth.example.com`. If it is set, sessions are checked
    pub BETTER_AUTH_ORIGIN = "better_auth_origin", Placeholder(NOT_SET), Origin;
    /// The path of Better Auth's routes
    pub(crate) BETTER_AUTH_BASE_PATH = "better_auth_base_path", Value(DEFAULT_PATH), Path;
    /// The most keys that the cache of sessions uses in the key-value store. It uses as many again for clients whose
    /// requests Better Auth has limited. `cargo xtask manifest` sets it for hosts that count keys
    SESSION_PLACES = "session_places", Value("65536"), Number(65_536);
}

/// The most keys of each kind in the cache of sessions.
pub(super) fn places(config: &dyn Config) -> u32 {
    number(config, SETTINGS, SESSION_PLACES)
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The user's id.
    pub user_id: String,
    /// The latest end of the session, in Unix seconds.
    pub expires_at: i64,
}

/// The origin of Better Auth; `None` if sessions are not checked.
///
/// # Errors
/// If the setting cannot be read.
pub fn origin(config: &dyn Config) -> Result<Option<String>, UnreadableSetting> {
    let origin = config.read(BETTER_AUTH_ORIGIN)?;
    let origin = origin.map(|origin| origin.trim_end_matches('/').to_owned());
    Ok(origin.filter(|origin| origin != NOT_SET))
}

/// A question to Better Auth: the cookies of a request, and the address of its client.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The whole header `Cookie`.
    pub cookies: &'a str,
    /// The client's address, if the relay has passed it on. Better Auth limits how often an address may ask.
    pub client: Option<&'a str>,
}

const ASK: Limits = Limits {
    timeout: Duration::from_secs(3),
    max_bytes: 256 * 1024,
};

/// The time to wait after an answer of 429 that names no time, in seconds.
const USUAL_WAIT: i64 = 10;

/// The longest wait after an answer of 429, in seconds.
const LONGEST_WAIT: i64 = 60;

/// The reason why Better Auth gave no answer.
#[derive(Debug)]
pub(super) enum AskError {
    /// Better Auth was asked too often for this client, and must not be asked again for this number of seconds.
    Limited(i64),
    /// Better Auth failed, or a setting is missing.
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
        // Without this header, Better Auth's limiter would count all users as one client.
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

/// The seconds to wait that an answer of 429 names: in the standard header, or in Better Auth's own.
fn wait_of(headers: &http::HeaderMap) -> i64 {
    let named = ["retry-after", "x-retry-after"]
        .into_iter()
        .find_map(|name| {
            let value = headers.get(name)?.to_str().ok()?;
            value.trim().parse::<i64>().ok()
        });
    named.unwrap_or(USUAL_WAIT).clamp(1, LONGEST_WAIT)
}

/// Reads an answer to `get-session`: `{"session": {"expiresAt", "userId", …}, "user": {"id", …}}` or `null`.
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
    if !is_user_id(&user.id) {
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
    use async_trait::async_trait;
    use platform::{
        HttpClient,
        native::{MapConfig, World, block_on},
    };

    /// A Better Auth whose answer has this number of bytes: a session, and blanks after it.
    struct Wordy(usize);

    #[async_trait(?Send)]
    impl HttpClient for Wordy {
        async fn send(
            &self,
            _request: http::Request<Vec<u8>>,
            limits: Limits,
        ) -> Result<http::Response<Vec<u8>>, HttpError> {
            if self.0 > limits.max_bytes {
                return Err(HttpError::TooLarge);
            }
            let mut body = GOOD.as_bytes().to_vec();
            body.resize(self.0, b' ');
            Ok(http::Response::new(body))
        }
    }

    #[test]
    fn a_session_of_many_words_is_read_up_to_a_bound() {
        let settings = [("better_auth_origin", "https://auth.example")];
        let world = World::new(MapConfig::from_pairs(&settings));
        let question = Question {
            cookies: "a=b",
            client: None,
        };
        for (bytes, is_read) in [(256 * 1024, true), (256 * 1024 + 1, false)] {
            let http = Wordy(bytes);
            let ports = Ports {
                http: &http,
                ..world.ports()
            };
            match block_on(ask(ports, question)) {
                Ok(session) => assert!(is_read && session.is_some(), "{bytes}"),
                Err(AskError::Denied(Denied::Unavailable { reason, .. })) => {
                    assert!(
                        !is_read && reason.contains("too large"),
                        "{bytes}: {reason}"
                    );
                }
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    const GOOD: &str = r#"{"session":{"id":"s","userId":"u","expiresAt":"1970-01-01T01:00:00.000Z"},
        "user":{"id":"u","email":"a@b"}}"#;

    #[test]
    fn answers_of_better_auth_are_read() {
        let session = read(GOOD.as_bytes()).unwrap().unwrap();
        assert_eq!((session.user_id.as_str(), session.expires_at), ("u", 3600));
        let in_milliseconds = r#"{"session":{"expiresAt":3600999},"user":{"id":"u"}}"#;
        assert_eq!(read(in_milliseconds.as_bytes()), Ok(Some(session)));
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

    #[test]
    fn there_is_an_origin_only_if_one_is_set() {
        for (value, found) in [
            ("", None),
            (NOT_SET, None),
            ("https://a.example", Some("https://a.example")),
            ("https://a.example/", Some("https://a.example")),
        ] {
            let config = MapConfig::from_pairs(&[("better_auth_origin", value)]);
            assert_eq!(origin(&config).unwrap().as_deref(), found, "{value}");
        }
    }
}
