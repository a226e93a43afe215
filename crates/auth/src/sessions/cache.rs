//! The cache of sessions: a table of fixed size in the key-value store.
//!
//! The digest of the cookies chooses the place of a session, and a later session with the same place overwrites it. A place
//! also tells that an instance is asking Better Auth just now, because a page sends several requests at once: the other
//! instances wait for that answer. Two that come at the very same moment may both ask; nothing depends on it.

use std::time::Duration;

use platform::Ports;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::better_auth::{AskError, Question, Session};
use crate::{denied::Denied, secrets};

/// The longest time that an instance waits for the answer that another one is getting, in seconds.
const PATIENCE: i64 = 4;

/// The time between two looks at that answer.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The looks within [`PATIENCE`].
const LOOKS: u32 = 80;

/// A session that Better Auth has confirmed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Known {
    user_id: String,
    expires_at: i64,
    asked_at: i64,
}

impl Known {
    /// Whether the session counts for a caller who takes answers of up to `max_age` seconds.
    pub(super) fn counts(&self, now: i64, max_age: i64) -> bool {
        (0..max_age).contains(&(now - self.asked_at)) && now < self.expires_at
    }

    pub(super) fn session(&self) -> Session {
        Session {
            user_id: self.user_id.clone(),
            expires_at: self.expires_at,
        }
    }
}

/// How a question ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Ended {
    /// There is a session, or none.
    Answered,
    /// Better Auth wants no question for so many seconds.
    Limited(i64),
    /// Better Auth failed.
    Failed,
}

/// A place of the table.
#[derive(Default, Serialize, Deserialize)]
struct Place {
    /// The digest of the cookies.
    cookies: String,
    known: Option<Known>,
    /// The time at which an instance began to ask, if it is asking still.
    asking_since: Option<i64>,
    /// How the last question ended.
    ended: Option<Ended>,
}

/// A client that must not ask before a time.
#[derive(Serialize, Deserialize)]
struct HeldBack {
    client: String,
    until: i64,
}

/// The place of one question.
pub(super) struct Cache<'a> {
    ports: Ports<'a>,
    key: String,
    cookies: String,
    client: String,
}

impl<'a> Cache<'a> {
    pub(super) fn of(ports: Ports<'a>, question: Question<'_>) -> Self {
        let digest = Sha256::digest(question.cookies);
        Self {
            ports,
            key: format!("session-{:02x}{:02x}", digest[0], digest[1]),
            cookies: secrets::hex(&digest),
            client: secrets::digest(question.client.unwrap_or_default()),
        }
    }

    /// Reads what is known about the cookies: the session, and whether an instance is asking at the moment.
    pub(super) async fn read(&self, now: i64) -> (Option<Known>, bool) {
        let place = self.place().await.unwrap_or_default();
        let asking = place.asking_since;
        let is_asked = asking.is_some_and(|since| (0..PATIENCE).contains(&(now - since)));
        (place.known, is_asked)
    }

    /// Waits for the answer that another instance is getting; `None` if it does not come.
    pub(super) async fn wait(&self) -> Option<Result<Option<Session>, AskError>> {
        for _ in 0..LOOKS {
            self.ports.clock.sleep(LOOK_EVERY).await;
            let place = self.place().await?;
            if place.asking_since.is_some() {
                continue;
            }
            return Some(match place.ended? {
                Ended::Answered => Ok(place.known.map(|known| known.session())),
                Ended::Limited(wait) => Err(AskError::Limited(wait)),
                Ended::Failed => {
                    let words = "the question of another instance failed";
                    Err(Denied::unavailable(words).into())
                }
            });
        }
        None
    }

    /// Notes that this instance is asking.
    pub(super) async fn begin(&self, known: Option<Known>, now: i64) {
        self.write(known, Some(now), None).await;
    }

    /// Notes how the question ended. An answer without a session ends the known one.
    pub(super) async fn end(
        &self,
        known: Option<Known>,
        answer: &Result<Option<Session>, AskError>,
        now: i64,
    ) {
        let (known, ended) = match answer {
            Ok(session) => (
                session.as_ref().map(|session| kept(session, now)),
                Ended::Answered,
            ),
            Err(AskError::Limited(wait)) => (known, Ended::Limited(*wait)),
            Err(AskError::Denied(_)) => (known, Ended::Failed),
        };
        self.write(known, None, Some(ended)).await;
    }

    /// The seconds for which Better Auth must not be asked for this client.
    pub(super) async fn held_back(&self, now: i64) -> Option<i64> {
        let value = self.ports.key_value.get(&self.limit_key()).await;
        let held: HeldBack = serde_json::from_slice(&value.ok()??).ok()?;
        let wait = held.until - now;
        (held.client == self.client && wait > 0).then_some(wait)
    }

    /// Notes that Better Auth must not be asked for this client before `until`.
    pub(super) async fn hold_back(&self, until: i64) {
        let client = self.client.clone();
        self.set(&self.limit_key(), &HeldBack { client, until })
            .await;
    }

    fn limit_key(&self) -> String {
        format!("session-limit-{}", self.client.get(..4).unwrap_or_default())
    }

    /// The place, if it is of these cookies. The store is a cache: if it fails, Better Auth is asked.
    async fn place(&self) -> Option<Place> {
        let value = self.ports.key_value.get(&self.key).await.ok()??;
        let place: Place = serde_json::from_slice(&value).ok()?;
        secrets::same(&place.cookies, &self.cookies).then_some(place)
    }

    async fn write(&self, known: Option<Known>, asking_since: Option<i64>, ended: Option<Ended>) {
        let place = Place {
            cookies: self.cookies.clone(),
            known,
            asking_since,
            ended,
        };
        self.set(&self.key, &place).await;
    }

    async fn set(&self, key: &str, value: &impl Serialize) {
        let value = serde_json::to_vec(value).unwrap_or_default();
        if let Err(error) = self.ports.key_value.set(key, value).await {
            tracing::warn!(%error, "the cache of sessions was not written");
        }
    }
}

fn kept(session: &Session, now: i64) -> Known {
    Known {
        user_id: session.user_id.clone(),
        expires_at: session.expires_at,
        asked_at: now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::world;
    use platform::native::block_on;

    const QUESTION: Question<'_> = Question {
        cookies: "a=b",
        client: None,
    };

    #[test]
    fn a_session_counts_while_the_answer_is_young_and_the_session_lasts() {
        let known = Known {
            user_id: "u".into(),
            asked_at: 1000,
            expires_at: 1020,
        };
        for (now, max_age, counts) in [
            (1000, 10, true),
            (1009, 10, true),
            (1010, 10, false),
            (1000, 0, false),
            // The clock of the instance that asked is ahead.
            (999, 10, false),
            (1019, 100, true),
            (1020, 100, false),
        ] {
            assert_eq!(known.counts(now, max_age), counts, "{now} {max_age}");
        }
    }

    #[test]
    fn an_instance_that_asks_is_waited_for_as_long_as_it_may_live() {
        let world = world(&[]);
        let cache = Cache::of(world.ports(), QUESTION);
        let is_asked = |now| block_on(cache.read(now)).1;
        assert!(!is_asked(1000));
        block_on(cache.begin(None, 1000));
        for (now, asked) in [(999, false), (1000, true), (1003, true), (1004, false)] {
            assert_eq!(is_asked(now), asked, "{now}");
        }
        block_on(cache.end(None, &Ok(None), 1001));
        assert!(!is_asked(1001));
        // Other cookies with the same place are not those that are asked about.
        let other = Cache {
            cookies: "another digest".into(),
            ..Cache::of(world.ports(), QUESTION)
        };
        block_on(other.begin(None, 1000));
        assert!(!is_asked(1000));
    }

    #[test]
    fn a_client_is_held_back_until_its_time_and_no_other_is() {
        let world = world(&[]);
        let cache = Cache::of(world.ports(), QUESTION);
        block_on(cache.hold_back(1000));
        let wait = |cache: &Cache<'_>, now| block_on(cache.held_back(now));
        assert_eq!((wait(&cache, 990), wait(&cache, 999)), (Some(10), Some(1)));
        assert_eq!((wait(&cache, 1000), wait(&cache, 1001)), (None, None));
        let other = Cache::of(
            world.ports(),
            Question {
                client: Some("10.0.0.8"),
                ..QUESTION
            },
        );
        assert_eq!(wait(&other, 990), None);
        block_on(other.hold_back(2000));
        assert_eq!(
            (wait(&cache, 990), wait(&other, 990)),
            (Some(10), Some(1010))
        );
    }
}
