//! The database of a host that has no SQLite: libSQL over HTTP.
//!
//! The adapter speaks Hrana 3 (`POST /v3/pipeline`), one statement a request. The server closes the stream with it, so
//! each statement is a transaction of its own, and nothing is kept open between two.

mod json;

use std::time::Duration;

use async_trait::async_trait;

use crate::{
    Clock, Database, DatabaseError, HttpClient, HttpError, Row, Setting, Value, http_client::Limits,
};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use json::BASE64;
pub use json::Found;
use json::{Answered, Refused};

/// The address of the database server. The build with SQLite does not have this setting, so the table of settings does
/// not list it; `cargo xtask manifest` writes its variable.
pub const DATABASE_URL: Setting = Setting::marked("setting:database_url;");
/// The token that the database server requires.
pub const DATABASE_TOKEN: Setting = Setting::marked("setting:database_token;");

/// The time that one request may take. Three of them are less than the 30 s of a handler.
const TIMEOUT: Duration = Duration::from_secs(9);
/// The most bytes of an answer, which holds blobs as Base64.
const ANSWER_BYTES: usize = 48 << 20;
/// The most times that a statement is sent.
const ATTEMPTS: u32 = 3;
/// The pause before a statement is sent again. Each further one is four times as long.
const PAUSE: Duration = Duration::from_millis(50);

/// A database server that speaks Hrana 3 over HTTP.
///
/// A statement is sent again if it certainly did not happen, or if it only reads. Every other lost answer is an error,
/// and the caller's statement must be safe to repeat; `docs/libsql.md` says for each what that does.
#[derive(Debug)]
pub struct HranaDatabase<H, C> {
    http: H,
    clock: C,
    endpoint: String,
    authorization: Option<http::HeaderValue>,
}

/// The way in which a request failed, which decides whether it is sent again.
enum Failure {
    /// The statement did not happen, and may succeed later.
    NotYet(DatabaseError),
    /// The statement did not happen, and will not.
    Never(DatabaseError),
    /// The answer was lost, so it is not known whether the statement was executed.
    Unknown(DatabaseError),
}

impl<H: HttpClient, C: Clock> HranaDatabase<H, C> {
    /// Makes the adapter. Nothing is sent before the first statement. `libsql://` is understood as `https://`.
    ///
    /// # Errors
    /// If the address is empty or has another scheme, or if the token cannot be sent in a header. The error shows
    /// neither.
    pub fn new(http: H, clock: C, url: &str, token: Option<&str>) -> Result<Self, DatabaseError> {
        let wrong = |words: String| DatabaseError::Failed(words);
        let url = url.trim().trim_end_matches('/');
        let url = match url.split_once("://") {
            Some(("libsql", rest)) => format!("https://{rest}"),
            Some(("http" | "https", _)) => url.to_owned(),
            _ => {
                return Err(wrong(format!(
                    "`{DATABASE_URL}` must be the address of a libSQL server: https://…, http://… or libsql://…"
                )));
            }
        };
        let authorization = token.filter(|token| !token.is_empty()).map(|token| {
            let mut value = http::HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_| wrong(format!("`{DATABASE_TOKEN}` cannot be sent in a header")))?;
            value.set_sensitive(true);
            Ok(value)
        });
        Ok(Self {
            http,
            clock,
            endpoint: format!("{url}/v3/pipeline"),
            authorization: authorization.transpose()?,
        })
    }

    fn request(&self, body: Vec<u8>) -> Result<http::Request<Vec<u8>>, DatabaseError> {
        let mut request = http::Request::post(&self.endpoint)
            .header(http::header::CONTENT_TYPE, "application/json")
            .header(http::header::CONTENT_LENGTH, body.len());
        if let Some(authorization) = &self.authorization {
            request = request.header(http::header::AUTHORIZATION, authorization);
        }
        request
            .body(body)
            .map_err(|error| DatabaseError::Failed(format!("`{DATABASE_URL}`: {error}")))
    }

    async fn attempt(&self, body: &[u8]) -> Result<Found, Failure> {
        let request = self.request(body.to_vec()).map_err(Failure::Never)?;
        let limits = Limits {
            timeout: TIMEOUT,
            max_bytes: ANSWER_BYTES,
        };
        let answer = self.http.send(request, limits).await.map_err(unanswered)?;
        let status = answer.status();
        if status.is_success() {
            return match json::decode(answer.body()) {
                Ok(Answered::Found(found)) => Ok(found),
                Ok(Answered::Refused(refused)) => Err(refused_statement(refused)),
                Err(error) => Err(Failure::Unknown(DatabaseError::Unexpected(error))),
            };
        }
        let words = format!("the database server answered with {status}");
        Err(match status.as_u16() {
            429 => Failure::NotYet(DatabaseError::Failed(words)),
            413 => Failure::Never(DatabaseError::Failed(format!(
                "{words}: the statement is too large"
            ))),
            400..=499 => Failure::Never(DatabaseError::Failed(words)),
            _ => Failure::Unknown(DatabaseError::NoAnswer(words)),
        })
    }

    /// Runs one statement as [`Database::execute`] does, and returns the names of its columns, too.
    ///
    /// # Errors
    /// As [`Database::execute`].
    pub async fn query(&self, sql: &str, parameters: Vec<Value>) -> Result<Found, DatabaseError> {
        let body = json::encode(sql, parameters)?;
        let mut pause = PAUSE;
        let mut attempts = 1;
        loop {
            let error = match self.attempt(&body).await {
                Ok(found) => return Ok(found),
                Err(Failure::Never(error)) => return Err(error),
                Err(Failure::Unknown(error)) if !only_reads(sql) => return Err(error),
                Err(Failure::NotYet(error) | Failure::Unknown(error)) => error,
            };
            if attempts == ATTEMPTS {
                return Err(error);
            }
            attempts += 1;
            self.clock.sleep(pause).await;
            pause *= 4;
        }
    }
}

fn unanswered(error: HttpError) -> Failure {
    match error {
        HttpError::NotSent(words) => Failure::NotYet(DatabaseError::Failed(words)),
        HttpError::NoAnswer(words) => Failure::Unknown(DatabaseError::NoAnswer(words)),
        // The same rows would be as large the next time.
        HttpError::TooLarge => Failure::Never(DatabaseError::Unexpected(format!(
            "query result exceeds {ANSWER_BYTES} bytes"
        ))),
    }
}

fn refused_statement(refused: Refused) -> Failure {
    let is_busy = ["SQLITE_BUSY", "SQLITE_LOCKED"]
        .iter()
        .any(|code| refused.code.starts_with(code));
    let error = DatabaseError::Failed(refused.message);
    if is_busy {
        Failure::NotYet(error)
    } else {
        Failure::Never(error)
    }
}

/// Returns whether a statement certainly writes nothing.
fn only_reads(sql: &str) -> bool {
    sql.trim_start()
        .get(..6)
        .is_some_and(|verb| verb.eq_ignore_ascii_case("SELECT"))
}

#[async_trait(?Send)]
impl<H: HttpClient, C: Clock> Database for HranaDatabase<H, C> {
    async fn execute(&self, sql: &str, parameters: Vec<Value>) -> Result<Vec<Row>, DatabaseError> {
        self.query(sql, parameters).await.map(|found| found.rows)
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests;
