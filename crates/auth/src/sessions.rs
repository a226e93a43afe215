//! The sessions of users, who are identified by the Better Auth cookie of their browser.
//!
//! Better Auth gets all cookies of the request, because it alone knows the name of its own. Its answers are cached for
//! a short time.

mod better_auth;
mod cache;

use platform::Ports;

use crate::denied::Denied;
pub(crate) use better_auth::SETTINGS;
use better_auth::{AskError, ask};
pub use better_auth::{BETTER_AUTH_ORIGIN, Question, Session, origin};
use cache::Cache;

/// The longest time that a cached session is used, in seconds. A user who signs out loses access within a minute,
/// including the time of the next question to Better Auth.
pub const KNOWN_FOR: i64 = 45;

/// The longest time that a cached session is used when an open socket is checked again, in seconds.
pub const KNOWN_FOR_SOCKETS: i64 = 10;

/// The longest time that a cached session is used while Better Auth answers 429, in seconds.
const KNOWN_FOR_LIMITED: i64 = 60;

/// Finds the session of these cookies, if they have one. A cached session counts for up to `max_age` seconds, and for
/// up to a minute while Better Auth answers 429. After such an answer it is not asked again for this client before the
/// time that it named.
///
/// # Errors
/// [`Denied::Unavailable`] if Better Auth does not answer within 3 s, or answers with anything but a session or `null`.
pub async fn find(
    ports: Ports<'_>,
    question: Question<'_>,
    max_age: i64,
) -> Result<Option<Session>, Denied> {
    let cache = Cache::of(ports, question);
    let now = ports.clock.unix_seconds();
    let known = cache.known().await;
    if let Some(known) = &known
        && known.counts(now, max_age)
    {
        return Ok(Some(known.session()));
    }
    let held_back = cache.held_back(now).await;
    let is_asked = held_back.is_none() && !cache.takes(now).await;
    let told = if is_asked {
        cache.wait(now).await
    } else {
        None
    };
    let answer = match told {
        Some(answer) => answer,
        None => match held_back {
            Some(wait) => Err(AskError::Limited(wait)),
            None => {
                let answer = ask(ports, question).await;
                let answer = answer.map(|found| found.filter(|found| now < found.expires_at));
                cache.end(known.clone(), &answer, now).await;
                if let Err(AskError::Limited(wait)) = &answer {
                    cache.hold_back(now + wait).await;
                }
                answer
            }
        },
    };
    match answer {
        Ok(session) => Ok(session),
        Err(AskError::Denied(denied)) => Err(denied),
        Err(AskError::Limited(wait)) => known
            .filter(|known| known.counts(now, KNOWN_FOR_LIMITED))
            .map(|known| Some(known.session()))
            .ok_or(Denied::Unavailable {
                reason: "Better Auth is asked too often".into(),
                retry_after: wait,
            }),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        time::Duration,
    };

    use super::*;
    use async_trait::async_trait;
    use platform::native::{
        AnswerWith, MapConfig, MemoryKeyValue, Published, SetClock, SqliteFile, World, block_on,
    };
    use platform::{Clock, HttpError};

    const GOOD: &str = r#"{"session":{"id":"s","userId":"u","expiresAt":"1970-01-01T01:00:00.000Z"},
        "user":{"id":"u","email":"a@b"}}"#;

    const QUESTION: Question<'_> = Question {
        cookies: "a=b; c=d",
        client: Some("10.0.0.7"),
    };

    #[test]
    fn a_session_is_kept_for_a_while_and_never_beyond_its_end() {
        let database = SqliteFile::with_schema();
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
            assert_eq!(request.headers()["x-forwarded-for"], "10.0.0.7");
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
        let found = |age| block_on(find(ports, QUESTION, age));
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
        assert!(matches!(found(KNOWN_FOR), Err(Denied::Unavailable { .. })));
        // A cached session does not outlive its end.
        *says.borrow_mut() = Some(GOOD.to_owned());
        clock.0.set(3590);
        assert!(found(KNOWN_FOR).unwrap().is_some());
        clock.0.set(3600);
        assert_eq!(found(KNOWN_FOR).unwrap(), None);
    }

    #[test]
    fn a_limited_client_waits_as_long_as_better_auth_says() {
        let world = World::new(MapConfig::from_pairs(&[(
            "better_auth_origin",
            "http://auth.example",
        )]));
        let clock = SetClock::default();
        let (asked, status) = (Cell::new(0), Cell::new(200));
        let http = AnswerWith(|_: http::Request<Vec<u8>>| {
            asked.set(asked.get() + 1);
            let answer = http::Response::builder().status(status.get());
            let answer = answer.header("x-retry-after", "20");
            Ok(answer.body(GOOD.as_bytes().to_vec()).unwrap())
        });
        let ports = Ports {
            http: &http,
            clock: &clock,
            ..world.ports()
        };
        let found = |question, age| block_on(find(ports, question, age));
        assert!(found(QUESTION, 0).unwrap().is_some());
        // An answer that is at most a minute old still counts.
        status.set(429);
        clock.0.set(59);
        assert!(found(QUESTION, KNOWN_FOR_SOCKETS).unwrap().is_some());
        assert_eq!(asked.get(), 2);
        clock.0.set(60);
        let denied = found(QUESTION, KNOWN_FOR).unwrap_err();
        assert!(
            matches!(
                denied,
                Denied::Unavailable {
                    retry_after: 19,
                    ..
                }
            ),
            "{denied:?}"
        );
        // For this client alone, Better Auth is not asked again before the time that it named.
        status.set(200);
        clock.0.set(78);
        assert!(found(QUESTION, KNOWN_FOR).is_err());
        assert_eq!(asked.get(), 2);
        let other = Question {
            client: Some("10.0.0.8"),
            ..QUESTION
        };
        assert!(found(other, 0).unwrap().is_some());
        assert_eq!(asked.get(), 3);
        clock.0.set(79);
        assert!(found(QUESTION, 0).unwrap().is_some());
        assert_eq!(asked.get(), 4);
    }

    /// A clock that lets the other instance get its answer during the second wait.
    struct Meanwhile<'a>(&'a dyn Fn());

    #[async_trait(?Send)]
    impl Clock for Meanwhile<'_> {
        fn unix_seconds(&self) -> i64 {
            0
        }

        async fn sleep(&self, _duration: Duration) {
            (self.0)();
        }
    }

    #[test]
    fn instances_that_ask_at_one_time_share_one_answer() {
        let world = World::new(MapConfig::from_pairs(&[(
            "better_auth_origin",
            "http://auth.example",
        )]));
        let asked = Cell::new(0);
        let http = AnswerWith(|_: http::Request<Vec<u8>>| {
            asked.set(asked.get() + 1);
            Ok(http::Response::new(GOOD.as_bytes().to_vec()))
        });
        let ports = Ports {
            http: &http,
            ..world.ports()
        };
        let session = Session {
            user_id: "u".into(),
            expires_at: 3600,
        };
        for (answer, expected) in [
            (Some(Ok(Some(session.clone()))), Some(Some("u"))),
            (Some(Ok(None)), Some(None)),
            (Some(Err(AskError::Limited(7))), None),
            // The other instance died, so after a while this instance asks Better Auth itself.
            (None, Some(Some("u"))),
        ] {
            let is_answered = answer.is_some();
            let other = Cache::of(ports, QUESTION);
            block_on(other.end(None, &Ok(None), 0));
            assert!(block_on(other.takes(0)));
            asked.set(0);
            let looks = Cell::new(0);
            let meanwhile = || {
                looks.set(looks.get() + 1);
                if let (2, Some(answer)) = (looks.get(), &answer) {
                    block_on(other.end(None, answer, 0));
                }
            };
            let ports = Ports {
                clock: &Meanwhile(&meanwhile),
                ..ports
            };
            let found = block_on(find(ports, QUESTION, KNOWN_FOR)).ok();
            let found = found
                .as_ref()
                .map(|session| session.as_ref().map(|s| s.user_id.as_str()));
            assert_eq!(found, expected, "{answer:?}");
            assert_eq!(asked.get(), u32::from(!is_answered), "{answer:?}");
            assert_eq!(looks.get(), if is_answered { 2 } else { 80 });
        }
    }
}
