//! A child process: its output and its end.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::wait::soon;

/// The longest time until a program serves. A host compiles new components first.
const START: Duration = Duration::from_secs(180);

/// The number of lines of a log that are printed if a test fails.
const SHOWN: usize = 40;

/// A running program. Dropping it kills it.
pub struct Process {
    name: String,
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    log: PathBuf,
}

impl Process {
    /// Starts a program, and appends its stderr to the file `log`.
    pub fn spawn(name: impl Into<String>, command: &mut Command, log: &Path) -> Self {
        let name = name.into();
        let stderr = File::options().create(true).append(true).open(log).unwrap();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} could not be started: {error}"));
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        Self {
            name,
            child,
            stdout,
            log: log.to_owned(),
        }
    }

    /// Reads the next line of stdout; `None` after the last one.
    pub async fn line(&mut self) -> Option<String> {
        let what = format!("a line of {}", self.name);
        soon(&what, self.stdout.next_line()).await.unwrap()
    }

    /// Reads the address from the next line, which must be `ready http://ADDRESS`.
    pub async fn ready(&mut self) -> String {
        let line = match timeout(START, self.stdout.next_line()).await {
            Ok(line) => line.unwrap(),
            Err(_) => panic!("{} is not ready within {START:?}", self.name),
        };
        match line
            .as_deref()
            .and_then(|line| line.strip_prefix("ready http://"))
        {
            Some(address) => address.to_owned(),
            None => panic!("{} did not come up: {line:?}", self.name),
        }
    }

    /// The id of the process.
    pub fn id(&self) -> u32 {
        self.child
            .id()
            .unwrap_or_else(|| panic!("{} has ended", self.name))
    }

    /// Returns whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Sends a signal, such as `TERM`.
    pub async fn signal(&self, signal: &str) {
        let id = self.id().to_string();
        let status = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", signal, &id])
            .status()
            .await;
        assert!(
            status.unwrap().success(),
            "{} was not sent SIG{signal}",
            self.name
        );
    }

    /// Waits for the end of the process.
    pub async fn ended(&mut self) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        soon(&what, self.child.wait()).await.unwrap()
    }

    /// Kills it with SIGKILL, and waits for its end.
    pub async fn kill(&mut self) {
        self.child.start_kill().unwrap();
        self.ended().await;
    }

    /// Returns everything that it has written to stderr.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The memory that it uses now, in MiB. A page that is mapped several times, as the image of a component is by each
    /// of its instances, counts once; in the resident set it counts each time.
    pub fn memory(&self) -> u64 {
        let maps = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.id())).unwrap();
        let line = maps.lines().find(|line| line.starts_with("Pss:")).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib / 1024
    }
}

impl Process {
    /// The processor time that it has used so far.
    pub fn processor_time(&self) -> Duration {
        // Linux counts in hundredths of a second here, on every machine. The name in the second field may have spaces.
        const TICK: Duration = Duration::from_millis(10);
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        let fields = stat.rsplit(')').next().unwrap();
        let fields = fields.split_whitespace().skip(11).take(2);
        let ticks: u32 = fields.map(|ticks| ticks.parse::<u32>().unwrap()).sum();
        TICK * ticks
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.start_kill();
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && start.elapsed() < Duration::from_secs(5)
        {
            std::thread::sleep(Duration::from_millis(5));
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = lines.len().saturating_sub(SHOWN);
            eprintln!(
                "--- {} wrote:\n{}\n---",
                self.name,
                lines[shown..].join("\n")
            );
        }
    }
}
