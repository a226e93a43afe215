//! Storms from one address, and a room of clients at another that must not notice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use e2e::host::{Host, Kind, Setup};
use e2e::http::Http;
use e2e::raw::Client;
use e2e::tasks::{created, id};
use e2e::wait::{soon, until};
use futures_util::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep};

/// The most that an edit may take to the room's other client while a storm goes on, of 99 in 100.
const MOST: Duration = Duration::from_millis(100);

/// Connects from an address of this machine at which no other client of a test is.
async fn from_afar(host: &str) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 0, 2], 0)))?;
    socket.connect(host.parse().unwrap()).await
}

async fn ask(host: &str, path: &str, headers: &str) -> std::io::Result<TcpStream> {
    let mut stream = from_afar(host).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n{headers}connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    Ok(stream)
}

/// Edits in a room of two until `over`, and returns how long each edit took to the other client, sorted.
async fn edits(host: &Host, over: &AtomicBool) -> Vec<Duration> {
    let writer = Client::join(&host.address, "calm").await;
    let reader = Client::join(&host.address, "calm").await;
    let mut times = Vec::new();
    while !over.load(Ordering::Relaxed) || times.len() < 100 {
        let before = reader.blobs();
        let begun = Instant::now();
        writer.typed("x").await;
        while reader.blobs() == before {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "an edit was not delivered"
            );
            sleep(Duration::from_micros(500)).await;
        }
        times.push(begun.elapsed());
        sleep(Duration::from_millis(10)).await;
    }
    times.sort();
    times
}

/// Runs a storm while the calm room edits, and prints and checks what the room saw of it.
async fn weather(what: &str, host: &Host, storm: impl Future<Output = ()>) {
    let over = Arc::new(AtomicBool::new(false));
    let storm = async {
        storm.await;
        let health = host.http().get("/health").await;
        assert_eq!(health.status, 200, "{what}: {health:?}");
        over.store(true, Ordering::Relaxed);
    };
    let (times, ()) = tokio::join!(edits(host, &over), storm);
    let at = |percent: usize| times[(times.len() * percent).div_ceil(100) - 1];
    println!(
        "{what}: {} edits, p50 {:?}, p99 {:?}, max {:?}",
        times.len(),
        at(50),
        at(99),
        at(100)
    );
    assert!(at(99) < MOST, "{what}: p99 {:?}", at(99));
}

/// Agents wait for a task, and all hear of its end.
async fn agents(host: &Host, count: usize) {
    let http = host.http();
    let task = json!({ "project_id": "p", "task_type": "demo", "params": { "prompt": "slow", "seconds": 3600 } });
    let task = id(&created(&http, &task).await);
    let path = format!("/tasks/{task}");
    until("it is under way", async || {
        http.get(&path).await.json()["status"] == "processing"
    })
    .await;
    let tag = http.get(&path).await.header("etag").to_owned();
    let known = format!("if-none-match: {tag}\r\n");
    let asked = format!("{path}?wait=50");
    let mut agents = Vec::new();
    for _ in 0..count {
        agents.push(ask(&host.address, &asked, &known).await.unwrap());
    }
    until("all wait", async || waiting(&http).await == count).await;
    // They hold no instance, although there are far fewer than agents.
    let answer = http.get(&path).await;
    assert_eq!(answer.status, 200);
    let begun = Instant::now();
    e2e::tasks::post(&http, &format!("{path}/cancel"), &[], &json!({})).await;
    let answers = join_all(agents.into_iter().map(|mut agent| async move {
        let mut answer = Vec::new();
        agent.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }))
    .await;
    for answer in &answers {
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.contains("cancelled"),
            "{answer}"
        );
    }
    println!("{count} agents heard within {:?}", begun.elapsed());
}

/// How many requests wait at the relay.
async fn waiting(http: &Http) -> usize {
    let metrics = http.get("/metrics").await;
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("relay_waiting "));
    line.unwrap().parse().unwrap()
}

/// The path of the largest file of the page: the Wasm.
async fn largest_file(http: &Http) -> String {
    let page = http.get("/").await;
    let page = String::from_utf8_lossy(&page.body).into_owned();
    let mut paths: Vec<String> = page
        .split('"')
        .filter(|part| part.ends_with(".js"))
        .map(|part| format!("/{}", part.trim_start_matches(['.', '/'])))
        .collect();
    while let Some(path) = paths.pop() {
        let script = http.get(&path).await;
        let script = String::from_utf8_lossy(&script.body).into_owned();
        let wasm = script
            .split(['"', '`', '\''])
            .find(|part| part.ends_with(".wasm"));
        if let Some(wasm) = wasm {
            let name = wasm.rsplit('/').next().unwrap();
            let folder = path.rsplit_once('/').unwrap().0;
            return format!("{folder}/{name}");
        }
    }
    panic!("the page has no Wasm");
}

/// Connections ask for the largest file of the page, and read nothing. What is refused tries again.
async fn downloads(host: &Host, count: usize, time: Duration) {
    let path = largest_file(&host.http()).await;
    let size = host.http().get(&path).await.body.len();
    assert!(size > 1 << 20, "{path} has {size} bytes");
    let mut unread = Vec::new();
    for _ in 0..count {
        unread.push(ask(&host.address, &path, "").await);
    }
    sleep(time).await;
    let answer = host.http().get("/projects").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(host.http().get(&path).await.body.len(), size);
    drop(unread);
}

/// Connections that send nothing.
async fn idle(host: &Host, count: usize, time: Duration) {
    let mut idle = Vec::new();
    for _ in 0..count {
        idle.push(from_afar(&host.address).await);
    }
    let begun = Instant::now();
    let newcomer = Client::join(&host.address, "calm").await;
    println!(
        "{count} idle connections: another address joins in {:?}",
        begun.elapsed()
    );
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    sleep(time).await;
    newcomer.assert_fine("idle connections");
    drop(idle);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_agents_that_wait_hold_no_instance() {
    let host = Setup::new(Kind::Native)
        .option("--instances", "48")
        .start()
        .await;
    soon("they hear", agents(&host, 500)).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: cargo xtask test --long"]
async fn no_storm_of_one_address_reaches_a_calm_room() {
    let host = Host::start(Kind::Native).await;
    weather("no storm", &host, sleep(Duration::from_secs(5))).await;
    weather("5,000 waiting agents", &host, agents(&host, 5000)).await;
    let time = Duration::from_secs(20);
    weather(
        "1,500 unread downloads",
        &host,
        downloads(&host, 1500, time),
    )
    .await;
    weather("11,300 idle connections", &host, idle(&host, 11_300, time)).await;
    host.stop().await;
}
