//! A stand-in for the Spin app: the internal routes over a log in memory, and an echo for all public routes. A test can
//! make it misbehave.

use crate::events;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

/// The ways in which the internal routes answer.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) enum Mood {
    #[default]
    Well,
    /// Answers 503 to everything.
    Unavailable,
    /// Answers 200, with a body that is not CBOR.
    Garbage,
    /// Answers 200, with an outcome too few.
    TooFew,
    /// Stores, and then breaks the connection off instead of answering.
    BreaksOff,
    /// Never answers.
    Hangs,
    /// Answers 500 to every append, as an ingress in trouble does.
    Fails,
    /// Answers 500 to every append that has updates.
    FailsOnUpdates,
    /// Answers 500 to every second append, as if one backend of two were broken.
    FailsEverySecond,
    /// Answers 400 to every append, but not as a problem of the app.
    Rejects,
}

/// The ways in which the app and the way to it treat lines.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) enum Lines {
    #[default]
    Answered,
    /// The app is older and knows no lines: it answers 404 at once.
    Unknown,
    /// A proxy keeps the body, or the answer, until it is whole.
    Buffered,
    /// The instance dies with the first append, before it is stored.
    Die,
    /// The instance dies after the first append was stored.
    DieStored,
    /// An append is stored, but its answer does not come.
    Mute,
    /// The app ends each line with its third answer.
    Short,
    /// The app answers the proof that a line works, and then nothing on it.
    Silent,
}

#[derive(Default)]
pub(crate) struct Log {
    pub(crate) rooms: HashMap<String, Vec<Vec<u8>>>,
    pub(crate) mood: Mood,
    /// The number of updates in each append asked for.
    pub(crate) appends: Vec<usize>,
    pub(crate) state_reads: usize,
    pub(crate) fetches: usize,
    pub(crate) compacted: Vec<String>,
    /// The number of connections that are open now.
    pub(crate) connections: usize,
    /// The time that a connection may be idle before the app closes it.
    pub(crate) keep_alive: Option<Duration>,
    /// The `METHOD target` of each request, those on lines included.
    pub(crate) seen: Vec<String>,
    pub(crate) tasks: HashMap<String, Task>,
    /// The number of tasks in each question for marks.
    pub(crate) marks: Vec<usize>,
    /// The revs in each question which updates wait.
    pub(crate) waiting: Vec<Vec<u64>>,
    /// The rev of each update that came with a serial number, and its relay.
    serials: HashMap<(String, u64), u64>,
    /// The treatment of lines.
    pub(crate) lines: Lines,
    /// The number of lines that were opened.
    pub(crate) lines_opened: usize,
    /// The number of lines that are open now.
    pub(crate) lines_open: usize,
    /// The number of requests on lines.
    pub(crate) line_requests: usize,
    /// The bytes of each part of uploads that was taken.
    pub(crate) parts: Vec<Bytes>,
    /// The number of parts that are still refused, and the status.
    pub(crate) refused_parts: (usize, u16),
}

/// A task of this app.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Task {
    pub(crate) version: u64,
    pub(crate) is_finished: bool,
}

/// The size of the answer to `/big` and of the files below `/static/`, in bytes.
pub(crate) const BIG: usize = 3 << 20;

pub(crate) struct FakeApp {
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<Log>>,
    /// A state is answered only with a permit, after it was read.
    pub(crate) states: Arc<Semaphore>,
    task: JoinHandle<()>,
}

impl Drop for FakeApp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeApp {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Log::default()));
        let states = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
        let (task_log, task_states) = (log.clone(), states.clone());
        let task = tokio::spawn(async move {
            // The set is dropped with the task, which ends every connection.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let (log, states) = (task_log.clone(), task_states.clone());
                connections.spawn(async move {
                    let answering = log.clone();
                    let service = service_fn(move |request| {
                        answer(answering.clone(), states.clone(), request)
                    });
                    let mut http = http1::Builder::new();
                    if let Some(keep_alive) = log.lock().unwrap().keep_alive {
                        http.timer(TokioTimer::new())
                            .header_read_timeout(keep_alive);
                    }
                    log.lock().unwrap().connections += 1;
                    // A client may close its connection at any time.
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                    log.lock().unwrap().connections -= 1;
                });
            }
        });
        Self {
            address,
            log,
            states,
            task,
        }
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap()
    }

    pub(crate) fn mood(&self, mood: Mood) {
        self.log().mood = mood;
    }

    pub(crate) fn room(&self, project: &str) -> Vec<Vec<u8>> {
        self.log().rooms.get(project).cloned().unwrap_or_default()
    }

    /// Stores an update as another relay does, or as a request to the app itself does.
    pub(crate) fn store(&self, project: &str, payload: &[u8]) {
        let mut log = self.log();
        let room = log.rooms.entry(project.into()).or_default();
        room.push(payload.to_vec());
    }

    /// Holds states back: from now on they are read, but not answered before [`release_states`](Self::release_states).
    pub(crate) fn hold_states(&self) {
        self.states.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub(crate) fn release_states(&self) {
        self.states.add_permits(1000);
    }
}

/// The state of a room in this app: its updates, joined by blanks.
pub(crate) fn state_of(updates: &[Vec<u8>]) -> Vec<u8> {
    updates.join(&b' ')
}

type Reply = Response<UnsyncBoxBody<Bytes, &'static str>>;

async fn answer(
    log: Arc<Mutex<Log>>,
    states: Arc<Semaphore>,
    request: Request<Incoming>,
) -> Result<Reply, &'static str> {
    let (head, body) = request.into_parts();
    let lines = log.lock().unwrap().lines;
    if head.uri.path() == "/internal/line" {
        match lines {
            Lines::Unknown => return Ok(boxed(status(404))),
            Lines::Buffered => return std::future::pending().await,
            _ => {}
        }
        let (sender, answers) = mpsc::channel(1);
        {
            let mut log = log.lock().unwrap();
            log.lines_opened += 1;
            log.lines_open += 1;
        }
        tokio::spawn(async move {
            line(log.clone(), states, body, sender).await;
            log.lock().unwrap().lines_open -= 1;
        });
        let answers = futures_util::stream::unfold(answers, async |mut answers| {
            let next: Option<Result<Frame<Bytes>, &'static str>> = answers.recv().await;
            next.map(|next| (next, answers))
        });
        return Ok(Response::new(StreamBody::new(answers).boxed_unsync()));
    }
    let target = head.uri.to_string();
    if head.uri.path() == "/breaks-once" && times(&log, &format!("{} {target}", head.method)) == 0 {
        log.lock()
            .unwrap()
            .seen
            .push(format!("{} {target}", head.method));
        return Err("breaks off");
    }
    let body = body
        .collect()
        .await
        .map_err(|_| "the client is gone")?
        .to_bytes();
    Ok(boxed(respond(log, states, head, body).await?))
}

fn boxed(response: Response<Full<Bytes>>) -> Reply {
    response.map(|body| body.map_err(|never| match never {}).boxed_unsync())
}

/// Answers the requests on a line. It breaks off by an error, and ends when the sender is dropped.
async fn line(
    log: Arc<Mutex<Log>>,
    states: Arc<Semaphore>,
    mut body: Incoming,
    sender: mpsc::Sender<Result<Frame<Bytes>, &'static str>>,
) {
    let mut reader = wire::LineReader::new(wire::MAX_LINE_REQUEST);
    let mut answers = 0;
    while let Some(Ok(frame)) = body.frame().await {
        reader.push(&frame.into_data().unwrap());
        while let Some(message) = reader.next_message().unwrap() {
            let asked: wire::LineRequest<wire::ByteVec> = wire::decode(&message).unwrap();
            log.lock().unwrap().line_requests += 1;
            let lines = log.lock().unwrap().lines;
            if lines == Lines::Silent && asked.target != "/health" {
                return sender.closed().await;
            }
            let is_append = asked.target == "/internal/append";
            if is_append && lines == Lines::Die {
                sender.send(Err("dies")).await.ok();
                return;
            }
            let request = Request::builder().method(&*asked.method).uri(asked.target);
            let (head, ()) = request.body(()).unwrap().into_parts();
            let body = Bytes::from(Vec::from(asked.body));
            let response = respond(log.clone(), states.clone(), head, body).await;
            let Ok(response) = response else {
                sender.send(Err("breaks off")).await.ok();
                return;
            };
            if is_append && lines == Lines::DieStored {
                sender.send(Err("dies")).await.ok();
                return;
            }
            if is_append && lines == Lines::Mute {
                return sender.closed().await;
            }
            answers += 1;
            let (head, body) = response.into_parts();
            let answer = wire::LineAnswer {
                status: head.status.as_u16(),
                media_type: String::new(),
                body: wire::ByteVec::from(body.collect().await.unwrap().to_bytes().to_vec()),
                is_last: lines == Lines::Short && answers == 3,
            };
            let frame = Frame::data(wire::encode_framed(&answer).into());
            if sender.send(Ok(frame)).await.is_err() || answer.is_last {
                return;
            }
        }
    }
}

async fn respond(
    log: Arc<Mutex<Log>>,
    states: Arc<Semaphore>,
    head: hyper::http::request::Parts,
    body: Bytes,
) -> Result<Response<Full<Bytes>>, &'static str> {
    let target = head.uri.to_string();
    log.lock()
        .unwrap()
        .seen
        .push(format!("{} {target}", head.method));
    if head.uri.path() == "/hangs" {
        std::future::pending::<()>().await;
    }
    let path = head.uri.path().to_owned();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    if let ["internal", ..] = segments[..] {
        let mood = log.lock().unwrap().mood;
        match mood {
            Mood::Unavailable => {
                if path == "/internal/append" {
                    log.lock().unwrap().appends.push(0);
                }
                return Ok(status(503));
            }
            Mood::Garbage => {
                log.lock().unwrap().appends.push(0);
                return Ok(Response::new("garbage".into()));
            }
            Mood::Hangs => {
                log.lock().unwrap().appends.push(0);
                std::future::pending::<()>().await;
            }
            _ => {}
        }
    }
    match segments[..] {
        ["health"] if log.lock().unwrap().mood == Mood::Unavailable => Ok(status(503)),
        // An append with "hang" in it is never answered.
        ["internal", "append"] if body.windows(4).any(|word| word == b"hang") => {
            std::future::pending().await
        }
        ["internal", "append"] => append(&log, &body),
        ["internal", "rooms", project, "state"] => {
            let state = {
                let mut log = log.lock().unwrap();
                log.state_reads += 1;
                let updates = log.rooms.get(project).cloned().unwrap_or_default();
                wire::State {
                    rev: updates.len() as u64,
                    version: vec![1, 2, 3].into(),
                    blobs: vec![state_of(&updates).into()],
                    revs: None,
                }
            };
            let _turn = states.acquire().await;
            Ok(Response::new(wire::encode(&state).into()))
        }
        ["internal", "rooms", project, "waiting"] => {
            let asked: wire::WaitingRequest = wire::decode(&body).map_err(|_| "no CBOR")?;
            let mut log = log.lock().unwrap();
            log.waiting.push(asked.revs.clone());
            let room = log.rooms.get(project).cloned().unwrap_or_default();
            // An update that begins with "waits" waits until there is an update "missing".
            let waits = |rev: &u64| room[*rev as usize - 1].starts_with(b"waits");
            let is_missing = room.iter().all(|update| update != b"missing");
            let waiting = asked
                .revs
                .into_iter()
                .filter(|rev| is_missing && waits(rev));
            let waiting = waiting.map(|rev| wire::Waiting {
                rev,
                peer: 42,
                counter: 17,
            });
            let waiting = waiting.collect();
            Ok(Response::new(
                wire::encode(&wire::WaitingAnswer { waiting }).into(),
            ))
        }
        ["internal", "rooms", project, "updates"] => {
            let after: usize = target
                .rsplit_once("after=")
                .and_then(|(_, after)| after.parse().ok())
                .ok_or("no rev")?;
            let mut log = log.lock().unwrap();
            log.fetches += 1;
            let updates = log.rooms.get(project).cloned().unwrap_or_default();
            let rev = updates.len() as u64;
            let state = wire::State {
                rev,
                version: vec![].into(),
                revs: Some((after as u64 + 1..=rev).collect()),
                blobs: updates.into_iter().skip(after).map(Into::into).collect(),
            };
            Ok(Response::new(wire::encode(&state).into()))
        }
        ["internal", "heads"] => {
            let log = log.lock().unwrap();
            let asked: wire::HeadsRequest = wire::decode(&body).map_err(|_| "no CBOR")?;
            let revs = asked
                .projects
                .iter()
                .map(|project| log.rooms.get(project).map_or(0, |room| room.len() as u64))
                .collect();
            let access_revs = None;
            Ok(Response::new(
                wire::encode(&wire::Heads {
                    revs,
                    access_revs,
                    quarantined: None,
                })
                .into(),
            ))
        }
        ["internal", "access"] => {
            let asked: wire::AccessRequest = wire::decode(&body).map_err(|_| "no CBOR")?;
            let granted = wire::Verdict::Granted {
                principal: "user:dev".into(),
                write: true,
                expires_at: None,
                access_rev: 1,
            };
            let verdicts = vec![granted; asked.checks.len()];
            Ok(Response::new(
                wire::encode(&wire::AccessResponse { verdicts }).into(),
            ))
        }
        ["internal", "tasks", "marks"] => {
            let asked: wire::MarksRequest = wire::decode(&body).map_err(|_| "no CBOR")?;
            let mut log = log.lock().unwrap();
            log.marks.push(asked.tasks.len());
            let mark = |task: &Task| task.version.to_string();
            let marks = asked.tasks.iter().map(|id| log.tasks.get(id).map(mark));
            let marks = marks.collect();
            let projects = None;
            Ok(Response::new(
                wire::encode(&wire::Marks { marks, projects }).into(),
            ))
        }
        ["projects", _, "uploads", ..] => Ok(upload(&log, &head, body)),
        ["tasks", id] => Ok(task(&log, id, &head)),
        ["tasks", id, "events"] => Ok(events::answer(&log, id, &head)),
        ["big"] => Ok(Response::new(vec![b'x'; BIG].into())),
        ["static", name] => Ok(Response::builder()
            .header("cache-control", "public, max-age=31536000, immutable")
            .header("etag", format!("\"{name}\""))
            .header("vary", "accept-encoding")
            .header("vary", "origin")
            .body(vec![b'x'; BIG].into())
            .unwrap()),
        ["internal", "rooms", project, "compact"] => {
            log.lock().unwrap().compacted.push(project.to_owned());
            Ok(status(202))
        }
        ["sync", project] if head.method == "POST" => {
            let mut log = log.lock().unwrap();
            let room = log.rooms.entry(project.to_owned()).or_default();
            room.push(body.to_vec());
            let mut response = Response::new(Full::default());
            response
                .headers_mut()
                .insert("x-loro-rev", room.len().into());
            Ok(response)
        }
        _ => Ok(echo(&head, &body)),
    }
}

/// A task's row, for the user ann.
fn task(log: &Mutex<Log>, id: &str, head: &hyper::http::request::Parts) -> Response<Full<Bytes>> {
    let Some(Task {
        version,
        is_finished,
    }) = log.lock().unwrap().tasks.get(id).copied()
    else {
        return status(404);
    };
    let tag = format!("\"{version}\"");
    let knows = head
        .headers
        .get("if-none-match")
        .is_some_and(|known| *known == *tag);
    let answer = Response::builder()
        .status(if knows { 304 } else { 200 })
        .header("etag", &tag)
        .header("x-loro-internal-principal", "user:ann");
    let answer = if is_finished {
        answer
    } else {
        answer.header("x-loro-internal-task-mark", version.to_string())
    };
    let body = if knows {
        String::new()
    } else {
        json!({ "version": version }).to_string()
    };
    answer.body(body.into()).unwrap()
}

/// Returns how often this was asked.
fn times(log: &Mutex<Log>, asked: &str) -> usize {
    let log = log.lock().unwrap();
    log.seen.iter().filter(|seen| *seen == asked).count()
}

fn append(log: &Mutex<Log>, body: &[u8]) -> Result<Response<Full<Bytes>>, &'static str> {
    let request: wire::AppendRequest = wire::decode(body).map_err(|_| "no CBOR")?;
    let mut log = log.lock().unwrap();
    log.appends.push(request.updates.len());
    let fails = match log.mood {
        Mood::Fails => Some(500),
        Mood::FailsOnUpdates if !request.updates.is_empty() => Some(500),
        Mood::FailsEverySecond if log.appends.len() % 2 == 1 => Some(500),
        Mood::Rejects => Some(400),
        _ => None,
    };
    if let Some(code) = fails {
        return Ok(status(code));
    }
    let has = |word: &[u8]| {
        let mut payloads = request.updates.iter().map(|update| &update.payload);
        payloads.any(|payload| payload.starts_with(word))
    };
    if has(b"trap") {
        return Ok(status(500));
    }
    if has(b"forbidden") {
        // A gateway answers so, not the app.
        return Ok(status(403));
    }
    let mut outcomes: Vec<wire::Outcome> = request
        .updates
        .into_iter()
        .map(|update| {
            if update.payload.starts_with(b"bad") {
                return wire::Outcome::Refused {
                    reason: "it is bad".into(),
                    code: None,
                };
            }
            if update.payload.starts_with(b"twin") {
                return match request.defers {
                    Some(true) => wire::Outcome::Suspect,
                    _ => wire::Outcome::Refused {
                        reason: "its peer id is in use".into(),
                        code: Some(wire::DUPLICATE_PEER.into()),
                    },
                };
            }
            if update.payload.starts_with(b"again") && request.defers == Some(true) {
                return wire::Outcome::Suspect;
            }
            let waits = update.payload.starts_with(b"wait").then_some(true);
            let known = update.serial.map(|serial| (request.origin.clone(), serial));
            if let Some(rev) = known.as_ref().and_then(|known| log.serials.get(known)) {
                return wire::Outcome::Stored { rev: *rev, waits };
            }
            let room = log.rooms.entry(update.project).or_default();
            room.push(update.payload.into());
            let rev = room.len() as u64;
            log.serials.extend(known.map(|known| (known, rev)));
            wire::Outcome::Stored { rev, waits }
        })
        .collect();
    match log.mood {
        Mood::BreaksOff => return Err("breaks off"),
        Mood::TooFew => drop(outcomes.pop()),
        _ => {}
    }
    Ok(Response::new(
        wire::encode(&wire::AppendResponse { outcomes }).into(),
    ))
}

/// Takes a part of an upload. The answer to the last one is an echo.
fn upload(
    log: &Mutex<Log>,
    head: &hyper::http::request::Parts,
    body: Bytes,
) -> Response<Full<Bytes>> {
    let mut log = log.lock().unwrap();
    if head.method == "DELETE" {
        return status(204);
    }
    let (refused, with) = &mut log.refused_parts;
    if *refused > 0 {
        *refused -= 1;
        return status(*with);
    }
    let query = head.uri.query().unwrap_or_default();
    log.parts.push(body.clone());
    if query.contains("last=1") {
        return echo(head, &body);
    }
    let mut response = status(if query.starts_with("length=") {
        201
    } else {
        200
    });
    let location = format!("{}/asset_1.mp4", head.uri.path());
    let headers = response.headers_mut();
    headers.insert("location", location.parse().unwrap());
    response
}

/// Answers with what arrived, as JSON.
fn echo(head: &hyper::http::request::Parts, body: &[u8]) -> Response<Full<Bytes>> {
    let headers: Vec<(String, String)> = head
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    let echo = json!({
        "method": head.method.as_str(),
        "target": head.uri.to_string(),
        "headers": headers,
        "bytes": body.len(),
    });
    Response::builder()
        .header("x-from-the-app", "yes")
        .header("connection", "x-private")
        .header("x-private", "1")
        .body(echo.to_string().into())
        .unwrap()
}

fn status(status: u16) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .body(Full::default())
        .unwrap()
}
