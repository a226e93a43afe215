//! The program: its output, and its end.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::support::{guests, manifest, request, share_cache, until, within};

/// The program, killed when a test fails before its end.
struct Running(Child);

impl Running {
    /// Starts it in `folder`.
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let program = Command::new(env!("CARGO_BIN_EXE_loro-host"))
            .current_dir(folder)
            .env_remove("RUST_LOG")
            .args(["--state-dir", "state"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Self(program.unwrap())
    }

    /// Waits for its end.
    async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        until("the program ends", async || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_when_it_is_ready_and_ends_well_on_a_signal() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("spin.toml"),
        manifest("sqlite_databases = [\"default\"]", ""),
    )
    .unwrap();
    share_cache(&folder.path().join("state"));
    for name in ["-TERM", "-INT"] {
        let mut running = Running::start(folder.path(), &["--listen", "127.0.0.1:0"]);
        let mut out = BufReader::new(running.0.stdout.take().unwrap());
        let read = tokio::task::spawn_blocking(move || {
            let lines: Result<Vec<String>, _> = out.by_ref().lines().take(6).collect();
            (lines.unwrap(), out)
        });
        let (lines, mut out) = within("six lines", read).await.unwrap();
        let public = lines[0]
            .strip_prefix("ready http://")
            .expect("ready comes first")
            .to_owned();
        let app = lines[1]
            .strip_prefix("  app     http://")
            .expect("then the application")
            .to_owned();
        assert_eq!(
            lines[2..],
            [
                "  state   state",
                "  auth    development: every caller is user dev",
                "  broker  in-process",
                "  relay   native"
            ]
        );
        for address in [public, app] {
            let reply = request(
                address.parse().unwrap(),
                "POST",
                "/g/sqlite/default",
                b"SELECT 1",
            )
            .await;
            assert_eq!(reply.ok(), "[Value::Integer(1)]");
        }
        signal(&running.0, name);
        assert_eq!(running.ended().await.code(), Some(0), "after {name}");
        let mut rest = String::new();
        out.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "", "stdout has the ready lines only");
    }
}

#[tokio::test]
async fn mistakes_at_the_start_are_one_clear_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let good = manifest("", "");
    let missing = good.replace(&guests().display().to_string(), "nowhere/missing.wasm");
    let not_wasm = good.replace(&guests().display().to_string(), "spin.toml");
    let unknown = good.replace("[component.g]", "[component.g]\nchanel = 1");
    let no_export = format!(
        "{good}[[trigger.http]]\nroute = \"/x\"\ncomponent = \"x\"\n[component.x]\nsource = \"empty.wasm\""
    );
    let required = good.replace("[variables]", "[variables]\nneeded = { required = true }");
    // A manifest, arguments, and words of the error.
    let table: &[(&str, &[&str], &[&str])] = &[
        (&good, &["--listen", &taken], &[&taken, "taken"]),
        (&good, &["--app-listen", &taken], &[&taken, "taken"]),
        (
            &good,
            &["--manifest", "other.toml"],
            &["other.toml", "No such file"],
        ),
        (
            &good,
            &["--redis", "redis://127.0.0.1:1"],
            &["redis://127.0.0.1:1", "cannot be reached"],
        ),
        (&good, &["--redis", "127.0.0.1:1"], &["redis"]),
        (&good, &["--variable", "unknown=1"], &["unknown"]),
        (&good, &["--runtime-config", "no.toml"], &["no.toml"]),
        (
            &good,
            &["--relay", "wasm", "--relay-wasm", "no.wasm"],
            &["no.wasm", "missing"],
        ),
        (
            &missing,
            &[],
            &["nowhere/missing.wasm", "missing", "builds it"],
        ),
        (&not_wasm, &[], &["spin.toml"]),
        (&unknown, &[], &["spin.toml", "chanel", "line"]),
        (&no_export, &[], &["incoming-handler"]),
        (&required, &[], &["needed", "SPIN_VARIABLE_NEEDED"]),
        ("x", &[], &["spin.toml", "line 1"]),
    ];
    for (manifest, arguments, words) in table {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("spin.toml"), manifest).unwrap();
        // The smallest component, which exports nothing.
        std::fs::write(folder.path().join("empty.wasm"), b"\0asm\x0d\0\x01\0").unwrap();
        share_cache(&folder.path().join("state"));
        let mut all = arguments.to_vec();
        if !arguments.contains(&"--listen") {
            all.extend(["--listen", "127.0.0.1:0"]);
        }
        let mut running = Running::start(folder.path(), &all);
        let status = running.ended().await;
        let (mut out, mut error) = (String::new(), String::new());
        let program = &mut running.0;
        let stdout = program.stdout.as_mut().unwrap();
        stdout.read_to_string(&mut out).unwrap();
        let stderr = program.stderr.as_mut().unwrap();
        stderr.read_to_string(&mut error).unwrap();
        assert_eq!(status.code(), Some(1), "{arguments:?}: {error}");
        assert_eq!(out, "", "{arguments:?}");
        let lines: Vec<&str> = error
            .lines()
            .filter(|line| line.starts_with("error: "))
            .collect();
        assert_eq!(lines.len(), 1, "{arguments:?}: {error}");
        assert_eq!(
            error.lines().last(),
            Some(lines[0]),
            "{arguments:?}: {error}"
        );
        for word in *words {
            assert!(
                lines[0].contains(word),
                "{arguments:?}: {} lacks {word:?}",
                lines[0]
            );
        }
    }
}
