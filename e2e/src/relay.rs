//! A relay in a process of its own, beside an app.

use tempfile::TempDir;
use tokio::process::Command;

use crate::built::built;
use crate::host::Kind;
use crate::http::Http;
use crate::process::Process;

/// A relay that serves. Dropping it kills it.
pub struct Relay {
    /// The process.
    pub process: Process,
    /// The public address.
    pub address: String,
    _folder: TempDir,
}

impl Relay {
    /// Starts a relay for the app at the address `app`, with settings such as `("RELAY_APP_TIMEOUT", "2s")`. An empty
    /// `redis` means none.
    pub async fn start(kind: Kind, app: &str, redis: &str, settings: &[(&str, &str)]) -> Self {
        let program = match kind {
            Kind::Wasm => "target/release/wasm-relay",
            _ => "target/release/relay",
        };
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(built(program));
        command
            .env("RELAY_LISTEN", "127.0.0.1:0")
            .env("RELAY_APP", format!("http://{app}"))
            .envs(settings.iter().copied());
        if !redis.is_empty() {
            command.env("RELAY_REDIS", redis);
        }
        let mut process = Process::spawn(program, &mut command, &folder.path().join("relay.log"));
        let address = process.ready().await;
        Self {
            process,
            address,
            _folder: folder,
        }
    }

    /// An HTTP client of its address.
    pub fn http(&self) -> Http {
        Http::new(&self.address)
    }

    /// Stops it with SIGTERM.
    ///
    /// # Panics
    /// If it does not end with code 0.
    pub async fn stop(mut self) {
        self.process.signal("TERM").await;
        let status = self.process.ended().await;
        assert!(status.success(), "the relay ended with {status}");
    }
}
