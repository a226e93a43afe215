//! The command line of `loro-host`: how it starts, how it fails, and how it ends.

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use e2e::both_relays;
use e2e::built::{built, compiled, root};
use e2e::host::{Host, Kind, Setup};
use e2e::http::Http;
use e2e::port::Port;
use e2e::process::Process;
use e2e::raw::Client;

/// Starts a host that cannot start. It must give the reason in one line on stderr, and end with code 1.
async fn fails(setup: Setup, why: &[&str]) {
    let mut process = setup.spawn();
    let status = process.ended().await;
    let log = process.log();
    assert_eq!(status.code(), Some(1), "{log}");
    assert_eq!(process.line().await, None, "it printed a line on stdout");
    // A line about the compilation may precede it.
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| !line.contains("compiling"))
        .collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].starts_with("error: "), "{log}");
    for words in why {
        assert!(lines[0].contains(words), "{words:?} is not in: {log}");
    }
}

fn manifest(folder: &Path, text: &str) -> std::path::PathBuf {
    let path = folder.join("spin.toml");
    std::fs::write(&path, text).unwrap();
    path
}

const ONE_COMPONENT: &str = r#"
spin_manifest_version = 2
[application]
name = "app"
[[trigger.http]]
route = "/..."
component = "sync"
[component.sync]
source = "not-built.wasm"
"#;

both_relays! {
    async fn a_taken_port_is_reported(relay: Kind) {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        fails(Setup::new(relay).listen(&address), &[&address]).await;
        fails(Setup::new(relay).app_listen(&address), &[&address]).await;
    }

    async fn an_unreachable_redis_is_reported(relay: Kind) {
        let nothing = Port::free();
        let url = format!("redis://{}", nothing.address());
        fails(Setup::new(relay).option("--redis", &url), &[&url]).await;
    }

    /// The second start finds everything compiled, and serves within two seconds.
    async fn a_second_start_is_quick(relay: Kind) {
        let setup = Setup::new(relay);
        setup.clone().start().await.stop().await;
        let start = Instant::now();
        let host = setup.start().await;
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        assert_eq!(host.http().get("/health").await.status, 200);
        host.stop().await;
    }

    /// Checks that SIGINT, which Ctrl-C sends, has the effect of SIGTERM.
    async fn an_interrupt_drains_too(relay: Kind) {
        let mut host = Host::start(relay).await;
        let client = Client::join(&host.address, "p").await;
        client.until("the state", |client| client.blobs() == 1).await;
        host.process.signal("INT").await;
        assert!(host.process.ended().await.success());
        assert_eq!(client.end().await, e2e::raw::Closed::Code(1001));
    }
}

/// Reproduces the report "Every account on the machine could read the documents."
#[tokio::test]
async fn only_the_user_of_the_host_can_read_its_state() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let with_mode = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    };
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    // An earlier release left these permissions.
    std::fs::create_dir(&state).unwrap();
    with_mode(&state, 0o755);
    std::os::unix::fs::symlink(compiled(), state.join("cache")).unwrap();
    let database = state.join("sqlite_db.db");
    std::fs::write(&database, "").unwrap();
    with_mode(&database, 0o644);
    let mut command = tokio::process::Command::new(built("target/release/loro-host"));
    command
        .args(["--relay", "none", "--app-listen", "127.0.0.1:0"])
        .arg("--manifest")
        .arg(root().join("spin.toml"))
        .arg("--state-dir")
        .arg(&state);
    let log = folder.path().join("host.log");
    let mut process = Process::spawn("loro-host", &mut command, &log);
    let address = process.ready().await;
    let health = Http::new(&address).get("/health").await;
    assert_eq!(health.status, 200);
    assert_eq!(mode(&state), 0o700);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&state).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            assert_eq!(mode(&path), 0o600, "{}", path.display());
            files.push(path.file_name().unwrap().to_str().unwrap().to_owned());
        }
    }
    for name in [
        "sqlite_db.db",
        "sqlite_db.db-wal",
        "sqlite_db.db-shm",
        "sqlite_key_value.db",
    ] {
        assert!(files.iter().any(|file| file == name), "{name}: {files:?}");
    }
    process.signal("TERM").await;
    assert!(process.ended().await.success());
}

#[tokio::test]
async fn a_missing_component_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let path = manifest(folder.path(), ONE_COMPONENT);
    fails(
        Setup::new(Kind::Native).manifest(&path),
        &["not-built.wasm"],
    )
    .await;
}

/// Checks that a trigger demands the settings that the processes share, if the HTTP trigger is not in its process.
#[tokio::test]
async fn a_trigger_that_could_not_find_the_others_is_reported() {
    let alone = |trigger| Setup::new(Kind::Native).option("--triggers", trigger);
    fails(alone("redis"), &["--redis"]).await;
    fails(alone("cron"), &["app_url", "--app-listen"]).await;
    let addressed = alone("cron").in_place();
    fails(addressed, &["internal_token"]).await;
}

#[tokio::test]
async fn a_missing_relay_is_reported() {
    let setup = Setup::new(Kind::Wasm).relay_wasm(Path::new("no-relay.wasm"));
    fails(setup, &["no-relay.wasm"]).await;
}

#[tokio::test]
async fn a_broken_manifest_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    for (text, why) in [
        ("spin_manifest_version = ".to_owned(), "spin.toml"),
        (
            ONE_COMPONENT.replace("version = 2", "version = 7"),
            "spin_manifest_version",
        ),
        (
            ONE_COMPONENT.replace("component = \"sync\"", "component = \"other\""),
            "other",
        ),
        (ONE_COMPONENT.replace("source", "sauce"), "sauce"),
    ] {
        let path = manifest(folder.path(), &text);
        fails(Setup::new(Kind::None).manifest(&path), &[why]).await;
    }
    let path = folder.path().join("nowhere.toml");
    fails(Setup::new(Kind::None).manifest(&path), &["nowhere.toml"]).await;
}

/// The lines appear when everything serves.
#[tokio::test]
async fn it_prints_what_it_serves() {
    let setup = Setup::new(Kind::Native);
    let mut process = setup.spawn();
    let address = process.ready().await;
    let mut told = Vec::new();
    for _ in 0..5 {
        told.push(process.line().await.unwrap());
    }
    let words: Vec<&str> = told
        .iter()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(
        words,
        ["app", "state", "auth", "broker", "relay"],
        "{told:?}"
    );
    assert!(told.iter().all(|line| line.starts_with("  ")), "{told:?}");
    assert!(
        told[2].contains("development: every caller is user dev"),
        "{told:?}"
    );
    assert!(told[3].contains("in-process"), "{told:?}");
    assert_eq!(
        e2e::http::Http::new(&address).get("/health").await.status,
        200
    );
    process.signal("TERM").await;
    assert_eq!(process.ended().await.code(), Some(0));
    assert_eq!(process.line().await, None);
}
