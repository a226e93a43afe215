//! The server on one machine, `loro-host`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;
use tokio::process::Command;

use crate::built::{built, compiled, root};
use crate::elsewhere::Elsewhere;
use crate::http::Http;
use crate::libsql::Libsql;
use crate::port::Port;
use crate::process::Process;

/// The build of the relay that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The native build.
    Native,
    /// The WASI command.
    Wasm,
    /// The app alone, without a relay.
    None,
}

impl Kind {
    fn flag(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Wasm => "wasm",
            Self::None => "none",
        }
    }
}

/// The set-up of a host, and its state folder, which lasts as long as any set-up or host that refers to it.
#[derive(Clone)]
pub struct Setup {
    relay: Kind,
    relay_wasm: PathBuf,
    manifest: PathBuf,
    listen: String,
    app_listen: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    state: Arc<TempDir>,
    ports: Vec<Arc<Port>>,
    elsewhere: Option<Elsewhere>,
}

impl Setup {
    /// Sets up a host on free ports with an empty state folder, within a tokio runtime. It is this machine, or the host
    /// that `TEST_HOST` names.
    pub fn new(relay: Kind) -> Self {
        let state = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(compiled(), state.path().join("cache")).unwrap();
        Self {
            relay,
            relay_wasm: built("target/wasm32-wasip2/wasm/relay.wasm"),
            manifest: root().join("spin.toml"),
            listen: "127.0.0.1:0".into(),
            app_listen: "127.0.0.1:0".into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            elsewhere: Elsewhere::of_environment(state.path()),
            state: Arc::new(state),
            ports: Vec::new(),
        }
    }

    /// Imitates another host than this machine, such as `spinkube`.
    pub fn elsewhere(mut self, name: &'static str) -> Self {
        self.elsewhere = Some(Elsewhere::new(name, self.state.path()));
        self
    }

    /// The libSQL server of another host.
    ///
    /// # Panics
    /// If it has none.
    pub fn libsql(&self) -> &Libsql {
        let elsewhere = self.elsewhere.as_ref();
        elsewhere.and_then(Elsewhere::libsql).unwrap()
    }

    /// Uses this manifest instead of the repository's, on this machine.
    pub fn manifest(mut self, path: &Path) -> Self {
        self.manifest = path.to_owned();
        self.elsewhere = None;
        self
    }

    /// Sets the file of the relay's Wasm build.
    pub fn relay_wasm(mut self, path: &Path) -> Self {
        self.relay_wasm = path.to_owned();
        self
    }

    /// Sets the public address.
    pub fn listen(mut self, address: &str) -> Self {
        self.listen = address.to_owned();
        self
    }

    /// Sets the address of the app.
    pub fn app_listen(mut self, address: &str) -> Self {
        self.app_listen = address.to_owned();
        self
    }

    /// Picks addresses that stay the same, and reserved, from start to start.
    pub fn in_place(mut self) -> Self {
        let (public, app) = (Port::free(), Port::free());
        self.listen = public.address().to_string();
        self.app_listen = app.address().to_string();
        self.ports = vec![Arc::new(public), Arc::new(app)];
        self
    }

    /// Adds an option, such as `--redis URL`.
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.arguments.extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// Adds an option without a value.
    pub fn flag(mut self, name: &str) -> Self {
        self.arguments.push(name.to_owned());
        self
    }

    /// Sets an application variable.
    pub fn variable(self, name: &str, value: &str) -> Self {
        self.option("--variable", &format!("{name}={value}"))
    }

    /// Sets an environment variable, such as the relay's `RELAY_…`.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The file of the app's database.
    pub fn database(&self) -> PathBuf {
        self.state.path().join("sqlite_db.db")
    }

    /// Starts the process, and does not wait until it serves.
    pub fn spawn(&self) -> Process {
        let mut command = Command::new(built("target/release/loro-host"));
        if let Some(elsewhere) = &self.elsewhere {
            command.args(elsewhere.options(self.state.path()));
            command.envs(elsewhere.relay().iter().copied());
        } else {
            command.arg("--manifest").arg(&self.manifest);
        }
        command
            .current_dir(self.state.path())
            .args(["--relay", self.relay.flag()])
            .args(["--listen", &self.listen, "--app-listen", &self.app_listen])
            .arg("--state-dir")
            .arg(self.state.path())
            .arg("--relay-wasm")
            .arg(&self.relay_wasm)
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        Process::spawn(
            format!("loro-host --relay {}", self.relay.flag()),
            &mut command,
            &self.state.path().join("host.log"),
        )
    }

    /// Starts a host and waits until it serves.
    pub async fn start(self) -> Host {
        let mut process = self.spawn();
        let address = process.ready().await;
        let mut app = String::new();
        // The host prints a line for each part that serves; the relay's is the last.
        loop {
            let line = process.line().await.unwrap_or_default();
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["app", url] => app = url.trim_start_matches("http://").to_owned(),
                ["relay", ..] => break,
                [] => panic!("the host did not print what it serves"),
                _ => {}
            }
        }
        assert!(
            !app.is_empty(),
            "the host did not print the address of the app"
        );
        Host {
            setup: self,
            process,
            address,
            app,
        }
    }
}

/// A host that serves. Dropping it kills it.
pub struct Host {
    /// The process. It is dropped first, because its log is in the state folder.
    pub process: Process,
    setup: Setup,
    /// The public address: the relay's, or the app's if no relay runs.
    pub address: String,
    /// The app's own address.
    pub app: String,
}

impl Host {
    /// Starts a host without particular settings.
    pub async fn start(relay: Kind) -> Self {
        Setup::new(relay).start().await
    }

    /// An HTTP client of the public address.
    pub fn http(&self) -> Http {
        Http::new(&self.address)
    }

    /// An HTTP client of the app's own address.
    pub fn app_http(&self) -> Http {
        Http::new(&self.app)
    }

    /// The file of the app's database.
    pub fn database(&self) -> PathBuf {
        self.setup.database()
    }

    /// Executes a statement in the app's database directly, without the app. Returns the number of changed rows.
    pub fn execute(&self, sql: &str) -> usize {
        let database = Connection::open(self.database()).unwrap();
        database.busy_timeout(Duration::from_secs(5)).unwrap();
        database.execute(sql, []).unwrap()
    }

    /// Sets up the next start on the same state: on free ports, or at the same addresses after [`Setup::in_place`].
    pub fn setup(&self) -> Setup {
        self.setup.clone()
    }

    /// Stops it with SIGTERM.
    ///
    /// # Panics
    /// If it does not end with code 0.
    pub async fn stop(mut self) {
        self.process.signal("TERM").await;
        let status = self.process.ended().await;
        assert!(status.success(), "the host ended with {status}");
    }

    /// Kills it with SIGKILL.
    pub async fn kill(mut self) {
        self.process.kill().await;
    }
}
