//! A real Redis server for one test.

use std::net::SocketAddr;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::port::Port;
use crate::process::Process;
use crate::wait::until;

/// A Redis server. Dropping it kills it.
pub struct Redis {
    process: Option<Process>,
    port: Port,
    folder: TempDir,
}

impl Redis {
    /// Starts a server on a free port, and waits until it answers.
    pub async fn start() -> Self {
        let mut redis = Self {
            process: None,
            port: Port::free(),
            folder: tempfile::tempdir().unwrap(),
        };
        assert!(redis.run().await, "redis-server does not come up");
        redis
    }

    /// Its address as a URL.
    pub fn url(&self) -> String {
        format!("redis://{}", self.port.address())
    }

    /// Stops it, which cuts its connections.
    pub async fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().await;
        }
    }

    /// Starts it again at the same address.
    pub async fn start_again(&mut self) {
        assert!(self.run().await, "redis-server does not come up again");
    }

    async fn run(&mut self) -> bool {
        let address = self.port.address();
        let port = address.port().to_string();
        let mut command = Command::new("/usr/bin/redis-server");
        command
            .current_dir(self.folder.path())
            .args(["--port", &port, "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--logfile", "redis.log"]);
        let log = self.folder.path().join("stderr.log");
        let mut process = Process::spawn("redis-server", &mut command, &log);
        let mut up = false;
        until("redis-server answers or ends", async || {
            up = answers(address).await;
            up || process.has_ended()
        })
        .await;
        if up && !process.has_ended() {
            self.process = Some(process);
        }
        self.process.is_some()
    }
}

async fn answers(address: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"PING\r\n").await?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    ask.await.is_ok_and(|answer| &answer == b"+PONG\r\n")
}
