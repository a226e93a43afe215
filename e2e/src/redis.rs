//! A real Redis server for one test.

use std::net::SocketAddr;
use std::path::PathBuf;

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
    has_tls: bool,
    port: Port,
    folder: TempDir,
}

impl Redis {
    /// Starts a server on a free port, and waits until it answers.
    pub async fn start() -> Self {
        Self::start_as(false).await
    }

    /// Starts a server that talks TLS alone. [`Redis::authority`] vouches for it.
    pub async fn start_with_tls() -> Self {
        Self::start_as(true).await
    }

    async fn start_as(has_tls: bool) -> Self {
        let mut redis = Self {
            process: None,
            has_tls,
            port: Port::free(),
            folder: tempfile::tempdir().unwrap(),
        };
        if has_tls {
            redis.certify().await;
        }
        assert!(redis.run().await, "redis-server does not come up");
        redis
    }

    /// Its address as a URL.
    pub fn url(&self) -> String {
        let scheme = if self.has_tls { "rediss" } else { "redis" };
        format!("{scheme}://{}", self.port.address())
    }

    /// The certificate of the authority that signed its own.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// Makes an authority, and a certificate of 127.0.0.1.
    async fn certify(&self) {
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
        let script = format!(
            "openssl req -x509 {key} -keyout authority.key -out authority.pem -subj /CN=authority &&
             openssl req -x509 {key} -keyout redis.key -out redis.pem -subj /CN=redis -CA authority.pem \
               -CAkey authority.key -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=IP:127.0.0.1"
        );
        let made = Command::new("sh")
            .current_dir(self.folder.path())
            .args(["-c", &script])
            .output()
            .await
            .unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
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
            .args(["--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--logfile", "redis.log"]);
        if self.has_tls {
            command
                .args([
                    "--port",
                    "0",
                    "--tls-port",
                    &port,
                    "--tls-auth-clients",
                    "no",
                ])
                .args([
                    "--tls-cert-file",
                    "redis.pem",
                    "--tls-key-file",
                    "redis.key",
                ])
                .args(["--tls-ca-cert-file", "authority.pem"]);
        } else {
            command.args(["--port", &port]);
        }
        let log = self.folder.path().join("stderr.log");
        let mut process = Process::spawn("redis-server", &mut command, &log);
        let mut up = false;
        until("redis-server answers or ends", async || {
            up = if self.has_tls {
                TcpStream::connect(address).await.is_ok()
            } else {
                answers(address).await
            };
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
