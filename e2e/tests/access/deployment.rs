//! A deployment serves nothing without its settings, and makes no request to a private address.

use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::agent::Agent;
use e2e::better_auth::{BetterAuth, Options};
use e2e::built::root;
use e2e::gemini::Gemini;
use e2e::host::{Kind, Setup};
use e2e::http::Http;
use e2e::kling::{self, Kling, Plan};
use e2e::people::{AGENT_TOKEN, Caller, setup};
use e2e::tasks::{TOKEN, WEBHOOK_KEY};
use e2e::wait::until_within;
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_setting_stops_everything_and_is_named() {
    let settings = [
        ("better_auth_origin", "http://127.0.0.1:1"),
        ("internal_token", TOKEN),
        ("webhook_key", WEBHOOK_KEY),
    ];
    for (missing, _) in settings {
        let mut setup = Setup::new(Kind::Native).variable("environment", "production");
        for (name, value) in settings.iter().filter(|(name, _)| *name != missing) {
            setup = setup.variable(name, value);
        }
        let host = setup.start().await;
        for (method, path) in [
            ("GET", "/"),
            ("GET", "/sync/p"),
            ("POST", "/sync/p"),
            ("GET", "/projects"),
            ("POST", "/tasks"),
            ("GET", "/assets/a"),
            ("POST", "/webhooks/kling"),
        ] {
            let answer = Caller::anonymous()
                .send(&host.http(), method, path, "")
                .await;
            answer.assert_problem(503, "not-configured");
            assert!(answer.text().contains(missing), "{path}: {}", answer.text());
        }
        let poll = Caller::with_token(TOKEN);
        let app = host.app_http();
        let poll = poll.send(&app, "POST", "/internal/poll", "").await;
        assert_eq!(poll.status, 503);
        let (status, problem) = Caller::anonymous().upgrade(&host.address, "/sync/p").await;
        assert_eq!(status, 503);
        assert!(problem.to_string().contains(missing), "{problem}");
        let health = host.http().get("/health").await;
        assert_eq!(health.status, 503);
        assert!(health.text().contains(missing), "{}", health.text());
        host.stop().await;
    }
}

/// Copies the repository's manifest to a folder of its own, without one variable of the component `sync`. Spin and the
/// local host return an error if a component reads a variable that it does not list.
fn manifest_without(folder: &Path, variable: &str) -> PathBuf {
    for name in ["target", "components"] {
        std::os::unix::fs::symlink(root().join(name), folder.join(name)).unwrap();
    }
    let text = std::fs::read_to_string(root().join("spin.toml")).unwrap();
    let (before, section) = text.split_once("[component.sync.variables]\n").unwrap();
    let line = format!("{variable} = \"{{{{ {variable} }}}}\"\n");
    assert!(section.contains(&line), "{line}");
    let section = section.replacen(&line, "", 1);
    let path = folder.join("spin.toml");
    let text = format!("{before}[component.sync.variables]\n{section}");
    std::fs::write(&path, text).unwrap();
    path
}

/// A setting that cannot be read is not the same as one that is not set: it must not turn a caller into user `dev`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreadable_setting_stops_everything_and_is_in_the_log() {
    for unreadable in [
        "environment",
        "better_auth_origin",
        "internal_token",
        "webhook_key",
        "agent_token",
        "auto_create_projects",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let host = Setup::new(Kind::Native)
            .manifest(&manifest_without(folder.path(), unreadable))
            .start()
            .await;
        let who = match unreadable {
            // This setting is read only if a caller sends a token.
            "agent_token" => Caller::with_token(AGENT_TOKEN),
            _ => Caller::anonymous(),
        };
        for (method, path) in [("GET", "/sync/p"), ("POST", "/sync/p")] {
            let answer = who.send(&host.http(), method, path, "").await;
            answer.assert_problem(503, "unavailable");
            assert!(!answer.text().contains(unreadable), "{}", answer.text());
        }
        let (status, problem) = who.upgrade(&host.address, "/sync/p").await;
        // Without this token the relay cannot call the app.
        let expected = if unreadable == "internal_token" {
            502
        } else {
            503
        };
        assert_eq!(status, expected, "{unreadable}: {problem}");
        // `/health` and internal requests check the settings of every component first, even before the token.
        if !["agent_token", "auto_create_projects"].contains(&unreadable) {
            assert_eq!(host.http().get("/health").await.status, 503, "{unreadable}");
            let heads = host.app_http().post("/internal/heads", "").await;
            assert_eq!(heads.status, 503, "{unreadable}");
        }
        let log = host.process.log();
        let named =
            |line: &str| line.contains("a setting could not be read") && line.contains(unreadable);
        assert!(log.lines().any(named), "{unreadable}: {log}");
        host.stop().await;
    }
}

/// The operator may name services at private addresses; an address that a user names must be public.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_services_of_the_operator_are_reached_at_private_addresses() {
    let auth = BetterAuth::start(Options::default()).await;
    let kling = Kling::start(Plan::default()).await;
    let gemini = Gemini::start().await;
    let agent = Agent::start(0).await;
    let host = setup(Kind::Native, &auth)
        .variable("environment", "production")
        .variable("kling_base_url", &kling.url())
        .variable("kling_access_key", kling::ACCESS_KEY)
        .variable("kling_secret_key", kling::SECRET_KEY)
        .variable("gemini_base_url", &gemini.url())
        .variable("gemini_api_key", e2e::gemini::KEY)
        .start()
        .await;
    let http: Http = host.http();
    assert_eq!(http.get("/health").await.status, 200);
    let ann = Caller::with_cookies(&auth.sign_up("ann").await.cookies);
    // Opening a project does not create it.
    assert_eq!(ann.get(&http, "/sync/p").await.status, 404);
    ann.creates(&http, "p").await;

    for url in [
        agent.url(),
        agent.url().replace("127.0.0.1", "localhost"),
        agent.url().replace("127.0.0.1", "[::ffff:127.0.0.1]"),
        agent.url().replace("127.0.0.1", "2130706433"),
        "http://169.254.169.254/latest/meta-data".into(),
        "http://self/internal/poll".into(),
        "http://sync.spin.internal/internal/poll".into(),
    ] {
        let task = json!({
            "project_id": "p", "task_type": "kling_video", "params": { "prompt": "x" }, "callback_url": url,
        });
        ann.json(&http, "POST", "/tasks", task, 422).await;
        let task = json!({
            "project_id": "p", "task_type": "kling_video", "params": { "prompt": "x", "image_path": url },
        });
        ann.json(&http, "POST", "/tasks", task, 422).await;
    }
    let task = json!({
        "project_id": "p", "task_type": "kling_video", "params": { "prompt": "a cloud" },
    });
    let posted = ann.json(&http, "POST", "/tasks", task, 201).await;
    let id = posted["task_id"].as_str().unwrap();
    until_within(Duration::from_secs(60), "the video", async || {
        ann.get(&http, &format!("/tasks/{id}")).await.json()["status"] == "completed"
    })
    .await;
    assert!(
        agent.notifications().is_empty(),
        "a private address was reached"
    );
    // The backend is admitted by its token.
    let backend = Caller::with_token(AGENT_TOKEN);
    assert_eq!(backend.get(&http, "/projects").await.status, 200);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_over_the_rate_limit_waits() {
    let auth = BetterAuth::start(Options::default()).await;
    let host = setup(Kind::Native, &auth)
        .env("RELAY_RATE_PER_USER", "1")
        .env("RELAY_BURST_PER_USER", "5")
        .start()
        .await;
    let http = host.http();
    let ann = Caller::with_cookies(&auth.sign_up("ann").await.cookies);
    let bob = Caller::with_cookies(&auth.sign_up("bob").await.cookies);
    let mut refused = None;
    for _ in 0..20 {
        let answer = ann.get(&http, "/projects").await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("no request was refused");
    refused.assert_problem(429, "too-many-requests");
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=5).contains(&wait), "{wait}");
    assert_eq!(bob.get(&http, "/projects").await.status, 200);
    until_within(
        Duration::from_secs(10),
        "the caller is admitted again",
        async || ann.get(&http, "/projects").await.status == 200,
    )
    .await;
    host.stop().await;
}
