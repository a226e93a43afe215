//! Checks a host under load: a thousand tasks at the same time, and a service that fails as often as real ones do.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use e2e::document::{keys, shown};
use e2e::gemini::Gemini;
use e2e::host::{Host, Kind};
use e2e::http::Http;
use e2e::kling::{API_KEY, Call, Course, Fault, Kling, Plan};
use e2e::raw::Client;
use e2e::tasks::setup;
use e2e::wait::until_within;
use futures_util::{StreamExt, stream};
use http::Method;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

const TASKS: usize = 1000;
const PROJECTS: usize = 4;
const AT_ONCE: usize = 50;

/// The places at the service: enough for all tasks at once, because each job takes half a minute.
const PLACES: &str = "2000";

/// The longest time for a whole test.
const LIMIT: Duration = Duration::from_secs(170);

/// Fails a tenth of the calls as too fast, a tenth with an error, and a tenth by dropping the connection, before or
/// after the effect. No job has more than three failures, because otherwise the last one of a thousand waits for minutes.
fn fault(call: &Call) -> Option<Fault> {
    if call.wrong >= 3 {
        return None;
    }
    match rand::random_range(0..20) {
        0 | 1 => Some(Fault::TOO_FAST),
        2 | 3 => Some(Fault::BROKEN),
        4 => Some(Fault::DropBefore),
        5 => Some(Fault::DropAfter),
        _ => None,
    }
}

fn plan() -> Plan {
    Plan::default().fault(fault).course(|number, _| Course {
        duration: Duration::from_secs(30),
        callbacks: [2, 0, 1][number % 3],
        ..Course::default()
    })
}

fn project(n: usize) -> String {
    format!("project-{}", n % PROJECTS)
}

/// Posts a task until it is accepted, with an idempotency key, so that it is created once.
async fn posted(http: &Http, model: &str, n: usize) -> (String, String) {
    let body = json!({
        "project_id": project(n), "task_type": "kling_video",
        "params": { "prompt": format!("video {n}"), "model": model }, "max_retries": 10,
    });
    let body = body.to_string();
    let key = format!("burst-{n}");
    let headers = [
        ("content-type", "application/json"),
        ("idempotency-key", key.as_str()),
    ];
    let start = Instant::now();
    loop {
        let sent = http.try_send(Method::POST, "/tasks", &headers, body.clone().into());
        match timeout(Duration::from_secs(10), sent).await {
            Ok(Ok(answer)) if answer.status == 201 => {
                let id = answer.json()["task_id"].as_str().unwrap().to_owned();
                return (id, project(n));
            }
            Ok(Ok(answer)) => assert!(answer.status.is_server_error(), "{answer:?}"),
            // The server is away.
            Ok(Err(_)) | Err(_) => {}
        }
        assert!(start.elapsed() < LIMIT, "task {n} is not accepted");
        sleep(Duration::from_millis(100)).await;
    }
}

/// Posts all tasks, and counts the accepted ones.
async fn post_all(http: &Http, model: &str, count: &AtomicUsize) -> BTreeMap<String, String> {
    stream::iter(0..TASKS)
        .map(async |n| {
            let posted = posted(http, model, n).await;
            count.fetch_add(1, Ordering::Relaxed);
            posted
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await
}

/// The number that a query of the database returns.
fn number(database: &Path, sql: &str) -> usize {
    let rows = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    rows.busy_timeout(Duration::from_secs(5)).unwrap();
    let number: i64 = rows.query_row(sql, [], |row| row.get(0)).unwrap();
    usize::try_from(number).unwrap()
}

fn completed(host: &Host) -> usize {
    let sql = "SELECT count(*) FROM aigc_tasks WHERE completed_at IS NOT NULL";
    number(&host.database(), sql)
}

/// Describes each task that has not ended, in a line.
fn unfinished(host: &Host) -> Vec<String> {
    let rows =
        Connection::open_with_flags(host.database(), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let sql = "SELECT task_id || ' ' || status || ' errors ' || retry_count || ' due in '
                   || ifnull(next_attempt_at - unixepoch(), '-') || ' ' || ifnull(error_message, '')
                 FROM aigc_tasks WHERE completed_at IS NULL";
    let mut statement = rows.prepare(sql).unwrap();
    let lines = statement.query_map([], |row| row.get(0)).unwrap();
    lines.map(Result::unwrap).collect()
}

/// Lists all tasks of a project, page by page.
async fn rows(http: &Http, project: &str) -> Vec<Value> {
    let mut rows = Vec::new();
    let mut cursor = String::new();
    for _ in 0..TASKS {
        let path = format!("/tasks?project_id={project}&limit=200{cursor}");
        let mut page = http.get(&path).await.json();
        rows.append(page["tasks"].as_array_mut().unwrap());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return rows,
        }
    }
    panic!("the list has no last page");
}

async fn document(http: &Http, project: &str) -> Value {
    let headers = [("accept", "application/json")];
    http.get_with(&format!("/sync/{project}"), &headers)
        .await
        .json()
}

/// Waits until all tasks have ended, and checks the row of each, its entry in the document, and the service's jobs.
async fn all_end_once(host: &Host, kling: &Kling, posted: &BTreeMap<String, String>) {
    assert_eq!(posted.len(), TASKS, "two posts returned the same task");
    let start = Instant::now();
    while completed(host) < TASKS {
        let late = start.elapsed() > LIMIT;
        assert!(!late, "not within {LIMIT:?}: {:?}", unfinished(host));
        sleep(Duration::from_millis(250)).await;
    }
    println!(
        "all finished {:?} after the last was posted",
        start.elapsed()
    );

    let http = host.http();
    let mut urls = BTreeSet::new();
    let mut nameless = Vec::new();
    for n in 0..PROJECTS {
        let project = project(n);
        let rows = rows(&http, &project).await;
        assert_eq!(rows.len(), TASKS / PROJECTS);
        let mut document = Value::Null;
        until_within(
            LIMIT,
            "the document shows each task as its row has it",
            async || {
                document = self::document(&http, &project).await;
                let shows = |row: &Value| {
                    let id = row["task_id"].as_str().unwrap();
                    keys(&document["tasks"][id]) == shown(row)
                };
                rows.iter().all(shows)
            },
        )
        .await;
        assert_eq!(document["tasks"].as_object().unwrap().len(), rows.len());
        for row in &rows {
            let id = row["task_id"].as_str().unwrap();
            assert_eq!(posted[id], project);
            let job = kling.job(id).unwrap();
            assert_eq!(row["status"], "completed", "{row}");
            assert_eq!(row["result_url"], job.result_url(), "{row}");
            if row["external_task_id"] != job.task_id {
                nameless.push(row.clone());
            }
            urls.insert(job.result_url());
        }
    }
    println!("all shown {:?} after the last was posted", start.elapsed());
    assert_eq!(urls.len(), TASKS);
    // A task's version counts its changes: at least one submission and one end. `run` counts retries.
    let never_retried = "SELECT count(*) FROM aigc_tasks WHERE version >= 2 AND run = 0";
    assert_eq!(number(&host.database(), never_retried), TASKS);
    assert_eq!(kling.jobs().len(), TASKS);
    assert_eq!(kling.repeated(), [""; 0], "submitted again");
    assert_eq!(kling.rejected(), 0);
    let message = format!("{} rows without their job's name", nameless.len());
    assert!(nameless.is_empty(), "{message}: {}", nameless[0]);
}

/// The model of each generation.
const FIRST: &str = "kling-v1";
const SECOND: &str = "kling-3.0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: cargo xtask test --long"]
async fn a_thousand_tasks_end_once_each_with_its_own_result() {
    let questions = burst(FIRST).await;
    // A job takes thirty seconds and is queried every ten, so it takes three queries, and as many again for those that
    // fail.
    assert!(questions < 6 * TASKS, "{questions} questions");
}

/// The same in the API that takes one query for many jobs, and so gets far fewer queries.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: cargo xtask test --long"]
async fn a_thousand_tasks_of_the_second_generation_take_few_questions() {
    let questions = burst(SECOND).await;
    assert!(questions < TASKS, "{questions} questions");
}

/// Runs a thousand tasks of a model, and returns the number of queries about them that Kling received.
async fn burst(model: &str) -> usize {
    let (kling, gemini) = (Kling::start(plan()).await, Gemini::start().await);
    let host = setup(Kind::Native, &kling, &gemini)
        .variable("kling_places", PLACES)
        .variable("kling_api_key", API_KEY)
        .start()
        .await;
    let watcher = Client::join(&host.address, &project(0)).await;
    let start = Instant::now();
    let posted = post_all(&host.http(), model, &AtomicUsize::new(0)).await;
    println!("{TASKS} tasks posted in {:?}", start.elapsed());
    all_end_once(&host, &kling, &posted).await;
    let calls = kling.calls();
    let about: Vec<usize> = calls
        .iter()
        .filter(|call| !call.is_submission)
        .map(|call| call.jobs)
        .collect();
    let questions = about.len();
    println!(
        "{model}: {} calls, {} callbacks, {questions} questions about {} jobs, {} at most in one",
        calls.len(),
        kling.called_back().len(),
        about.iter().sum::<usize>(),
        about.iter().max().unwrap_or(&0),
    );
    for (id, status) in kling.called_back() {
        assert_eq!(status, 200, "the callback of {id}");
    }
    // A client that was connected all the time has the stored document.
    let (stored, _) = host.http().document(&project(0)).await;
    watcher
        .until("all results", |watcher| {
            watcher.doc().get_deep_value() == stored.get_deep_value()
        })
        .await;
    host.stop().await;
    questions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: cargo xtask test --long"]
async fn a_thousand_tasks_end_once_each_though_the_server_is_killed_five_times() {
    let (kling, gemini) = (Kling::start(plan()).await, Gemini::start().await);
    let host = setup(Kind::Native, &kling, &gemini)
        .variable("kling_places", PLACES)
        .in_place()
        .start()
        .await;
    let http = host.http();
    let count = AtomicUsize::new(0);
    let kills = async {
        let mut host = host;
        for kill in 0..5 {
            until_within(LIMIT, "the moment for a kill", async || match kill {
                0 => count.load(Ordering::Relaxed) >= TASKS / 5,
                1 => count.load(Ordering::Relaxed) >= TASKS * 3 / 5,
                2 => kling.jobs().len() >= TASKS * 7 / 10,
                3 => completed(&host) > 0,
                _ => completed(&host) >= TASKS / 2,
            })
            .await;
            // The address stays the same, so that callbacks reach the new process.
            let again = host.setup();
            host.kill().await;
            host = again.start().await;
        }
        host
    };
    let (posted, host) = tokio::join!(post_all(&http, FIRST, &count), kills);
    all_end_once(&host, &kling, &posted).await;
    host.stop().await;
}
