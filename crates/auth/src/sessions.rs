//! Users are identified by the Better Auth cookie of their browser.
//!
//! Better Auth gets all cookies of the request, because it alone knows the name of its own. Its answers are cached for
//! a short time in a table of fixed size in the key-value store: the digest of the cookies chooses the place of a
//! session, and a later session with the same place overwrites it.

use std::time::Duration;

use platform::{Config, HttpError, Ports, UnreadableSetting, http_client::Limits};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Denied, secrets};

/// The longest time that a cached session is used, in seconds. A user who signs out loses access within a minute, the
/// time of the next question to Better Auth included.
pub const KNOWN_FOR: i64 = 45;

/// The same when an open socket is checked again, in seconds.
pub const KNOWN_FOR_SOCKETS: i64 = 10;

const ASK: Limits = Limits {
    timeout: Duration::from_secs(3),
    max_bytes: 256 * 1024,
};

const NOT_SET: &str = "http://not-set.invalid";

const DEFAULT_PATH: &str = "/api/better-auth";

platform::settings! {
    /// The origin of Better Auth, such as `https://auth.example.com`. If it is set, sessions are checked
    pub BETTER_AUTH_ORIGIN = "better_auth_origin", Placeholder(NOT_SET);
    /// The path of Better Auth's routes
    pub(crate) BETTER_AUTH_BASE_PATH = "better_auth_base_path", Value(DEFAULT_PATH);
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The user's id.
    pub user_id: String,
    /// When it ends at the latest, in Unix seconds.
    pub expires_at: i64,
}

/// A cached session.
#[derive(Serialize, Deserialize)]
struct Known {
    /// The digest of its cookies.
    cookies: String,
    user_id: String,
    expires_at: i64,
    asked_at: i64,
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

/// Finds the session of these cookies, if they have one. A cached session counts for up to `max_age` seconds.
///
/// # Errors
/// [`Denied::Unavailable`] if Better Auth does not answer within 3 s, or answers with anything but a session or `null`.
pub async fn find(
    ports: Ports<'_>,
    cookies: &str,
    max_age: i64,
) -> Result<Option<Session>, Denied> {
    let digest = Sha256::digest(cookies);
    let place = format!("session-{:02x}{:02x}", digest[0], digest[1]);
    let digest = secrets::hex(&digest);
    let now = ports.clock.unix_seconds();
    // The store is a cache: if it fails, Better Auth is asked.
    let known = ports.key_value.get(&place).await.ok().flatten();
    let known = known
        .and_then(|known| serde_json::from_slice::<Known>(&known).ok())
        .filter(|known| secrets::same(&known.cookies, &digest));
    if let Some(known) = &known
        && (0..max_age).contains(&(now - known.asked_at))
        && now < known.expires_at
    {
        return Ok(Some(Session {
            user_id: known.user_id.clone(),
            expires_at: known.expires_at,
        }));
    }
    let session = ask(ports, cookies).await?;
    let Some(session) = session.filter(|session| now < session.expires_at) else {
        // Other requests need not wait until the cached session is too old.
        if known.is_some()
            && let Err(error) = ports.key_value.delete(&place).await
        {
            tracing::warn!(%error, "an ended session stays in the cache");
        }
        return Ok(None);
    };
    let known = Known {
        cookies: digest,
        user_id: session.user_id.clone(),
        expires_at: session.expires_at,
        asked_at: now,
    };
    if let Ok(known) = serde_json::to_vec(&known)
        && let Err(error) = ports.key_value.set(&place, known).await
    {
        tracing::warn!(%error, "a session was not cached");
    }
    Ok(Some(session))
}

async fn ask(ports: Ports<'_>, cookies: &str) -> Result<Option<Session>, Denied> {
    let unavailable = |words: &str| Denied::Unavailable(words.to_owned());
    let origin =
        origin(ports.config)?.ok_or_else(|| unavailable("`better_auth_origin` is not set"))?;
    let path = ports.config.read(BETTER_AUTH_BASE_PATH)?;
    let path = path.as_deref().unwrap_or(DEFAULT_PATH).trim_matches('/');
    // Better Auth must read its database: the copy in the cookies stays valid for minutes after signing out. It must
    // not prolong the session, because the browser's cookie would not change with it.
    let url = format!("{origin}/{path}/get-session?disableCookieCache=true&disableRefresh=true");
    let request = http::Request::get(url)
        .header("cookie", cookies)
        .header("accept", "application/json")
        .body(Vec::new())
        .map_err(|_| unavailable("the address or the cookies do not fit into a request"))?;
    let answer = ports.http.send(request, ASK).await;
    let answer = answer.map_err(|error| match error {
        HttpError::TooLarge => unavailable("the answer is too large"),
        error => Denied::Unavailable(error.to_string()),
    })?;
    if answer.status() != http::StatusCode::OK {
        let words = format!("status {}", answer.status().as_u16());
        return Err(Denied::Unavailable(words));
    }
    read(answer.body()).map_err(unavailable)
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
    use std::cell::{Cell, RefCell};

    use super::*;
    use platform::native::{
        AnswerWith, MapConfig, MemoryKeyValue, Published, SetClock, SqliteFile, block_on,
    };

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
    fn a_session_is_kept_for_a_while_and_never_beyond_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let database = SqliteFile::open(&folder.path().join("db")).unwrap();
        let config = MapConfig::from_pairs(&[("better_auth_origin", "http://auth.example:3001/")]);
        let (key_value, clock) = (MemoryKeyValue::default(), SetClock::default());
        let pubsub = Published::default();
        let (asked, says) = (Cell::new(0), RefCell::new(Some(GOOD.to_owned())));
        let http = AnswerWith(|request: http::Request<Vec<u8>>| {
            assert_eq!(
                request.uri(),
                "http://auth.example:3001/api/better-auth/get-session?disableCookieCache=true&disableRefresh=true"
            );
            assert_eq!(request.headers()["cookie"], "a=b; c=d");
            asked.set(asked.get() + 1);
            match &*says.borrow() {
                Some(body) => Ok(http::Response::new(body.clone().into_bytes())),
                None => Err(HttpError::NoAnswer("nothing".into())),
            }
        });
        let ports = Ports {
            database: &database,
            key_value: &key_value,
            pubsub: &pubsub,
            http: &http,
            config: &config,
            clock: &clock,
        };
        let found = |age| block_on(find(ports, "a=b; c=d", age));
        assert!(found(KNOWN_FOR).unwrap().is_some());
        // After signing out the cached session counts for a while, but not for a caller with a smaller maximal age.
        *says.borrow_mut() = Some("null".into());
        clock.0.set(30);
        assert!(found(KNOWN_FOR).unwrap().is_some());
        assert_eq!(asked.get(), 1);
        assert_eq!(found(KNOWN_FOR_SOCKETS).unwrap(), None);
        // That answer has removed it from the cache.
        assert_eq!(found(KNOWN_FOR).unwrap(), None);
        *says.borrow_mut() = Some(GOOD.to_owned());
        assert!(found(KNOWN_FOR).unwrap().is_some());
        *says.borrow_mut() = Some("null".into());
        clock.0.set(30 + KNOWN_FOR);
        assert_eq!(found(KNOWN_FOR).unwrap(), None);
        // If Better Auth does not answer, the user is not let in.
        *says.borrow_mut() = None;
        assert!(matches!(found(KNOWN_FOR), Err(Denied::Unavailable(_))));
        // A cached session does not outlive its end.
        *says.borrow_mut() = Some(GOOD.to_owned());
        clock.0.set(3590);
        assert!(found(KNOWN_FOR).unwrap().is_some());
        clock.0.set(3600);
        assert_eq!(found(KNOWN_FOR).unwrap(), None);
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
