//! A real Redis server of a test's own.

use std::net::TcpListener;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::process::Process;
use crate::wait::until;

/// Attempts to find a free port, for another program may take it first.
const ATTEMPTS: usize = 5;

/// A Redis server. Dropping it kills it.
pub struct Redis {
    process: Option<Process>,
    port: u16,
    folder: TempDir,
}

impl Redis {
    /// Starts a server on a free port, and waits until it answers.
    pub async fn start() -> Self {
        let mut redis = Self {
            process: None,
            port: 0,
            folder: tempfile::tempdir().unwrap(),
        };
        for _ in 0..ATTEMPTS {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            redis.port = free.local_addr().unwrap().port();
            drop(free);
            if redis.run().await {
                return redis;
            }
        }
        panic!("redis-server does not come up");
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Stops it, connections and all.
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
        let mut command = Command::new("/usr/bin/redis-server");
        command
            .current_dir(self.folder.path())
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--logfile", "redis.log"]);
        let log = self.folder.path().join("stderr.log");
        let mut process = Process::spawn("redis-server", &mut command, &log);
        let port = self.port;
        let mut up = false;
        until("redis-server answers or ends", async || {
            up = answers(port).await;
            up || process.has_ended()
        })
        .await;
        if up && !process.has_ended() {
            self.process = Some(process);
        }
        self.process.is_some()
    }
}

async fn answers(port: u16) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(b"PING\r\n").await?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    ask.await.is_ok_and(|answer| &answer == b"+PONG\r\n")
}
