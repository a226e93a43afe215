//! A small Hrana 3 server over SQLite, for tests. It refuses PRAGMAs, as hosted databases do, and fails as networks do.

use std::{
    cell::RefCell,
    collections::VecDeque,
    path::Path,
    rc::Rc,
    sync::atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use base64::Engine;
use serde_json::{Value as Json, json};

use super::{SetClock, SqliteFile, block_on};
use crate::{
    Database, DatabaseError, HttpClient, HttpError, Row, Value,
    hrana::{BASE64, HranaDatabase},
    http_client::Limits,
};

/// The most bytes of a request that the server takes, which is the limit of Akamai Functions for a body.
const MOST: usize = 10 << 20;

/// The ways in which a request fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The statement does not happen, because no server is there.
    Away,
    /// The statement does not happen, and the answer says that the database is locked.
    Busy,
    /// The statement does not happen, and the answer is a 500.
    Error,
    /// The statement does not happen, and the stream is closed without an answer.
    Closed,
    /// The statement happens, and then the stream is closed.
    Lost,
    /// The statement happens, and the answer is a 500 all the same.
    LostByError,
}

/// The faults of a server: first those that a test has asked for, then those of a seed.
#[derive(Debug, Default)]
struct Faults {
    next: VecDeque<Fault>,
    /// The number of statements that write and are answered before the answer of one is lost.
    until_lost: Option<u32>,
    /// The state of the generator; without a seed, nothing fails by itself.
    seed: Option<u64>,
    /// The number of requests in a row that have failed by the seed. The adapter tolerates two.
    in_a_row: u32,
}

impl Faults {
    fn draw(&mut self, reads: bool) -> Option<Fault> {
        if let Some(fault) = self.next.pop_front() {
            return Some(fault);
        }
        if let (false, Some(left)) = (reads, self.until_lost) {
            self.until_lost = left.checked_sub(1);
            if left == 0 {
                return Some(Fault::Lost);
            }
        }
        let state = self.seed.as_mut()?;
        // Xorshift: it only has to differ from seed to seed.
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        let drawn = *state;
        let fault = match (drawn >> 8) % 12 {
            0 => Fault::Away,
            1 => Fault::Busy,
            2 if reads => Fault::Error,
            3 if reads => Fault::Closed,
            4 if reads => Fault::Lost,
            5 if reads => Fault::LostByError,
            _ => {
                self.in_a_row = 0;
                return None;
            }
        };
        self.in_a_row += 1;
        if self.in_a_row > 2 {
            self.in_a_row = 0;
            return None;
        }
        Some(fault)
    }
}

/// A server without a network: tests hand it the bodies of requests.
pub struct HranaServer {
    database: SqliteFile,
    token: Option<String>,
    faults: Faults,
    /// The number of statements that were carried out.
    carried_out: u64,
}

/// The reaction of the server to a request.
#[derive(Debug)]
pub enum Reply {
    /// The server answers.
    Answer(http::Response<Vec<u8>>),
    /// The server closes the stream.
    Closed,
    /// The server takes no connection.
    Away,
}

fn answer(status: u16, body: Json) -> Reply {
    let mut response = http::Response::new(body.to_string().into_bytes());
    *response.status_mut() =
        http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    Reply::Answer(response)
}

fn refusal(message: &str, code: &str) -> Json {
    json!({ "type": "error", "error": { "message": message, "code": code } })
}

fn value(argument: &Json) -> Option<Value> {
    let text = || argument["value"].as_str();
    Some(match argument["type"].as_str()? {
        "null" => Value::Null,
        "integer" => Value::Integer(text()?.parse().ok()?),
        "float" => Value::Real(argument["value"].as_f64()?),
        "text" => Value::Text(text()?.to_owned()),
        "blob" => Value::Blob(BASE64.decode(argument["base64"].as_str()?).ok()?),
        _ => return None,
    })
}

fn cell(value: Value) -> Json {
    match value {
        Value::Null => json!({ "type": "null" }),
        Value::Integer(value) => json!({ "type": "integer", "value": value.to_string() }),
        Value::Real(value) => json!({ "type": "float", "value": value }),
        Value::Text(value) => json!({ "type": "text", "value": value }),
        Value::Blob(value) => json!({ "type": "blob", "base64": BASE64.encode(value) }),
    }
}

impl HranaServer {
    /// Makes a server of the database in this file.
    ///
    /// # Errors
    /// If SQLite cannot open it.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        Ok(Self {
            database: SqliteFile::open(path)?,
            token: None,
            faults: Faults::default(),
            carried_out: 0,
        })
    }

    /// Makes it require this token.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Makes requests fail, by this seed, in the ways that the adapter tolerates by itself: those that write only if
    /// nothing of them happened, and at most two in a row.
    pub fn fail_by(&mut self, seed: u64) {
        self.faults.seed = Some(seed | 1);
    }

    /// Makes the next requests fail in these ways, one each.
    pub fn fail_next(&mut self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.next.extend(faults);
    }

    /// Makes it lose the answer of one statement that writes, after this number of others that write.
    pub fn lose_write_after(&mut self, others: u32) {
        self.faults.until_lost = Some(others);
    }

    /// Returns whether such an answer is still to be lost. From now on none will be.
    pub fn is_still_to_lose(&mut self) -> bool {
        self.faults.until_lost.take().is_some()
    }

    /// Returns the number of statements that it has carried out, including those that failed.
    pub fn carried_out(&self) -> u64 {
        self.carried_out
    }

    /// Handles a request.
    pub fn reply(&mut self, request: &http::Request<Vec<u8>>) -> Reply {
        if request.uri().path() != "/v3/pipeline" || request.method() != http::Method::POST {
            return answer(404, json!({ "message": "no such path" }));
        }
        let wanted = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let given = request.headers().get(http::header::AUTHORIZATION);
        if wanted
            .is_some_and(|wanted| given.is_none_or(|given| given.as_bytes() != wanted.as_bytes()))
        {
            return answer(401, json!({ "message": "unauthorized" }));
        }
        if request.body().len() > MOST {
            return answer(413, json!({ "message": "the body is too large" }));
        }
        match serde_json::from_slice::<Json>(request.body()) {
            Ok(pipeline) => self.pipeline(&pipeline),
            Err(error) => answer(400, json!({ "message": error.to_string() })),
        }
    }

    fn pipeline(&mut self, pipeline: &Json) -> Reply {
        // The adapter sends one statement, and the end of its stream.
        let (statement, end) = (&pipeline["requests"][0], &pipeline["requests"][1]);
        let Some(sql) = statement["stmt"]["sql"].as_str() else {
            return answer(
                400,
                json!({ "message": "the first request is no statement" }),
            );
        };
        if !pipeline["baton"].is_null() || end["type"] != "close" {
            return answer(
                400,
                json!({ "message": "only streams of one statement are served" }),
            );
        }
        let arguments = statement["stmt"]["args"].as_array().into_iter().flatten();
        let Some(parameters) = arguments.map(value).collect::<Option<Vec<_>>>() else {
            return answer(400, json!({ "message": "an argument cannot be read" }));
        };
        let reads = sql.trim_start().starts_with("SELECT");
        let fault = self.faults.draw(reads);
        match fault {
            Some(Fault::Away) => return Reply::Away,
            Some(Fault::Closed) => return Reply::Closed,
            Some(Fault::Error) => return answer(500, json!({ "message": "internal error" })),
            Some(Fault::Busy) => {
                let busy = refusal("database is locked", "SQLITE_BUSY");
                return answer(200, results(busy));
            }
            Some(Fault::Lost | Fault::LostByError) | None => {}
        }
        let result = self.carry_out(sql, parameters);
        match fault {
            Some(Fault::Lost) => Reply::Closed,
            Some(_) => answer(500, json!({ "message": "internal error" })),
            None => answer(200, results(result)),
        }
    }

    fn carry_out(&mut self, sql: &str, parameters: Vec<Value>) -> Json {
        if sql.trim_start().to_ascii_uppercase().starts_with("PRAGMA") {
            return refusal("PRAGMA is not allowed", "SQL_PARSE_ERROR");
        }
        self.carried_out += 1;
        match block_on(self.database.execute(sql, parameters)) {
            Ok(rows) => {
                let rows: Vec<Vec<Json>> = rows
                    .into_iter()
                    .map(|Row(values)| values.into_iter().map(cell).collect())
                    .collect();
                json!({ "type": "ok", "response": { "type": "execute", "result": {
                    "cols": [], "rows": rows, "affected_row_count": 0, "last_insert_rowid": null,
                }}})
            }
            Err(DatabaseError::Failed(words)) if words.contains("constraint failed") => {
                refusal(&words, "SQLITE_CONSTRAINT")
            }
            Err(error) => refusal(&error.to_string(), "SQLITE_ERROR"),
        }
    }
}

fn results(first: Json) -> Json {
    let close = json!({ "type": "ok", "response": { "type": "close" } });
    json!({ "baton": null, "base_url": null, "results": [first, close] })
}

/// Returns whether the tests run on libSQL: the environment variable `TEST_DATABASE` is `hrana`. `cargo xtask test`
/// sets it to run the tests of the models, and those of `auth`, once more after SQLite.
pub fn is_on_hrana() -> bool {
    std::env::var_os("TEST_DATABASE").is_some_and(|database| database == "hrana")
}

/// Opens the database on which a test runs: SQLite in this file, or the same file behind a server that fails, if
/// [`is_on_hrana`]. The schema is not made.
///
/// # Errors
/// If SQLite cannot open the file.
pub fn database_in(path: &Path) -> Result<Box<dyn Database>, DatabaseError> {
    static SEED: AtomicU64 = AtomicU64::new(1);
    if !is_on_hrana() {
        return Ok(Box::new(SqliteFile::open(path)?));
    }
    let mut server = HranaServer::open(path)?;
    server.fail_by(SEED.fetch_add(2, Ordering::Relaxed));
    Ok(Box::new(HranaWorld::of(server)))
}

/// A client that reaches one server, and nothing else.
#[derive(Clone)]
pub struct HranaClient(Rc<RefCell<HranaServer>>);

#[async_trait(?Send)]
impl HttpClient for HranaClient {
    async fn send(
        &self,
        request: http::Request<Vec<u8>>,
        limits: Limits,
    ) -> Result<http::Response<Vec<u8>>, HttpError> {
        match self.0.borrow_mut().reply(&request) {
            Reply::Answer(answer) if answer.body().len() > limits.max_bytes => {
                Err(HttpError::TooLarge)
            }
            Reply::Answer(answer) => Ok(answer),
            Reply::Closed => Err(HttpError::NoAnswer("the stream was closed".into())),
            Reply::Away => Err(HttpError::NotSent("no server listens".into())),
        }
    }
}

/// A database behind a [`HranaServer`].
pub struct HranaWorld {
    /// The adapter. With its clock, it never waits.
    pub database: HranaDatabase<HranaClient, SetClock>,
    /// The server.
    pub server: Rc<RefCell<HranaServer>>,
}

impl HranaWorld {
    /// Makes an adapter and its server.
    ///
    /// # Panics
    /// If the adapter refuses the address, which it does not.
    #[allow(clippy::expect_used)]
    pub fn of(server: HranaServer) -> Self {
        let server = Rc::new(RefCell::new(server));
        let client = HranaClient(Rc::clone(&server));
        let database =
            HranaDatabase::new(client, SetClock::default(), "http://database.test", None)
                .expect("the address is one of HTTP");
        Self { database, server }
    }
}

#[async_trait(?Send)]
impl Database for HranaWorld {
    async fn execute(&self, sql: &str, parameters: Vec<Value>) -> Result<Vec<Row>, DatabaseError> {
        self.database.execute(sql, parameters).await
    }
}
