//! The relay beside the application: native code in this process, or a WASI command.
//!
//! The relay has a runtime of its own, so that guests that compute never hold up a socket. Its settings beyond those
//! given here come from the environment (`RELAY_…`).

mod command;
mod nodelay;
mod streams;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use http::{Request, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// The way in which the relay runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum RelayKind {
    /// The relay runs as native code in this process.
    Native,
    /// The relay runs as a WASI command in this process, with the network inherited.
    Wasm,
    /// The relay does not run, so only the application is served.
    None,
}

impl std::fmt::Display for RelayKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Wasm => "wasm",
            Self::None => "none",
        })
    }
}

/// The settings that the host gives the relay.
#[derive(Clone)]
pub struct RelaySettings {
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

/// The time that the relay may take to start.
const START: Duration = Duration::from_secs(60);
/// The time that the Wasm relay may take to confirm that it drains.
const CONFIRM: Duration = Duration::from_secs(20);
/// The time that the host waits for a relay that drains beyond the longest drain that the relay's settings allow. The
/// relay's parts and its thread end in it.
const MARGIN: Duration = Duration::from_secs(5);

/// A running relay.
pub struct Relay {
    address: SocketAddr,
    stop: Stop,
    /// The time after which the host gives up a relay that drains.
    patience: Duration,
    ended: oneshot::Receiver<Result<()>>,
}

enum Stop {
    Native(oneshot::Sender<()>),
    Wasm { internal_token: String },
}

impl Relay {
    /// Starts the native relay on `listener`.
    pub(crate) fn start_native(listener: TcpListener, settings: &RelaySettings) -> Result<Self> {
        ::relay::warn_of_unknown_variables();
        let settings = ::relay::Settings {
            app: settings.app.clone(),
            redis: Some(settings.redis.clone()),
            internal_token: settings.internal_token.clone(),
            ..::relay::Settings::from_environment()?
        };
        ::relay::check(&settings)?;
        let patience = patience(&settings);
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
            patience,
            ended,
        })
    }

    /// Starts the Wasm relay, which listens on `listen` by itself.
    ///
    /// # Errors
    /// If the relay ends at once, or is not ready in time.
    pub async fn start_wasm(listen: SocketAddr, mut settings: RelaySettings) -> Result<Self> {
        if settings.internal_token.is_empty() {
            // Without a token the relay does not drain when it is asked to.
            settings.internal_token = format!("{:032x}", rand::random::<u128>());
        }
        let internal_token = settings.internal_token.clone();
        // The relay reads the same variables.
        let patience = patience(&::relay::Settings::from_environment()?);
        // The relay's sockets count as open files of this process.
        ::relay::raise_open_files();
        let (ready, address) = oneshot::channel();
        let mut ended = thread(command::run(listen, settings, ready))?;
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
            // It has ended, and the reason is on its way.
            ended
                .await
                .unwrap_or_else(|_| Err(anyhow!("the relay ended")))?;
            return Err(anyhow!("the relay ended as soon as it was started"));
        };
        nodelay::set(address);
        Ok(Self {
            address,
            stop: Stop::Wasm { internal_token },
            patience,
            ended,
        })
    }

    /// The public address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resolves once the relay has ended by itself, which it should not.
    ///
    /// # Errors
    /// If it failed.
    pub async fn ended(&mut self) -> Result<()> {
        (&mut self.ended).await.unwrap_or_else(|_| Err(gone()))
    }

    /// Closes the sockets, lets appends finish, and waits for the end. A relay whose end [`Relay::ended`] has reported
    /// is drained.
    ///
    /// # Errors
    /// If the relay fails or is not drained in time.
    pub async fn drain(self) -> Result<()> {
        if self.ended.is_terminated() {
            return Ok(());
        }
        match self.stop {
            Stop::Native(stop) => drop(stop.send(())),
            Stop::Wasm { internal_token } => {
                ask_to_drain(self.address, &internal_token)
                    .await
                    .context("the relay could not be asked to drain")?;
            }
        }
        let patience = self.patience;
        match tokio::time::timeout(patience, self.ended).await {
            Ok(ended) => ended.unwrap_or_else(|_| Err(gone())),
            Err(_) => Err(anyhow!("the relay was not drained in {patience:?}")),
        }
    }
}

/// The time after which the host gives up a relay with these settings that drains.
fn patience(settings: &::relay::Settings) -> Duration {
    settings.longest_drain().saturating_add(MARGIN)
}

/// The error of a relay whose thread ended without a result, which is a panic.
fn gone() -> anyhow::Error {
    anyhow!("the relay's thread is gone")
}

/// Runs `relay` on a thread with a runtime of its own. The receiver gets its result.
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
                tracing::debug!("the host no longer waits for the relay's end");
            }
        })?;
    Ok(ended)
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
    let response = tokio::time::timeout(CONFIRM, sender.send_request(request)).await??;
    connection.abort();
    if response.status().is_success() {
        Ok(())
    } else {
        Err(anyhow!("it answered {}", response.status()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A relay that ends as `ended` says.
    fn relay(ended: oneshot::Receiver<Result<()>>) -> Relay {
        Relay {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            stop: Stop::Native(oneshot::channel().0),
            patience: Duration::from_secs(10),
            ended,
        }
    }

    #[test]
    fn the_host_waits_for_as_long_as_the_relay_may_drain() {
        let settings = ::relay::Settings {
            drain_timeout: Duration::from_secs(60),
            close_timeout: Duration::from_secs(10),
            ..::relay::Settings::default()
        };
        assert!(patience(&settings) > Duration::from_secs(60 + 10 + 1));
    }

    #[tokio::test]
    async fn a_relay_that_panics_while_it_drains_is_not_drained() {
        let ended = thread(async { panic!("out of luck") }).unwrap();
        let error = relay(ended).drain().await.unwrap_err();
        assert_eq!(error.to_string(), "the relay's thread is gone");
    }

    #[tokio::test]
    async fn a_relay_that_ended_by_itself_is_drained() {
        let ended = thread(async { Err(anyhow!("Redis is gone")) }).unwrap();
        let mut relay = relay(ended);
        assert_eq!(
            relay.ended().await.unwrap_err().to_string(),
            "Redis is gone"
        );
        relay.drain().await.unwrap();
    }
}
