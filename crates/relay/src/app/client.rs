//! The client of the app's internal routes, which the crate `wire` describes.

use crate::app::error::AppError;
use crate::app::line::{self, Opener};
use crate::app::persistent_line::{Asked, PersistentLine};
use crate::app::questions::Questions;
use crate::app::states::{MAX_STATE, States};
use crate::app::upstream::{Dedicated, Upstream, read_body};
use crate::edge::body::{Body, full};
use crate::metrics::Metrics;
use crate::settings::{SettingError, Settings};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;
use problem::MEDIA_TYPE;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;

/// The largest answer to anything but a read, in bytes.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// The largest version vector, in bytes, that goes in a URL, where an app of any release looks for it. A vector of some
/// hundred peers is larger, and goes in a body.
const MAX_VERSION_IN_URL: usize = 1024;

/// The number of states, and of pieces of logs, that are read at once, over all rooms. One room has a part of the reads
/// of states.
const READS: usize = 16;

/// The time that a join waits for its turn on the line. After that it asks by a request of its own, so that no join waits
/// long for another.
const TURN: Duration = Duration::from_millis(25);

/// The time that the verdict about a client may take on the line for joins. After that the line counts as silent, and the
/// relay asks by a request of its own. The verdict is the first question of each join, so a state, which may take long
/// and should not be read twice, is seldom asked for on a silent line.
const SILENCE: Duration = Duration::from_secs(3);

/// The client of the app.
pub(crate) struct App {
    upstream: Arc<Upstream>,
    authorization: Option<HeaderValue>,
    timeout: Duration,
    patience: Duration,
    /// The turns of reads of updates. They are apart from those of states, because clients that have joined wait for
    /// them.
    update_reads: Semaphore,
    states: States,
    /// The questions whether clients may come in.
    questions: Questions,
    metrics: Arc<Metrics>,
    opener: Opener,
    /// The line for the questions of joins.
    joins: Mutex<PersistentLine>,
}

impl App {
    /// A client that sends the internal token, if one is set.
    ///
    /// # Errors
    /// If the token cannot be sent in a header.
    pub(crate) fn new(
        upstream: Arc<Upstream>,
        settings: &Settings,
        metrics: Arc<Metrics>,
    ) -> Result<Self, SettingError> {
        let authorization = match settings.internal_token.as_str() {
            "" => None,
            token => {
                let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                    .map_err(|_| SettingError::InternalToken)?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let opener = Opener::new(upstream.clone(), authorization.clone(), settings);
        Ok(Self {
            upstream,
            authorization,
            timeout: settings.app_timeout,
            patience: settings.app_patience,
            update_reads: Semaphore::new(READS),
            states: States::new(READS, settings.max_states),
            questions: Questions::default(),
            joins: Mutex::new(PersistentLine::new(opener.clone(), metrics.clone())),
            opener,
            metrics,
        })
    }

    /// A line for appends.
    pub(crate) fn line(&self) -> PersistentLine {
        PersistentLine::new(self.opener.clone(), self.metrics.clone())
    }

    /// Asks on the line for joins, or by a request of its own if there is no line or others hold it for long.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        max_bytes: usize,
    ) -> Result<Bytes, AppError> {
        let request = line::encode(&method, path, &body);
        let is_verdict = path == ACCESS;
        let patience = if is_verdict {
            self.timeout.min(SILENCE)
        } else {
            self.timeout
        };
        if let Ok(mut line) = timeout(TURN, self.joins.lock()).await {
            let answer = line.ask(request, patience).await;
            drop(line);
            match answer {
                Ok(Asked::Answered(answer)) => {
                    self.metrics.line_requests_total.add(1);
                    return accepted(answer);
                }
                Ok(Asked::NoLine | Asked::Ended) => {}
                Err(_) if is_verdict => {}
                Err(error) => return Err(error),
            }
        }
        self.call(method, path, body, max_bytes).await
    }

    fn request<B>(&self, method: Method, path: &str, body: B) -> Result<Request<B>, AppError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.upstream.authority)
            .header(header::CONTENT_TYPE, wire::CONTENT_TYPE)
            .header(wire::VERSION_HEADER, wire::VERSION)
            .body(body)
            .map_err(|error| AppError::Garbage(error.to_string()))?;
        if let Some(authorization) = &self.authorization {
            request
                .headers_mut()
                .insert(header::AUTHORIZATION, authorization.clone());
        }
        Ok(request)
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        max_bytes: usize,
    ) -> Result<Bytes, AppError> {
        let request: Request<Body> = self.request(method, path, full(body))?;
        timeout(self.timeout, async {
            let response = self.upstream.send(request).await?;
            let status = response.status();
            let refused = refuses(status, media_type(response.headers()));
            let body = read_body(response.into_body(), max_bytes).await?;
            match status {
                StatusCode::OK | StatusCode::ACCEPTED => Ok(body),
                status if refused => Err(AppError::Refused(status)),
                status => Err(AppError::Status(status)),
            }
        })
        .await
        .map_err(|_| AppError::Timeout(self.timeout))?
    }

    /// Reads the state of a room, or what a client at `version` lacks of it. It is not copied out of the answer,
    /// because it may be large.
    pub(crate) async fn state(
        &self,
        project: &str,
        version: Option<&[u8]>,
    ) -> Result<wire::StateOf<Bytes>, AppError> {
        let path = format!("/internal/rooms/{project}/state");
        let (method, path, request) = match version {
            None => (Method::GET, path, Vec::new()),
            Some(version) if version.len() <= MAX_VERSION_IN_URL => {
                let version = URL_SAFE_NO_PAD.encode(version);
                let path = format!("{path}?version={version}");
                (Method::GET, path, Vec::new())
            }
            Some(version) => {
                let version = version.to_vec().into();
                let request = wire::encode(&wire::StateRequest { version });
                (Method::POST, path, request)
            }
        };
        let asked = self.ask(method, &path, request, MAX_STATE);
        let body = self.states.read(project, self.patience, asked).await?;
        let body = body.ok_or(AppError::Crowded)?;
        let state: wire::StateOf<&wire::ByteSlice> = wire::decode(&body).map_err(garbage)?;
        let slice = |bytes: &wire::ByteSlice| body.slice_ref(bytes);
        Ok(wire::StateOf {
            rev: state.rev,
            version: slice(state.version),
            blobs: state.blobs.into_iter().map(slice).collect(),
            revs: state.revs,
        })
    }

    /// Reads everything after a rev. Each blob is a piece of memory of its own, because a room may keep some of them.
    pub(crate) async fn updates(&self, project: &str, after: u64) -> Result<wire::State, AppError> {
        let path = format!("/internal/rooms/{project}/updates?after={after}");
        let _turn = self.update_reads.acquire().await;
        let body = self.ask(Method::GET, &path, Vec::new(), MAX_STATE).await?;
        wire::decode(&body).map_err(garbage)
    }

    /// Reads the newest rev and the `access_rev` of each of these projects, in their order. It never goes by a line,
    /// because an idle relay asks it every few seconds, and would always hold one.
    pub(crate) async fn heads(&self, projects: Vec<String>) -> Result<wire::Heads, AppError> {
        let asked = projects.len();
        let body = wire::encode(&wire::HeadsRequest { projects });
        let answer = self
            .call(Method::POST, "/internal/heads", body, MAX_ANSWER)
            .await?;
        let heads: wire::Heads = wire::decode(&answer).map_err(garbage)?;
        check_number(heads.revs.len(), "heads", asked, "rooms")?;
        Ok(heads)
    }

    /// Asks which of these updates of a room wait for operations that the room lacks.
    pub(crate) async fn waiting(
        &self,
        project: &str,
        revs: Vec<u64>,
    ) -> Result<Vec<wire::Waiting>, AppError> {
        let path = format!("/internal/rooms/{project}/waiting");
        let body = wire::encode(&wire::WaitingRequest { revs });
        let answer = self.call(Method::POST, &path, body, MAX_ANSWER).await?;
        let wire::WaitingAnswer { waiting } = wire::decode(&answer).map_err(garbage)?;
        Ok(waiting)
    }

    /// Asks whether a client may come in, as soon as few other such questions are under way.
    pub(crate) async fn entry(&self, check: wire::AccessCheck) -> Result<wire::Verdict, AppError> {
        let question = async {
            let body = access_request(vec![check]);
            let answer = self.ask(Method::POST, ACCESS, body, MAX_ANSWER).await?;
            let verdict = verdicts(&answer, 1)?.pop();
            verdict.ok_or_else(|| AppError::Garbage("no verdict".into()))
        };
        self.questions.ask(question).await
    }

    /// Asks whether clients may still be in their rooms. The verdicts come in the order of the checks. It never goes by a
    /// line, because sockets that are idle are asked about, too, and a relay without joins holds no line.
    pub(crate) async fn access(
        &self,
        checks: Vec<wire::AccessCheck>,
    ) -> Result<Vec<wire::Verdict>, AppError> {
        let asked = checks.len();
        let body = access_request(checks);
        let answer = self.call(Method::POST, ACCESS, body, MAX_ANSWER).await?;
        verdicts(&answer, asked)
    }

    /// Ends the line for joins if its time is over. While no client joins, nothing else ends it.
    pub(crate) fn look_at_line(&self) {
        // A join that holds the line looks at it.
        if let Ok(mut line) = self.joins.try_lock() {
            line.look();
        }
    }

    /// Reads the mark of each of these tasks and projects, in their order; `None` stands for a task that is gone. An
    /// app of an earlier release does not know marks of projects.
    pub(crate) async fn marks(
        &self,
        tasks: Vec<String>,
        projects: Vec<String>,
    ) -> Result<wire::Marks, AppError> {
        let (of_tasks, of_projects) = (tasks.len(), projects.len());
        let body = wire::encode(&wire::MarksRequest {
            tasks,
            projects: Some(projects),
        });
        let answer = self
            .call(Method::POST, "/internal/tasks/marks", body, MAX_ANSWER)
            .await?;
        let marks: wire::Marks = wire::decode(&answer).map_err(garbage)?;
        check_number(marks.marks.len(), "marks", of_tasks, "tasks")?;
        if let Some(told) = &marks.projects {
            check_number(told.len(), "marks", of_projects, "projects")?;
        }
        Ok(marks)
    }

    /// Asks the app to compact a room.
    pub(crate) async fn compact(&self, project: &str) -> Result<(), AppError> {
        let path = format!("/internal/rooms/{project}/compact");
        self.call(Method::POST, &path, Vec::new(), MAX_ANSWER)
            .await
            .map(drop)
    }

    /// Asks the app to compact every room that is due.
    pub(crate) async fn sweep(&self) -> Result<(), AppError> {
        self.call(Method::POST, "/internal/sweep", Vec::new(), MAX_ANSWER)
            .await
            .map(drop)
    }

    /// Asks the app for its numbers, in the text format of Prometheus.
    pub(crate) async fn metrics(&self) -> Result<String, AppError> {
        let answer = self
            .call(Method::GET, "/internal/metrics", Vec::new(), MAX_ANSWER)
            .await?;
        String::from_utf8(answer.into()).map_err(|error| AppError::Garbage(error.to_string()))
    }

    /// Asks the app to do everything that is due: tasks, their documents, compactions. An app of an earlier release does
    /// not say whether a task is open, so the relay assumes that one is.
    pub(crate) async fn poll(&self) -> Result<wire::Polled, AppError> {
        let answer = self
            .call(Method::POST, "/internal/poll", Vec::new(), MAX_ANSWER)
            .await?;
        Ok(wire::decode(&answer).unwrap_or(wire::Polled {
            has_open_tasks: true,
            unprotected: None,
        }))
    }

    /// Returns how many requests were sent to the app, those of clients included.
    pub(crate) fn requests(&self) -> u64 {
        self.upstream.requests.get()
    }

    /// Asks the app to store updates, over the caller's own connection: it is opened if there is none, and dropped if
    /// it failed. `body` is an encoded [`wire::AppendRequest`] with this many `updates`. The answer may take
    /// `patience`.
    pub(crate) async fn append(
        &self,
        connection: &mut Option<Dedicated>,
        body: Bytes,
        updates: usize,
        patience: Duration,
    ) -> Result<Vec<wire::Outcome>, AppError> {
        let exchange = async {
            let kept = connection
                .take()
                .and_then(|mut kept| kept.is_usable().then_some(kept));
            let mut used = match kept {
                Some(kept) => kept,
                None => self.upstream.dedicated().await?,
            };
            self.upstream.requests.add(1);
            let request = self.request(Method::POST, "/internal/append", Full::new(body))?;
            let response = used.send(request, MAX_ANSWER).await?;
            Ok::<_, AppError>((used, response))
        };
        let (used, response) = timeout(patience, exchange)
            .await
            .map_err(|_| AppError::Timeout(patience))??;
        let close = response
            .headers()
            .get(header::CONNECTION)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
        if !close {
            *connection = Some(used);
        }
        match response.status() {
            StatusCode::OK => {}
            status if refuses(status, media_type(response.headers())) => {
                return Err(AppError::Refused(status));
            }
            status => return Err(AppError::Status(status)),
        }
        outcomes(response.body(), updates)
    }

    /// Asks the app to store updates over a line. `body` is an encoded [`wire::AppendRequest`] with this many
    /// `updates`.
    pub(crate) async fn append_on(
        &self,
        line: &mut PersistentLine,
        body: &[u8],
        updates: usize,
        patience: Duration,
    ) -> Result<Asked<Vec<wire::Outcome>>, AppError> {
        let request = line::encode(&Method::POST, "/internal/append", body);
        let answer = match line.ask(request, patience).await? {
            Asked::Answered(answer) => answer,
            Asked::NoLine => return Ok(Asked::NoLine),
            Asked::Ended => return Ok(Asked::Ended),
        };
        self.metrics.line_requests_total.add(1);
        outcomes(&accepted(answer)?, updates).map(Asked::Answered)
    }
}

/// The path of the questions about access.
const ACCESS: &str = "/internal/access";

fn access_request(checks: Vec<wire::AccessCheck>) -> Vec<u8> {
    wire::encode(&wire::AccessRequest { checks })
}

/// The verdicts in an answer about this many sockets.
fn verdicts(answer: &[u8], asked: usize) -> Result<Vec<wire::Verdict>, AppError> {
    let wire::AccessResponse { verdicts } = wire::decode(answer).map_err(garbage)?;
    check_number(verdicts.len(), "verdicts", asked, "sockets")?;
    Ok(verdicts)
}

/// The outcomes in an answer to an append of this many updates.
fn outcomes(body: &[u8], updates: usize) -> Result<Vec<wire::Outcome>, AppError> {
    let wire::AppendResponse { outcomes } = wire::decode(body).map_err(garbage)?;
    check_number(outcomes.len(), "outcomes", updates, "updates")?;
    Ok(outcomes)
}

/// Checks that an answer has as many parts as its request.
fn check_number(found: usize, parts: &str, asked: usize, of: &str) -> Result<(), AppError> {
    if found == asked {
        Ok(())
    } else {
        let words = format!("{found} {parts} for {asked} {of}");
        Err(AppError::Garbage(words))
    }
}

/// The body of an answer on a line, if its status is 200.
fn accepted(answer: line::Answer) -> Result<Bytes, AppError> {
    match answer.status {
        StatusCode::OK => Ok(answer.body),
        status if refuses(status, answer.media_type.as_bytes()) => Err(AppError::Refused(status)),
        status => Err(AppError::Status(status)),
    }
}

/// Returns whether the answer says that the request itself is at fault. Any server on the way may find a request too
/// large. That a request is bad is believed only if the app says so, by a problem document, because a proxy in trouble
/// may answer 400, too.
fn refuses(status: StatusCode, media_type: &[u8]) -> bool {
    let is_problem = media_type.starts_with(MEDIA_TYPE.as_bytes());
    status == StatusCode::PAYLOAD_TOO_LARGE || status == StatusCode::BAD_REQUEST && is_problem
}

fn media_type(headers: &HeaderMap) -> &[u8] {
    let media_type = headers.get(header::CONTENT_TYPE);
    media_type.map_or(&[], HeaderValue::as_bytes)
}

fn garbage(error: wire::DecodeError) -> AppError {
    AppError::Garbage(error.to_string())
}
