//! Checks agents that wait for a task: the relay holds their requests, and the app holds none.

use e2e::host::{Host, Kind, Setup};
use e2e::http::Http;
use e2e::tasks::{created, id};
use e2e::wait::{soon, until};
use futures_util::future::join_all;
use serde_json::json;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const TOKEN: &str = "internal";

async fn ask(host: &str, path: &str, headers: &str) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(host).await?;
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{headers}connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    Ok(stream)
}

/// Lets agents wait for a task, and checks that all are informed of its end.
async fn agents(host: &Host, count: usize) {
    let http = host.http();
    let task = json!({ "project_id": "p", "task_type": "demo", "params": { "prompt": "slow", "seconds": 600 } });
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
    // The agents hold no instance, although there are far fewer instances than agents.
    until("the app has a place", async || {
        http.get(&path).await.status == 200
    })
    .await;
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
    println!("{count} agents were informed within {:?}", begun.elapsed());
}

/// The number of requests that wait at the relay.
async fn waiting(http: &Http) -> usize {
    http.metric("relay_waiting", TOKEN).await as usize
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_agents_that_wait_hold_no_instance() {
    let host = Setup::new(Kind::Native)
        .option("--instances", "48")
        .variable("internal_token", TOKEN)
        .start()
        .await;
    soon("all agents are informed", agents(&host, 500)).await;
    host.stop().await;
}
