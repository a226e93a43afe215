//! The failures that operators of such servers reported, each quoted at its test.

use clap::CommandFactory;
use e2e::built::built;
use e2e::host::{Host, Kind, Setup};
use e2e::http::{Answer, Http};
use e2e::people::Caller;
use e2e::process::Process;
use e2e::redis::{Lock, Redis};
use e2e::relay::Relay;
use e2e::tasks::{created, id, task};
use e2e::wait::until;
use http::Method;
use platform::Form;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::manifests;

const TOKEN: &str = "t";

/// Reproduces the reports "It does not take `localhost:8787`, `:8787` or `8787`" and "It prints an address that no browser
/// opens".
#[tokio::test]
async fn the_address_is_given_as_people_write_it() {
    for listen in ["localhost:0", ":0", "0", "0.0.0.0:0"] {
        let host = Setup::new(Kind::Native).listen(listen).start().await;
        assert!(
            host.address.starts_with("127.0.0.1:"),
            "{listen}: {}",
            host.address
        );
        assert_eq!(host.http().get("/health").await.status, 200, "{listen}");
        host.stop().await;
    }
}

/// Reproduces the report "It says `ready`, and then that something is wrong" for every option of the relay.
#[tokio::test]
async fn every_option_of_the_relay_is_checked_before_it_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let command = relay::CommandLine::command();
    let mut checked = 0;
    for option in command.get_arguments() {
        let (Some(long), Some(name)) = (option.get_long(), option.get_env()) else {
            continue;
        };
        let name = name.to_str().unwrap();
        let bad: &[&str] = match long {
            "internal-token" => &["a\nb"],
            "app" => &["nonsense", "https://h.example"],
            "redis" => &["nonsense", "https://127.0.0.1:6379"],
            "listen" => &["nonsense", "localhost:99999"],
            "max-connections" | "max-requests" => &["nonsense", "-1", "0"],
            _ => &["nonsense"],
        };
        for value in bad {
            let mut command = Command::new(built("target/release/relay"));
            command.env("RELAY_LISTEN", "127.0.0.1:0").env(name, value);
            let log = folder.path().join(name);
            let mut relay = Process::spawn(name, &mut command, &log);
            assert!(!relay.ended().await.success(), "{name}={value}");
            assert_eq!(relay.line().await, None, "{name}={value}");
            let log = relay.log();
            assert!(log.contains(&format!("--{long}")), "{name}={value}: {log}");
        }
        checked += 1;
    }
    assert!(checked > 40, "{checked} options");
}

/// Reproduces the report "It says `ready`, and then that something is wrong" for every setting of the app.
#[tokio::test]
async fn every_setting_is_checked_before_it_is_ready() {
    for declaration in loro_host::declarations() {
        let setting = declaration.setting;
        let too_many;
        let bad: &[&str] = match declaration.form {
            Form::Text => &["a\nb"],
            Form::Url => &[
                "http://0.0.0.0:8787",
                "h.example",
                "ftp://h.example",
                "http://[::]",
                "https://h.example/#a",
                "https://user:p@h.example",
            ],
            Form::Origin => &["auth.example", "https://auth.example/path"],
            Form::Origins => &["*", "https://app.example;https://b.example", "app.example"],
            Form::Path => &["api"],
            Form::Redis => &["127.0.0.1:6379"],
            Form::RedisOrigin => &["redis://user:p@127.0.0.1:6379", "redis://127.0.0.1:6379/0"],
            Form::Number(most) => {
                too_many = (u64::from(most) + 1).to_string();
                &["0", "many", &too_many]
            }
            Form::Boolean => &["yes"],
            Form::JsonObject => &["[]", "{\"a\": 1}"],
        };
        for value in bad {
            refused(&[(setting.name(), value)], setting.name()).await;
        }
    }
    refused(&[("s3_bucket", "b")], "s3_endpoint").await;
    refused(&[("kling_access_key", "a")], "kling_secret_key").await;
    let bucket = [("s3_bucket", "b"), ("s3_endpoint", "https://s3.example")];
    refused(&bucket, "s3_access_key").await;
}

/// Starts a host with these settings, and checks that it ends before it is ready, and that its last line names `named`.
async fn refused(settings: &[(&str, &str)], named: &str) {
    let setup = settings
        .iter()
        .fold(Setup::new(Kind::Native), |setup, (name, value)| {
            setup.variable(name, value)
        });
    let mut host = setup.spawn();
    assert!(!host.ended().await.success(), "{settings:?}");
    assert_eq!(host.line().await, None, "{settings:?}");
    let log = host.log();
    let words = log.lines().last().unwrap_or_default();
    assert!(
        words.starts_with("error: ") && words.contains(named),
        "{settings:?}: {log}"
    );
}

/// Reproduces the reports "Our Redis wants TLS" and "Our Redis has a password": the app publishes and listens, and so do
/// relays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_may_want_tls_or_a_password() {
    for lock in [Lock::Tls, Lock::Password] {
        let redis = Redis::start_with(lock).await;
        let authority = redis.authority();
        let authority = authority.to_str().unwrap();
        let setup = Setup::new(Kind::Native)
            .variable("internal_token", TOKEN)
            .variable("redis_url", &redis.url());
        let host = match lock {
            Lock::Tls => setup.env("SSL_CERT_FILE", authority),
            _ => setup,
        };
        let host = host.start().await;
        let settings = [
            ("RELAY_INTERNAL_TOKEN", TOKEN),
            ("SSL_CERT_FILE", authority),
        ];
        let settings = &settings[..if lock == Lock::Tls { 2 } else { 1 }];
        let relay = Relay::start(Kind::Native, &host.app, &redis.url(), settings).await;
        for http in [host.http(), relay.http()] {
            until("the relay is connected", async || {
                http.metric("relay_redis_connected", TOKEN).await == 1
            })
            .await;
        }
        relay.stop().await;
        host.stop().await;
        // A host ends if it cannot verify the server's certificate, or if the server does not accept its password.
        let wrong = redis.url().replace("word@", "guess@");
        let stranger = Setup::new(Kind::Native).option("--redis", &wrong);
        let mut stranger = stranger.spawn();
        assert!(!stranger.ended().await.success());
        let log = stranger.log();
        assert!(log.contains("cannot be reached"), "{lock:?}: {log}");
        assert!(!log.contains("guess"), "{log}");
    }
}

/// Reproduces the report "Our Redis has a password, and the app may not call it": only `redis_url` is set, and only an
/// event from Redis brings the task into the document.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_app_publishes_to_a_redis_with_a_password() {
    let redis = Redis::start_with(Lock::Password).await;
    let url = redis.url();
    let (host, _folder) = manifests::start("spinkube", &[("redis_url", &url)]).await;
    manifests::the_redis_trigger_projects_a_task(&host).await;
    let log = host.process.log();
    assert!(
        !log.contains("ss%3Aword") && !log.contains("not in allowed"),
        "{log}"
    );
    host.stop().await;
    // An operator on Spin sets both.
    let (_, address) = url.split_once('@').unwrap();
    let origin = format!("redis://{address}");
    let both = [("redis_url", url.as_str()), ("redis_origin", &origin)];
    let (host, _folder) = manifests::start("spinkube", &both).await;
    host.stop().await;
    let other = [both[0], ("redis_origin", "redis://127.0.0.1:6379")];
    refused(&other, "redis_origin").await;
}

/// Reproduces the reports "My own page on http://localhost:5173 cannot be reached" and "Through the tunnel I have no
/// access": the answer and the log name the setting that admits the page, and with this setting the page is admitted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_is_refused_learns_what_lets_it_in() {
    for (headers, problem, setting) in [
        (
            &[("origin", "http://localhost:5173")][..],
            "cross-site",
            "http://localhost:5173",
        ),
        (
            &[
                ("host", "a.tunnel.example"),
                ("origin", "https://a.tunnel.example"),
            ],
            "foreign-host",
            "https://a.tunnel.example",
        ),
        (
            &[("host", "box.lan:8787")],
            "foreign-host",
            "http://box.lan:8787",
        ),
    ] {
        let page = headers
            .iter()
            .fold(Caller::anonymous(), |page, (name, value)| {
                page.header(name, value)
            });
        let host = Setup::new(Kind::Native)
            .variable("allowed_origins", "https://set.example")
            .start()
            .await;
        let setting = format!("https://set.example,{setting}");
        let line = format!("SPIN_VARIABLE_ALLOWED_ORIGINS={setting}");
        let answer = get(&host, headers).await;
        answer.assert_problem(403, problem);
        assert!(answer.text().contains(&line), "{answer:?}");
        if let Some((_, origin)) = headers.iter().find(|(name, _)| *name == "origin") {
            assert_eq!(answer.header("access-control-allow-origin"), *origin);
        }
        for _ in 0..3 {
            let (status, _) = page.upgrade(&host.address, "/sync/p").await;
            assert_eq!(status, 403);
        }
        assert_eq!(
            host.process.log().matches(&line).count(),
            1,
            "{}",
            host.process.log()
        );
        let setup = host.setup().variable("allowed_origins", &setting);
        host.stop().await;
        let host = setup.start().await;
        assert_eq!(get(&host, headers).await.status, 200, "{setting}");
        let (status, problem) = page.upgrade(&host.address, "/sync/p").await;
        assert_eq!(status, 101, "{setting}: {problem}");
        host.stop().await;
    }
}

async fn get(host: &Host, headers: &[(&str, &str)]) -> Answer {
    host.http().get_with("/sync/p", headers).await
}

/// Reproduces the report "Behind our nginx it says that the proxy passes no upgrades on": the proxy names another host, so
/// that the page is not one of the server's own. A browser sends a plain request without the page's origin, so the client
/// names the origin.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_behind_a_proxy_that_changes_the_host_learns_why() {
    let host = Host::start(Kind::Native).await;
    let line = "SPIN_VARIABLE_ALLOWED_ORIGINS=http://canvas.example";
    let page = Caller::anonymous().header("origin", "http://canvas.example");
    let (status, problem) = page.upgrade(&host.address, "/sync/p").await;
    assert_eq!(status, 403);
    assert!(problem.to_string().contains(line), "{problem}");
    let plain = [("sec-fetch-site", "same-origin"), ("if-none-match", "*")];
    let path = "/sync/p?origin=http%3A%2F%2Fcanvas.example";
    let answer = host.http().get_with(path, &plain).await;
    answer.assert_problem(403, "cross-site");
    assert!(answer.text().contains(line), "{answer:?}");
    host.stop().await;
}

/// Reproduces the reports "The pictures are gone on another port" and "Another machine asks 127.0.0.1": a row and a
/// document hold the path alone, and an answer has the address that its caller used.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_is_found_by_every_name_of_the_server() {
    let host = Setup::new(Kind::Native).listen("0.0.0.0:0").start().await;
    let params = json!({ "prompt": "a hill", "complete": "at_once" });
    let body = json!({ "project_id": "p", "task_type": "demo", "params": params });
    let id = id(&created(&host.http(), &body).await);
    let mut url = String::new();
    until("the result", async || {
        let done = task(&host.http(), &id).await;
        url = done["result_url"].as_str().unwrap_or_default().to_owned();
        !url.is_empty()
    })
    .await;
    let path = url
        .strip_prefix(&format!("http://{}", host.address))
        .unwrap();
    assert!(path.starts_with("/assets/asset_"), "{url}");
    until("the document has the path", async || {
        let accept = [("accept", "application/json")];
        let document = host.http().get_with("/sync/p", &accept).await.json();
        document["tasks"][&id]["src"] == path
    })
    .await;
    for nowhere in ["", "0.0.0.0:8787", "[::]:8787"] {
        let row = format!("/tasks/{id}");
        let told = host
            .http()
            .get_with(&row, &[("host", nowhere)])
            .await
            .json();
        assert_eq!(told["result_url"], url, "{nowhere:?}");
    }
    // An earlier release stored such an address.
    let old = format!("http://0.0.0.0:8787{path}");
    host.execute(&format!("UPDATE aigc_tasks SET result_url = '{old}'"));
    let setup = host.setup();
    host.stop().await;
    let host = setup
        .variable("public_url", "https://h.example/canvas")
        .start()
        .await;
    for (headers, base) in [
        (&[][..], "https://h.example/canvas"),
        (&[("host", "h.example")], "https://h.example/canvas"),
        (&[("host", "my-mac.local:8787")], "http://my-mac.local:8787"),
        // The first is the same proxy under another name; the second passes on its own name for this server.
        (&[("host", "box.local")], "http://box.local/canvas"),
        (&[("host", "backend")], "https://h.example/canvas"),
        (&[("host", "")], "https://h.example/canvas"),
    ] {
        for row in [format!("/tasks/{id}"), "/tasks?project_id=p".to_owned()] {
            let answer = host.http().get_with(&row, headers).await.json();
            let told = answer["tasks"].get(0).unwrap_or(&answer)["result_url"].clone();
            assert_eq!(told, json!(format!("{base}{path}")), "{headers:?} {row}");
        }
    }
    assert_eq!(host.http().get(path).await.status, 200);
    host.stop().await;
}

/// Reproduces the report "Below a path of our proxy nothing works": callbacks go there, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callbacks_come_to_a_public_address_with_a_path() {
    let proxy = e2e::sub_path::SubPath::start("/canvas").await;
    let public = format!("http://{}/canvas/", proxy.address);
    let host = Setup::new(Kind::Native)
        .variable("public_url", &public)
        .start()
        .await;
    proxy.leads_to(&host.address);
    let here = Http::new(&proxy.address);
    let params = json!({ "prompt": "a hill", "complete": "webhook", "seconds": 0 });
    let body = json!({ "project_id": "p", "task_type": "demo", "params": params });
    let posted = here.send(
        Method::POST,
        "/canvas/tasks",
        &[("content-type", "application/json")],
        body.to_string().into(),
    );
    let posted = posted.await;
    assert_eq!(posted.status, 201, "{posted:?}");
    let row = format!("/canvas/tasks/{}", id(&posted.json()));
    let mut done = Value::Null;
    until("the callback has come", async || {
        done = here.get(&row).await.json();
        done["status"] == "completed"
    })
    .await;
    let url = done["result_url"].as_str().unwrap();
    let path = url
        .strip_prefix(&format!("http://{}", proxy.address))
        .unwrap();
    assert!(path.starts_with("/canvas/assets/asset_"), "{url}");
    assert_eq!(here.get(path).await.status, 200);
    assert!(
        proxy
            .paths()
            .iter()
            .any(|path| path.starts_with("/canvas/webhooks/demo"))
    );
    host.stop().await;
}
