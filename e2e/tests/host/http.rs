//! Checks plain HTTP at the public address, which is the relay's, and at the app's own.

use bytes::Bytes;
use e2e::both_relays;
use e2e::host::{Host, Kind, Setup};
use e2e::http::Http;
use e2e::raw::{Client, change};
use http::Method;
use loro::{ExportMode, LoroDoc};
use serde_json::json;

const TOKEN: &str = "a-token-for-tests";

fn letter(letter: &str) -> Vec<u8> {
    change(&LoroDoc::new(), |doc| {
        doc.get_text("text").insert(0, letter).unwrap()
    })
}

both_relays! {
    async fn a_document_is_written_and_read(relay: Kind) {
        let host = Host::start(relay).await;
        let http = host.http();
        let health = http.get("/health").await;
        assert_eq!(health.status, 200);
        assert_eq!(health.json(), json!({"status": "ok"}));

        // An empty room has a document, too.
        let (doc, rev) = http.document("p").await;
        assert_eq!((doc.get_deep_value(), rev), (LoroDoc::new().get_deep_value(), 0));

        let answer = http.post("/sync/p", letter("a")).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json(), json!({"rev": 1}));
        assert_eq!(answer.header("x-loro-rev"), "1");
        assert_eq!(http.post("/sync/p", letter("b")).await.rev(), 2);

        let whole = http.get("/sync/p").await;
        assert_eq!(whole.status, 200);
        assert_eq!(whole.header("content-type"), "application/octet-stream");
        assert_eq!(whole.header("etag"), "\"2\"");
        assert_eq!(whole.rev(), 2);
        let meta = LoroDoc::decode_import_blob_meta(&whole.body, true).unwrap();
        assert!(meta.mode.is_snapshot());
        let doc = LoroDoc::new();
        doc.import(&whole.body).unwrap();
        assert_eq!(doc.get_text("text").len_unicode(), 2);

        let json = http.get_with("/sync/p", &[("accept", "application/json")]).await;
        assert_eq!(json.status, 200);
        assert_eq!(json.header("content-type"), "application/json");
        assert_eq!(json.rev(), 2);
        assert_eq!((json.header("etag"), json.header("vary")), ("\"2-json\"", "accept"));
        assert_eq!(json.json()["text"].as_str().unwrap().len(), 2);

        let head = http.send(Method::HEAD, "/sync/p", &[], Bytes::new()).await;
        assert_eq!(head.status, 200);
        assert_eq!(head.rev(), 2);
        assert!(head.body.is_empty());

        for (known, status) in [("\"2\"", 304), ("W/\"2\"", 304), ("\"1\", \"2\"", 304), ("\"1\"", 200)] {
            let answer = http.get_with("/sync/p", &[("if-none-match", known)]).await;
            assert_eq!(answer.status, status, "{known}");
            assert_eq!(answer.header("etag"), "\"2\"");
            assert_eq!(answer.body.is_empty(), status == 304);
        }
        // The tag of one representation does not match the other.
        for (known, status) in [("\"2-json\"", 304), ("\"2\"", 200)] {
            let headers = [("accept", "application/json"), ("if-none-match", known)];
            let answer = http.get_with("/sync/p", &headers).await;
            assert_eq!((answer.status.as_u16(), answer.header("etag")), (status, "\"2-json\""), "{known}");
        }
    }

    async fn an_invalid_request_is_a_problem(relay: Kind) {
        let host = Host::start(relay).await;
        let longest = "a".repeat(128);
        let too_long = "a".repeat(129);
        for http in [host.http(), host.app_http()] {
            assert_eq!(http.get(&format!("/sync/{longest}")).await.status, 200);
            for id in [too_long.as_str(), "a.b", "a%20b", "%C3%A4", "", "a/b", "a~", "..%2fx", "a%00"] {
                let path = format!("/sync/{id}");
                http.get(&path).await.assert_problem(400, "bad-project-id");
                http.post(&path, letter("x")).await.assert_problem(400, "bad-project-id");
            }
            let good = letter("x");
            let mut flipped = good.clone();
            *flipped.last_mut().unwrap() ^= 1;
            let shallow = {
                let doc = LoroDoc::new();
                doc.import(&good).unwrap();
                doc.export(ExportMode::shallow_snapshot(&doc.oplog_frontiers())).unwrap()
            };
            for nonsense in [&b""[..], b"hello", &[0; 100], &good[..good.len() - 1], &flipped, &shallow] {
                let answer = http.post("/sync/p", nonsense.to_vec()).await;
                answer.assert_problem(400, "invalid-update");
            }
            assert_eq!(http.get("/sync/p").await.rev(), 0);

            for (method, path) in [(Method::PUT, "/sync/p"), (Method::DELETE, "/sync/p"), (Method::PATCH, "/sync/p")] {
                let answer = http.send(method, path, &[], Bytes::new()).await;
                answer.assert_problem(405, "method-not-allowed");
                assert_eq!(answer.header("allow"), "GET, HEAD, POST");
            }
            let answer = http.post("/health", "").await;
            answer.assert_problem(405, "method-not-allowed");
            assert_eq!(answer.header("allow"), "GET, HEAD");
        }
    }

    /// The limit is 16 MiB, whether the request announces its length or not.
    async fn a_body_has_a_limit(relay: Kind) {
        const LIMIT: usize = 16 << 20;
        let host = Host::start(relay).await;
        for http in [host.http(), host.app_http()] {
            // This body has exactly the largest length. It is not an update, so it is refused for that reason only.
            http.post("/sync/p", vec![0; LIMIT]).await.assert_problem(400, "invalid-update");

            let size = 17 << 20;
            let mut request = format!("POST /sync/p HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n\r\n").into_bytes();
            request.resize(request.len() + size, b'x');
            let (status, answer) = http.raw(request).await;
            assert_eq!(status, 413, "{answer:.300}");
            assert!(answer.contains("urn:loro-sync:problem:payload-too-large"), "{answer}");

            let mut request = b"POST /sync/p HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
            for _ in 0..17 {
                request.extend_from_slice(b"100000\r\n");
                request.resize(request.len() + (1 << 20), b'x');
                request.extend_from_slice(b"\r\n");
            }
            request.extend_from_slice(b"0\r\n\r\n");
            let (status, answer) = http.raw(request).await;
            assert_eq!(status, 413, "{answer:.300}");
        }
    }

    /// Checks that no spelling of an internal path passes the relay: an append with the right token stores nothing.
    async fn internal_routes_are_not_reached_through_the_relay(relay: Kind) {
        let host = Setup::new(relay).variable("internal_token", TOKEN).start().await;
        let body = wire::encode(&wire::AppendRequest {
            defers: None,
            origin: "test".into(),
            updates: vec![wire::Update {
                project: "p".into(),
                payload: letter("x").into(),
                serial: None,
            }],
        });
        let append = |target: &str| {
            let mut request = format!(
                "POST {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: {}\r\n\r\n",
                body.len()
            )
            .into_bytes();
            request.extend_from_slice(&body);
            request
        };
        for target in [
            "/internal/append",
            "//internal/append",
            "/internal//append",
            "/%69nternal/append",
            "/%2569nternal/append",
            "/./internal/append",
            "/x/../internal/append",
            "/x/%2e%2e/internal/append",
            "/sync/../internal/append",
            "/sync/p/../../internal/append",
            "/%2finternal/append",
            "/INTERNAL/append",
            "/Internal/Append",
            "/internal;x=y/append",
            "/internal%00/append",
            "/internal%5cappend",
            "\\internal\\append",
            "/internal/append?x=y",
            "http://127.0.0.1/internal/append",
            "http://127.0.0.1//internal/append",
        ] {
            let (status, answer) = host.http().raw(append(target)).await;
            assert!((400..500).contains(&status), "{target}: {answer}");
        }
        assert_eq!(host.http().get("/sync/p").await.rev(), 0);
        // At the app itself the same request succeeds.
        let (status, answer) = host.app_http().raw(append("/internal/append")).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(host.http().get("/sync/p").await.rev(), 1);
    }

    /// Reproduces the report "My task stopped the relay."
    async fn no_task_reaches_the_internal_routes(relay: Kind) {
        let host = Host::start(relay).await;
        let post = async |url: &str| {
            let task = json!({
                "project_id": "p", "task_type": "demo", "callback_url": url,
                "params": { "prompt": "a hill", "complete": "at_once" },
            });
            host.http().post("/tasks", task.to_string()).await
        };
        for path in ["/internal/drain", "//Internal/drain", "/%69nternal/drain", "/x/..%2finternal/drain"] {
            for server in [&host.address, &host.app] {
                let answer = post(&format!("http://{server}{path}")).await;
                answer.assert_problem(422, "invalid-fields");
                assert!(answer.text().contains("internal route"), "{answer:?}");
            }
        }
        assert_eq!(post(&format!("http://{}/hook", host.address)).await.status, 201);
        // The relay refuses such a request even if a task sends it.
        let drain = host.http().post("/internal/drain", "").await;
        drain.assert_problem(401, "unauthorized");
        assert_eq!(host.http().get("/health").await.status, 200);
    }

    /// The answer to a refused upgrade gives the reason.
    async fn a_refused_upgrade_gives_its_reason(relay: Kind) {
        let host = Setup::new(relay).env("RELAY_MAX_CONNECTIONS", "1").start().await;
        let http = host.http();
        let key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        let upgrade = |path: &'static str, version: &'static str| {
            let headers = [
                ("connection", "Upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-version", version),
                key,
            ];
            let http = http.clone();
            async move { http.get_with(path, &headers).await }
        };
        upgrade("/sync/a.b", "13").await.assert_problem(400, "bad-project-id");
        assert_eq!(upgrade("/sync/p", "12").await.status, 426);
        assert_eq!(upgrade("/sync/p?version=*", "13").await.status, 400);
        let _one = Client::join(&host.address, "p").await;
        let full = upgrade("/sync/p", "13").await;
        assert_eq!(full.status, 503);
        assert!(full.header("retry-after").parse::<u32>().is_ok());
        assert_eq!(full.header("content-type"), "application/problem+json");
    }

    /// An unknown path is 404, or belongs to the page.
    async fn unknown_paths(relay: Kind) {
        let host = Host::start(relay).await;
        for path in ["/sync", "/health/x", "/nothing/here", "/sync/p/q"] {
            let status = host.http().get(path).await.status.as_u16();
            assert!([400, 404].contains(&status), "{path}: {status}");
        }
        let page = host.http().get("/").await;
        assert_eq!(page.status, 200);
        assert!(page.text().contains("<html") || page.text().contains("<!doctype html"), "{page:?}");
    }

    /// A deployment without its settings serves nothing, and names the missing setting.
    async fn a_deployment_without_settings_serves_nothing(relay: Kind) {
        for (variables, missing) in [
            (vec![], "internal_token"),
            (vec![("internal_token", TOKEN)], "better_auth_origin"),
        ] {
            let mut setup = Setup::new(relay).variable("environment", "production");
            for (name, value) in variables {
                setup = setup.variable(name, value);
            }
            let host = setup.start().await;
            for http in [host.http(), host.app_http()] {
                let health = http.get("/health").await;
                assert_eq!(health.status, 503);
                assert!(health.json()["reason"].as_str().unwrap().contains(missing), "{health:?}");
                for answer in [http.get("/sync/p").await, http.post("/sync/p", letter("x")).await] {
                    answer.assert_problem(503, "not-configured");
                    assert!(answer.text().contains(missing), "{answer:?}");
                }
            }
            let authorization = format!("Bearer {TOKEN}");
            let headers = [("authorization", authorization.as_str())];
            let internal = host.app_http().send(Method::POST, "/internal/heads", &headers, Bytes::new()).await;
            internal.assert_problem(503, "not-configured");
        }
    }
}

/// Checks that the internal routes require the token at the app itself.
#[tokio::test]
async fn internal_routes_require_the_token() {
    let host = Setup::new(Kind::None)
        .variable("internal_token", TOKEN)
        .start()
        .await;
    let http: Http = host.app_http();
    let heads = wire::encode(&wire::HeadsRequest {
        projects: vec!["p".into()],
    });
    for (method, path) in [
        (Method::POST, "/internal/append"),
        (Method::POST, "/internal/heads"),
        (Method::POST, "/internal/sweep"),
        (Method::GET, "/internal/rooms/p/state"),
        (Method::GET, "/internal/rooms/p/updates?after=0"),
        (Method::POST, "/internal/rooms/p/compact"),
        (Method::POST, "/internal/merge/p?job=snapshot"),
        (Method::GET, "/internal/nothing"),
        (Method::GET, "/internal"),
    ] {
        for authorization in [
            None,
            Some("Bearer "),
            Some("Bearer wrong"),
            Some(TOKEN),
            Some("Basic YTpi"),
        ] {
            let headers: Vec<_> = authorization
                .iter()
                .map(|value| ("authorization", *value))
                .collect();
            let answer = http
                .send(method.clone(), path, &headers, Bytes::new())
                .await;
            answer.assert_problem(401, "unauthorized");
            assert_eq!(answer.header("www-authenticate"), "Bearer");
        }
    }
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("authorization", authorization.as_str())];
    let answer = http
        .send(Method::POST, "/internal/heads", &headers, heads.into())
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(wire::decode::<wire::Heads>(&answer.body).unwrap().revs, [0]);
    let answer = http
        .send(Method::GET, "/internal/heads", &headers, Bytes::new())
        .await;
    assert_eq!(answer.status, 405, "{answer:?}");
    let answer = http
        .send(Method::POST, "/internal/nothing", &headers, Bytes::new())
        .await;
    answer.assert_problem(404, "not-found");
}

/// A database of an older version has neither revs nor a log. It is upgraded, and keeps its data.
#[tokio::test]
async fn an_older_database_is_upgraded_with_its_data() {
    let setup = Setup::new(Kind::Native);
    let doc = LoroDoc::new();
    doc.get_text("text").insert(0, "from before").unwrap();
    doc.commit();
    {
        let database = rusqlite::Connection::open(setup.database()).unwrap();
        // The task belongs to another project, because the app may add it to that project's document at any time.
        database
            .execute_batch(
                "CREATE TABLE loro_snapshots (
                     project_id TEXT NOT NULL PRIMARY KEY, snapshot BLOB NOT NULL,
                     version BLOB NOT NULL, updated_at INTEGER NOT NULL);
                 CREATE TABLE aigc_tasks (
                     task_id TEXT NOT NULL PRIMARY KEY, project_id TEXT NOT NULL, task_type TEXT NOT NULL,
                     status TEXT NOT NULL, external_task_id TEXT, external_service TEXT, params TEXT NOT NULL,
                     result_url TEXT, result_data TEXT, error_message TEXT, created_at INTEGER NOT NULL,
                     updated_at INTEGER NOT NULL, completed_at INTEGER, retry_count INTEGER NOT NULL DEFAULT 0,
                     max_retries INTEGER NOT NULL DEFAULT 3);
                 INSERT INTO aigc_tasks (task_id, project_id, task_type, status, params, created_at, updated_at)
                     VALUES ('t', 'another', 'demo', 'completed', '{}', 1, 1);",
            )
            .unwrap();
        database
            .execute(
                "INSERT INTO loro_snapshots VALUES ('old', ?1, ?2, 1)",
                rusqlite::params![
                    doc.export(ExportMode::Snapshot).unwrap(),
                    doc.oplog_vv().encode()
                ],
            )
            .unwrap();
    }
    let host = setup.start().await;
    let (stored, rev) = host.http().document("old").await;
    assert_eq!(
        (stored.get_text("text").to_string().as_str(), rev),
        ("from before", 0)
    );
    let client = Client::join(&host.address, "old").await;
    client
        .until("the text from before", |client| {
            client.text() == "from before"
        })
        .await;
    client.typed(", and now").await;
    let other = Client::join(&host.address, "old").await;
    other
        .until("the whole text", |other| {
            other.text() == "from before, and now"
        })
        .await;
    let (stored, rev) = host.http().document("old").await;
    assert_eq!(
        (stored.get_text("text").to_string().as_str(), rev),
        ("from before, and now", 1)
    );
    let database = rusqlite::Connection::open(host.database()).unwrap();
    let tasks: u32 = database
        .query_row(
            "SELECT count(*) FROM aigc_tasks WHERE lease_until IS NULL",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(tasks, 1);
}
