//! The command line.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::addresses::reachable;
use crate::guest::limits::Limits;
use crate::other_host::OtherHost;
use crate::relay::RelayKind;
use crate::running::Running;
use crate::settings::Settings;
use crate::triggers::Trigger;

/// Runs a spin.toml on this machine, with the WebSocket relay in front of it.
#[derive(Debug, Parser)]
#[command(name = "loro-host", version)]
struct Cli {
    /// The manifest.
    #[arg(long, default_value = "spin.toml")]
    manifest: PathBuf,
    /// The public address, which is the relay's. `8787`, `:8787` and `localhost:8787` are this machine alone;
    /// `0.0.0.0:8787` is every network.
    #[arg(long, default_value = "127.0.0.1:8787", value_parser = ::relay::listen_address)]
    listen: SocketAddr,
    /// The application's own address; port 0 lets the system pick one.
    #[arg(long, default_value = "127.0.0.1:0", value_parser = ::relay::listen_address)]
    app_listen: SocketAddr,
    /// The folder of databases and compiled code.
    #[arg(long, default_value = ".state")]
    state_dir: PathBuf,
    /// A Redis server, e.g. redis://127.0.0.1:6379; without it, a broker runs in this process.
    #[arg(long)]
    redis: Option<String>,
    /// The triggers that run in this process, separated by commas. Other processes on the same state folder run the
    /// others, as with `spin up`; they need the same Redis server and `internal_token`. The relay runs beside `http`. A
    /// Redis trigger without `http` ends if it loses Redis, so that a supervisor starts it again.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "http,redis,cron"
    )]
    triggers: Vec<Trigger>,
    /// The way in which the relay runs.
    #[arg(long, value_enum, default_value_t = RelayKind::Native)]
    relay: RelayKind,
    /// The relay's Wasm build, for `--relay wasm`.
    #[arg(long, default_value = "target/wasm32-wasip2/wasm/relay.wasm")]
    relay_wasm: PathBuf,
    /// Spin's runtime configuration, of which `[outbound_networking]` and `[sqlite_database.NAME]` of type `libsql` are
    /// read.
    #[arg(long)]
    runtime_config: Option<PathBuf>,
    /// Gives an application variable a value; may be repeated.
    #[arg(long = "variable", value_name = "NAME=VALUE", value_parser = pair)]
    variables: Vec<(String, String)>,
    /// The most memory of one instance, in MiB.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=4095))]
    instance_memory: u32,
    /// The most memory of all instances together, in MiB; by default half of what this process may use. Users' requests
    /// have three quarters of it. An instance that would start beyond it is refused with 503, and one that would grow
    /// beyond it fails alone.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(64..))]
    memory: Option<u32>,
    /// The most processor time of one instance, in seconds.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    instance_cpu: u32,
    /// The most processor time of an instance that merges a document, in seconds, if that is more than `--instance-cpu`. It
    /// ends with `--instance-time` at the latest.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=500))]
    merge_cpu: u32,
    /// The most time of one instance from start to end, in seconds.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    instance_time: u32,
    /// The most instances at one time that answer users; a further request is answered with 503. Calls of the relay,
    /// and of the app to itself, have places of their own.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1000))]
    instances: u32,
    /// Keeps the limits of another host, too: for the time of a request, the sizes of bodies, the memory of an instance
    /// and the key-value store. Like that host it does not block private networks, and it counts requests to other
    /// hosts if that host counts them.
    #[arg(long, value_enum, value_name = "HOST")]
    limits: Option<OtherHost>,
    /// Lets calls of every kind share the users' places, as on a real Spin. It is there for the tests, so `--help` and
    /// docs/settings.md leave it out.
    #[arg(long, hide = true)]
    no_lanes: bool,
}

/// The command line, for its documentation.
pub fn command() -> clap::Command {
    Cli::command()
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl From<Cli> for Settings {
    fn from(cli: Cli) -> Self {
        let default = Limits::default();
        let limits = Limits {
            memory: cli.instance_memory as usize * 1024 * 1024,
            cpu: Duration::from_secs(cli.instance_cpu.into()),
            merge_cpu: Duration::from_secs(cli.merge_cpu.into()),
            wall: Duration::from_secs(cli.instance_time.into()),
            instances: cli.instances,
            total_memory: cli
                .memory
                .map_or(default.total_memory, |mib| mib as usize * 1024 * 1024),
            lanes: !cli.no_lanes,
            ..default
        };
        Self {
            manifest: cli.manifest,
            listen: cli.listen,
            app_listen: cli.app_listen,
            state_dir: cli.state_dir,
            redis: cli.redis,
            relay: cli.relay,
            relay_wasm: cli.relay_wasm,
            runtime_config: cli.runtime_config,
            variables: cli.variables,
            triggers: cli.triggers.into_iter().collect(),
            limits: match cli.limits {
                Some(host) => limits.with_those_of(host),
                None => limits,
            },
        }
    }
}

/// Runs the whole program: it parses the command line, runs until a signal, and reports how it ended.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // The files of the state are for this user alone, including those that SQLite and the cache create.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    crate::logs::start();
    // More threads than cores, because a guest may compute while others have work to do.
    let threads = std::thread::available_parallelism()
        .map_or(2, usize::from)
        .max(4);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(run(cli.into()));
            runtime.shutdown_timeout(Duration::from_secs(1));
            result
        }
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", format!("{error:#}").replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}

/// The signals that mean "stop".
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

async fn run(settings: Settings) -> Result<()> {
    let mut signals = Signals::new().context("signals cannot be watched")?;
    let mut host = tokio::select! {
        host = crate::start(settings) => host?,
        () = signals.next() => return Ok(()),
    };
    announce(&host)?;
    let failed = tokio::select! {
        error = host.failed() => Some(error),
        () = signals.next() => None,
    };
    if failed.is_none() {
        tracing::info!("draining; a second signal stops at once");
    }
    tokio::select! {
        stopped = host.stop() => match failed {
            Some(error) => Err(error),
            None => stopped,
        },
        () = signals.next() => std::process::exit(130),
    }
}

fn announce(host: &Running) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match host.address() {
        Some(address) => writeln!(out, "ready http://{}", reachable(address))?,
        None => writeln!(out, "ready")?,
    }
    for (word, value) in host.lines() {
        writeln!(out, "  {word:<7} {value}")?;
    }
    out.flush()?;
    Ok(())
}
