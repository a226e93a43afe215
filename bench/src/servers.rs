//! Starts and stops the servers, each a process of its own.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::machine;

/// The internal token of our servers, with which the bench may read their metrics. It is also the
/// token of a trusted backend.
pub(crate) const TOKEN: &str = "bench-internal-token";

/// The longest time that a server may take to get ready. The first start compiles the Wasm.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// The build of our relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Relay {
    /// The native build.
    Native,
    /// The WASI command.
    Wasm,
}

impl Relay {
    /// Returns the name, as our host takes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Wasm => "wasm",
        }
    }
}

/// The folders of the programs, and of the files that they write.
#[derive(Debug)]
pub(crate) struct Places {
    /// The manifest of our app.
    pub manifest: PathBuf,
    /// The relay of a whole server.
    relay: Relay,
    /// The folder of `bench`, `loro-host` and `relay`.
    programs: PathBuf,
    /// The folder of everything that this run writes. It is on the disk of the build, because with
    /// a state in memory a commit would cost nothing.
    scratch: TempDir,
}

/// A running server: our app, our relay, both, or a peer.
#[derive(Debug)]
pub(crate) struct Server {
    name: String,
    child: Child,
    /// The address on which it listens.
    pub address: SocketAddr,
}

impl Places {
    /// Lets our host compile the Wasm, which every later state folder then begins with.
    ///
    /// # Errors
    /// If the host does not get ready.
    pub(crate) async fn compile(&self) -> Result<()> {
        let state = self.state_dir("compile")?;
        let server = self.start_ours(&state)?;
        // The host writes the compiled Wasm in the background.
        server.settle().await?;
        server.kill()?;
        copy_tree(&state.join("cache"), &self.compiled())
    }

    fn compiled(&self) -> PathBuf {
        self.scratch.path().join("compiled")
    }

    /// Finds the programs in the folder of this one. With `keep`, their files stay when the bench
    /// ends.
    ///
    /// # Errors
    /// If the folder for the servers' files cannot be made.
    pub(crate) fn new(manifest: PathBuf, relay: Relay, keep: bool) -> Result<Self> {
        let this = std::env::current_exe().context("find this program's path")?;
        let programs = this
            .parent()
            .context("find this program's folder")?
            .to_owned();
        let scratch = tempfile::Builder::new()
            .prefix("bench-")
            .disable_cleanup(keep)
            .tempdir_in(&programs)
            .context("make a folder for the servers' state")?;
        Ok(Self {
            manifest,
            relay,
            programs,
            scratch,
        })
    }

    /// Returns the folder that is deleted when the bench ends.
    pub(crate) fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Makes a new state folder, empty except for the Wasm that was compiled earlier, because the
    /// bench does not measure compiling.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub(crate) fn state_dir(&self, name: &str) -> Result<PathBuf> {
        let state = tempfile::Builder::new()
            .prefix(&format!("state-{name}-"))
            .tempdir_in(self.scratch.path())?
            .keep();
        let compiled = self.compiled();
        if compiled.exists() {
            copy_tree(&compiled, &state.join("cache"))?;
        }
        Ok(state)
    }

    /// Starts our whole server: the app with the relay in front of it.
    ///
    /// # Errors
    /// If it does not get ready.
    pub(crate) fn start_ours(&self, state: &Path) -> Result<Server> {
        self.start_ours_with(state, self.relay)
    }

    /// Starts our whole server with this relay.
    ///
    /// # Errors
    /// If it does not get ready.
    pub(crate) fn start_ours_with(&self, state: &Path, relay: Relay) -> Result<Server> {
        let mut command = self.host(state);
        command.args(["--listen", "127.0.0.1:0", "--relay", relay.name()]);
        self.start("ours", command)
    }

    /// Starts our whole server. Its relay asks the app by lines, or by single requests.
    ///
    /// # Errors
    /// If it does not get ready.
    pub(crate) fn start_ours_by(&self, state: &Path, lines: bool) -> Result<Server> {
        let mut command = self.host(state);
        command.args(["--listen", "127.0.0.1:0"]);
        if !lines {
            command.env("RELAY_LINE_REQUESTS", "0");
        }
        self.start("ours", command)
    }

    /// Starts our app alone, without a relay.
    ///
    /// # Errors
    /// If it does not get ready.
    pub(crate) fn start_app(&self, state: &Path) -> Result<Server> {
        let mut command = self.host(state);
        command.args(["--relay", "none"]);
        self.start("ours", command)
    }

    fn host(&self, state: &Path) -> Command {
        let mut command = Command::new(self.programs.join("loro-host"));
        command
            .arg("--manifest")
            .arg(&self.manifest)
            .arg("--state-dir")
            .arg(state)
            .args(["--variable", &format!("internal_token={TOKEN}")])
            .args(["--variable", &format!("agent_token={TOKEN}")]);
        command
    }

    /// Starts our relay alone, in front of an app that already runs.
    ///
    /// # Errors
    /// If it does not get ready.
    pub(crate) fn start_relay(&self, app: &Server) -> Result<Server> {
        let mut command = Command::new(self.programs.join("relay"));
        command
            .args(["--listen", "127.0.0.1:0"])
            .args(["--app", &format!("http://{}", app.address)])
            .args(["--internal-token", TOKEN]);
        self.start("relay", command)
    }

    /// Starts the official server.
    ///
    /// # Errors
    /// If it does not get ready.
    pub(crate) fn start_official(&self) -> Result<Server> {
        self.start("official", self.peer(&["official"]))
    }

    /// Starts the server that reads a file and sends it.
    ///
    /// # Errors
    /// If it does not get ready.
    pub(crate) fn start_plain_file(&self, path: &Path) -> Result<Server> {
        let mut command = self.peer(&["plain-file"]);
        command.arg(path);
        self.start("plain-file", command)
    }

    /// Starts the server that reads a row and sends it.
    ///
    /// # Errors
    /// If it does not get ready.
    pub(crate) fn start_plain_sqlite(&self, path: &Path) -> Result<Server> {
        let mut command = self.peer(&["plain-sqlite"]);
        command.arg(path);
        self.start("plain-sqlite", command)
    }

    /// Starts a libSQL server of the database in this state folder. Each of its answers takes this many milliseconds.
    ///
    /// # Errors
    /// If it does not get ready.
    pub(crate) fn start_libsql(&self, state: &Path, round_trip: u64) -> Result<Server> {
        let mut command = self.peer(&["libsql"]);
        command
            .arg(state.join("libsql.db"))
            .arg(round_trip.to_string());
        self.start("libsql", command)
    }

    /// Starts our whole server, whose app has its tables on a libSQL server.
    ///
    /// # Errors
    /// If it does not get ready.
    pub(crate) fn start_ours_on(&self, state: &Path, libsql: &Server) -> Result<Server> {
        let config = state.join("runtime-config.toml");
        let lines = format!(
            "[sqlite_database.default]\ntype = \"libsql\"\nurl = \"http://{}\"\ntoken = \"{}\"\n",
            libsql.address,
            e2e::libsql::TOKEN
        );
        std::fs::write(&config, lines)?;
        let mut command = self.host(state);
        command
            .args(["--listen", "127.0.0.1:0", "--relay", self.relay.name()])
            .arg("--runtime-config")
            .arg(config);
        self.start("ours", command)
    }

    fn peer(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("bench"));
        command.arg("peer").args(arguments);
        command
    }

    fn start(&self, name: &str, mut command: Command) -> Result<Server> {
        let log = tempfile::Builder::new()
            .prefix(&format!("{name}-"))
            .suffix(".log")
            .tempfile_in(self.scratch.path())?
            .into_temp_path()
            .keep()?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .spawn()
            .with_context(|| format!("start {}", command.get_program().display()))?;
        let stdout = child.stdout.take().context("take the server's stdout")?;
        let (found, address) = mpsc::channel();
        // The thread reads to the end, so that the server never blocks on a full pipe.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(address) = ready_address(&line) {
                    let _ = found.send(address);
                }
            }
        });
        let mut server = Server {
            name: name.to_owned(),
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        match address.recv_timeout(READY_WITHIN) {
            Ok(address) => server.address = address,
            Err(_) => {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                let tail: Vec<&str> = said.lines().rev().take(5).collect();
                let tail: Vec<&str> = tail.into_iter().rev().collect();
                bail!("{name} did not get ready: {}", tail.join("\n"));
            }
        }
        Ok(server)
    }
}

/// Reads the address in a line such as `ready http://127.0.0.1:8787`.
fn ready_address(line: &str) -> Option<SocketAddr> {
    line.strip_prefix("ready http://")?
        .trim()
        .trim_end_matches('/')
        .parse()
        .ok()
}

impl Server {
    /// Returns the id of the process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the CPU time that the process has used until now, in seconds.
    ///
    /// # Errors
    /// If the process has ended.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let used = machine::cpu_time(self.pid());
        Ok(used
            .with_context(|| format!("{} is gone", self.name))?
            .as_secs_f64())
    }

    /// Waits until the server is idle and has finished its work after a request, such as
    /// compaction; at most a minute.
    ///
    /// # Errors
    /// If the process has ended.
    pub(crate) async fn settle(&self) -> Result<()> {
        for _ in 0..60 {
            let before = self.cpu_seconds()?;
            tokio::time::sleep(Duration::from_secs(1)).await;
            if self.cpu_seconds()? - before < 0.05 {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Kills the process, as `kill -9` does, and waits for its end.
    ///
    /// # Errors
    /// If the process had already ended.
    pub(crate) fn kill(mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended by itself: {status}", self.name);
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_lines() {
        for (line, port) in [
            ("ready http://127.0.0.1:8787", Some(8787)),
            ("ready http://127.0.0.1:1/", Some(1)),
            ("  app     http://127.0.0.1:43211", None),
            ("ready", None),
        ] {
            assert_eq!(
                ready_address(line).map(|address| address.port()),
                port,
                "{line}"
            );
        }
    }
}
