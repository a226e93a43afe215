//! The cache of sessions: a table of fixed size in the key-value store.
//!
//! The digest of the cookies chooses the place of a session, and a later session with the same place overwrites it. A place
//! also tells that an instance is asking Better Auth just now, because a page sends several requests at once: the other
//! instances wait for that answer. Two that come at the very same moment may both ask; nothing depends on it.

use std::time::Duration;

use platform::Ports;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Question, Session, better_auth::AskError};
use crate::{Denied, secrets};

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
