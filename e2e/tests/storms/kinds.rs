//! The kinds of storms. Each begins with a number of callers at one address, which go on until the storm is dropped; only
//! a caller that posts ends with its answer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use e2e::built::root;
use e2e::host::Host;
use e2e::raw::change;
use e2e::wait::until_within;
use loro::LoroDoc;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::sources::{STORM, connect, connect_deaf};

/// The pause after a caller was turned away.
const PAUSE: Duration = Duration::from_millis(200);

/// The size in bytes of the room that sockets join, or whose document clients request.
const ROOM: usize = 1 << 20;

/// The longest wait until all sockets have joined.
const JOINED_WITHIN: Duration = Duration::from_secs(60);

/// A kind of storm.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Storm {
    /// The agents that wait for a task that does not end, and ask again after each answer.
    WaitingAgents,
    /// The clients that request the largest file of the page and never read it.
    UnreadDownloads,
    /// The clients that request a document, which the relay does not keep, and never read it.
    UnreadAnswers,
    /// The connections that send nothing.
    IdleConnections,
    /// The tasks whose parameters hold 8 MB of zeros.
    FatPosts,
    /// The sockets that join one room at once, within the time that the terms allow.
    JoiningSockets,
}

/// A storm that goes on. Dropping it ends it.
pub(crate) struct Raging {
    _callers: JoinSet<()>,
    /// The server's answers, and how often each came.
    pub(crate) seen: Arc<Seen>,
    /// The time that it took until all sockets had joined.
    pub(crate) joined: Option<Duration>,
}

/// The counts of what callers saw.
#[derive(Default)]
pub(crate) struct Seen(Mutex<BTreeMap<String, usize>>);

impl Seen {
    fn count(&self, what: impl Into<String>) {
        *self.0.lock().unwrap().entry(what.into()).or_default() += 1;
    }

    /// The counts in words.
    pub(crate) fn words(&self) -> String {
        let counts = self.0.lock().unwrap();
        let counts: Vec<_> = counts
            .iter()
            .map(|(what, n)| format!("{what}: {n}"))
            .collect();
        counts.join(", ")
    }
}

impl Storm {
    /// Prepares what the storm needs, while the host is calm.
    pub(crate) async fn prepare(self, host: &Host) -> Prepared {
        match self {
            Self::WaitingAgents => Prepared::Request(request(&format!(
                "GET /tasks/{}?wait=30",
                pending_task(host).await
            ))),
            Self::UnreadDownloads => {
                let (path, _) = largest_file();
                Prepared::Request(request(&format!("GET /{path}")))
            }
            Self::UnreadAnswers => {
                fill_room(host).await;
                Prepared::Request(request("GET /sync/large"))
            }
            Self::IdleConnections => Prepared::Nothing,
            Self::FatPosts => Prepared::Request(fat_post()),
            Self::JoiningSockets => {
                // A state holds little besides the text.
                let size = fill_room(host).await / 10 * 9;
                Prepared::Join(upgrade("/sync/large"), size)
            }
        }
    }

    /// Starts `count` callers. If they join a room, waits until all have joined.
    pub(crate) async fn begin(self, address: &str, prepared: Prepared, count: usize) -> Raging {
        let mut callers = JoinSet::new();
        let seen = Arc::new(Seen::default());
        let start = Instant::now();
        for _ in 0..count {
            let (address, seen) = (address.to_owned(), Arc::clone(&seen));
            let (request, size) = prepared.request();
            callers.spawn(async move {
                match self {
                    Self::WaitingAgents => ask_again(&address, &request, &seen).await,
                    Self::UnreadDownloads | Self::UnreadAnswers => {
                        read_nothing(&address, &request, &seen).await
                    }
                    Self::IdleConnections => send_nothing(&address, &seen).await,
                    Self::FatPosts => post(&address, &request, &seen).await,
                    Self::JoiningSockets => join(&address, &request, size, &seen).await,
                }
            });
        }
        let mut joined = None;
        if matches!(self, Self::JoiningSockets) {
            let all = format!("joined: {count}");
            until_within(JOINED_WITHIN, "all have joined", async || {
                let words = seen.words();
                // A socket that was refused does not join any more.
                assert!(!words.contains(','), "{words}");
                words == all
            })
            .await;
            joined = Some(start.elapsed());
        }
        Raging {
            _callers: callers,
            seen,
            joined,
        }
    }
}

/// The request that the callers of a storm send.
pub(crate) enum Prepared {
    /// Sends nothing.
    Nothing,
    /// Sends this request.
    Request(Bytes),
    /// Sends this request to upgrade, after which at least this many bytes come.
    Join(Bytes, usize),
}

impl Prepared {
    fn request(&self) -> (Bytes, usize) {
        match self {
            Self::Nothing => (Bytes::new(), 0),
            Self::Request(request) => (request.clone(), 0),
            Self::Join(request, size) => (request.clone(), *size),
        }
    }
}

/// Writes a text into room `large`, and returns the size of the update.
async fn fill_room(host: &Host) -> usize {
    let update = change(&LoroDoc::new(), |doc| {
        let letter = || char::from(rand::random_range(b'a'..=b'z'));
        let text: String = (0..ROOM).map(|_| letter()).collect();
        doc.get_text("text").insert(0, &text).unwrap();
    });
    let size = update.len();
    assert_eq!(host.http().post("/sync/large", update).await.status, 200);
    size
}

fn upgrade(path: &str) -> Bytes {
    format!(
        "GET {path} HTTP/1.1\r\nhost: storm\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into()
}

fn request(line: &str) -> Bytes {
    format!("{line} HTTP/1.1\r\nhost: storm\r\nconnection: close\r\n\r\n").into()
}

fn fat_post() -> Bytes {
    let body = json!({
        "project_id": "fat", "task_type": "kling_video",
        "params": { "prompt": "a hill", "junk": vec![0; 4_000_000] },
    });
    let body = body.to_string();
    let head = format!(
        "POST /tasks HTTP/1.1\r\nhost: storm\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    (head + &body).into()
}

/// Posts a task that stays under way, because its service never answers.
async fn pending_task(host: &Host) -> String {
    let task = json!({
        "project_id": "tasks", "task_type": "kling_video", "params": { "prompt": "a hill" },
    });
    let answer = host.http().post("/tasks", task.to_string()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["task_id"].as_str().unwrap().to_owned()
}

/// The path and the size of the page's largest file.
fn largest_file() -> (String, u64) {
    let folder = root().join("components/console/dist");
    let mut files = Vec::new();
    collect(&folder, &mut files);
    let largest = files.into_iter().max_by_key(|(_, size)| *size).unwrap();
    let path = largest.0.strip_prefix(&folder).unwrap();
    (path.to_str().unwrap().to_owned(), largest.1)
}

fn collect(folder: &Path, files: &mut Vec<(PathBuf, u64)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            collect(&entry.path(), files);
        } else {
            files.push((entry.path(), metadata.len()));
        }
    }
}

/// Reads how long an answer asks its client to wait, as clients do.
fn asked_to_wait(answer: &[u8]) -> Option<Duration> {
    let answer = String::from_utf8_lossy(answer);
    let seconds = answer.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("retry-after")
            .then(|| value.trim().parse().ok())?
    })?;
    Some(Duration::from_secs(seconds))
}

/// The status in the head of an answer; `no answer` if there is none.
fn status(answer: &[u8]) -> String {
    let head = String::from_utf8_lossy(&answer[..answer.len().min(64)]).into_owned();
    let status = head.split(' ').nth(1).map(str::to_owned);
    status.unwrap_or_else(|| "no answer".into())
}

async fn ask_again(address: &str, request: &[u8], seen: &Seen) {
    loop {
        let Ok(mut stream) = connect(STORM, address).await else {
            seen.count("not connected");
            sleep(PAUSE).await;
            continue;
        };
        let mut answer = Vec::new();
        // The server may have answered already that it takes no more connections.
        let _ = stream.write_all(request).await;
        // An answer that breaks off counts by its status, if that has come.
        let _ = stream.read_to_end(&mut answer).await;
        let status = status(&answer);
        let succeeded = status.starts_with('2');
        seen.count(status);
        if !succeeded {
            sleep(asked_to_wait(&answer).unwrap_or(PAUSE)).await;
        }
    }
}

async fn read_nothing(address: &str, request: &[u8], seen: &Seen) {
    loop {
        let Ok(mut stream) = connect_deaf(STORM, address).await else {
            seen.count("not connected");
            sleep(PAUSE).await;
            continue;
        };
        if stream.write_all(request).await.is_ok() {
            seen.count("asked");
            std::future::pending::<()>().await;
        }
    }
}

async fn send_nothing(address: &str, seen: &Seen) {
    loop {
        let Ok(mut stream) = connect(STORM, address).await else {
            seen.count("not connected");
            sleep(PAUSE).await;
            continue;
        };
        seen.count("connected");
        // The read ends when the server closes the connection.
        let _ = stream.read(&mut [0; 16]).await;
        sleep(PAUSE).await;
    }
}

async fn post(address: &str, request: &[u8], seen: &Seen) {
    let Ok(mut stream) = connect(STORM, address).await else {
        seen.count("not connected");
        return;
    };
    let (mut read, mut write) = stream.split();
    let mut answer = Vec::new();
    // The server may answer, and close, before it has read everything.
    let _ = tokio::join!(write.write_all(request), read.read_to_end(&mut answer));
    seen.count(status(&answer));
}

/// Joins, and reads the state as bytes: decoding a thousand of them would take the processor from the server.
async fn join(address: &str, request: &[u8], size: usize, seen: &Seen) {
    let mut stream = connect(STORM, address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(request).await.unwrap();
    let mut buffer = vec![0; 64 * 1024];
    let mut read = 0;
    while let Ok(more @ 1..) = stream.read(&mut buffer).await {
        if read == 0 && !buffer.starts_with(b"HTTP/1.1 101 ") {
            return seen.count(format!("refused ({})", status(&buffer)));
        }
        let before = read;
        read += more;
        if before < size && read >= size {
            seen.count("joined");
            // Only small messages follow.
            buffer = vec![0; 64];
        }
    }
    if read < size {
        seen.count(format!("no state ({read} bytes)"));
    }
}
