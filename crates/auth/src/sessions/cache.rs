//! The cache of sessions: a table of fixed size in the key-value store.
//!
//! The digest of the cookies chooses the place of a session, and a later session with the same place overwrites it.
//!
//! A page sends several requests at once, so an instance that has to ask Better Auth takes the question first: it adds
//! a row to `auth_questions`. The other instances wait until that row is gone, and find the answer in the place.

use std::time::Duration;

use platform::{Ports, Value};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::better_auth::{AskError, Question, Session, places};
use crate::{denied::Denied, secrets};

/// The longest time that an instance waits for the answer that another instance is getting, in seconds.
const PATIENCE: i64 = 4;

/// The time between two looks at that answer.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The number of looks within [`PATIENCE`].
const LOOKS: u32 = 80;

/// A session that Better Auth has confirmed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Known {
    user_id: String,
    expires_at: i64,
    asked_at: i64,
}

impl Known {
    /// Returns whether the session counts for a caller who takes answers of up to `max_age` seconds.
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

/// The ways in which a question ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Ended {
    /// Better Auth answered that there is a session, or that there is none.
    Answered,
    /// Better Auth must not be asked again for this number of seconds.
    Limited(i64),
    /// Better Auth failed.
    Failed,
}

/// The state of a question that an instance took.
enum Taken {
    /// The instance is asking.
    IsAsked,
    /// The instance has noted the answer.
    HasEnded,
    /// The instance has died, or other cookies with the same place have taken its row.
    IsLost,
}

/// A place of the table.
#[derive(Serialize, Deserialize)]
struct Place {
    /// The digest of the cookies.
    cookies: String,
    known: Option<Known>,
    /// The way in which the last question ended. `asked_at` is the time at which it was asked.
    ended: Ended,
    asked_at: i64,
}

/// A client for which Better Auth must not be asked before a time.
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
    /// The place that notes until when Better Auth must not be asked for the client.
    limit_key: String,
    client: String,
}

/// The place that a digest chooses.
fn place(digest: &[u8], places: u32) -> u32 {
    let [high, low] = [0, 1].map(|at| digest.get(at).copied().unwrap_or(0));
    u32::from(u16::from_be_bytes([high, low])) % places.max(1)
}

impl<'a> Cache<'a> {
    pub(super) fn of(ports: Ports<'a>, question: Question<'_>) -> Self {
        let digest = Sha256::digest(question.cookies);
        let places = places(ports.config);
        let client = Sha256::digest(question.client.unwrap_or_default());
        Self {
            ports,
            key: format!("session-{:04x}", place(&digest, places)),
            cookies: secrets::hex(&digest),
            limit_key: format!("session-limit-{:04x}", place(&client, places)),
            client: secrets::hex(&client),
        }
    }

    /// The session that the cache holds for the cookies.
    pub(super) async fn known(&self) -> Option<Known> {
        self.place().await?.known
    }

    /// Takes the question about the cookies, unless another instance is asking it. If the database fails, every
    /// instance asks.
    pub(super) async fn takes(&self, now: i64) -> bool {
        let sql = "INSERT INTO auth_questions (place, cookies, asked_at) VALUES (?1, ?2, ?3)
                 ON CONFLICT (place) DO UPDATE SET cookies = excluded.cookies, asked_at = excluded.asked_at
              WHERE cookies <> excluded.cookies OR asked_at NOT BETWEEN ?3 - ?4 + 1 AND ?3
             RETURNING 1";
        let mut parameters = self.question();
        parameters.extend([now.into(), PATIENCE.into()]);
        match self.ports.database.execute(sql, parameters).await {
            Ok(rows) => !rows.is_empty(),
            Err(error) => {
                tracing::warn!(%error, "a question to Better Auth was not recorded");
                true
            }
        }
    }

    /// Waits for the answer that another instance is getting; `None` if it does not come. `since` is the time at which the
    /// wait began.
    pub(super) async fn wait(&self, since: i64) -> Option<Result<Option<Session>, AskError>> {
        for _ in 0..LOOKS {
            self.ports.clock.sleep(LOOK_EVERY).await;
            match self.taken().await {
                Taken::IsAsked => continue,
                Taken::HasEnded => {}
                // The place may hold the answer to an earlier question.
                Taken::IsLost => return None,
            }
            let place = self.place().await?;
            if place.asked_at < since - PATIENCE {
                return None;
            }
            return Some(match place.ended {
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

    /// The state of the question about the cookies that another instance took. If the database fails, it is lost, so that
    /// every instance asks.
    async fn taken(&self) -> Taken {
        let sql = "SELECT cookies = ?2 AND asked_at BETWEEN ?3 - ?4 + 1 AND ?3 FROM auth_questions
              WHERE place = ?1";
        let mut parameters = self.question();
        parameters.extend([self.ports.clock.unix_seconds().into(), PATIENCE.into()]);
        let rows = self.ports.database.execute(sql, parameters).await;
        match rows.map(|rows| rows.first().map(|row| row.integer(0))) {
            Ok(None) => Taken::HasEnded,
            Ok(Some(Ok(1))) => Taken::IsAsked,
            _ => Taken::IsLost,
        }
    }

    fn question(&self) -> Vec<Value> {
        vec![self.key.as_str().into(), self.cookies.as_str().into()]
    }

    /// Notes how the question that was asked at `now` ended. An answer without a session ends the known one.
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
        let place = Place {
            cookies: self.cookies.clone(),
            known,
            ended,
            asked_at: now,
        };
        self.set(&self.key, &place).await;
        let sql = "DELETE FROM auth_questions WHERE place = ?1 AND cookies = ?2";
        if let Err(error) = self.ports.database.execute(sql, self.question()).await {
            tracing::warn!(%error, "the end of a question to Better Auth was not recorded");
        }
    }

    /// The seconds for which Better Auth must not be asked for this client.
    pub(super) async fn held_back(&self, now: i64) -> Option<i64> {
        let value = self.ports.key_value.get(&self.limit_key).await;
        let held: HeldBack = serde_json::from_slice(&value.ok()??).ok()?;
        let wait = held.until - now;
        (held.client == self.client && wait > 0).then_some(wait)
    }

    /// Notes that Better Auth must not be asked for this client before `until`.
    pub(super) async fn hold_back(&self, until: i64) {
        let client = self.client.clone();
        self.set(&self.limit_key, &HeldBack { client, until }).await;
    }

    /// The place of the cookies, if it is not taken by others. The store is a cache: if it fails, Better Auth is asked.
    async fn place(&self) -> Option<Place> {
        let value = self.ports.key_value.get(&self.key).await.ok()??;
        let place: Place = serde_json::from_slice(&value).ok()?;
        secrets::same(&place.cookies, &self.cookies).then_some(place)
    }

    async fn set(&self, key: &str, value: &impl Serialize) {
        let value = serde_json::to_vec(value).unwrap_or_default();
        if let Err(error) = self.ports.key_value.set(key, value).await {
            tracing::warn!(%error, "the cache of sessions could not be written");
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
    fn no_more_keys_are_used_than_the_setting_allows() {
        for (setting, most) in [("", 0xffff), ("500", 499), ("1", 0)] {
            let world = world(&[("session_places", setting)]);
            let cache = |n: u32| {
                let cookies = n.to_string();
                let question = Question {
                    cookies: &cookies,
                    client: Some(&cookies),
                };
                let cache = Cache::of(world.ports(), question);
                (cache.key, cache.limit_key)
            };
            for (key, limit_key) in (0..2000).map(cache) {
                for (key, before) in [(key, "session-"), (limit_key, "session-limit-")] {
                    let place = key.strip_prefix(before).unwrap();
                    assert!(u32::from_str_radix(place, 16).unwrap() <= most, "{key}");
                }
            }
        }
    }

    #[test]
    fn one_instance_takes_a_question_for_as_long_as_it_may_live() {
        let world = world(&[]);
        let cache = Cache::of(world.ports(), QUESTION);
        let takes = |cache: &Cache<'_>, now| block_on(cache.takes(now));
        assert!(takes(&cache, 1000));
        for now in [1000, 1003] {
            assert!(!takes(&cache, now), "{now}");
        }
        // It may be asked again after its time, and if a clock was set back.
        assert!(takes(&cache, 1004));
        assert!(takes(&cache, 1003));
        block_on(cache.end(None, &Ok(None), 1003));
        assert!(takes(&cache, 1003));
        // The question is not about other cookies with the same place.
        let other = Cache {
            cookies: "another digest".into(),
            ..Cache::of(world.ports(), QUESTION)
        };
        assert!(takes(&other, 1003));
    }

    #[test]
    fn waiting_instances_get_the_answer_of_the_asking_instance_and_no_older_answer() {
        let world = world(&[]);
        let cache = Cache::of(world.ports(), QUESTION);
        let session = Session {
            user_id: "u".into(),
            expires_at: 9000,
        };
        block_on(cache.end(None, &Ok(Some(session)), 1000));
        let waited = |since| block_on(cache.wait(since)).map(|answer| answer.unwrap());
        assert_eq!(waited(1000).unwrap().unwrap().user_id, "u");
        // The asking instance may have begun up to four seconds before.
        assert!(waited(1000 + PATIENCE).is_some());
        assert!(waited(1000 + PATIENCE + 1).is_none());
        block_on(cache.end(None, &Ok(None), 1005));
        assert!(waited(1005).unwrap().is_none());
    }

    #[test]
    fn the_answer_to_an_earlier_question_is_not_that_of_an_instance_that_died() {
        let world = world(&[]);
        let cache = Cache::of(world.ports(), QUESTION);
        block_on(cache.end(None, &Ok(None), 999));
        assert!(block_on(cache.takes(1000)));
        world.clock.0.set(1000 + PATIENCE);
        assert!(block_on(cache.wait(1000)).is_none());
        let other = Cache {
            cookies: "another digest".into(),
            ..Cache::of(world.ports(), QUESTION)
        };
        assert!(block_on(other.takes(1000 + PATIENCE)));
        assert!(block_on(cache.wait(1000)).is_none());
        // Another instance may take the question again and answer it.
        assert!(block_on(cache.takes(1000 + PATIENCE)));
        block_on(cache.end(None, &Ok(None), 1000 + PATIENCE));
        assert!(block_on(cache.wait(1000)).is_some());
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
