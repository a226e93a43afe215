//! The relay beside the application: in this process natively, or as a WASI command.
//!
//! Either has a runtime of its own, so that guests that compute never hold up a socket. All its
//! settings beyond those given here come from the environment (`RELAY_…`).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use clap::{Args, FromArgMatches};
use http::{Request, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use crate::logs::GuestOutput;

/// How the relay runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// As native code in this process.
    Native,
    /// As a WASI command in this process, with the network inherited.
    Wasm,
    /// Not at all: the application alone is served.
    None,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Wasm => "wasm",
            Self::None => "none",
        })
    }
}

/// What the relay must know.
#[derive(Clone)]
pub struct Settings {
    /// The application, as `http://HOST:PORT`.
    pub app: String,
    /// The Redis server or broker.
    pub redis: String,
    /// The bearer token of internal routes.
    pub internal_token: String,
    /// The file of the Wasm build.
    pub wasm: PathBuf,
    /// The folder of compiled code.
    pub cache: PathBuf,
}

/// How long the relay may take to start.
const START: Duration = Duration::from_secs(60);
/// How long the relay may take to drain, beyond what its own settings allow.
const DRAIN: Duration = Duration::from_secs(20);

/// A running relay.
pub struct Relay {
    address: SocketAddr,
    stop: Stop,
    ended: oneshot::Receiver<Result<()>>,
}

enum Stop {
    Native(oneshot::Sender<()>),
    Wasm { internal_token: String },
}

impl Relay {
    /// Starts the native relay on `listener`.
    pub fn start_native(listener: TcpListener, settings: &Settings) -> Result<Self> {
        let matches = ::relay::Settings::augment_args(clap::Command::new("relay"))
            .try_get_matches_from(["relay"])
            .context("a RELAY_ variable of the environment is wrong")?;
        let settings = ::relay::Settings {
            app: settings.app.clone(),
            redis: Some(settings.redis.clone()),
            internal_token: settings.internal_token.clone(),
            ..::relay::Settings::from_arg_matches(&matches)?
        };
        let address = listener.local_addr()?;
        let listener = listener.into_std()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let ended = thread(async move {
            let listener = TcpListener::from_std(listener)?;
            let stopped = async { drop(stopped.await) };
            ::relay::serve(listener, settings, stopped).await?;
            Ok(())
        })?;
        Ok(Self {
            address,
            stop: Stop::Native(stop),
            ended,
        })
    }

    /// Starts the Wasm relay; it listens on `listen` by itself.
    pub async fn start_wasm(listen: SocketAddr, mut settings: Settings) -> Result<Self> {
        if settings.internal_token.is_empty() {
            // The relay drains for nobody without one.
            settings.internal_token = format!("{:032x}", rand::random::<u128>());
        }
        let internal_token = settings.internal_token.clone();
        let (ready, address) = oneshot::channel();
        let mut ended = thread(run_command(listen, settings, ready))?;
        let address = tokio::select! {
            address = tokio::time::timeout(START, address) => {
                address.map_err(|_| anyhow!("the relay was not ready in {START:?}"))?
            }
            result = &mut ended => {
                result.unwrap_or_else(|_| Err(anyhow!("the relay ended")))?;
                return Err(anyhow!("the relay ended as soon as it was started"));
            }
        };
        let Ok(address) = address else {
            // It ended with the reason on its way.
            ended
                .await
                .unwrap_or_else(|_| Err(anyhow!("the relay ended")))?;
            return Err(anyhow!("the relay ended as soon as it was started"));
        };
        Ok(Self {
            address,
            stop: Stop::Wasm { internal_token },
            ended,
        })
    }

    /// The public address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resolves when the relay ended by itself, which it shouldn't.
    pub async fn ended(&mut self) -> Result<()> {
        (&mut self.ended)
            .await
            .unwrap_or_else(|_| Err(anyhow!("the relay's thread is gone")))
    }

    /// Closes the sockets, lets appends finish, and waits for the end.
    pub async fn drain(self) -> Result<()> {
        match self.stop {
            Stop::Native(stop) => drop(stop.send(())),
            Stop::Wasm { internal_token } => {
                ask_to_drain(self.address, &internal_token)
                    .await
                    .context("the relay could not be asked to drain")?;
            }
        }
        match tokio::time::timeout(DRAIN, self.ended).await {
            Ok(ended) => ended.unwrap_or(Ok(())),
            Err(_) => Err(anyhow!("the relay was not drained in {DRAIN:?}")),
        }
    }
}

/// Runs `relay` on a thread with a runtime of its own.
fn thread(
    relay: impl Future<Output = Result<()>> + Send + 'static,
) -> Result<oneshot::Receiver<Result<()>>> {
    let (sender, ended) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("relay")
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("relay".into())
        .spawn(move || {
            let result = runtime.block_on(relay);
            runtime.shutdown_timeout(Duration::from_secs(1));
            if sender.send(result).is_err() {
                tracing::debug!("nobody waited for the relay's end");
            }
        })?;
    Ok(ended)
}

/// The state of the relay's one instance.
struct Command {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for Command {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

async fn run_command(
    listen: SocketAddr,
    settings: Settings,
    ready: oneshot::Sender<SocketAddr>,
) -> Result<()> {
    let engine = crate::engine::start_for_relay(&settings.cache)?;
    let component = {
        let (engine, wasm) = (engine.clone(), settings.wasm.clone());
        tokio::task::spawn_blocking(move || crate::engine::compile(&engine, &wasm)).await?
    };
    let component = component.map_err(|error| anyhow!(error))?;
    let mut linker = Linker::<Command>::new(&engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    crate::relay_streams::add_to_linker(&mut linker)?;
    let command = CommandPre::new(linker.instantiate_pre(&component)?)?;
    let mut wasi = WasiCtxBuilder::new();
    for (name, value) in
        std::env::vars().filter(|(name, _)| name.starts_with("RELAY_") || name == "RUST_LOG")
    {
        wasi.env(name, value);
    }
    let wasi = wasi
        .args(&[
            "relay",
            "--listen",
            &listen.to_string(),
            "--app",
            &settings.app,
            "--redis",
            &settings.redis,
        ])
        .env("RELAY_INTERNAL_TOKEN", &settings.internal_token)
        .stdout(GuestOutput::watched("relay", "ready http://", ready))
        .inherit_stderr()
        .allow_tcp(true)
        .inherit_network()
        .allow_ip_name_lookup(true)
        .build();
    let mut store = Store::new(
        &engine,
        Command {
            wasi,
            table: ResourceTable::new(),
        },
    );
    // Without a deadline of its own; every tick it gives way to what else its runtime has to do.
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|_| Ok(wasmtime::UpdateDeadline::Yield(1)));
    let instance = command.instantiate_async(&mut store).await?;
    match instance.wasi_cli_run().call_run(&mut store).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(())) => Err(anyhow!(
            "the relay ended with an error; its log tells which"
        )),
        Err(error) => match error.downcast_ref::<wasmtime_wasi::I32Exit>() {
            Some(wasmtime_wasi::I32Exit(0)) => Ok(()),
            Some(wasmtime_wasi::I32Exit(code)) => Err(anyhow!(
                "the relay ended with code {code}; its log tells why"
            )),
            None => Err(anyhow::Error::from(error).context("the relay failed")),
        },
    }
}

async fn ask_to_drain(address: SocketAddr, internal_token: &str) -> Result<()> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::post("/internal/drain")
        .header(header::HOST, address.to_string())
        .header(header::AUTHORIZATION, format!("Bearer {internal_token}"))
        .body(Empty::<bytes::Bytes>::new())?;
    let response = tokio::time::timeout(DRAIN, sender.send_request(request)).await??;
    connection.abort();
    if response.status().is_success() {
        Ok(())
    } else {
        Err(anyhow!("it answered {}", response.status()))
    }
}
